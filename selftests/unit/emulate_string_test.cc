/* SPDX-License-Identifier: GPL-2.0-only */
/* String instructions and their repetition: iterations committed one by one, in bounded time. */
#include "selftests/unit/emulate_machine.hpp"

#include <gtest/gtest.h>

namespace {

using namespace kx;
using namespace kx::emulate;
using namespace kx::test;
using Kind = Outcome::Kind;

constexpr u64 dev_gpa = Guest::device_gfn.raw() << page_shift;

struct Strings : Guest {
	using Guest::Guest;
	void regs(u64 rsi, u64 rdi, u64 rcx)
	{
		r(Gpr::rsi) = rsi;
		r(Gpr::rdi) = rdi;
		r(Gpr::rcx) = rcx;
	}
	/* Enters again after `retry`, as the guest's own execution would bring it back. */
	Served to_the_end(std::initializer_list<int> bytes, unsigned entries = 1000)
	{
		Served all{Outcome::retry(), {}};
		code(bytes);
		while (all.end.kind == Outcome::Kind::retry && entries--) {
			Served s = execute(*this, e);
			all.end = s.end;
			all.accesses.insert(all.accesses.end(), s.accesses.begin(), s.accesses.end());
		}
		return all;
	}
};

TEST(Movs, from_memory_to_a_device_is_one_write_an_iteration)
{
	Strings g;
	for (unsigned i = 0; i < 12; i++)
		g.ram[i] = u8(i);
	g.regs(Guest::ram_at, Guest::device_at, 3);
	const Served s = g.run({0xf3, 0xa5});
	EXPECT_EQ(s.end.kind, Kind::done);
	ASSERT_EQ(s.accesses.size(), 3u);
	EXPECT_EQ(s.accesses[2], (DeviceAccess{true, dev_gpa + 8, 4, 0x0b0a0908}));
	EXPECT_EQ(g.r(Gpr::rcx), 0u);
	EXPECT_EQ(g.r(Gpr::rdi), Guest::device_at + 12);
	EXPECT_EQ(g.ip, Guest::code_at + 2);
}

TEST(Movs, shows_the_iterations_done_while_one_is_out)
{
	Strings g;
	g.regs(Guest::ram_at, Guest::device_at, 3);
	Outcome o = g.begin({0xf3, 0xa4});
	ASSERT_EQ(o.kind, Kind::mmio_write);
	EXPECT_EQ(g.r(Gpr::rcx), 2u);
	EXPECT_EQ(g.ip, Guest::code_at);
	EXPECT_TRUE(g.flags & rflags::rf);
	o = g.taken();
	ASSERT_EQ(o.kind, Kind::mmio_write);
	o = g.taken();
	EXPECT_EQ(g.r(Gpr::rcx), 0u);
	EXPECT_EQ(g.ip, Guest::code_at + 2);
	EXPECT_FALSE(g.flags & rflags::rf);
	EXPECT_EQ(g.taken().kind, Kind::done);
}

TEST(Movs, from_device_to_device)
{
	Strings g;
	g.store<u64>(g.dev, 0x1122334455667788);
	g.regs(Guest::device_at, Guest::device_at + page_size, 2);
	const Served s = g.run({0xf3, 0xa5});
	EXPECT_EQ(s.end.kind, Kind::done);
	EXPECT_EQ(s.accesses.size(), 4u);
	EXPECT_EQ(g.load<u64>(g.dev + page_size), 0x1122334455667788u);
}

TEST(Movs, a_page_fault_in_the_middle_keeps_what_was_done)
{
	Strings g;
	g.regs(Guest::ram_at + 2 * page_size - 8, Guest::ram_at, 10);
	const Outcome o = g.begin({0xf3, 0xa5});
	ASSERT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(o.exception.payload, Guest::ram_at + 2 * page_size);
	EXPECT_EQ(g.r(Gpr::rcx), 8u);
	EXPECT_EQ(g.r(Gpr::rsi), Guest::ram_at + 2 * page_size);
	EXPECT_EQ(g.r(Gpr::rdi), Guest::ram_at + 8);
	EXPECT_EQ(g.ip, Guest::code_at);
}

TEST(Movs, downwards)
{
	Strings g;
	g.flags |= rflags::df;
	for (unsigned i = 0; i < 16; i++)
		g.ram[i] = u8(i);
	g.regs(Guest::ram_at + 8, Guest::device_at + 8, 2);
	const Served s = g.run({0xf3, 0x48, 0xa5});
	ASSERT_EQ(s.accesses.size(), 2u);
	EXPECT_EQ(s.accesses[0].gpa, dev_gpa + 8);
	EXPECT_EQ(s.accesses[1], (DeviceAccess{true, dev_gpa, 8, 0x0706050403020100}));
	EXPECT_EQ(g.r(Gpr::rsi), Guest::ram_at - 8);
}

/* Element by element, a copy a little upwards repeats its beginning. */
TEST(Movs, overlapping_copies_repeat_as_single_moves_would)
{
	for (unsigned distance = 1; distance < 80; distance += 3) {
		Strings g;
		std::vector<u8> want(page_size);
		for (unsigned i = 0; i < page_size; i++)
			want[i] = g.ram[i] = u8(i * 7 + 1);
		g.regs(Guest::ram_at, Guest::ram_at + distance, 2000);
		EXPECT_EQ(g.to_the_end({0xf3, 0xa4}).end.kind, Kind::done);
		for (unsigned i = 0; i < 2000; i++)
			want[i + distance] = want[i];
		EXPECT_EQ(memcmp(want.data(), g.ram, page_size), 0) << distance;
	}
}

TEST(Movs, over_a_whole_page_of_memory_costs_few_calls)
{
	Strings g;
	g.regs(Guest::ram_at, Guest::ram_at + page_size, page_size / 8);
	g.preloaded = {0xf3, 0x48, 0xa5};
	EXPECT_EQ(g.begin({}).kind, Kind::done);
	EXPECT_LT(g.ram_calls, 200u);
	EXPECT_LE(g.walks, 2u);
}

TEST(Stos, fills_a_page_of_memory_in_few_calls)
{
	Strings g;
	g.preloaded = {0xf3, 0x48, 0xab};
	g.r(Gpr::rax) = 0x1122334455667788;
	g.regs(0, Guest::ram_at, page_size / 8);
	EXPECT_EQ(g.begin({}).kind, Kind::done);
	for (unsigned i = 0; i < page_size; i += 8)
		ASSERT_EQ(g.load<u64>(g.ram + i), g.r(Gpr::rax));
	EXPECT_EQ(g.ram[page_size], 0);
	EXPECT_LT(g.ram_calls, 80u);
	EXPECT_LE(g.walks, 1u);
}

TEST(Stos, to_a_device_goes_through_the_hint_once)
{
	Strings g;
	g.preloaded = {0xf3, 0xaa};
	g.regs(0, Guest::device_at, 2);
	Outcome o = g.begin({}, {Hint::Known::writing, Gpa{dev_gpa}});
	EXPECT_EQ(g.walks, 0u);
	o = g.taken();
	ASSERT_EQ(o.kind, Kind::mmio_write);
	EXPECT_EQ(o.gpa.raw(), dev_gpa + 1);
	EXPECT_EQ(g.walks, 1u);
}

TEST(Rep, takes_bounded_time_and_goes_on_after)
{
	Strings g;
	g.regs(0, Guest::device_at, 5000);
	g.r(Gpr::rax) = 1;
	g.preloaded = {0xf3, 0xae}; /* repe scasb over zeroes of ROM */
	g.r(Gpr::rdi) = Guest::rom_at;
	g.r(Gpr::rax) = 0;
	Outcome o = g.begin({});
	ASSERT_EQ(o.kind, Kind::retry);
	EXPECT_EQ(g.r(Gpr::rcx), 5000u - 1024);
	EXPECT_EQ(g.ip, Guest::code_at);
	EXPECT_TRUE(g.flags & rflags::rf);
	o = g.begin({});
	EXPECT_EQ(g.r(Gpr::rcx), 5000u - 2048);
}

TEST(Rep, pauses_for_an_event_after_an_iteration)
{
	Strings g;
	g.event = true;
	g.regs(Guest::ram_at, Guest::device_at, 3);
	Outcome o = g.begin({0xf3, 0xa4});
	ASSERT_EQ(o.kind, Kind::mmio_write);
	EXPECT_EQ(g.taken().kind, Kind::retry);
	EXPECT_EQ(g.r(Gpr::rcx), 2u);
	EXPECT_FALSE(g.e.in_progress());
	g.r(Gpr::rdi) = Guest::ram_at + 100;
	EXPECT_EQ(g.begin({0xf3, 0xa4}).kind, Kind::done) << "memory goes in bulk, the rest was one page";
}

TEST(Rep, with_a_count_of_zero_only_moves_on)
{
	Strings g;
	g.flags |= rflags::rf;
	g.regs(0x99990000, 0x99990000, 0);
	EXPECT_EQ(g.run({0xf3, 0xa4}).end.kind, Kind::done);
	EXPECT_EQ(g.ip, Guest::code_at + 2);
	EXPECT_FALSE(g.flags & rflags::rf);
}

TEST(Rep, traps_after_every_iteration_when_stepping)
{
	Strings g;
	g.flags |= rflags::tf;
	g.regs(Guest::ram_at, Guest::ram_at + 64, 2);
	Outcome o = g.begin({0xf3, 0xa4});
	EXPECT_EQ(o.kind, Kind::retry);
	EXPECT_EQ(o.trap, Outcome::Trap::single_step);
	EXPECT_EQ(g.r(Gpr::rcx), 1u);
	EXPECT_EQ(g.ip, Guest::code_at);
	o = g.begin({0xf3, 0xa4});
	EXPECT_EQ(o.kind, Kind::done);
	EXPECT_EQ(o.trap, Outcome::Trap::single_step);
	g.ip = Guest::code_at;
	g.regs(Guest::ram_at, Guest::device_at, 2);
	EXPECT_EQ(g.begin({0xf3, 0xa4}).kind, Kind::mmio_write);
	o = g.taken();
	EXPECT_EQ(o.kind, Kind::retry);
	EXPECT_EQ(o.trap, Outcome::Trap::single_step);
}

TEST(Rep, is_abandoned_between_iterations_when_rip_was_moved)
{
	Strings g;
	g.regs(Guest::ram_at, Guest::device_at, 3);
	ASSERT_EQ(g.begin({0xf3, 0xa4}).kind, Kind::mmio_write);
	g.ip = 0x1234;
	EXPECT_EQ(g.taken().kind, Kind::retry);
	EXPECT_EQ(g.r(Gpr::rcx), 2u);
	EXPECT_EQ(g.ip, 0x1234u);
}

TEST(Cmps, ends_on_the_first_difference_with_its_flags)
{
	Strings g;
	memcpy(g.ram, "abcdefgh", 8);
	memcpy(g.dev, "abcdXfgh", 8);
	g.regs(Guest::ram_at, Guest::device_at, 8);
	const Served s = g.run({0xf3, 0xa6});
	EXPECT_EQ(s.end.kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rcx), 3u);
	EXPECT_EQ(s.accesses.size(), 5u);
	EXPECT_FALSE(g.flags & rflags::zf);
	EXPECT_FALSE(g.flags & rflags::cf); /* 'e' > 'X' */
	EXPECT_FALSE(g.flags & rflags::rf);
}

TEST(Cmps, of_two_straddling_device_words_asks_four_times)
{
	Strings g;
	g.map_new(0x50000, Gfn{0xfc000}, 2, TestMachine::Kind::device);
	g.regs(Guest::device_at + page_size - 3, 0x50000 + page_size - 5, 0);
	const Served s = g.run({0x48, 0xa7});
	EXPECT_EQ(s.end.kind, Kind::done);
	EXPECT_EQ(s.accesses.size(), 4u);
	EXPECT_TRUE(g.flags & rflags::zf);
}

TEST(Scas, repne_looks_for_a_byte)
{
	Strings g;
	g.dev[5] = 0x42;
	g.r(Gpr::rax) = 0x42;
	g.regs(0, Guest::device_at, 100);
	EXPECT_EQ(g.run({0xf2, 0xae}).end.kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rdi), Guest::device_at + 6);
	EXPECT_TRUE(g.flags & rflags::zf);
}

TEST(Lods, uses_the_segment_override)
{
	Strings g;
	g.seg(Seg::gs).base = Guest::device_at;
	g.store<u32>(g.dev + 4, 0xcafe);
	g.regs(4, 0, 0);
	EXPECT_EQ(g.run({0x65, 0xad}).end.kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rax), 0xcafeu);
}

TEST(AddressSize, sixteen_bit_registers_wrap_and_keep_their_upper_parts)
{
	Strings g{CpuMode::real, 2};
	g.seg(Seg::cs).base = Guest::code_at;
	g.ip = 0;
	g.seg(Seg::ds).base = Guest::ram_at;
	g.seg(Seg::es).base = Guest::device_at;
	g.map_new(Guest::ram_at + 0xf000, Gfn{0x71}, 1, TestMachine::Kind::ram)[0xfff] = 0xab;
	g.regs(0xdead0000ffff, 0xbeef0000, 0x10002);
	const Served s = g.run({0xf3, 0xa4});
	EXPECT_EQ(s.end.kind, Kind::done);
	ASSERT_EQ(s.accesses.size(), 2u);
	EXPECT_EQ(s.accesses[0].data, 0xabu);
	EXPECT_EQ(g.r(Gpr::rsi), 0xdead00000001u);
	EXPECT_EQ(g.r(Gpr::rdi), 0xbeef0002u);
	EXPECT_EQ(g.r(Gpr::rcx), 0x10000u);
}

TEST(AddressSize, a_bulk_does_not_run_over_the_end_of_the_offsets)
{
	Strings g{CpuMode::real, 2};
	g.seg(Seg::cs).base = Guest::code_at;
	g.ip = 0;
	/* Offset ffff is in the middle of a page here: what follows is offset 0, elsewhere. */
	g.seg(Seg::es).base = 0x60000 - 0xf000 - 0x800;
	u8 *high = g.map_new(0x60000 - 0x1000, Gfn{0x71}, 3, TestMachine::Kind::ram);
	u8 *low = g.map_new(0x50000, Gfn{0x81}, 2, TestMachine::Kind::ram);
	g.r(Gpr::rax) = 0x5a;
	g.regs(0, 0xfff0, 0x20);
	EXPECT_EQ(g.to_the_end({0xf3, 0xaa}).end.kind, Kind::done);
	EXPECT_EQ(high[0x1000 + 0x7ff], 0x5a);
	EXPECT_EQ(high[0x1000 + 0x800], 0); /* beyond the segment */
	EXPECT_EQ(low[0x800], 0x5a);
	EXPECT_EQ(g.r(Gpr::rdi), 0x10u);
}

TEST(AddressSize, a_limit_ends_a_bulk_exactly)
{
	Strings g{CpuMode::protect, 4};
	g.seg(Seg::es).limit = Guest::ram_at + 99;
	g.r(Gpr::rax) = 0x5a;
	g.regs(0, Guest::ram_at, 200);
	const Outcome o = g.to_the_end({0xf3, 0xaa}).end;
	ASSERT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(o.exception.vector, Vector::gp);
	EXPECT_EQ(g.r(Gpr::rdi), Guest::ram_at + 100);
	EXPECT_EQ(g.r(Gpr::rcx), 100u);
	EXPECT_EQ(g.ram[100], 0);
}

TEST(AddressSize, thirty_two_bits_in_64_bit_mode_clear_the_upper_halves)
{
	Strings g;
	g.regs(0xffffffff00000000 | Guest::ram_at, 0xffffffff00000000 | Guest::device_at, 0xffffffff00000002);
	EXPECT_EQ(g.run({0x67, 0xf3, 0xa4}).end.kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rsi), Guest::ram_at + 2);
	EXPECT_EQ(g.r(Gpr::rdi), Guest::device_at + 2);
	EXPECT_EQ(g.r(Gpr::rcx), 0u);
}

/* --- stack instructions live here too: the same wrapping rules --- */

TEST(Stack, push_and_pop_of_device_operands)
{
	Guest g;
	g.store<u64>(g.dev, 0x1234567890);
	g.r(Gpr::rbx) = Guest::device_at;
	g.r(Gpr::rsp) = Guest::ram_at + 64;
	EXPECT_EQ(g.run({0xff, 0x33}).end.kind, Kind::done);
	EXPECT_EQ(g.load<u64>(g.ram + 56), 0x1234567890u);
	EXPECT_EQ(g.r(Gpr::rsp), Guest::ram_at + 56);
	g.r(Gpr::rbx) += 8;
	EXPECT_EQ(g.run({0x8f, 0x03}).end.kind, Kind::done);
	EXPECT_EQ(g.load<u64>(g.dev + 8), 0x1234567890u);
	EXPECT_EQ(g.r(Gpr::rsp), Guest::ram_at + 64);
}

TEST(Stack, a_pop_addressed_by_rsp_uses_it_after_the_pop)
{
	Guest g;
	g.r(Gpr::rsp) = Guest::ram_at;
	g.store<u64>(g.ram, 0x77);
	EXPECT_EQ(g.run({0x8f, 0x04, 0x24}).end.kind, Kind::done); /* pop [rsp] */
	EXPECT_EQ(g.load<u64>(g.ram + 8), 0x77u);
}

TEST(Stack, is_as_wide_as_ss_says)
{
	Guest g{CpuMode::protect, 4};
	g.seg(Seg::ss).db = false;
	g.seg(Seg::ss).base = Guest::ram_at;
	g.r(Gpr::rsp) = 0xabcd0004;
	g.r(Gpr::rax) = 0x99;
	EXPECT_EQ(g.run({0x50}).end.kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rsp), 0xabcd0000u);
	EXPECT_EQ(g.load<u32>(g.ram), 0x99u);
	g.map_new(Guest::ram_at + 0xf000, Gfn{0x71}, 1, TestMachine::Kind::ram);
	EXPECT_EQ(g.run({0x50}).end.kind, Kind::done); /* SP wraps */
	EXPECT_EQ(g.r(Gpr::rsp), 0xabcdfffcu);
}

TEST(Stack, flags_are_pushed_without_vm_and_rf)
{
	Guest g;
	g.r(Gpr::rsp) = Guest::ram_at + 64;
	g.flags = rflags::fixed | rflags::rf | rflags::cf | rflags::intf;
	EXPECT_EQ(g.run({0x9c}).end.kind, Kind::done);
	EXPECT_EQ(g.load<u64>(g.ram + 56), rflags::fixed | rflags::cf | rflags::intf);
	Guest v{CpuMode::vm86, 2};
	v.seg(Seg::cs).base = Guest::code_at;
	v.seg(Seg::ss).base = Guest::ram_at;
	v.ip = 0;
	v.r(Gpr::rsp) = 64;
	v.flags |= rflags::vm;
	EXPECT_EQ(v.run({0x9c}).end.exception.vector, Vector::gp); /* IOPL 0 */
	v.flags |= rflags::iopl;
	EXPECT_EQ(v.run({0x9c}).end.kind, Kind::done);
	EXPECT_EQ(v.load<u16>(v.ram + 62), rflags::fixed | rflags::iopl);
}

TEST(Stack, a_segment_register_fills_a_register_and_16_bits_of_memory)
{
	Guest g;
	g.seg(Seg::gs).selector = 0x1234;
	g.r(Gpr::rax) = ~u64{0};
	g.r(Gpr::rbx) = Guest::device_at;
	EXPECT_EQ(g.run({0x8c, 0xe8}).end.kind, Kind::done); /* mov eax, gs */
	EXPECT_EQ(g.r(Gpr::rax), 0x1234u);
	const Served s = g.run({0x48, 0x8c, 0x2b});
	ASSERT_EQ(s.accesses.size(), 1u);
	EXPECT_EQ(s.accesses[0].len, 2u);
	EXPECT_EQ(g.run({0x8c, 0xf0}).end.exception.vector, Vector::ud); /* no seventh */
}

TEST(Stack, call_and_return)
{
	Guest g;
	g.store<u64>(g.dev, Guest::code_at + 0x100);
	g.r(Gpr::rbx) = Guest::device_at;
	g.r(Gpr::rsp) = Guest::ram_at + 64;
	EXPECT_EQ(g.run({0xff, 0x13}).end.kind, Kind::done);
	EXPECT_EQ(g.ip, Guest::code_at + 0x100);
	EXPECT_EQ(g.load<u64>(g.ram + 56), Guest::code_at + 2);
	EXPECT_EQ(g.run({0xc2, 8, 0}).end.kind, Kind::done);
	EXPECT_EQ(g.ip, Guest::code_at + 2);
	EXPECT_EQ(g.r(Gpr::rsp), Guest::ram_at + 72);
}

TEST(Stack, a_branch_outside_the_segment_faults_before_it_pushes)
{
	Guest g;
	g.store<u64>(g.dev, u64{1} << 47);
	g.r(Gpr::rbx) = Guest::device_at;
	g.r(Gpr::rsp) = Guest::ram_at + 64;
	EXPECT_EQ(g.run({0xff, 0x13}).end.exception.vector, Vector::gp);
	EXPECT_EQ(g.r(Gpr::rsp), Guest::ram_at + 64);
	g.set_mode(CpuMode::protect, 4);
	g.seg(Seg::cs).limit = Guest::code_at + 0xff;
	g.store<u64>(g.dev, Guest::code_at + 0x100);
	EXPECT_EQ(g.run({0xff, 0x23}).end.exception.vector, Vector::gp);
	EXPECT_EQ(g.ip, Guest::code_at);
}

TEST(Branch, conditions_follow_the_flags)
{
	for (unsigned cc = 0; cc < 16; cc++)
		for (const u64 f : {u64{0}, rflags::cf, rflags::zf, rflags::sf, rflags::of, rflags::pf,
				    rflags::sf | rflags::of}) {
			Guest g;
			g.flags |= f;
			(void)g.run({0x70 + int(cc), 0x10});
			const bool taken = g.ip == Guest::code_at + 0x12;
			EXPECT_EQ(taken, alu::condition(cc, f)) << cc;
			g.ip = Guest::code_at;
			g.r(Gpr::rbx) = Guest::device_at;
			(void)g.run({0x0f, 0x90 + int(cc), 0x03});
			EXPECT_EQ(g.dev[0], taken);
		}
}

TEST(Branch, the_operand_size_prefix_in_64_bit_mode_is_the_vendors)
{
	Guest g;
	g.facts.branch66 = Branch66::honoured;
	(void)g.run({0x66, 0xe9, 0x00, 0x01, 0x00, 0x00});
	EXPECT_EQ(g.ip, (Guest::code_at + 4 + 0x100) & 0xffff);
	g.ip = Guest::code_at;
	g.facts.branch66 = Branch66::ignored;
	(void)g.run({0x66, 0xe9, 0x00, 0x01, 0x00, 0x00});
	EXPECT_EQ(g.ip, Guest::code_at + 6 + 0x100);
}

}
