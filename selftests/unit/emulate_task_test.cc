/* SPDX-License-Identifier: GPL-2.0-only */
#include <gtest/gtest.h>
#include <Zydis/Zydis.h>
#include <random>
#include "arch/x86/emulate/task.hpp"
#include "emulate_machine.hpp"

using namespace kx;
using namespace kx::emulate;
using namespace kx::test;
using By = TaskSwitch::By;
using K = Outcome::Kind;

namespace {

constexpr u16 code = 0x08, data = 0x10, user_code = 0x1b, user_data = 0x23, old_tss = 0x28, new_tss = 0x30, free_one = 0x38,
	      small_tss = 0x40;
constexpr u64 gdt_at = 0x1000, ldt_at = 0x2000, old_at = 0x3000, new_at = 0x4000, small_at = 0x5000, stack_at = 0x8000;
constexpr u64 all_memory = 16;

/* A machine in protected mode with two tasks, all of it in pages 0 to 15. */
class Tasks : public TestMachine {
public:
	DescTable table{gdt_at, 0x47};
	bool paged = false, cr3_is_bad = false, was_switched = false;
	u32 cr3 = 0;
	u8 *ram;

	Tasks()
	{
		set_mode(CpuMode::protect, 4);
		ram = map_new(0, gfn_of(0), all_memory, Kind::ram);
		for (u64 page = 0; page < all_memory * page_size; page += page_size)
			map(page, gfn_of(page), ram + page, 1, Kind::ram);
		descriptor(code, 0x00cf9b000000ffff);
		descriptor(data, 0x00cf93000000ffff);
		descriptor(user_code, 0x00cffb000000ffff);
		descriptor(user_data, 0x00cff3000000ffff);
		descriptor(old_tss, system(0x8b, old_at, 103));
		descriptor(new_tss, system(0x89, new_at, 103));
		descriptor(small_tss, system(0x81, small_at, 43));
		segments[u8(Seg::tr)] = task::segment_of(system(0x8b, old_at, 103), old_tss);
		segments[u8(Seg::ldtr)] = task::null_segment(0);
		for (const Seg s : {Seg::es, Seg::ss, Seg::ds})
			segments[u8(s)] = task::segment_of(0x00cf93000000ffff, data);
		segments[u8(Seg::cs)] = task::segment_of(0x00cf9b000000ffff, code);
		for (unsigned i = 0; i < 8; i++)
			gprs[i] = 0x1000 + i;
		put(new_at + 32, 0x6000);
		put(new_at + 36, rflags::fixed | rflags::cf);
		for (unsigned i = 0; i < 8; i++)
			put(new_at + 40 + i * 4, 0x2000 + i);
		put(new_at + 40 + 4 * 4, stack_at);
		for (unsigned i = 0; i < 6; i++)
			selector(Seg(i), Seg(i) == Seg::cs ? code : data);
		put(small_at + 14, 0x600, 2);
		put(small_at + 16, rflags::fixed, 2);
		put(small_at + 18 + 4 * 2, stack_at - 0x10, 2);
		for (unsigned i = 0; i < 4; i++)
			put(small_at + 34 + i * 2, Seg(i) == Seg::cs ? code : data, 2);
	}
	/* Pages that follow one another do not do so in physical memory. */
	static Gfn gfn_of(u64 linear) { return Gfn{2 * all_memory - (linear >> page_shift)}; }
	static u64 system(u8 access, u64 base, u32 limit)
	{
		return limit | base << 16 | u64{access} << 40;
	}
	void put(u64 at, u64 v, unsigned n = 4) { memcpy(ram + at, &v, n); }
	u32 get(u64 at, unsigned n = 4) const
	{
		u32 v = 0;
		memcpy(&v, ram + at, n);
		return v;
	}
	void descriptor(u16 s, u64 v) { put(gdt_at + (s & ~7u), v, 8); }
	u8 type(u16 s) const { return ram[gdt_at + (s & ~7u) + 5] & 15; }
	void selector(Seg s, u16 v) { put(new_at + 72 + u8(s) * 4, v); }
	u16 selector_of(Seg s) const { return segments[u8(s)].selector; }
	std::vector<u8> memory() const { return {ram, ram + all_memory * page_size}; }

	DescTable gdt() const { return table; }
	void set_segment(Seg s, const Segment &v)
	{
		segments[u8(s)] = v;
		if (s == Seg::ss)
			facts.cpl = v.dpl;
	}
	bool paging() const { return paged; }
	bool set_cr3(u32 v)
	{
		if (!cr3_is_bad)
			cr3 = v;
		return !cr3_is_bad;
	}
	void task_switched() { was_switched = true; }

	Outcome go(By by, u16 to = new_tss, std::optional<u32> error = {})
	{
		return switch_task(*this, {.by = by, .selector = to, .return_rip = 0x7777, .flags = flags,
					   .external = by == By::gate, .has_error = error.has_value(),
					   .error = error.value_or(0)});
	}
	/* Of the new task: the fault, and that it is there. */
	void expect_fault(const Outcome &o, Vector v, u32 error)
	{
		ASSERT_EQ(o.kind, K::fault);
		EXPECT_EQ(o.exception.vector, v);
		EXPECT_EQ(o.exception.error, error);
		EXPECT_EQ(selector_of(Seg::tr), new_tss);
		EXPECT_TRUE(was_switched);
		EXPECT_EQ(ip, 0x6000u);
	}
};
static_assert(TaskMachine<Tasks>);

}

TEST(Task, CallLinksAndIretGoesBack)
{
	Tasks m;
	m.flags |= rflags::zf;
	Outcome o = m.go(By::call);
	ASSERT_EQ(o.kind, K::done);
	EXPECT_EQ(o.trap, Outcome::Trap::none);
	EXPECT_EQ(m.get(new_at, 2), old_tss);
	EXPECT_EQ(m.type(old_tss), 11);
	EXPECT_EQ(m.type(new_tss), 11);
	EXPECT_EQ(m.segments[u8(Seg::tr)].type, 11);
	EXPECT_EQ(m.segments[u8(Seg::tr)].base, new_at);
	EXPECT_EQ(m.ip, 0x6000u);
	EXPECT_EQ(m.flags, rflags::fixed | rflags::cf | rflags::nt);
	EXPECT_EQ(m.gprs[3], 0x2003u);
	EXPECT_EQ(m.gprs[4], stack_at);
	EXPECT_EQ(m.get(old_at + 32), 0x7777u);
	EXPECT_EQ(m.get(old_at + 36), rflags::fixed | rflags::zf);
	for (unsigned i = 0; i < 8; i++)
		EXPECT_EQ(m.get(old_at + 40 + i * 4), 0x1000 + i);
	EXPECT_EQ(m.get(old_at + 76), code);

	m.was_switched = false;
	o = m.go(By::iret, old_tss);
	ASSERT_EQ(o.kind, K::done);
	EXPECT_TRUE(m.was_switched);
	EXPECT_EQ(m.type(old_tss), 11);
	EXPECT_EQ(m.type(new_tss), 9);
	EXPECT_EQ(m.get(new_at + 36), rflags::fixed | rflags::cf) << "NT is gone";
	EXPECT_EQ(m.ip, 0x7777u);
	EXPECT_EQ(m.flags, rflags::fixed | rflags::zf);
	for (unsigned i = 0; i < 8; i++)
		EXPECT_EQ(m.gprs[i], 0x1000 + i);
}

TEST(Task, JmpLeavesTheOldTaskFree)
{
	Tasks m;
	m.put(new_at, 0x5555);
	ASSERT_EQ(m.go(By::jmp).kind, K::done);
	EXPECT_EQ(m.type(old_tss), 9);
	EXPECT_EQ(m.type(new_tss), 11);
	EXPECT_EQ(m.get(new_at), 0x5555u);
	EXPECT_FALSE(m.flags & rflags::nt);
}

TEST(Task, TheUpperHalvesOfSelectorsStay)
{
	Tasks m;
	m.put(old_at + 72, 0xabcd0000);
	ASSERT_EQ(m.go(By::jmp).kind, K::done);
	EXPECT_EQ(m.get(old_at + 72), 0xabcd0000u | data);
	EXPECT_EQ(m.get(old_at + 96), 0u) << "LDTR is not saved";
}

TEST(Task, AnErrorCodeGoesOntoTheNewStack)
{
	Tasks m;
	ASSERT_EQ(m.go(By::gate, new_tss, 0x123).kind, K::done);
	EXPECT_EQ(m.gprs[4], stack_at - 4);
	EXPECT_EQ(m.get(stack_at - 4), 0x123u);

	Tasks tight;
	tight.put(new_at + 40 + 4 * 4, 2);
	tight.expect_fault(tight.go(By::gate, new_tss, 0), Vector::ss, 1);

	Tasks unmapped;
	unmapped.unmap(stack_at - 1);
	const Outcome o = unmapped.go(By::gate, new_tss, 0);
	unmapped.expect_fault(o, Vector::pf, pfec::write);
	EXPECT_EQ(o.exception.payload, stack_at - 4);

	Tasks down;
	down.descriptor(free_one, 0x00409700000000ff | u64{0x10} << 8); /* expand-down above 10ffh, 4 GiB */
	down.selector(Seg::ss, free_one);
	down.put(new_at + 40 + 4 * 4, 0x1103);
	down.expect_fault(down.go(By::gate, new_tss, 0), Vector::ss, 1);
	Tasks fits;
	fits.descriptor(free_one, 0x00409700000010ff);
	fits.selector(Seg::ss, free_one);
	fits.put(new_at + 40 + 4 * 4, 0x1104);
	EXPECT_EQ(fits.go(By::gate, new_tss, 0).kind, K::done);
}

TEST(Task, SixteenBitTasks)
{
	Tasks m;
	ASSERT_EQ(m.go(By::gate, small_tss, 0x12345).kind, K::done);
	EXPECT_EQ(m.type(small_tss), 3);
	EXPECT_EQ(m.ip, 0x600u);
	EXPECT_EQ(m.gprs[4], stack_at - 0x12);
	EXPECT_EQ(m.get(stack_at - 0x12, 2), 0x2345u);
	EXPECT_EQ(m.get(small_at, 2), old_tss);
	EXPECT_TRUE(m.segment(Seg::fs).unusable && m.segment(Seg::gs).unusable);
	m.gprs[1] = 0xffff1234;
	m.table.limit = 0x47;
	ASSERT_EQ(m.go(By::iret, old_tss).kind, K::done);
	EXPECT_EQ(m.get(small_at + 14, 2), 0x7777u);
	EXPECT_EQ(m.get(small_at + 20, 2), 0x1234u);
	EXPECT_EQ(m.get(small_at + 42, 2), 0u);
	EXPECT_EQ(m.gprs[1], 0x1001u);
}

TEST(Task, Cr3IsLoadedWithPagingAndATssOf32Bits)
{
	Tasks m;
	m.put(new_at + 28, 0x9000);
	ASSERT_EQ(m.go(By::jmp).kind, K::done);
	EXPECT_EQ(m.cr3, 0u);
	Tasks p;
	p.paged = true;
	p.put(new_at + 28, 0x9000);
	ASSERT_EQ(p.go(By::jmp).kind, K::done);
	EXPECT_EQ(p.cr3, 0x9000u);
	Tasks s;
	s.paged = true;
	ASSERT_EQ(s.go(By::jmp, small_tss).kind, K::done);
	EXPECT_EQ(s.cr3, 0u);
	Tasks bad;
	bad.paged = bad.cr3_is_bad = true;
	bad.expect_fault(bad.go(By::jmp), Vector::gp, 0);
}

TEST(Task, TheTrapFlagIsTold)
{
	Tasks m;
	m.put(new_at + 100, 1);
	EXPECT_EQ(m.go(By::call).trap, Outcome::Trap::task_switch);
}

TEST(Task, Virtual8086)
{
	Tasks m;
	m.put(new_at + 36, rflags::vm | rflags::intf);
	m.selector(Seg::cs, 0x600);
	m.put(new_at + 32, 0x10);
	m.selector(Seg::ss, 0xffff);
	ASSERT_EQ(m.go(By::call).kind, K::done);
	EXPECT_EQ(m.segment(Seg::cs).base, 0x6000u);
	EXPECT_EQ(m.segment(Seg::ss).base, 0xffff0u);
	EXPECT_EQ(m.segment(Seg::ss).limit, 0xffffu);
	EXPECT_EQ(m.facts.cpl, 3);
	EXPECT_TRUE(m.flags & rflags::vm);
}

TEST(Task, UserCodeMayBeATask)
{
	Tasks m;
	m.selector(Seg::cs, user_code);
	for (const Seg s : {Seg::es, Seg::ss, Seg::ds, Seg::fs, Seg::gs})
		m.selector(s, user_data);
	ASSERT_EQ(m.go(By::call).kind, K::done);
	EXPECT_EQ(m.facts.cpl, 3);
	EXPECT_EQ(m.segment(Seg::cs).dpl, 3);
}

TEST(Task, AnLdtIsLoadedAndUsed)
{
	Tasks m;
	m.descriptor(free_one, Tasks::system(0x82, ldt_at, 15));
	m.put(new_at + 96, free_one);
	m.put(ldt_at + 8, 0x00cf92000000ffff, 8);
	m.selector(Seg::ds, 12);
	ASSERT_EQ(m.go(By::call).kind, K::done);
	EXPECT_EQ(m.segment(Seg::ldtr).base, ldt_at);
	EXPECT_EQ(m.segment(Seg::ds).selector, 12);
	EXPECT_EQ(m.segment(Seg::ds).type, 3);
	EXPECT_EQ(m.ram[ldt_at + 13], 0x93) << "accessed";
}

/* SDM vol. 3 table 8-1 */
TEST(Task, WhatCannotBeLoaded)
{
	constexpr u64 flat = 0x00cf00000000ffff;
	const auto with = [](u8 access) { return flat | u64{access} << 40; };
	struct Row {
		Seg where;
		u16 selector;
		u64 descriptor;
		Vector vector;
		u32 error;
	} rows[] = {
		{Seg::ldtr, free_one, with(0x93), Vector::ts, free_one},
		{Seg::ldtr, free_one, with(0x02), Vector::ts, free_one},
		{Seg::ldtr, free_one | 4, with(0x82), Vector::ts, free_one | 4},
		{Seg::ldtr, 0x48, 0, Vector::ts, 0x48},
		{Seg::cs, 0, 0, Vector::ts, 0},
		{Seg::cs, 3, 0, Vector::ts, 0},
		{Seg::cs, free_one, with(0x93), Vector::ts, free_one},
		{Seg::cs, free_one, with(0x89), Vector::ts, free_one},
		{Seg::cs, free_one, with(0xfb), Vector::ts, free_one},	   /* DPL 3, RPL 0 */
		{Seg::cs, free_one | 3, with(0x9b), Vector::ts, free_one}, /* DPL 0, RPL 3 */
		{Seg::cs, free_one, with(0xff), Vector::ts, free_one},	   /* conforming, DPL 3, RPL 0 */
		{Seg::cs, free_one, with(0x1b), Vector::np, free_one},
		{Seg::ss, 0, 0, Vector::ts, 0},
		{Seg::ss, free_one, with(0x91), Vector::ts, free_one},	   /* not writable */
		{Seg::ss, free_one, with(0x9b), Vector::ts, free_one},
		{Seg::ss, free_one | 3, with(0x93), Vector::ts, free_one}, /* RPL */
		{Seg::ss, free_one, with(0xf3), Vector::ts, free_one},	   /* DPL */
		{Seg::ss, free_one, with(0x13), Vector::ss, free_one},
		{Seg::ds, free_one, with(0x99), Vector::ts, free_one},	   /* not readable */
		{Seg::ds, free_one, with(0x82), Vector::ts, free_one},
		{Seg::es, free_one | 3, with(0x93), Vector::ts, free_one}, /* RPL 3, DPL 0 */
		{Seg::fs, free_one, with(0x13), Vector::np, free_one},
		{Seg::gs, 0x48, 0, Vector::ts, 0x48},
		{Seg::gs, free_one | 4, 0, Vector::ts, free_one | 4},
	};
	for (const Row &r : rows)
		for (const By by : {By::call, By::gate}) {
			SCOPED_TRACE(testing::Message() << unsigned(r.where) << ' ' << std::hex << r.selector << ' '
							<< r.descriptor);
			Tasks m;
			m.descriptor(free_one, r.descriptor);
			if (r.where == Seg::ldtr)
				m.put(new_at + 96, r.selector);
			else
				m.selector(r.where, r.selector);
			m.expect_fault(m.go(by), r.vector, r.error | (by == By::gate));
			EXPECT_EQ(m.selector_of(r.where), r.selector);
			/* Whoever takes the fault runs in a mode that exists. */
			const Segment &cs = m.segment(Seg::cs), &ss = m.segment(Seg::ss);
			EXPECT_FALSE(cs.unusable);
			EXPECT_TRUE(cs.present && cs.s && (cs.type & 8));
			EXPECT_EQ(cs.dpl, ss.dpl);
		}
	Tasks user;
	user.selector(Seg::cs, user_code);
	user.expect_fault(user.go(By::call), Vector::ts, data);
	EXPECT_EQ(user.segment(Seg::cs).dpl, 3);
	EXPECT_EQ(user.facts.cpl, 3) << "the stack segment is not there, but says so much";
	Tasks vm86;
	vm86.flags |= rflags::vm;
	for (unsigned i = 0; i < 6; i++)
		vm86.set_segment(Seg(i), task::vm86_segment(0x600));
	vm86.put(new_at + 96, 0x48);
	vm86.expect_fault(vm86.go(By::gate), Vector::ts, 0x49);
	EXPECT_FALSE(vm86.flags & rflags::vm);
	EXPECT_TRUE(vm86.segment(Seg::cs).type & 8) << "outside virtual-8086 mode code is in a code segment";
	EXPECT_EQ(vm86.segment(Seg::cs).dpl, vm86.facts.cpl);
	Tasks high;
	high.descriptor(code, 0x00409b0000000fff | u64{1} << 40);
	high.expect_fault(high.go(By::call), Vector::gp, 0);
}

TEST(Task, ConformingCodeServesAsDataAndAtEachPrivilege)
{
	Tasks m;
	m.descriptor(free_one, 0x00cf9f000000ffff);
	m.selector(Seg::cs, free_one | 3);
	m.selector(Seg::ds, free_one | 3);
	for (const Seg s : {Seg::es, Seg::ss, Seg::fs, Seg::gs})
		m.selector(s, user_data);
	EXPECT_EQ(m.go(By::call).kind, K::done);
	EXPECT_EQ(m.facts.cpl, 3);
}

/* The processor has seen another descriptor: it looks again, and nothing has happened. */
TEST(Task, ADescriptorThatHasChangedIsLookedAtAgain)
{
	for (const u64 now : {u64{0}, Tasks::system(0x8b, new_at, 103), Tasks::system(0x09, new_at, 103),
			      Tasks::system(0x89, new_at, 102), Tasks::system(0x82, new_at, 103), u64{0x00cf93000000ffff}}) {
		Tasks m;
		m.descriptor(new_tss, now);
		const std::vector<u8> before = m.memory();
		EXPECT_EQ(m.go(By::call).kind, K::retry);
		EXPECT_EQ(m.memory(), before);
		EXPECT_FALSE(m.was_switched);
	}
	Tasks idle;
	EXPECT_EQ(idle.go(By::iret).kind, K::retry) << "not busy";
	Tasks m;
	EXPECT_EQ(m.go(By::call, 0x48).kind, K::retry);
	EXPECT_EQ(m.go(By::call, new_tss | 4).kind, K::retry);
	m.divert = true;
	EXPECT_EQ(m.go(By::call).kind, K::retry);
}

/* Each page the switch itself needs, missing: a fault of the old task, which is as it was. */
TEST(Task, PageFaultsBeforeTheSwitchLeaveNoTrace)
{
	for (const u64 page : {gdt_at, old_at, new_at})
		for (const By by : {By::call, By::jmp}) {
			Tasks m;
			m.unmap(page);
			const std::vector<u8> before = m.memory();
			const Outcome o = m.go(by);
			ASSERT_EQ(o.kind, K::fault);
			EXPECT_EQ(o.exception.vector, Vector::pf);
			EXPECT_EQ(o.exception.payload & ~0xfffull, page);
			EXPECT_EQ(m.memory(), before);
			EXPECT_FALSE(m.was_switched);
			EXPECT_EQ(m.gprs[3], 0x1003u);
			EXPECT_EQ(m.selector_of(Seg::tr), old_tss);
		}
	Tasks m;
	m.segments[u8(Seg::tr)].limit = 102;
	const Outcome o = m.go(By::call);
	ASSERT_EQ(o.kind, K::fault);
	EXPECT_EQ(o.exception.vector, Vector::ts);
	EXPECT_EQ(o.exception.error, old_tss);
	EXPECT_FALSE(m.was_switched);
}

TEST(Task, WhatIsOnlyReadMayBeReadOnly)
{
	for (const By by : {By::call, By::jmp}) {
		Tasks m;
		m.pages.at(new_at >> page_shift).writable = false;
		const Outcome o = m.go(by);
		if (by == By::jmp) {
			EXPECT_EQ(o.kind, K::done);
			continue;
		}
		ASSERT_EQ(o.kind, K::fault) << "the link is written";
		EXPECT_EQ(o.exception.error, pfec::write | pfec::present);
		EXPECT_FALSE(m.was_switched);
	}
	for (const u64 page : {gdt_at, old_at}) {
		Tasks m;
		m.pages.at(page >> page_shift).writable = false;
		ASSERT_EQ(m.go(By::jmp).kind, K::fault);
		EXPECT_FALSE(m.was_switched);
	}
}

TEST(Task, EverythingMayLieAcrossPages)
{
	for (unsigned shift = 1; shift < 104; shift++) {
		Tasks m;
		const u64 from = 0x9000 - shift, to = 0xb000 - shift, table = 0xd000 - shift % 0x48;
		memcpy(m.ram + to, m.ram + new_at, 104);
		m.descriptor(new_tss, Tasks::system(0x89, to, 103));
		m.descriptor(code, 0x00cf9a000000ffff);
		memcpy(m.ram + table, m.ram + gdt_at, 0x48);
		m.table.base = table;
		m.segments[u8(Seg::tr)].base = from;
		ASSERT_EQ(m.go(By::call).kind, K::done);
		EXPECT_EQ(m.broken, nullptr) << m.broken;
		EXPECT_EQ(m.get(from + 32), 0x7777u);
		EXPECT_EQ(m.get(from + 40 + 7 * 4), 0x1007u);
		EXPECT_EQ(m.gprs[7], 0x2007u);
		EXPECT_EQ(m.ram[table + new_tss + 5], 0x8b);
		EXPECT_EQ(m.ram[table + code + 5], 0x9b);
	}
}

TEST(Task, TablesOnADeviceAreNobodysDoing)
{
	for (const u64 page : {gdt_at, old_at, new_at}) {
		Tasks m;
		m.memories[Tasks::gfn_of(page).raw()].kind = TestMachine::Kind::device;
		EXPECT_EQ(m.go(By::call).kind, K::unhandled);
	}
	Tasks m;
	m.ram_fails = true;
	EXPECT_EQ(m.go(By::call).kind, K::error);
}

TEST(TaskSwitchLength, IsTheDisassemblersLength)
{
	ZydisDecoder decoders[2];
	ASSERT_TRUE(ZYAN_SUCCESS(ZydisDecoderInit(&decoders[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16)));
	ASSERT_TRUE(ZYAN_SUCCESS(ZydisDecoderInit(&decoders[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32)));
	const u8 prefixes[] = {0x66, 0x67, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf2, 0xf3};
	const u8 opcodes[] = {0x9a, 0xea, 0xcd, 0xcc, 0xce, 0xcf, 0xf1, 0xff, 0x90, 0xc3};
	std::mt19937 random{1};
	unsigned seen = 0;
	for (unsigned i = 0; i < 400000; i++) {
		u8 bytes[15];
		for (u8 &b : bytes)
			b = u8(random());
		unsigned at = 0;
		for (unsigned n = random() % 4; n--;)
			bytes[at++] = prefixes[random() % std::size(prefixes)];
		bytes[at] = opcodes[random() % std::size(opcodes)];
		const bool wide = random() & 1;
		ZydisDecodedInstruction d;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
		unsigned want = 0;
		if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[wide], bytes, sizeof bytes, &d, operands)))
			switch (d.mnemonic) {
			case ZYDIS_MNEMONIC_CALL:
			case ZYDIS_MNEMONIC_JMP:
				want = d.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? d.length : 0;
				break;
			case ZYDIS_MNEMONIC_INT:
			case ZYDIS_MNEMONIC_INT1:
			case ZYDIS_MNEMONIC_INT3:
			case ZYDIS_MNEMONIC_INTO:
			case ZYDIS_MNEMONIC_IRET:
			case ZYDIS_MNEMONIC_IRETD: want = d.length; break;
			default: break;
			}
		EXPECT_EQ(task_switch_length({bytes, sizeof bytes}, wide ? 4 : 2), want) << std::hex << d.opcode;
		seen += want != 0;
		for (unsigned n = 0; want && n < want; n++)
			EXPECT_EQ(task_switch_length({bytes, n}, wide ? 4 : 2), 0u) << "not all of it is there";
	}
	EXPECT_GT(seen, 100000u);
}
