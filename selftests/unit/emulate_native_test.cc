/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The executor against the CPU the test runs on. Instances of every operation the emulator knows
 * are made by chance, run natively, emulated over RAM, and emulated over device pages served by
 * the replay protocol: registers, flags, memory and faults must be the same three times.
 */
#include "selftests/unit/emulate_machine.hpp"
#include "selftests/unit/emulate_native.hpp"

#include <asm/prctl.h>
#include <gtest/gtest.h>
#include <random>
#include <set>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

using namespace kx;
using namespace kx::emulate;
using namespace kx::test;

/* Linear layout of the data: two pages, a hole, a read-only page, a hole. */
constexpr unsigned rw_pages = 2, ro_page = 3, all_pages = 5;

struct Case {
	u8 bytes[15];
	unsigned length;
	Insn insn;
	NativeContext regs;
	u8 data[all_pages * page_size];
};

/* What a processor shall do is open. F3 90 with REX.B: to Intel's it is PAUSE still, AMD's exchange R8 and RAX as without F3.
 * MOVSXD to 16 bits: Intel's read two bytes, AMD's four. SHLD and SHRD by more bits than there are: undefined. Whether the alignment of a vector is checked: the processor's own. */
bool is_open(const Insn &i, const u64 *gprs, u64 flags)
{
	switch (i.op) {
	case Op::movsx: return i.src_size == 4 && i.size == 2;
	case Op::vec_load:
	case Op::vec_store: return flags & rflags::ac;
	case Op::xchg: return i.form == Form::opcode_acc && i.rm == 8 && i.repeat == Repeat::repe;
	case Op::shld:
	case Op::shrd: return ((i.form == Form::rm_cl ? gprs[1] : i.imm) & (i.size == 8 ? 63 : 31)) > 8u * i.size;
	default: return false;
	}
}

/* Flags the manuals leave undefined: processors of one vendor differ in them from one generation to the next. All
 * others are compared. */
u64 undefined_flags(const Insn &i, const u64 *gprs)
{
	const u64 by = i.form == Form::rm_cl ? gprs[1] : i.form == Form::rm_one ? 1 : i.imm;
	const unsigned count = by & (i.size == 8 ? 63 : 31);
	switch (i.op) {
	case Op::div:
	case Op::idiv: return alu::all;
	case Op::bextr: return rflags::af | rflags::sf | rflags::pf;
	case Op::shld:
	case Op::shrd: return count >= 8u * i.size ? alu::all : rflags::af | rflags::of;
	case Op::shl:
	case Op::sal:
	case Op::shr:
	case Op::sar: return rflags::af | (count > 1 ? rflags::of : 0) | (count > 8u * i.size ? rflags::cf : 0);
	case Op::rol:
	case Op::ror:
	case Op::rcl:
	case Op::rcr: return count > 1 ? rflags::of : 0;
	case Op::mul:
	case Op::imul:
	case Op::imul2:
	case Op::imul3: return alu::zsp | rflags::af;
	case Op::and_:
	case Op::or_:
	case Op::xor_:
	case Op::test: return rflags::af;
	case Op::andn: return rflags::af | rflags::pf;
	case Op::bt:
	case Op::bts:
	case Op::btr:
	case Op::btc: return rflags::of | rflags::sf | rflags::af | rflags::pf;
	case Op::bsf:
	case Op::bsr: return alu::all & ~rflags::zf;
	default: return 0;
	}
}

class Native : public ::testing::Test {
protected:
	std::mt19937_64 rng{42};
	NativeCpu cpu;
	u8 *area = nullptr;
	u64 fs = 0;
	unsigned ran = 0, faulted = 0, skipped = 0;
	std::map<unsigned, unsigned> by_op;

	void SetUp() override
	{
		if (!NativeCpu::usable())
			GTEST_SKIP() << "no AVX";
		area = static_cast<u8 *>(mmap(nullptr, all_pages * page_size, PROT_READ | PROT_WRITE,
					      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
		memset(area, 1, all_pages * page_size);
		mprotect(area + rw_pages * page_size, page_size, PROT_NONE);
		mprotect(area + (all_pages - 1) * page_size, page_size, PROT_NONE);
		protect(PROT_READ);
		syscall(SYS_arch_prctl, ARCH_GET_FS, &fs);
	}
	void TearDown() override
	{
		if (area)
			munmap(area, all_pages * page_size);
	}
	void protect(int how) { mprotect(area + ro_page * page_size, page_size, how); }
	u64 pick(u64 n) { return rng() % n; }

	/* Values that make carries, signs and parities. */
	u64 value()
	{
		constexpr u64 edges[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff,
					 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000,
					 ~u64{0}};
		switch (pick(4)) {
		case 0: return edges[pick(sizeof(edges) / 8)];
		case 1: return rng() & 0xff;
		case 2: return edges[pick(sizeof(edges) / 8)] + pick(5) - 2;
		default: return rng();
		}
	}

	/* Where an operand of n bytes shall lie: inside, across pages, in a hole, read-only. */
	u64 target(unsigned n, bool often_aligned)
	{
		const u64 base = reinterpret_cast<u64>(area);
		u64 at;
		switch (pick(16)) {
		case 0: at = page_size - pick(n + 1); break;
		case 1: at = rw_pages * page_size - pick(n + 1); break;
		case 2: at = ro_page * page_size + pick(page_size - 64); break;
		case 3: return pick(4) ? base + pick(page_size) : u64{0x0000800000000000} - pick(2 * n);
		default: at = pick(rw_pages * page_size - 64); break;
		}
		if (often_aligned && pick(3))
			at &= ~u64{31};
		return base + at;
	}

	static bool is_string(Op o) { return o >= Op::movs && o <= Op::scas; }
	static bool runs_natively(Op o)
	{
		switch (o) {
		case Op::unknown:
		case Op::invalid:
		case Op::ins:
		case Op::outs:
		case Op::call_near:
		case Op::jmp_near:
		case Op::jcc:
		case Op::ret_near: return false;
		default: return true;
		}
	}

	/* Random bytes that happen to be an instruction with a known operation. */
	bool make_bytes(Case &c, unsigned map, unsigned op, const std::vector<u8> &prefix)
	{
		u8 b[32];
		for (unsigned k = 0; k < 32; k += 8) {
			const u64 r = rng();
			memcpy(b + k, &r, 8);
		}
		u8 *p = b;
		for (const u8 x : prefix)
			*p++ = x;
		if (map == 4) { /* VEX, two and three bytes */
			const bool bmi = op == 0xf2 || op == 0xf7; /* ANDN, BEXTR: else they would be rare */
			*p++ = !bmi && pick(2) ? 0xc5 : 0xc4;
			if (p[-1] == 0xc4) {
				*p = u8((*p & 0xe0) | (!bmi && pick(4) ? 1 : 2));
				p++;
			}
			*p = u8(pick(4) ? *p | 0x78 : *p);
			if (bmi)
				*p &= 0xf8;
			p++;
		} else if (map) {
			*p++ = 0x0f;
			if (map > 1)
				*p++ = map == 2 ? 0x38 : 0x3a;
		}
		*p++ = u8(op);
		Mode m;
		m.cpu = CpuMode::long64;
		m.code_size = 4;
		CodeBytes code{};
		memcpy(code.bytes, b, max_length);
		code.count = max_length;
		if (decode(c.insn, code, m) != Decoded::ok || !runs_natively(c.insn.op))
			return false;
		c.length = c.insn.length;
		memcpy(c.bytes, b, 15);
		return true;
	}

	/* Registers and displacement such that the operand lies where it should. False: cannot be. */
	bool place_operand(Case &c, u64 at)
	{
		const Insn &i = c.insn;
		u64 want = at - (i.seg == Seg::fs ? fs : 0) - i.disp;
		if (i.seg == Seg::fs && i.addr_size == 4)
			return false;
		if (i.index != no_reg && i.index == i.base)
			return false;
		if (i.op == Op::pop && i.base == u8(Gpr::rsp))
			want -= i.size;
		if (i.op >= Op::bt && i.op <= Op::btc && i.form == Form::rm_reg) {
			if (i.reg == i.base || i.reg == i.index)
				return false;
			u64 &n = c.regs.gprs[i.reg];
			n = (n & ~alu::mask(i.size)) | ((pick(4096) - 2048) & alu::mask(i.size));
			const u64 within = n & (8 * i.size - 1);
			want -= u64(s64(alu::sign_extend((n - within) & alu::mask(i.size), i.size)) >> 3);
		}
		if (i.index != no_reg) {
			if (pick(2))
				c.regs.gprs[i.index] &= 0xff;
			want -= c.regs.gprs[i.index] << i.scale;
		}
		if (i.base == no_reg || i.base == rip_base) {
			/* The displacement is the last four bytes, but for an immediate: find it. */
			want += i.disp - (i.base == rip_base ? reinterpret_cast<u64>(cpu.code()) + i.length : 0);
			for (int k = int(c.length) - 4; k >= 0; k--) {
				s32 d;
				memcpy(&d, c.bytes + k, 4);
				if (u64(s64(d)) == i.disp) {
					d = s32(want);
					if (u64(s64(d)) != want)
						return false;
					memcpy(c.bytes + k, &d, 4);
					return true;
				}
			}
			for (int k = int(c.length) - 8; k >= 0; k--) /* moffs */
				if (!memcmp(c.bytes + k, &i.disp, 8)) {
					memcpy(c.bytes + k, &want, 8);
					return true;
				}
			return false;
		}
		if (i.addr_size == 4 && pick(2))
			want = u32(want) | rng() << 32;
		c.regs.gprs[i.base] = want;
		return true;
	}

	bool make(Case &c, unsigned map, unsigned op, const std::vector<u8> &prefix)
	{
		if (!make_bytes(c, map, op, prefix))
			return false;
		const Insn &i = c.insn;
		for (u64 &r : c.regs.gprs)
			r = value();
		for (auto &v : c.regs.vectors)
			for (u8 &x : v)
				x = u8(rng());
		c.regs.flags = (rng() & (alu::all | rflags::df)) | rflags::fixed | rflags::intf;
		c.regs.flags |= pick(16) ? 0 : rflags::ac;
		for (unsigned k = 0; k < sizeof(c.data); k += 8) {
			const u64 r = pick(3) ? value() : 0;
			memcpy(c.data + k, &r, 8);
		}
		const unsigned size = i.op == Op::movzx || i.op == Op::movsx ? i.src_size : i.size;
		const u64 at = target(size, i.aligned || size == 16);
		if (is_string(i.op)) {
			const u64 high = i.addr_size == 4 && pick(2) ? rng() << 32 : 0;
			c.regs.gprs[u8(Gpr::rsi)] = target(size, false) + high - (i.seg == Seg::fs ? fs : 0);
			c.regs.gprs[u8(Gpr::rdi)] = target(size, false) + high;
			if (pick(4) == 0)
				c.regs.gprs[u8(Gpr::rdi)] = c.regs.gprs[u8(Gpr::rsi)] + pick(32) - 16;
			c.regs.gprs[u8(Gpr::rcx)] = pick(40) + (i.addr_size == 4 && pick(2) ? rng() << 32 : 0);
			if (i.seg == Seg::fs && i.addr_size == 4)
				return false;
			/* Long equal runs for REPE, REPNE. */
			if (pick(2))
				memset(c.data, int(pick(3)), rw_pages * page_size);
			if (pick(2))
				c.regs.gprs[0] = 0;
		} else if (i.op == Op::xlat) {
			const u64 at = target(1, false) - (i.seg == Seg::fs ? fs : 0);
			c.regs.gprs[u8(Gpr::rbx)] = at - (c.regs.gprs[0] & 0xff);
			if (i.seg == Seg::fs && i.addr_size == 4)
				return false;
		} else if (i.op == Op::pushf) {
			c.regs.gprs[u8(Gpr::rsp)] = target(i.size, false);
		} else if (i.op == Op::push || i.op == Op::pop) {
			c.regs.gprs[u8(Gpr::rsp)] = target(i.size, false);
			if (i.memory && (i.base == u8(Gpr::rsp) || !place_operand(c, at)))
				return false;
		} else if (i.memory && i.op != Op::nop && !place_operand(c, at)) {
			return false;
		}
		/* Equal operands for compare-and-exchange; dividends that fit. */
		u8 *mem = at >= reinterpret_cast<u64>(area) && at + 16 < reinterpret_cast<u64>(area) + sizeof(c.data) ?
				  c.data + (at - reinterpret_cast<u64>(area)) : nullptr;
		if (i.op == Op::cmpxchg && mem && pick(2) && i.base != 0 && i.index != 0)
			memcpy(&c.regs.gprs[0], mem, i.size);
		if (i.op == Op::cmpxchg8b && mem && pick(2)) {
			if (i.base == 0 || i.index == 0 || i.base == 2 || i.index == 2)
				return true;
			memcpy(&c.regs.gprs[0], mem, i.size / 2);
			memcpy(&c.regs.gprs[2], mem + i.size / 2, i.size / 2);
		}
		if ((i.op == Op::div || i.op == Op::idiv) && pick(2) && i.base != 2 && i.index != 2)
			c.regs.gprs[2] = pick(2) ? 0 : ~u64{0};
		return true;
	}

	struct Result {
		Outcome end;
		NativeContext regs;
		std::vector<u8> data;
		bool foreign; /* touched something that is not the test's */
	};

	Result emulate_case(const Case &c, TestMachine::Kind kind, Hint hint = {})
	{
		TestMachine m;
		Emulation e;
		Result r;
		const u64 base = reinterpret_cast<u64>(area), code = reinterpret_cast<u64>(cpu.code());
		r.data.assign(c.data, c.data + sizeof(c.data));
		std::vector<u8> text(page_size);
		memcpy(text.data(), c.bytes, c.length);
		m.map(base, Gfn{0x100}, r.data.data(), rw_pages, kind);
		m.map(base + ro_page * page_size, Gfn{0x200}, r.data.data() + ro_page * page_size, 1, kind, false);
		m.map(code, Gfn{0x300}, text.data(), 1, TestMachine::Kind::ram);
		m.ip = code;
		m.facts.cpl = 3;
		m.facts.alignment_checked = c.regs.flags & rflags::ac;
		m.segments[u8(Seg::fs)].base = fs;
		m.segments[u8(Seg::gs)].base = 0;
		u16 sel[6];
		asm("mov %%es, %0; mov %%cs, %1; mov %%ss, %2; mov %%ds, %3; mov %%fs, %4; mov %%gs, %5"
		    : "=r"(sel[0]), "=r"(sel[1]), "=r"(sel[2]), "=r"(sel[3]), "=r"(sel[4]), "=r"(sel[5]));
		for (unsigned n = 0; n < 6; n++)
			m.segments[n].selector = sel[n];
		m.flags = c.regs.flags;
		memcpy(m.gprs, c.regs.gprs, sizeof(m.gprs));
		for (unsigned n = 0; n < 16; n++)
			memcpy(m.vectors[n], c.regs.vectors[n], 32);
		r.end = execute(m, e, hint).end;
		EXPECT_EQ(m.broken, nullptr);
		EXPECT_FALSE(e.in_progress());
		EXPECT_EQ(m.flags & rflags::rf ? r.end.kind == Outcome::Kind::fault : true, true);
		memcpy(r.regs.gprs, m.gprs, sizeof(m.gprs));
		for (unsigned n = 0; n < 16; n++)
			memcpy(r.regs.vectors[n], m.vectors[n], 32);
		r.regs.flags = m.flags & ~rflags::rf;
		r.regs.rip = m.ip - code;
		const u64 cr2 = r.end.exception.payload;
		r.foreign = r.end.kind == Outcome::Kind::fault && r.end.exception.vector == Vector::pf &&
			    (cr2 < base || cr2 >= base + all_pages * page_size);
		return r;
	}

	std::string describe(const Case &c)
	{
		std::string s = "bytes";
		char t[64];
		for (unsigned k = 0; k < c.length; k++)
			snprintf(t, sizeof(t), " %02x", c.bytes[k]), s += t;
		snprintf(t, sizeof(t), " flags %lx area %p", c.regs.flags, static_cast<void *>(area));
		s += t;
		for (unsigned k = 0; k < 16; k++)
			snprintf(t, sizeof(t), " r%u=%lx", k, c.regs.gprs[k]), s += t;
		return s;
	}

	/* CMPS reads two places, in an order of the processor's own. */
	bool both_fault(const Case &c, const u64 *gprs) const
	{
		if (c.insn.op != Op::cmps)
			return false;
		const u64 mask = c.insn.addr_size == 4 ? 0xffffffff : ~u64{0}, base = reinterpret_cast<u64>(area);
		const auto faults = [&](u64 at) {
			for (const u64 byte : {at, at + c.insn.size - 1}) {
				const u64 page = (byte - base) / page_size; /* far off: nothing there, or not canonical */
				if (page == rw_pages || page >= all_pages - 1)
					return true;
			}
			return (c.regs.flags & rflags::ac) && (at & (c.insn.size - 1));
		};
		return faults((gprs[6] & mask) + (c.insn.seg == Seg::fs ? fs : 0)) && faults(gprs[7] & mask);
	}

	/* What a misaligned operand is complained of that may not be accessed for another reason as well: Intel's processors look
	 * at the alignment before the canonical form. */
	static bool misaligned(const Case &c, Vector ours, unsigned theirs)
	{
		return (c.regs.flags & rflags::ac) && (ours == Vector::ac || theirs == unsigned(Vector::ac));
	}

	/* Whether a repeated string operation with 32-bit addresses that does no element, or faults before the first, has cleared
	 * the upper halves of what it counts with: Intel's processors have, AMD's have not. */
	static u64 compared(const Case &c, const NativeFault &f, unsigned gpr)
	{
		const bool counts = gpr == 1 || gpr == 6 || gpr == 7, none = f.taken || !u32(c.regs.gprs[1]);
		return none && c.insn.repeat != Repeat::none && c.insn.addr_size == 4 && counts ? 0xffffffff : ~u64{0};
	}

	/* A comparison that is repeated and faults on the way: Intel's processors go back to the flags from before it (SDM
	 * vol. 2, REP), AMD's have those of the last element. */
	static u64 left_by_fault(const Case &c, const NativeFault &f)
	{
		const bool compares = c.insn.op == Op::cmps || c.insn.op == Op::scas;
		return f.taken && c.insn.repeat != Repeat::none && compares ? alu::all : 0;
	}

	void compare(const Case &c, const Result &r, const NativeContext &native, const NativeFault &f,
		     const u8 *memory, u64 defined)
	{
		if (f.taken) {
			ASSERT_EQ(r.end.kind, Outcome::Kind::fault)
				<< "CPU: vector " << f.vector << " cr2 " << std::hex << f.cr2;
			if (!both_fault(c, native.gprs) && !misaligned(c, r.end.exception.vector, f.vector)) {
				ASSERT_EQ(unsigned(r.end.exception.vector), f.vector);
				if (f.vector == 14) {
					ASSERT_EQ(r.end.exception.error, f.error & 7);
					ASSERT_EQ(r.end.exception.payload, f.cr2);
				}
			}
			ASSERT_EQ(r.regs.rip, native.rip - reinterpret_cast<u64>(cpu.code()));
		} else {
			ASSERT_EQ(r.end.kind, Outcome::Kind::done)
				<< (r.end.kind == Outcome::Kind::fault ? int(r.end.exception.vector) : -1);
			ASSERT_EQ(r.regs.rip, c.length);
			ASSERT_EQ(memcmp(r.regs.vectors, native.vectors, sizeof(native.vectors)), 0);
		}
		for (unsigned n = 0; n < 16; n++)
			ASSERT_EQ(r.regs.gprs[n] & compared(c, f, n), native.gprs[n] & compared(c, f, n)) << "register " << n;
		defined &= ~left_by_fault(c, f);
		ASSERT_EQ(r.regs.flags & defined, native.flags & ~rflags::rf & defined)
			<< std::hex << r.regs.flags << " CPU " << native.flags;
		for (const unsigned page : {0u, 1u, ro_page})
			ASSERT_EQ(memcmp(r.data.data() + page * page_size, memory + page * page_size, page_size), 0)
				<< "memory of page " << page;
	}

	void run_case(const Case &c)
	{
		if (is_open(c.insn, c.regs.gprs, c.regs.flags)) {
			skipped++;
			return;
		}
		const Result ram = emulate_case(c, TestMachine::Kind::ram);
		if (ram.foreign) {
			skipped++;
			return;
		}
		const Result device = emulate_case(c, TestMachine::Kind::device);
		protect(PROT_READ | PROT_WRITE);
		for (const unsigned page : {0u, 1u, ro_page})
			memcpy(area + page * page_size, c.data + page * page_size, page_size);
		protect(PROT_READ);
		cpu.prepare(c.bytes, c.length);
		NativeContext native = c.regs;
		const NativeFault f = cpu.run(native);
		ran++;
		faulted += f.taken;
		by_op[unsigned(c.insn.op)]++;
		const u64 defined = ~undefined_flags(c.insn, c.regs.gprs);
		SCOPED_TRACE(describe(c));
		compare(c, ram, native, f, area, defined);
		if (HasFatalFailure())
			return;
		SCOPED_TRACE("over device pages");
		compare(c, device, native, f, area, defined);
	}
};

const std::vector<std::vector<u8>> prefixes{
	{},	{0x66},	      {0x48},	    {0x40},	  {0x44},	{0x45},	      {0x4f},	    {0x67},
	{0xf0}, {0xf3},	      {0xf2},	    {0x66, 0x67}, {0x66, 0x45}, {0xf0, 0x48}, {0xf0, 0x66}, {0xf3, 0x48},
	{0x64}, {0x64, 0x48}, {0x67, 0x48}, {0xf2, 0x66}, {0xf3, 0x67}, {0xf3, 0x66}, {0x66, 0x48}, {0x66, 0x49},
};

TEST_F(Native, every_operation_leaves_what_the_cpu_leaves)
{
	auto c = std::make_unique<Case>();
	const char *scale = getenv("KX_EMULATE_CASES");
	const unsigned rounds = scale ? unsigned(atoi(scale)) : 6;

	for (unsigned round = 0; round < rounds; round++)
		for (unsigned map = 0; map < 5; map++)
			for (unsigned op = 0; op < 256; op++)
				for (const auto &prefix : prefixes)
					for (unsigned again = 0; again < 4; again++) {
						if (!make(*c, map, op, prefix))
							continue;
						run_case(*c);
						if (HasFatalFailure())
							return;
					}
	RecordProperty("ran", int(ran));
	RecordProperty("faulted", int(faulted));
	EXPECT_GT(ran, rounds * 10000);
	EXPECT_GT(faulted, rounds * 500);
	for (unsigned o = unsigned(Op::add); o <= unsigned(Op::vec_to_gpr); o++)
		if (runs_natively(Op(o))) {
			EXPECT_GT(by_op[o], 0u) << "operation " << o;
		}
}

}
