// SPDX-License-Identifier: GPL-2.0-only
#include <cstring>
#include <functional>
#include "arch/x86/vm/fetch_memo.hpp"
#include "vm_processors.hpp"

using namespace kx;
using namespace kx::test;

namespace {

/* A guest in long mode: tables at 0x1000-0x4000 map `va` to `code`. */
template <class F> struct FetchedBy : TestVm<F, WatchedWords<F>> {
	using Vm = TestVm<F, WatchedWords<F>>;
	using Vm::vmm, Vm::mem, Vm::cpus, Vm::region;
	static constexpr u64 va = 0x400100, code = 0x10000, present = 0x23; /* P, W, A */
	u64 hva = vmm.map(64 * page_size);
	FetchMemo memo;
	ControlRegs regs{cr0::pg | cr0::pe | cr0::wp, 0x1000, cr4::pae, efer::lma | efer::lme};
	u8 bytes[3] = {0x89, 0x03, 0x90};

	FetchedBy()
	{
		EXPECT_EQ(region(0, 0, 64, hva), Errc::ok);
		put(0x1000, 0x2000 | present);
		put(0x2000, 0x3000 | present);
		put(0x3000 + (va >> 21 & 511) * 8, 0x4000 | present);
		put(0x4000 + (va >> 12 & 511) * 8, code | present);
		EXPECT_EQ(mem->write(*cpus[0], Gpa{code + 0x100}, bytes, sizeof bytes), Errc::ok);
	}
	void put(u64 gpa, u64 v) { EXPECT_EQ(mem->write(*cpus[0], Gpa{gpa}, &v, sizeof v), Errc::ok); }
	void fetch(std::function<void()> meanwhile = {})
	{
		GuestRam ram = mem->ram(*cpus[0]);
		FetchMemo::Watch watch{memo, ram};
		GuestRole g;
		g.paging = g.pae = g.long_mode = g.write_protect = true;
		const WalkResult w = walk_guest(watch, g, WalkCaps{}, {regs.cr3}, Gva{va}, {.access = pfec::fetch});
		ASSERT_TRUE(w.ok);
		if (meanwhile)
			meanwhile();
		memo.keep(va, w.gpa, regs, ram);
	}
	bool holds()
	{
		GuestRam ram = mem->ram(*cpus[0]);
		return memo.holds(va, regs, ram, {bytes, sizeof bytes});
	}
};

template <class P> struct Fetches : testing::Test {
	using Fixture = Fetches;
	using Fetched = FetchedBy<typename P::Format>;
};
#define FETCH_MEMO(name) \
	KX_TEST_ON(Fetches, FetchMemo, name, ThoseWithAd, using typename Fetches<P>::Fetched;)

}

FETCH_MEMO(HoldsWhileNothingChanges)
{
	Fetched t;
	EXPECT_FALSE(t.holds()) << "nothing was fetched yet";
	t.fetch();
	EXPECT_TRUE(t.holds());
	EXPECT_TRUE(t.holds());
}

FETCH_MEMO(SeesEveryLevelOfTheTablesChange)
{
	for (u64 at : {u64{0x1000}, u64{0x2000}, 0x3000 + (Fetched::va >> 21 & 511) * 8, 0x4000 + (Fetched::va >> 12 & 511) * 8}) {
		Fetched t;
		t.fetch();
		ASSERT_TRUE(t.holds());
		t.put(at, 0x5000 | Fetched::present);
		EXPECT_FALSE(t.holds()) << std::hex << at;
	}
}

FETCH_MEMO(SeesTheCodeChange)
{
	Fetched t;
	t.fetch();
	const u8 other = 0x8b;
	EXPECT_EQ(t.mem->write(*t.cpus[0], Gpa{Fetched::code + 0x100}, &other, 1), Errc::ok);
	EXPECT_FALSE(t.holds());
}

FETCH_MEMO(IsOfOneRegisterState)
{
	Fetched t;
	t.fetch();
	for (u64 ControlRegs::*r : {&ControlRegs::cr0, &ControlRegs::cr3, &ControlRegs::cr4, &ControlRegs::efer}) {
		t.regs.*r ^= bit(16);
		EXPECT_FALSE(t.holds());
		t.regs.*r ^= bit(16);
		EXPECT_TRUE(t.holds());
	}
}

FETCH_MEMO(DoesNotOutliveTheSlots)
{
	Fetched t;
	t.fetch();
	EXPECT_EQ(t.region(1, 100, 1, t.vmm.map(page_size)), Errc::ok);
	EXPECT_FALSE(t.holds()) << "the addresses behind it may be others now";
}

FETCH_MEMO(IsNotMadeOfAWalkThatChangedAnEntry)
{
	Fetched t;
	t.put(0x4000 + (Fetched::va >> 12 & 511) * 8, Fetched::code | 3); /* not accessed yet */
	t.fetch();
	EXPECT_FALSE(t.holds());
	t.fetch();
	EXPECT_TRUE(t.holds());
}

FETCH_MEMO(IsForgotten)
{
	Fetched t;
	t.fetch();
	t.memo.forget();
	EXPECT_FALSE(t.holds());
}

FETCH_MEMO(IsNotMadeOfAWalkDuringWhichSlotsChanged)
{
	Fetched t;
	t.fetch([&] { EXPECT_EQ(t.region(1, 100, 1, t.vmm.map(page_size)), Errc::ok); });
	EXPECT_FALSE(t.holds()) << "the entries are where the old slots had them";
}
