/* SPDX-License-Identifier: GPL-2.0-only */
/* The virtual machine control block. APM vol. 2 appendix B. */
#pragma once
#include <cstddef>
#include "cxxrt/bits.hpp"

namespace kx::svm {

/* Words 3..5 of the intercept vector, as bit numbers in one 96-bit space. APM vol. 2 table B-1 */
enum class Intercept : u8 {
	intr = 0, nmi, smi, init_, vintr, cr0_sel_write, read_idtr, read_gdtr, read_ldtr, read_tr, write_idtr,
	write_gdtr, write_ldtr, write_tr, rdtsc, rdpmc, pushf, popf, cpuid, rsm, iret, intn, invd, pause, hlt,
	invlpg, invlpga, ioio, msr_, task_switch, ferr_freeze, shutdown,
	vmrun = 32, vmmcall, vmload, vmsave, stgi, clgi, skinit, rdtscp, icebp, wbinvd, monitor, mwait,
	mwait_armed, xsetbv, rdpru, efer_trap,
	invlpgb_all = 64, invlpgb_illegal, invpcid, mcommit, tlbsync, bus_lock, idle_hlt,
};

/* Groups of VMCB fields that the CPU may keep cached between VMRUNs. APM vol. 2 §15.15.3 */
enum class Clean : u8 { intercepts, iopm, asid, tpr, np, crx, drx, dt, seg, cr2, lbr, avic, cet };

enum class TlbControl : u8 { keep = 0, flush_all = 1, flush_asid = 3, flush_asid_nonglobal = 7 };

struct VmcbSeg {
	u16 selector, attrib;
	u32 limit;
	u64 base;
};
static_assert(sizeof(VmcbSeg) == 16);

/* The 12 attribute bits of a descriptor, packed. APM vol. 2 §15.5.1 */
namespace attr {
using Type = Bits<3, 0>;
using S = Bits<4>;
using Dpl = Bits<6, 5>;
using P = Bits<7>;
using Avl = Bits<8>;
using L = Bits<9>;
using Db = Bits<10>;
using G = Bits<11>;
static_assert(disjoint<Type, S, Dpl, P, Avl, L, Db, G>());
}

/* int_ctl at offset 60h. */
namespace vintr {
using Tpr = Bits<7, 0>;
using Irq = Bits<8>;
using Gif = Bits<9>;
using Prio = Bits<19, 16>;
using IgnTpr = Bits<20>;
using Masking = Bits<24>;
using GifEnable = Bits<25>;
using Vector = Bits<39, 32>;
static_assert(disjoint<Tpr, Irq, Gif, Prio, IgnTpr, Masking, GifEnable, Vector>());
}

/* EVENTINJ and EXITINTINFO. APM vol. 2 §15.20 */
namespace event {
using Vector = Bits<7, 0>;
using Type = Bits<10, 8>;
using ErrorValid = Bits<11>;
using Valid = Bits<31>;
using Error = Bits<63, 32>;
static_assert(disjoint<Vector, Type, ErrorValid, Valid, Error>());
inline constexpr u64 intr = 0, nmi = 2, exception = 3, soft = 4;
}

/* EXITINFO2 of TASK_SWITCH; EXITINFO1 is the selector. APM vol. 2 §15.14.1 */
namespace task_switch {
using Error = Bits<31, 0>;
using Iret = Bits<36>;
using Jump = Bits<38>;
using HasError = Bits<44>;
using Rf = Bits<48>; /* as it would be saved */
static_assert(disjoint<Error, Iret, Jump, HasError, Rf>());
}

/* EXITINFO1 of IOIO. APM vol. 2 §15.10.2 */
namespace ioio {
using In = Bits<0>;
using String = Bits<2>;
using Rep = Bits<3>;
using Size = Bits<6, 4>; /* one hot: 1, 2, 4 bytes */
using AddrSize = Bits<9, 7>;
using SegNumber = Bits<12, 10>;
using Port = Bits<31, 16>;
}

/* EXITINFO1 of a nested page fault, above the error code. APM vol. 2 §15.25.6 */
namespace npf {
using Final = Bits<32>; /* of the address the guest's tables led to, and not of one in them */
}

struct VmcbControl {
	u16 cr_read, cr_write, dr_read, dr_write;
	u32 exceptions;
	u32 intercepts[3];
	u8 reserved_018[0x3c - 0x18];
	u16 pause_threshold, pause_count;
	u64 iopm_pa, msrpm_pa, tsc_offset;
	u32 asid;
	TlbControl tlb_control;
	u8 reserved_05d[3];
	u64 int_ctl, int_state;
	u64 exit_code, exit_info_1, exit_info_2, exit_int_info;
	u64 nested_ctl, avic_bar, ghcb_pa;
	u64 event_inj, nested_cr3, virt_ext;
	u32 clean;
	u32 reserved_0c4;
	u64 next_rip;
	u8 insn_len, insn_bytes[15];
	u64 avic_backing, reserved_0e8, avic_logical, avic_physical, reserved_100, vmsa_pa;
	u8 reserved_110[0x400 - 0x110];
};
static_assert(sizeof(VmcbControl) == 0x400);
static_assert(offsetof(VmcbControl, exceptions) == 0x08 && offsetof(VmcbControl, intercepts) == 0x0c);
static_assert(offsetof(VmcbControl, pause_threshold) == 0x3c && offsetof(VmcbControl, iopm_pa) == 0x40);
static_assert(offsetof(VmcbControl, asid) == 0x58 && offsetof(VmcbControl, tlb_control) == 0x5c);
static_assert(offsetof(VmcbControl, int_ctl) == 0x60 && offsetof(VmcbControl, exit_code) == 0x70);
static_assert(offsetof(VmcbControl, nested_ctl) == 0x90 && offsetof(VmcbControl, event_inj) == 0xa8);
static_assert(offsetof(VmcbControl, nested_cr3) == 0xb0 && offsetof(VmcbControl, clean) == 0xc0);
static_assert(offsetof(VmcbControl, next_rip) == 0xc8 && offsetof(VmcbControl, insn_len) == 0xd0);
static_assert(offsetof(VmcbControl, avic_physical) == 0xf8 && offsetof(VmcbControl, vmsa_pa) == 0x108);

struct VmcbSave {
	VmcbSeg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u8 reserved_0a0[0xcb - 0xa0];
	u8 cpl;
	u32 reserved_0cc;
	u64 efer;
	u8 reserved_0d8[0x148 - 0xd8];
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u8 reserved_180[0x1d8 - 0x180];
	u64 rsp, s_cet, ssp, isst_addr, rax;
	u64 star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	u8 reserved_248[0x268 - 0x248];
	u64 g_pat, dbgctl, br_from, br_to, last_excp_from, last_excp_to;
	u8 reserved_298[0x2e0 - 0x298];
	u32 spec_ctrl;
	u8 reserved_2e4[0xc00 - 0x2e4];
};
static_assert(sizeof(VmcbSave) == 0xc00);
static_assert(offsetof(VmcbSave, gdtr) == 0x60 && offsetof(VmcbSave, tr) == 0x90);
static_assert(offsetof(VmcbSave, cpl) == 0xcb && offsetof(VmcbSave, efer) == 0xd0);
static_assert(offsetof(VmcbSave, cr4) == 0x148 && offsetof(VmcbSave, rip) == 0x178);
static_assert(offsetof(VmcbSave, rsp) == 0x1d8 && offsetof(VmcbSave, rax) == 0x1f8);
static_assert(offsetof(VmcbSave, star) == 0x200 && offsetof(VmcbSave, cr2) == 0x240);
static_assert(offsetof(VmcbSave, g_pat) == 0x268 && offsetof(VmcbSave, spec_ctrl) == 0x2e0);

struct Vmcb {
	VmcbControl control;
	VmcbSave save;
};
static_assert(sizeof(Vmcb) == page_size && offsetof(Vmcb, save) == 0x400);

/* EXITCODE. APM vol. 2 appendix C */
namespace exit {
inline constexpr u64 cr_read = 0x00, cr_write = 0x10, dr_read = 0x20, dr_write = 0x30, exception = 0x40, intr = 0x60,
		     nmi = 0x61, smi = 0x62, init = 0x63, vintr = 0x64, cr0_sel_write = 0x65, rdtsc = 0x6e,
		     rdpmc = 0x6f, cpuid = 0x72, rsm = 0x73, iret = 0x74, invd = 0x76, pause = 0x77, hlt = 0x78,
		     invlpg = 0x79, invlpga = 0x7a, ioio = 0x7b, msr = 0x7c, task_switch = 0x7d, ferr_freeze = 0x7e,
		     shutdown = 0x7f, vmrun = 0x80, vmmcall = 0x81, vmload = 0x82, vmsave = 0x83, stgi = 0x84,
		     clgi = 0x85, skinit = 0x86, rdtscp = 0x87, icebp = 0x88, wbinvd = 0x89, monitor = 0x8a,
		     mwait = 0x8b, mwait_armed = 0x8c, xsetbv = 0x8d, rdpru = 0x8e, invlpgb = 0xa0,
		     invlpgb_illegal = 0xa1, invpcid = 0xa2, mcommit = 0xa3, tlbsync = 0xa4, npf = 0x400,
		     invalid = ~u64{0};
}

}
