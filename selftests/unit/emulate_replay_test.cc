/* SPDX-License-Identifier: GPL-2.0-only */
/* Instructions that leave for a device and come back: nothing happens twice, nothing half. */
#include "selftests/unit/emulate_machine.hpp"

#include <gtest/gtest.h>

namespace {

using namespace kx;
using namespace kx::emulate;
using namespace kx::test;
using Kind = Outcome::Kind;

constexpr u64 dev_gpa = Guest::device_gfn.raw() << page_shift;

TEST(Replay, a_load_asks_once_and_completes_with_the_answer)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at + 0x10;
	g.r(Gpr::rax) = ~u64{0};
	const Outcome o = g.begin({0x8b, 0x03}); /* mov eax, [rbx] */
	ASSERT_EQ(o.kind, Kind::mmio_read);
	EXPECT_EQ(o.gpa.raw(), dev_gpa + 0x10);
	EXPECT_EQ(o.len, 4);
	EXPECT_TRUE(g.e.in_progress());
	EXPECT_EQ(g.ip, Guest::code_at);
	EXPECT_EQ(g.r(Gpr::rax), ~u64{0});
	EXPECT_EQ(g.answer(0xffffffff12345678).kind, Kind::done); /* bits beyond len do not count */
	EXPECT_EQ(g.r(Gpr::rax), 0x12345678u);
	EXPECT_EQ(g.ip, Guest::code_at + 2);
	EXPECT_FALSE(g.e.in_progress());
}

TEST(Replay, a_store_commits_registers_before_it_goes_out)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at + 8;
	g.r(Gpr::rax) = 0x1122334455667788;
	const Outcome o = g.begin({0x48, 0x89, 0x03});
	ASSERT_EQ(o.kind, Kind::mmio_write);
	EXPECT_EQ(o.gpa.raw(), dev_gpa + 8);
	EXPECT_EQ(o.len, 8);
	EXPECT_EQ(o.data, 0x1122334455667788u);
	EXPECT_EQ(g.ip, Guest::code_at + 3);
	EXPECT_EQ(g.taken().kind, Kind::done);
	EXPECT_FALSE(g.e.in_progress());
}

TEST(Replay, bytes_beyond_a_short_store_are_zero)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	g.r(Gpr::rcx) = ~u64{0};
	EXPECT_EQ(g.begin({0x88, 0x0b}).data, 0xffu);
	EXPECT_EQ(g.begin({0xc7, 0x03, 0xff, 0xff, 0xff, 0xff}).data, 0xffffffffu);
	EXPECT_EQ(g.begin({0x48, 0xc7, 0x03, 0xff, 0xff, 0xff, 0xff}).data, ~u64{0}); /* sign-extended */
}

TEST(Replay, read_modify_write_is_a_read_then_a_write)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	g.store<u32>(g.dev, 0x0f);
	const Served s = g.run({0xf0, 0x81, 0x0b, 0xf0, 0, 0, 0}); /* lock or dword [rbx], 0xf0 */
	EXPECT_EQ(s.end.kind, Kind::done);
	ASSERT_EQ(s.accesses.size(), 2u);
	EXPECT_EQ(s.accesses[0], (DeviceAccess{false, dev_gpa, 4, 0x0f}));
	EXPECT_EQ(s.accesses[1], (DeviceAccess{true, dev_gpa, 4, 0xff}));
}

TEST(Replay, a_failed_compare_exchange_writes_the_old_value_back)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	g.r(Gpr::rax) = 1;
	g.store<u32>(g.dev, 7);
	const Served s = g.run({0xf0, 0x0f, 0xb1, 0x0b}); /* lock cmpxchg [rbx], ecx */
	ASSERT_EQ(s.accesses.size(), 2u);
	EXPECT_EQ(s.accesses[1], (DeviceAccess{true, dev_gpa, 4, 7}));
	EXPECT_EQ(g.r(Gpr::rax), 7u);
	EXPECT_FALSE(g.flags & rflags::zf);
}

TEST(Replay, wide_moves_go_in_pieces_of_eight)
{
	Guest g;
	for (unsigned i = 0; i < 32; i++)
		g.dev[i] = u8(i + 1);
	g.r(Gpr::rbx) = Guest::device_at;
	memset(g.vectors, 0xee, sizeof(g.vectors));
	Served s = g.run({0x0f, 0x10, 0x03}); /* movups xmm0, [rbx] */
	EXPECT_EQ(s.accesses.size(), 2u);
	EXPECT_EQ(memcmp(g.vectors[0], g.dev, 16), 0);
	EXPECT_EQ(g.vectors[0][16], 0xee); /* SSE keeps what is above */
	s = g.run({0xc5, 0xf8, 0x10, 0x13}); /* vmovups xmm2, [rbx] */
	EXPECT_EQ(memcmp(g.vectors[2], g.dev, 16), 0);
	EXPECT_EQ(g.vectors[2][16], 0);
	EXPECT_EQ(g.vectors[2][63], 0);
	s = g.run({0xc5, 0xfe, 0x6f, 0x0b}); /* vmovdqu ymm1, [rbx] */
	EXPECT_EQ(s.accesses.size(), 4u);
	EXPECT_EQ(memcmp(g.vectors[1], g.dev, 32), 0);
}

/* Five pieces: the most there are. */
TEST(Replay, a_straddling_load_is_split_at_the_page)
{
	Guest g;
	for (unsigned i = 0; i < 32; i++)
		g.dev[page_size - 20 + i] = u8(i + 1);
	g.r(Gpr::rbx) = Guest::device_at + page_size - 20;
	const Served s = g.run({0xc5, 0xfe, 0x6f, 0x0b});
	EXPECT_EQ(s.end.kind, Kind::done);
	EXPECT_EQ(s.accesses.size(), 5u); /* 8 8 4 | 8 4 */
	EXPECT_EQ(memcmp(g.vectors[1], g.dev + page_size - 20, 32), 0);
	EXPECT_EQ(g.broken, nullptr);
}

TEST(Replay, half_of_an_operand_may_be_ram)
{
	Guest g;
	g.map_new(Guest::ram_at + 2 * page_size, Gfn{0xfd000}, 1, TestMachine::Kind::device);
	const u64 at = Guest::ram_at + 2 * page_size - 3;
	g.r(Gpr::rbx) = at;
	g.r(Gpr::rax) = 0x8877665544332211;
	Served s = g.run({0x48, 0x89, 0x03});
	ASSERT_EQ(s.accesses.size(), 1u);
	EXPECT_EQ(s.accesses[0], (DeviceAccess{true, 0xfd000000, 5, 0x8877665544}));
	EXPECT_EQ(g.load<u8>(g.ram + 2 * page_size - 1), 0x33);
	g.ip = Guest::code_at;
	s = g.run({0x48, 0x8b, 0x0b}); /* mov rcx, [rbx] */
	ASSERT_EQ(s.accesses.size(), 1u);
	EXPECT_EQ(g.r(Gpr::rcx), 0x8877665544332211u);
}

TEST(Replay, nothing_is_written_when_the_second_page_faults)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::ram_at + 2 * page_size - 3;
	g.r(Gpr::rax) = ~u64{0};
	const Outcome o = g.begin({0x48, 0x89, 0x03});
	ASSERT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(o.exception.payload, Guest::ram_at + 2 * page_size);
	EXPECT_EQ(g.ram[2 * page_size - 1], 0);
}

TEST(Replay, rom_reads_as_memory_and_writes_as_a_device)
{
	Guest g;
	g.store<u32>(g.rom, 5);
	g.r(Gpr::rbx) = Guest::rom_at;
	Served s = g.run({0xf0, 0x83, 0x03, 1}); /* lock add dword [rbx], 1 */
	EXPECT_EQ(s.end.kind, Kind::done);
	ASSERT_EQ(s.accesses.size(), 1u);
	EXPECT_EQ(s.accesses[0], (DeviceAccess{true, 0x40000, 4, 6}));
}

/* The Linux source of such bugs: the instruction is what was decoded, not what is there now. */
TEST(Replay, code_changed_meanwhile_does_not_matter)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	ASSERT_EQ(g.begin({0x8b, 0x03}).kind, Kind::mmio_read);
	memset(g.text, 0xcc, page_size);
	g.unmap(Guest::code_at);
	EXPECT_EQ(g.answer(42).kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rax), 42u);
	EXPECT_EQ(g.ip, Guest::code_at + 2);
}

TEST(Replay, is_abandoned_when_rip_was_moved)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	ASSERT_EQ(g.begin({0x8b, 0x03}).kind, Kind::mmio_read);
	g.ip = 0xfff0;
	EXPECT_EQ(g.answer(42).kind, Kind::retry);
	EXPECT_EQ(g.r(Gpr::rax), 0u);
	EXPECT_EQ(g.ip, 0xfff0u);
	EXPECT_FALSE(g.e.in_progress());
}

TEST(Replay, an_answer_to_nothing_does_nothing)
{
	Guest g;
	EXPECT_EQ(g.answer(1).kind, Kind::retry);
	EXPECT_EQ(g.taken().kind, Kind::retry);
	EXPECT_EQ(g.port().kind, Kind::retry);
	g.r(Gpr::rbx) = Guest::device_at;
	ASSERT_EQ(g.begin({0x89, 0x03}).kind, Kind::mmio_write);
	EXPECT_EQ(g.answer(1).kind, Kind::retry); /* the wrong kind of answer */
	EXPECT_FALSE(g.e.in_progress());
}

TEST(Replay, dropping_forgets_the_request)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	ASSERT_EQ(g.begin({0x8b, 0x03}).kind, Kind::mmio_read);
	g.e.drop();
	EXPECT_EQ(g.answer(1).kind, Kind::retry);
	EXPECT_EQ(g.ip, Guest::code_at);
}

TEST(Replay, a_mapping_that_moves_asks_again)
{
	Guest g;
	g.map_new(0x50000, Gfn{0xfc000}, 1, TestMachine::Kind::device);
	g.r(Gpr::rbx) = Guest::device_at;
	ASSERT_EQ(g.begin({0x8b, 0x03}).kind, Kind::mmio_read);
	g.pages.insert_or_assign(Guest::device_at >> page_shift, TestMachine::PageOf{Gfn{0xfc000}, true});
	const Outcome o = g.answer(1);
	ASSERT_EQ(o.kind, Kind::mmio_read);
	EXPECT_EQ(o.gpa.raw(), u64{0xfc000000});
	EXPECT_EQ(g.answer(2).kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rax), 2u);
}

TEST(Replay, a_mapping_that_goes_away_faults)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	ASSERT_EQ(g.begin({0x01, 0x03}).kind, Kind::mmio_read); /* add [rbx], eax */
	g.unmap(Guest::device_at);
	EXPECT_EQ(g.answer(1).kind, Kind::fault);
	EXPECT_FALSE(g.e.in_progress());
	EXPECT_EQ(g.ip, Guest::code_at);
}

TEST(Replay, an_answered_read_is_not_made_again_as_memory)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	ASSERT_EQ(g.begin({0x8b, 0x03}).kind, Kind::mmio_read);
	std::vector<u8> page(page_size, 0xaa);
	g.memories.insert_or_assign(Guest::device_gfn.raw(), TestMachine::Memory{page.data(), TestMachine::Kind::ram});
	EXPECT_EQ(g.answer(3).kind, Kind::done);
	EXPECT_EQ(g.r(Gpr::rax), 3u);
}

TEST(Hint, saves_the_walk)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at + 0x10;
	g.preloaded = {0x89, 0x03};
	const Outcome o = g.begin({0x89, 0x03}, {Hint::Known::writing, Gpa{dev_gpa + 0x10}});
	EXPECT_EQ(o.kind, Kind::mmio_write);
	EXPECT_EQ(g.walks, 0u);
}

TEST(Hint, of_a_read_does_not_serve_a_write)
{
	Guest g;
	g.map_new(0x50000, Gfn{0xfc000}, 1, TestMachine::Kind::device, false);
	g.r(Gpr::rbx) = 0x50000;
	/* The guest read this read-only page; another CPU has made the load a store since. */
	const Outcome o = g.begin({0x89, 0x03}, {Hint::Known::reading, Gpa{u64{0xfc000000}}});
	ASSERT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(o.exception.vector, Vector::pf);
}

TEST(Hint, does_not_serve_another_offset_a_straddle_or_two_operands)
{
	Guest g;
	const Hint h{Hint::Known::writing, Gpa{dev_gpa + 0x10}};
	g.r(Gpr::rbx) = Guest::ram_at + 0x18;
	EXPECT_EQ(g.begin({0x89, 0x03}, h).kind, Kind::done);
	g.ip = Guest::code_at;
	g.r(Gpr::rbx) = Guest::ram_at + page_size - 1;
	EXPECT_EQ(g.begin({0x89, 0x03}, {Hint::Known::writing, Gpa{dev_gpa + page_size - 1}}).kind, Kind::done);
	g.ip = Guest::code_at;
	g.r(Gpr::rsi) = Guest::ram_at + 0x10;
	g.r(Gpr::rdi) = Guest::ram_at + 0x110;
	EXPECT_EQ(g.begin({0xa5}, h).kind, Kind::done);
	g.ip = Guest::code_at;
	g.r(Gpr::rsp) = Guest::ram_at + 0x18;
	g.r(Gpr::rbx) = Guest::ram_at + 0x10;
	EXPECT_EQ(g.begin({0xff, 0x33}, h).kind, Kind::done); /* push [rbx] */
}

TEST(Hint, is_walked_again_for_the_write_after_an_exit)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::device_at;
	ASSERT_EQ(g.begin({0x01, 0x03}, {Hint::Known::writing, Gpa{dev_gpa}}).kind, Kind::mmio_read);
	g.pages.at(Guest::device_at >> page_shift).writable = false;
	EXPECT_EQ(g.answer(1).kind, Kind::fault);
}

TEST(Atomic, other_cpus_between_read_and_write_make_it_try_again)
{
	Guest g;
	g.store<u64>(g.ram, 10);
	g.r(Gpr::rbx) = Guest::ram_at;
	g.r(Gpr::rax) = 5;
	auto *word = reinterpret_cast<u64 *>(g.ram);
	g.racing = {{word, 30}, {word, 20}};
	const Served s = g.run({0xf0, 0x48, 0x0f, 0xc1, 0x03}); /* lock xadd [rbx], rax */
	EXPECT_EQ(s.end.kind, Kind::done);
	EXPECT_EQ(*word, 35u);
	EXPECT_EQ(g.r(Gpr::rax), 30u);
	EXPECT_EQ(g.swaps, 3u);
}

TEST(Atomic, exchange_needs_no_prefix_and_plain_add_has_none)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::ram_at;
	(void)g.run({0x87, 0x03});
	EXPECT_EQ(g.swaps, 1u);
	(void)g.run({0x01, 0x03});
	EXPECT_EQ(g.swaps, 1u);
}

TEST(Atomic, gives_up_for_a_while_when_others_never_stop)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::ram_at;
	auto *word = reinterpret_cast<u64 *>(g.ram);
	for (u64 n = 1; n <= 1000; n++)
		g.racing.push_back({word, n});
	const Served s = g.run({0xf0, 0x48, 0xff, 0x03});
	EXPECT_EQ(s.end.kind, Kind::retry);
	EXPECT_EQ(g.ip, Guest::code_at);
	EXPECT_LT(g.swaps, 100u);
}

TEST(Atomic, across_cache_lines_is_an_ordinary_write)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::ram_at + 61;
	EXPECT_EQ(g.run({0xf0, 0xff, 0x03}).end.kind, Kind::done);
	EXPECT_EQ(g.swaps, 0u);
	EXPECT_EQ(g.ram[61], 1);
}

TEST(Atomic, sixteen_bytes)
{
	Guest g;
	g.store<u64>(g.ram, 1);
	g.store<u64>(g.ram + 8, 2);
	g.r(Gpr::rdi) = Guest::ram_at;
	g.r(Gpr::rax) = 1, g.r(Gpr::rdx) = 2, g.r(Gpr::rbx) = 3, g.r(Gpr::rcx) = 4;
	EXPECT_EQ(g.run({0xf0, 0x48, 0x0f, 0xc7, 0x0f}).end.kind, Kind::done);
	EXPECT_EQ(g.load<u64>(g.ram), 3u);
	EXPECT_EQ(g.load<u64>(g.ram + 8), 4u);
	EXPECT_TRUE(g.flags & rflags::zf);
	EXPECT_EQ(g.swaps, 1u);
}

TEST(Outcomes, memory_the_host_cannot_reach_is_an_error)
{
	Guest g;
	g.preloaded = {0x89, 0x03};
	g.ram_fails = true;
	g.r(Gpr::rbx) = Guest::ram_at;
	EXPECT_EQ(g.begin({}).kind, Kind::error);
	g.preloaded = {0x8b, 0x03};
	EXPECT_EQ(g.begin({}).kind, Kind::error);
	g.preloaded = {0xf0, 0x01, 0x03};
	EXPECT_EQ(g.begin({}).kind, Kind::error);
	g.preloaded = {0xf3, 0xa4};
	g.r(Gpr::rcx) = 5;
	g.r(Gpr::rsi) = g.r(Gpr::rdi) = Guest::ram_at;
	EXPECT_EQ(g.begin({}).kind, Kind::error);
	EXPECT_EQ(g.ip, Guest::code_at);
}

TEST(Outcomes, a_translation_that_became_something_else_abandons)
{
	Guest g;
	g.preloaded = {0x89, 0x03};
	g.divert = true;
	EXPECT_EQ(g.begin({}).kind, Kind::retry);
	EXPECT_EQ(g.ip, Guest::code_at);
}

TEST(Outcomes, what_is_not_known_is_reported_with_its_bytes)
{
	Guest g;
	const Outcome o = g.begin({0x0f, 0x58, 0x03}); /* addps */
	EXPECT_EQ(o.kind, Kind::unhandled);
	ASSERT_GE(g.e.bytes().size(), 3u);
	EXPECT_EQ(g.e.bytes()[1], 0x58);
}

TEST(Outcomes, code_in_a_device_is_not_executed)
{
	Guest g;
	g.ip = Guest::device_at;
	EXPECT_EQ(g.begin({}).kind, Kind::unhandled);
}

TEST(Outcomes, trap_flag_is_told_when_the_instruction_is_complete)
{
	Guest g;
	g.flags |= rflags::tf;
	g.r(Gpr::rbx) = Guest::ram_at;
	EXPECT_EQ(g.begin({0x89, 0x03}).trap, Outcome::Trap::single_step);
	g.ip = Guest::code_at;
	g.r(Gpr::rbx) = Guest::device_at;
	EXPECT_EQ(g.begin({0x89, 0x03}).trap, Outcome::Trap::none);
	EXPECT_EQ(g.taken().trap, Outcome::Trap::single_step);
}

TEST(Outcomes, resume_flag_is_cleared_by_success_alone)
{
	Guest g;
	g.flags |= rflags::rf;
	g.r(Gpr::rbx) = 0x99999000;
	EXPECT_EQ(g.begin({0x89, 0x03}).kind, Kind::fault);
	EXPECT_TRUE(g.flags & rflags::rf);
	g.r(Gpr::rbx) = Guest::ram_at;
	EXPECT_EQ(g.begin({0x89, 0x03}).kind, Kind::done);
	EXPECT_FALSE(g.flags & rflags::rf);
}

TEST(Skip, steps_over_anything_of_known_length)
{
	Guest g;
	g.flags |= rflags::rf | rflags::tf;
	g.code({0x66, 0x0f, 0x3a, 0x0f, 0xc1, 0x04}); /* palignr */
	const Outcome o = skip(g, g.e);
	EXPECT_EQ(o.kind, Kind::done);
	EXPECT_EQ(o.trap, Outcome::Trap::single_step);
	EXPECT_EQ(g.ip, Guest::code_at + 6);
	EXPECT_FALSE(g.flags & rflags::rf);
}

/* The machine vouches for the bytes: neither fetched nor decoded again, and not in another mode. */
TEST(Fetch, is_spared_where_the_code_is_known_to_be_the_same)
{
	Guest g;
	g.r(Gpr::rbx) = Guest::ram_at;
	EXPECT_EQ(g.begin({0x89, 0x03}).kind, Kind::done);
	g.code_unchanged = true;
	g.ip = Guest::code_at;
	g.walks = 0;
	EXPECT_EQ(emulate::begin(g, g.e).kind, Kind::done);
	EXPECT_EQ(g.walks, 1u);
	g.ip = Guest::code_at;
	g.r(Gpr::rax) = 0x11223344;
	g.set_mode(CpuMode::protect, 2);
	g.r(Gpr::rbp) = 0x20;
	g.r(Gpr::rdi) = 0;
	g.seg(Seg::ss).base = Guest::ram_at;
	EXPECT_EQ(emulate::begin(g, g.e).kind, Kind::done); /* mov [bp+di], ax */
	EXPECT_EQ(g.load<u32>(g.ram + 0x20), 0x3344u);
}

TEST(Fetch, continues_on_the_next_page_when_the_instruction_does)
{
	Guest g;
	u8 *next = g.map_new(Guest::code_at + page_size, Gfn{0x77}, 1, TestMachine::Kind::ram);
	g.ip = Guest::code_at + page_size - 1;
	g.text[page_size - 1] = 0x89;
	next[0] = 0x03;
	g.r(Gpr::rbx) = Guest::ram_at;
	EXPECT_EQ(g.begin({}).kind, Kind::done);
	EXPECT_EQ(g.ip, Guest::code_at + page_size + 1);
	g.unmap(Guest::code_at + page_size);
	g.ip = Guest::code_at + page_size - 1;
	const Outcome o = g.begin({});
	ASSERT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(o.exception.payload, Guest::code_at + page_size);
	EXPECT_TRUE(o.exception.error & pfec::fetch);
	/* One that ends on the page does not look further. */
	g.text[page_size - 1] = 0x90;
	EXPECT_EQ(g.begin({}).kind, Kind::done);
}

TEST(Fetch, goes_on_where_the_decode_assist_stopped)
{
	Guest g;
	g.code({0xc7, 0x03, 1, 2, 3, 4});
	g.preloaded = {0xc7, 0x03, 1};
	g.r(Gpr::rbx) = Guest::ram_at;
	EXPECT_EQ(emulate::begin(g, g.e).kind, Kind::done);
	EXPECT_EQ(g.load<u32>(g.ram), 0x04030201u);
}

TEST(Fetch, more_than_fifteen_bytes_fault)
{
	Guest g;
	memset(g.text, 0x66, 16);
	const Outcome o = g.begin({});
	ASSERT_EQ(o.kind, Kind::fault);
	EXPECT_EQ(o.exception.vector, Vector::gp);
	EXPECT_EQ(o.exception.error, 0u);
}

}
