/* SPDX-License-Identifier: GPL-2.0-only */
/* Architectural names: registers, their bits, exception vectors. APM vol. 2 §3.1, §8.2; SDM vol. 3 §2.5. */
#pragma once
#include "arch/x86/mmu/fault_code.hpp"
#include "cxxrt/bits.hpp"

namespace kx {

/* The order of the encodings in ModRM, REX and the VMX exit qualification. */
enum class Gpr : u8 { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 };
/* The order of the sreg encoding; then the two system segments. */
enum class Seg : u8 { es, cs, ss, ds, fs, gs, ldtr, tr };
inline constexpr unsigned seg_count = 8;

struct Segment {
	u64 base;
	u32 limit; /* in bytes, the last valid offset: granularity already applied */
	u16 selector;
	u8 type; /* 4 bits; bit 3 code, for data bit 2 expand-down, bit 1 writable */
	u8 dpl : 2;
	bool s : 1, present : 1, avl : 1, l : 1, db : 1, g : 1;
	bool unusable : 1;
	constexpr bool operator==(const Segment &) const = default;
};
struct DescTable {
	u64 base;
	u16 limit;
};

namespace cr0 {
inline constexpr u64 pe = bit(0), mp = bit(1), em = bit(2), ts = bit(3), et = bit(4), ne = bit(5), wp = bit(16),
		     am = bit(18), nw = bit(29), cd = bit(30), pg = bit(31);
inline constexpr u64 defined = pe | mp | em | ts | et | ne | wp | am | nw | cd | pg;
}
namespace cr4 {
inline constexpr u64 vme = bit(0), pvi = bit(1), tsd = bit(2), de = bit(3), pse = bit(4), pae = bit(5), mce = bit(6),
		     pge = bit(7), pce = bit(8), osfxsr = bit(9), osxmmexcpt = bit(10), umip = bit(11),
		     la57 = bit(12), vmxe = bit(13), smxe = bit(14), fsgsbase = bit(16), pcide = bit(17),
		     osxsave = bit(18), smep = bit(20), smap = bit(21), pke = bit(22), cet = bit(23), pks = bit(24);
}
namespace efer {
inline constexpr u64 sce = bit(0), lme = bit(8), lma = bit(10), nx = bit(11), svme = bit(12), lmsle = bit(13),
		     ffxsr = bit(14), tce = bit(15), autoibrs = bit(21);
}
namespace rflags {
inline constexpr u64 cf = bit(0), fixed = bit(1), pf = bit(2), af = bit(4), zf = bit(6), sf = bit(7), tf = bit(8),
		     intf = bit(9), df = bit(10), of = bit(11), iopl = bit(12) | bit(13), nt = bit(14), rf = bit(16),
		     vm = bit(17), ac = bit(18), vif = bit(19), vip = bit(20), id = bit(21);
}
namespace xcr0 {
inline constexpr u64 fp = bit(0), sse = bit(1), avx = bit(2), bndregs = bit(3), bndcsr = bit(4), opmask = bit(5),
		     zmm_hi256 = bit(6), hi16_zmm = bit(7), pkru = bit(9), xtilecfg = bit(17), xtiledata = bit(18);
}

enum class Vector : u8 {
	de = 0, db = 1, nmi = 2, bp = 3, of = 4, br = 5, ud = 6, nm = 7, df = 8, ts = 10, np = 11, ss = 12, gp = 13,
	pf = 14, mf = 16, ac = 17, mc = 18, xm = 19, ve = 20, cp = 21,
};
constexpr bool has_error_code(Vector v)
{
	constexpr u32 with = 1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17 | 1u << 21;
	return u8(v) < 32 && (with >> u8(v) & 1);
}

/* A fault or trap the guest shall see. Its payload is what its handler is to find in a register: of #PF CR2; of #DB the
 * bits for DR6, in the format of pending debug exceptions (SDM vol. 3 §25.4.2). */
struct Exception {
	Vector vector;
	bool has_error = false;
	u32 error = 0;
	u64 payload = 0;
	static constexpr Exception plain(Vector v) { return {v, false, 0, 0}; }
	static constexpr Exception coded(Vector v, u32 e) { return {v, true, e, 0}; }
	static constexpr Exception page_fault(u32 e, u64 address) { return {Vector::pf, true, e, address}; }
	static constexpr Exception debug(u64 causes) { return {Vector::db, false, 0, causes}; }
};

constexpr bool canonical(u64 a, unsigned bits) { return u64(s64(a << (64 - bits)) >> (64 - bits)) == a; }

}
