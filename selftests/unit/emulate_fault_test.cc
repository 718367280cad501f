/* SPDX-License-Identifier: GPL-2.0-only */
/* Faults: which, with which error code, in which order, and that they leave everything as it was. */
#include "selftests/unit/emulate_machine.hpp"

#include <gtest/gtest.h>

namespace {

using namespace kx;
using namespace kx::emulate;
using namespace kx::test;
using Kind = Outcome::Kind;

struct Want {
	Vector vector;
	bool coded = true;
};

void expect_fault(Guest &g, std::initializer_list<int> bytes, Want w)
{
	u64 before[16];
	memcpy(before, g.gprs, sizeof(before));
	const u64 ip = g.ip, flags = g.flags;
	const Outcome o = g.run(bytes).end;
	ASSERT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(o.exception.vector, w.vector);
	EXPECT_EQ(o.exception.has_error, w.coded);
	EXPECT_EQ(g.ip, ip);
	EXPECT_EQ(g.flags, flags);
	EXPECT_EQ(memcmp(before, g.gprs, sizeof(before)), 0);
	EXPECT_FALSE(g.e.in_progress());
	EXPECT_EQ(g.broken, nullptr);
}
#define EXPECT_FAULT(...) \
	do { \
		SCOPED_TRACE(#__VA_ARGS__); \
		expect_fault(__VA_ARGS__); \
	} while (0)

constexpr Want gp{Vector::gp}, ss{Vector::ss}, pf{Vector::pf}, ud{Vector::ud, false};

TEST(Long64, non_canonical_is_general_protection_or_stack_by_base_register)
{
	Guest g;
	g.r(Gpr::rbx) = g.r(Gpr::rbp) = g.r(Gpr::r13) = u64{1} << 47;
	EXPECT_FAULT(g, {0x89, 0x03}, gp);			/* [rbx] */
	EXPECT_FAULT(g, {0x89, 0x45, 0x00}, ss);		/* [rbp] */
	EXPECT_FAULT(g, {0x41, 0x89, 0x45, 0x00}, gp);		/* [r13] */
	EXPECT_FAULT(g, {0x36, 0x89, 0x03}, gp);		/* ss: is ignored */
	EXPECT_FAULT(g, {0x3e, 0x89, 0x45, 0x00}, ss);		/* ds: too */
	EXPECT_FAULT(g, {0x64, 0x89, 0x45, 0x00}, gp);		/* fs: is not */
	g.r(Gpr::rsp) = (u64{1} << 47) + 4;
	EXPECT_FAULT(g, {0x53}, ss);				/* push rbx: the last four bytes are in the hole */
	g.r(Gpr::rbx) = (u64{1} << 47) - 4;
	EXPECT_FAULT(g, {0x48, 0x89, 0x03}, gp);		/* half of it is canonical */
	EXPECT_EQ(g.walks, 8u) << "one an instruction: the fetch";
}

TEST(Long64, five_levels_make_more_addresses_canonical)
{
	Guest g;
	g.facts.linear_bits = 57;
	g.map_new(u64{1} << 50, Gfn{0x99}, 1, TestMachine::Kind::ram);
	g.r(Gpr::rbx) = u64{1} << 50;
	EXPECT_EQ(g.run({0x89, 0x03}).end.kind, Kind::done);
	g.facts.linear_bits = 48;
	EXPECT_FAULT(g, {0x89, 0x03}, gp);
}

TEST(Long64, segments_have_no_limits_and_only_fs_and_gs_bases)
{
	Guest g;
	for (const Seg s : {Seg::ds, Seg::es, Seg::ss}) {
		g.seg(s).limit = 0;
		g.seg(s).base = 0x123456000;
		g.seg(s).unusable = true;
	}
	g.seg(Seg::gs).base = 0x1000;
	g.r(Gpr::rbx) = Guest::ram_at;
	g.r(Gpr::rax) = 0x55;
	EXPECT_EQ(g.run({0x88, 0x03}).end.kind, Kind::done);
	EXPECT_EQ(g.ram[0], 0x55);
	EXPECT_EQ(g.run({0x65, 0x88, 0x03}).end.kind, Kind::done);
	EXPECT_EQ(g.ram[0x1000], 0x55);
}

TEST(Long64, a_32_bit_address_is_cut_before_the_base_is_added)
{
	Guest g;
	g.seg(Seg::fs).base = 0x100000000;
	u8 *high = g.map_new(0x100020000, Gfn{0x88}, 1, TestMachine::Kind::ram);
	g.r(Gpr::rbx) = 0xffffffff00000000 | Guest::ram_at;
	g.r(Gpr::rax) = 7;
	EXPECT_EQ(g.run({0x64, 0x67, 0x88, 0x03}).end.kind, Kind::done);
	EXPECT_EQ(high[0], 7);
}

TEST(Long64, an_operand_may_wrap_from_the_top_to_zero)
{
	Guest g;
	u8 *top = g.map_new(~u64{0} & ~(page_size - 1), Gfn{0x61}, 1, TestMachine::Kind::ram);
	u8 *zero = g.map_new(0, Gfn{0x62}, 1, TestMachine::Kind::ram);
	g.r(Gpr::rbx) = ~u64{0} - 1;
	g.r(Gpr::rax) = 0x44332211;
	EXPECT_EQ(g.run({0x89, 0x03}).end.kind, Kind::done);
	EXPECT_EQ(top[page_size - 1], 0x22);
	EXPECT_EQ(zero[0], 0x33);
}

TEST(Protected, limits)
{
	Guest g{CpuMode::protect, 4};
	g.seg(Seg::ds).limit = Guest::ram_at + 0xf;
	g.r(Gpr::rbx) = Guest::ram_at + 0xc;
	EXPECT_EQ(g.run({0x89, 0x03}).end.kind, Kind::done);
	g.r(Gpr::rbx)++;
	EXPECT_FAULT(g, {0x89, 0x03}, gp);
	EXPECT_EQ(g.run({0x88, 0x03}).end.kind, Kind::done);
	g.r(Gpr::rbx) = 0xfffffffd;
	g.seg(Seg::ds).limit = 0xffffffff;
	EXPECT_FAULT(g, {0x89, 0x03}, gp); /* wraps at 4 GiB */
	g.seg(Seg::ss).limit = 0x1000;
	g.r(Gpr::rbp) = 0x1000;
	EXPECT_FAULT(g, {0x89, 0x45, 0x00}, ss);
	g.r(Gpr::rbx) = 0x1000;
	EXPECT_FAULT(g, {0x36, 0x89, 0x03}, ss); /* an override to SS */
}

TEST(Protected, expand_down_segments_are_valid_above_their_limit)
{
	Guest g{CpuMode::protect, 4};
	g.seg(Seg::ds).type = 7;
	g.seg(Seg::ds).limit = Guest::ram_at - 1;
	g.seg(Seg::ds).db = true;
	g.r(Gpr::rbx) = Guest::ram_at;
	EXPECT_EQ(g.run({0x89, 0x03}).end.kind, Kind::done);
	g.r(Gpr::rbx) = Guest::ram_at - 1;
	EXPECT_FAULT(g, {0x89, 0x03}, gp);
	g.r(Gpr::rbx) = 0xfffffffe;
	EXPECT_FAULT(g, {0x89, 0x03}, gp);
	g.seg(Seg::ds).db = false; /* now at most 64 KiB */
	g.r(Gpr::rbx) = Guest::ram_at;
	EXPECT_FAULT(g, {0x89, 0x03}, gp);
}

TEST(Protected, types_and_null_selectors)
{
	Guest g{CpuMode::protect, 4};
	g.r(Gpr::rbx) = Guest::ram_at;
	g.seg(Seg::ds).type = 1; /* read-only data */
	EXPECT_FAULT(g, {0x89, 0x03}, gp);
	EXPECT_FAULT(g, {0x01, 0x03}, gp);
	EXPECT_EQ(g.run({0x8b, 0x03}).end.kind, Kind::done);
	EXPECT_FAULT(g, {0x2e, 0x89, 0x03}, gp); /* code is never written */
	EXPECT_EQ(g.run({0x2e, 0x8b, 0x0b}).end.kind, Kind::done);
	g.seg(Seg::cs).type = 9; /* execute-only */
	EXPECT_FAULT(g, {0x2e, 0x8b, 0x03}, gp);
	g.seg(Seg::es).unusable = true;
	EXPECT_FAULT(g, {0x26, 0x8b, 0x03}, gp);
	g.seg(Seg::es).unusable = false;
	g.seg(Seg::es).present = false;
	EXPECT_FAULT(g, {0x26, 0x8b, 0x03}, gp);
	g.seg(Seg::ss).unusable = true;
	g.r(Gpr::rsp) = Guest::ram_at + 8;
	EXPECT_FAULT(g, {0x53}, ss);
}

TEST(Protected, addresses_wrap_at_four_gigabytes)
{
	Guest g{CpuMode::protect, 4};
	g.seg(Seg::ds).base = 0xfffff000;
	g.r(Gpr::rbx) = Guest::ram_at + 0x1000;
	g.r(Gpr::rax) = 9;
	EXPECT_EQ(g.run({0x88, 0x03}).end.kind, Kind::done);
	EXPECT_EQ(g.ram[0], 9);
	u8 *top = g.map_new(0xfffff000, Gfn{0x61}, 1, TestMachine::Kind::ram);
	u8 *zero = g.map_new(0, Gfn{0x62}, 1, TestMachine::Kind::ram);
	g.r(Gpr::rbx) = 0xfff;
	g.r(Gpr::rax) = 0x2211;
	EXPECT_EQ(g.run({0x66, 0x89, 0x03}).end.kind, Kind::done);
	EXPECT_EQ(top[0xfff], 0x11);
	EXPECT_EQ(zero[0], 0x22);
}

TEST(Real, limits_fault_without_an_error_code)
{
	Guest g{CpuMode::real, 2};
	g.seg(Seg::cs).base = Guest::code_at;
	g.ip = 0;
	g.seg(Seg::ds).base = Guest::ram_at;
	g.r(Gpr::rbx) = 0xffff;
	EXPECT_FAULT(g, {0x89, 0x07}, (Want{Vector::gp, false})); /* mov [bx], ax */
	g.r(Gpr::rbp) = 0xffff;
	EXPECT_FAULT(g, {0x89, 0x46, 0x00}, (Want{Vector::ss, false}));
	g.r(Gpr::rbx) = 0xfffe;
	g.map_new(Guest::ram_at + 0xf000, Gfn{0x71}, 1, TestMachine::Kind::ram);
	EXPECT_EQ(g.run({0x89, 0x07}).end.kind, Kind::done);
}

TEST(Real, addresses_are_of_sixteen_bits_whatever_the_registers_hold)
{
	Guest g{CpuMode::real, 2};
	g.seg(Seg::cs).base = Guest::code_at;
	g.ip = 0;
	g.seg(Seg::ds).base = Guest::ram_at;
	g.r(Gpr::rbx) = 0xffff0010;
	g.r(Gpr::rsi) = 0xfff8;
	g.r(Gpr::rax) = 0x77;
	EXPECT_EQ(g.run({0x88, 0x00}).end.kind, Kind::done); /* mov [bx+si], al */
	EXPECT_EQ(g.ram[8], 0x77);
}

/* Big real mode: a limit from protected mode stays in the cache. Types count for nothing. */
TEST(Real, a_large_limit_may_be_used_with_a_prefix)
{
	Guest g{CpuMode::real, 2};
	g.seg(Seg::cs).base = Guest::code_at;
	g.ip = 0;
	g.seg(Seg::ds).limit = 0xffffffff;
	g.seg(Seg::ds).type = 1;
	g.r(Gpr::rbx) = Guest::device_at;
	EXPECT_EQ(g.run({0x67, 0x88, 0x03}).accesses.size(), 1u);
	g.seg(Seg::cs).limit = 0xffffffff;
	EXPECT_EQ(g.run({0x67, 0x2e, 0x88, 0x03}).accesses.size(), 1u); /* CS may be written */
}

TEST(Vm86, faults_carry_an_error_code)
{
	Guest g{CpuMode::vm86, 2};
	g.seg(Seg::cs).base = Guest::code_at;
	g.ip = 0;
	g.facts.cpl = 3;
	g.r(Gpr::rbx) = 0xffff;
	EXPECT_FAULT(g, {0x89, 0x07}, gp);
	g.seg(Seg::ds).base = Guest::ram_at;
	g.seg(Seg::ds).type = 1; /* types do not count */
	g.r(Gpr::rbx) = 0x10;
	EXPECT_EQ(g.run({0x89, 0x07}).end.kind, Kind::done);
}

TEST(Fetching, stops_at_the_limit_of_the_code_segment)
{
	Guest g{CpuMode::protect, 4};
	g.seg(Seg::cs).limit = Guest::code_at + 1;
	g.r(Gpr::rbx) = Guest::ram_at;
	EXPECT_EQ(g.run({0x89, 0x03}).end.kind, Kind::done);
	EXPECT_FAULT(g, {}, gp); /* right behind it */
	g.ip = Guest::code_at;
	g.seg(Seg::cs).limit = Guest::code_at;
	EXPECT_FAULT(g, {0x89, 0x03}, gp);
	EXPECT_EQ(g.run({0x90}).end.kind, Kind::done);
}

TEST(Fetching, of_a_non_canonical_rip_faults)
{
	Guest g;
	g.ip = u64{1} << 47;
	const Outcome o = emulate::begin(g, g.e);
	ASSERT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(o.exception.vector, Vector::gp);
}

TEST(Rip, wraps_at_32_bits_outside_64_bit_mode)
{
	Guest g{CpuMode::protect, 4};
	u8 *top = g.map_new(0xfffff000, Gfn{0x61}, 1, TestMachine::Kind::ram);
	top[0xfff] = 0x90;
	g.ip = 0xffffffff;
	EXPECT_EQ(emulate::begin(g, g.e).kind, Kind::done);
	EXPECT_EQ(g.ip, 0u);
	/* An instruction itself does not wrap. */
	top[0xfff] = 0x89;
	g.ip = 0xffffffff;
	EXPECT_EQ(emulate::begin(g, g.e).kind, Kind::fault);
}

/* IP is 32 bits in sequence, and the limit of 64 KiB then ends it: only branches cut it to 16. */
TEST(Rip, of_16_bit_code_runs_into_the_limit)
{
	Guest g{CpuMode::real, 2};
	g.seg(Seg::cs).base = 0;
	u8 *page = g.map_new(0xf000, Gfn{0x61}, 1, TestMachine::Kind::ram);
	page[0xfff] = 0x90;
	g.ip = 0xffff;
	EXPECT_EQ(emulate::begin(g, g.e).kind, Kind::done);
	EXPECT_EQ(g.ip, 0x10000u);
	EXPECT_EQ(emulate::begin(g, g.e).kind, Kind::fault);
	page[0xffd] = 0xeb; /* jmp short +3 */
	page[0xffe] = 3;
	g.ip = 0xfffd;
	EXPECT_EQ(emulate::begin(g, g.e).kind, Kind::done);
	EXPECT_EQ(g.ip, 2u);
}

TEST(Priority, checks_of_the_segment_come_before_the_page)
{
	Guest g{CpuMode::protect, 4};
	g.seg(Seg::ds).limit = 0xfff;
	g.r(Gpr::rbx) = 0x90000; /* not mapped either */
	EXPECT_FAULT(g, {0x89, 0x03}, gp);
}

TEST(Priority, alignment_of_a_vector_comes_before_the_page)
{
	Guest g;
	g.r(Gpr::rbx) = 0x90001;
	EXPECT_FAULT(g, {0x0f, 0x28, 0x03}, gp); /* movaps */
	EXPECT_FAULT(g, {0x0f, 0x10, 0x03}, pf); /* movups */
	EXPECT_FAULT(g, {0xf0, 0x48, 0x0f, 0xc7, 0x0b}, gp); /* cmpxchg16b */
	EXPECT_FAULT(g, {0xf0, 0x0f, 0xc7, 0x0b}, pf); /* cmpxchg8b */
}

TEST(Priority, a_device_is_not_read_for_an_instruction_that_faults_later)
{
	Guest g;
	g.r(Gpr::rsi) = Guest::device_at;
	g.r(Gpr::rdi) = 0x90000;
	Served s = g.run({0xa4}); /* movsb */
	EXPECT_EQ(s.end.kind, Kind::fault);
	EXPECT_EQ(s.end.exception.payload, 0x90000u);
	EXPECT_TRUE(s.accesses.empty());
	g.r(Gpr::rsp) = 0x90008;
	g.r(Gpr::rbx) = Guest::device_at;
	s = g.run({0xff, 0x33}); /* push [rbx] */
	EXPECT_EQ(s.end.kind, Kind::fault);
	EXPECT_TRUE(s.accesses.empty());
}

TEST(Priority, read_modify_write_of_a_read_only_page_is_a_write_fault)
{
	Guest g;
	g.pages.at(Guest::device_at >> page_shift).writable = false;
	g.r(Gpr::rbx) = Guest::device_at;
	const Served s = g.run({0x01, 0x03});
	ASSERT_EQ(s.end.kind, Kind::fault);
	EXPECT_EQ(s.end.exception.error, pfec::present | pfec::write);
	EXPECT_TRUE(s.accesses.empty());
	EXPECT_EQ(g.run({0x39, 0x03}).end.kind, Kind::done); /* cmp only reads */
}

TEST(Alignment, is_checked_when_the_mode_says_so)
{
	Guest g;
	g.facts.alignment_checked = true;
	g.r(Gpr::rbx) = Guest::ram_at + 2;
	EXPECT_FAULT(g, {0x89, 0x03}, (Want{Vector::ac}));
	EXPECT_EQ(g.run({0x66, 0x89, 0x03}).end.kind, Kind::done);
}

TEST(Division, faults_on_zero_and_on_overflow)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	g.r(Gpr::rax) = 5;
	constexpr Want de{Vector::de, false};
	EXPECT_FAULT(g, {0xf7, 0x33}, de);
	g.store<u32>(g.dev, 1);
	g.r(Gpr::rdx) = 1;
	EXPECT_FAULT(g, {0xf7, 0x33}, de);
	g.store<u32>(g.dev, 0xffffffff); /* -2^31 / -1 */
	g.r(Gpr::rax) = 0x80000000;
	g.r(Gpr::rdx) = 0xffffffff;
	EXPECT_FAULT(g, {0xf7, 0x3b}, de);
}

TEST(Simd, needs_its_unit)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	g.facts.sse = Simd::undefined;
	EXPECT_FAULT(g, {0x0f, 0x10, 0x03}, ud);
	g.facts.sse = Simd::unavailable;
	EXPECT_FAULT(g, {0x0f, 0x10, 0x03}, (Want{Vector::nm, false}));
	EXPECT_EQ(g.run({0xc5, 0xf8, 0x10, 0x03}).end.kind, Kind::done); /* AVX is asked for by itself */
	g.facts.avx = Simd::undefined;
	EXPECT_FAULT(g, {0xc5, 0xf8, 0x10, 0x03}, ud);
}

TEST(Undefined, lock_where_it_does_not_belong)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	EXPECT_FAULT(g, {0xf0, 0x89, 0x03}, ud);
	EXPECT_FAULT(g, {0xf0, 0x39, 0x03}, ud);
	EXPECT_FAULT(g, {0x66, 0xc5, 0xf8, 0x10, 0x03}, ud);
}

}
