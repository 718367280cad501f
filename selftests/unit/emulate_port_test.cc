/* SPDX-License-Identifier: GPL-2.0-only */
/* INS and OUTS: batches, order of checks, what the VMM sees and when. */
#include "selftests/unit/emulate_machine.hpp"

#include <algorithm>
#include <gtest/gtest.h>

namespace {

using namespace kx;
using namespace kx::emulate;
using namespace kx::test;
using Kind = Outcome::Kind;

struct Ports : Guest {
	using Guest::Guest;
	void regs(Gpr address, u64 at, u64 count)
	{
		r(address) = at;
		r(Gpr::rcx) = count;
		r(Gpr::rdx) = 0x12340170;
	}
	/* As the CPU allows it: opcodes 6c to 6f, of which the odd ones have the operand size. */
	static AllowedPort port_of(std::initializer_list<int> bytes)
	{
		const u8 opcode = u8(*(bytes.end() - 1));
		const bool narrow = std::count(bytes.begin(), bytes.end(), 0x66);
		return {u8(!(opcode & 1) ? 1 : narrow ? 2 : 4), opcode & 2 ? PortDirection::out : PortDirection::in, 0x170};
	}
	Outcome begin(std::initializer_list<int> bytes)
	{
		code(bytes);
		return emulate::begin(*this, e, {}, port_of(bytes));
	}
	Served run(std::initializer_list<int> bytes)
	{
		code(bytes);
		return execute(*this, e, {}, port_of(bytes));
	}
};

TEST(Ins, one_element_is_asked_for_and_stored)
{
	Ports g;
	g.regs(Gpr::rdi, Guest::ram_at, 0);
	const Outcome o = g.begin({0x6d});
	ASSERT_EQ(o.kind, Kind::port_in);
	EXPECT_EQ(o.port, 0x170);
	EXPECT_EQ(o.len, 4);
	EXPECT_EQ(o.count, 1u);
	EXPECT_EQ(g.ip, Guest::code_at);
	EXPECT_EQ(g.r(Gpr::rdi), Guest::ram_at);
	g.store<u32>(g.port_page, 0xaabbccdd);
	EXPECT_EQ(g.port().kind, Kind::done);
	EXPECT_EQ(g.load<u32>(g.ram), 0xaabbccddu);
	EXPECT_EQ(g.r(Gpr::rdi), Guest::ram_at + 4);
	EXPECT_EQ(g.ip, Guest::code_at + 1);
}

TEST(Ins, a_sector_is_one_batch)
{
	Ports g;
	g.regs(Gpr::rdi, Guest::ram_at, 256);
	const Outcome o = g.begin({0xf3, 0x66, 0x6d});
	ASSERT_EQ(o.kind, Kind::port_in);
	EXPECT_EQ(o.count, 256u);
	for (unsigned i = 0; i < 512; i++)
		g.port_page[i] = u8(i * 3);
	EXPECT_EQ(g.port().kind, Kind::done);
	EXPECT_EQ(memcmp(g.ram, g.port_page, 512), 0);
	EXPECT_EQ(g.r(Gpr::rcx), 0u);
	EXPECT_EQ(g.r(Gpr::rdi), Guest::ram_at + 512);
}

TEST(Ins, a_batch_ends_with_the_page_and_another_follows)
{
	Ports g;
	g.regs(Gpr::rdi, Guest::ram_at + page_size - 6, 10);
	Outcome o = g.begin({0xf3, 0x66, 0x6d});
	EXPECT_EQ(o.count, 3u);
	EXPECT_EQ(g.flags & rflags::rf, 0u);
	o = g.port();
	ASSERT_EQ(o.kind, Kind::port_in);
	EXPECT_EQ(o.count, 7u);
	EXPECT_EQ(g.r(Gpr::rcx), 7u);
	EXPECT_EQ(g.ip, Guest::code_at);
	EXPECT_TRUE(g.flags & rflags::rf);
	EXPECT_EQ(g.port().kind, Kind::done);
	EXPECT_FALSE(g.flags & rflags::rf);
}

TEST(Ins, downwards_each_element_lies_below_the_last)
{
	Ports g;
	g.flags |= rflags::df;
	g.regs(Gpr::rdi, Guest::ram_at + 4, 5);
	Outcome o = g.begin({0xf3, 0x66, 0x6d});
	ASSERT_EQ(o.kind, Kind::port_in);
	EXPECT_EQ(o.count, 3u); /* offsets 4, 2, 0 */
	for (u16 i = 0; i < 3; i++)
		g.store<u16>(g.port_page + 2 * i, u16(i + 1));
	o = g.port();
	EXPECT_EQ(g.load<u16>(g.ram + 4), 1);
	EXPECT_EQ(g.load<u16>(g.ram + 2), 2);
	EXPECT_EQ(g.load<u16>(g.ram), 3);
	EXPECT_EQ(g.r(Gpr::rdi), Guest::ram_at - 2);
	EXPECT_EQ(o.kind, Kind::fault); /* the page below is not mapped: before the port is read */
}

TEST(Ins, memory_is_checked_before_the_port_is_read)
{
	Ports g;
	g.regs(Gpr::rdi, 0x90000, 4);
	EXPECT_EQ(g.begin({0xf3, 0x6c}).kind, Kind::fault);
	g.r(Gpr::rdi) = Guest::ram_at;
	g.pages.at(Guest::ram_at >> page_shift).writable = false;
	const Outcome o = g.begin({0xf3, 0x6c});
	ASSERT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(o.exception.error, pfec::present | pfec::write);
}

TEST(Ins, an_element_across_pages_goes_alone)
{
	Ports g;
	g.regs(Gpr::rdi, Guest::ram_at + page_size - 1, 3);
	Outcome o = g.begin({0xf3, 0x66, 0x6d});
	EXPECT_EQ(o.count, 1u);
	g.store<u16>(g.port_page, 0x2211);
	o = g.port();
	EXPECT_EQ(o.count, 2u);
	EXPECT_EQ(g.ram[page_size - 1], 0x11);
	EXPECT_EQ(g.ram[page_size], 0x22);
}

TEST(Ins, to_a_device_goes_element_by_element)
{
	Ports g;
	g.regs(Gpr::rdi, Guest::device_at, 2);
	Outcome o = g.begin({0xf3, 0x6c});
	ASSERT_EQ(o.kind, Kind::port_in);
	EXPECT_EQ(o.count, 1u);
	g.port_page[0] = 0x5a;
	o = g.port();
	ASSERT_EQ(o.kind, Kind::mmio_write);
	EXPECT_EQ(o.data, 0x5au);
	o = g.taken();
	ASSERT_EQ(o.kind, Kind::port_in);
	EXPECT_EQ(g.r(Gpr::rcx), 1u);
	EXPECT_EQ(g.port().kind, Kind::mmio_write);
	EXPECT_EQ(g.taken().kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rcx), 0u);
}

TEST(Ins, the_machine_bounds_a_batch)
{
	Ports g;
	g.batch_in = 7;
	g.regs(Gpr::rdi, Guest::ram_at, 100);
	EXPECT_EQ(g.begin({0xf3, 0x6c}).count, 7u);
	g.flags |= rflags::tf;
	EXPECT_EQ(g.begin({0xf3, 0x6c}).count, 1u);
	const Outcome o = g.port();
	EXPECT_EQ(o.kind, Kind::retry);
	EXPECT_EQ(o.trap, Outcome::Trap::single_step);
	EXPECT_EQ(g.r(Gpr::rcx), 99u);
}

TEST(Ins, a_limit_bounds_a_batch)
{
	Ports g{CpuMode::protect, 4};
	g.seg(Seg::es).limit = Guest::ram_at + 9;
	g.regs(Gpr::rdi, Guest::ram_at, 100);
	unsigned got = 0;
	Outcome o = g.begin({0xf3, 0x6c});
	while (o.kind == Kind::port_in) {
		got += o.count;
		o = g.port();
	}
	EXPECT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(got, 10u);
	EXPECT_EQ(g.r(Gpr::rcx), 90u);
}

TEST(Ins, pauses_for_events_between_batches)
{
	Ports g;
	g.event = true;
	g.batch_in = 4;
	g.regs(Gpr::rdi, Guest::ram_at, 8);
	EXPECT_EQ(g.begin({0xf3, 0x6c}).kind, Kind::port_in);
	EXPECT_EQ(g.port().kind, Kind::retry);
	EXPECT_EQ(g.r(Gpr::rcx), 4u);
}

TEST(Ins, is_abandoned_when_rip_was_moved)
{
	Ports g;
	g.regs(Gpr::rdi, Guest::ram_at, 8);
	EXPECT_EQ(g.begin({0xf3, 0x6c}).kind, Kind::port_in);
	g.ip = 0;
	g.port_page[0] = 0xff;
	EXPECT_EQ(g.port().kind, Kind::retry);
	EXPECT_EQ(g.ram[0], 0);
	EXPECT_EQ(g.r(Gpr::rcx), 8u);
}

/* The VMM may load registers while the port is read: never more than it left is stored. */
TEST(Ins, a_count_made_smaller_meanwhile_is_obeyed)
{
	Ports g;
	g.regs(Gpr::rdi, Guest::ram_at, 100);
	EXPECT_EQ(g.begin({0xf3, 0x6c}).count, 100u);
	memset(g.port_page, 0xff, sizeof(g.port_page));
	g.r(Gpr::rcx) = 3;
	g.r(Gpr::rdi) = Guest::ram_at + page_size - 2;
	(void)g.port();
	EXPECT_EQ(g.ram[page_size - 1], 0xff);
	EXPECT_EQ(g.ram[page_size], 0);
	EXPECT_EQ(g.r(Gpr::rcx), 1u);
	EXPECT_EQ(g.broken, nullptr);
}

TEST(Ins, memory_that_went_away_meanwhile_drops_the_data)
{
	Ports g;
	g.regs(Gpr::rdi, Guest::ram_at, 4);
	EXPECT_EQ(g.begin({0xf3, 0x6c}).count, 4u);
	g.memories.erase(Guest::ram_gfn.raw());
	EXPECT_EQ(g.port().kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rcx), 0u);
}

TEST(Outs, hands_out_a_batch_and_commits_before)
{
	Ports g;
	for (unsigned i = 0; i < 8; i++)
		g.ram[i] = u8(i + 1);
	g.regs(Gpr::rsi, Guest::ram_at, 4);
	const Outcome o = g.begin({0xf3, 0x66, 0x6f});
	ASSERT_EQ(o.kind, Kind::port_out);
	EXPECT_EQ(o.count, 4u);
	EXPECT_EQ(o.len, 2);
	EXPECT_EQ(o.port, 0x170);
	EXPECT_EQ(memcmp(g.port_page, g.ram, 8), 0);
	EXPECT_EQ(g.r(Gpr::rcx), 0u);
	EXPECT_EQ(g.ip, Guest::code_at + 3);
	EXPECT_EQ(g.port().kind, Kind::done);
	EXPECT_FALSE(g.e.in_progress());
}

TEST(Outs, one_by_one_where_the_machine_says_so)
{
	Ports g;
	g.batch_out = 1;
	memcpy(g.ram, "xyz", 3);
	g.regs(Gpr::rsi, Guest::ram_at, 3);
	Outcome o = g.begin({0xf3, 0x6e});
	for (const char c : {'x', 'y', 'z'}) {
		ASSERT_EQ(o.kind, Kind::port_out);
		EXPECT_EQ(o.count, 1u);
		EXPECT_EQ(g.port_page[0], c);
		o = g.port();
	}
	EXPECT_EQ(o.kind, Kind::done);
}

TEST(Outs, downwards)
{
	Ports g;
	g.flags |= rflags::df;
	memcpy(g.ram, "abcdef", 6);
	g.regs(Gpr::rsi, Guest::ram_at + 5, 4);
	const Outcome o = g.begin({0xf3, 0x6e});
	EXPECT_EQ(o.count, 4u);
	EXPECT_EQ(memcmp(g.port_page, "fedc", 4), 0);
	EXPECT_EQ(g.r(Gpr::rsi), Guest::ram_at + 1);
}

TEST(Outs, from_a_device_reads_it_first)
{
	Ports g;
	g.store<u16>(g.dev, 0x1122);
	g.store<u16>(g.dev + 2, 0x3344);
	g.regs(Gpr::rsi, Guest::device_at, 2);
	Served s = g.run({0xf3, 0x66, 0x6f});
	ASSERT_EQ(s.end.kind, Kind::port_out);
	EXPECT_EQ(s.accesses.size(), 1u);
	EXPECT_EQ(g.load<u16>(g.port_page), 0x1122);
	s = serve(g, g.e, g.port());
	ASSERT_EQ(s.end.kind, Kind::port_out);
	EXPECT_EQ(s.accesses.size(), 1u);
	EXPECT_EQ(g.load<u16>(g.port_page), 0x3344);
	EXPECT_EQ(g.port().kind, Kind::done);
}

TEST(Outs, uses_the_segment_override)
{
	Ports g;
	g.seg(Seg::fs).base = Guest::ram_at;
	g.ram[9] = 0x77;
	g.regs(Gpr::rsi, 9, 0);
	EXPECT_EQ(g.begin({0x64, 0x6e}).kind, Kind::port_out);
	EXPECT_EQ(g.port_page[0], 0x77);
}

TEST(Outs, traps_once_the_vmm_has_it)
{
	Ports g;
	g.flags |= rflags::tf;
	g.regs(Gpr::rsi, Guest::ram_at, 2);
	Outcome o = g.begin({0xf3, 0x6e});
	EXPECT_EQ(o.count, 1u);
	EXPECT_EQ(o.trap, Outcome::Trap::none);
	o = g.port();
	EXPECT_EQ(o.kind, Kind::retry);
	EXPECT_EQ(o.trap, Outcome::Trap::single_step);
}

TEST(Ports, what_did_not_exit_for_its_port_goes_back_to_the_cpu)
{
	Ports g;
	g.regs(Gpr::rsi, Guest::ram_at, 2);
	g.code({0xf3, 0x66, 0x6f});
	const AllowedPort others[] = {{}, {1, PortDirection::out, 0x170}, {4, PortDirection::out, 0x170},
				      {2, PortDirection::in, 0x170}, {2, PortDirection::out, 0x171}};
	for (const AllowedPort &a : others) {
		const Outcome o = emulate::begin(g, g.e, {}, a);
		EXPECT_EQ(o.kind, Kind::retry);
		EXPECT_EQ(o.trap, Outcome::Trap::none);
		EXPECT_FALSE(g.e.in_progress());
	}
	EXPECT_EQ(g.r(Gpr::rcx), 2u);
	EXPECT_EQ(g.ip, Guest::code_at);
	EXPECT_EQ(emulate::begin(g, g.e, {}, {2, PortDirection::out, 0x170}).kind, Kind::port_out);
}

TEST(Ports, a_rex_w_does_not_make_them_wider)
{
	Ports g;
	g.regs(Gpr::rsi, Guest::ram_at, 2);
	EXPECT_EQ(g.begin({0x48, 0x6f}).len, 4);
	g.ip = Guest::code_at;
	g.regs(Gpr::rdi, Guest::ram_at, 2);
	EXPECT_EQ(g.begin({0x48, 0x6d}).len, 4);
}

}
