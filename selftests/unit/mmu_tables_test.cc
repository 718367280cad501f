/* SPDX-License-Identifier: GPL-2.0-only */
/* Tables alone: changes and their debts, against a flat map of what should be mapped. */
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <vector>
#include "arch/x86/mmu/age.hpp"
#include "arch/x86/mmu/flush.hpp"
#include "arch/x86/mmu/install.hpp"
#include "arch/x86/mmu/protect.hpp"
#include "arch/x86/mmu/zap.hpp"
#include "cxxrt/hosted/hosted.hpp"

using namespace kx;

namespace {

struct RecordingTlb {
	std::vector<GfnRange> flushed;
	void flush(GfnRange r) { flushed.push_back(r); }
	bool covered(u64 gfn) const
	{
		for (const GfnRange &r : flushed)
			if (r.has(Gfn{gfn}))
				return true;
		return false;
	}
};

struct Leaf {
	u64 pfn;
	bool writable;
	Level level;
	bool operator==(const Leaf &) const = default;
};

template <class F> struct Tables {
	using Tree = Direct<F, PlainWords>;
	using Batch = FlushBatch<F, RecordingTlb>;
	MmuCaps caps;
	MmuStats stats;
	RecordingTlb tlb;
	RwLock lock{KX_LOCK_MMU};
	Graveyard<F> graves{caps, stats};
	u64 *root = table_page_alloc();
	Tree tree;
	TableCache<4> cache;

	explicit Tables(MmuCaps c = {}) : Tables{c, c.top()} {}
	Tables(MmuCaps c, Level top) : caps{c}, tree{caps, top, root} {}
	~Tables()
	{
		DeadTables dead;
		dead.push(root, tree.top());
		graves.bury(dead);
		bool done = false;
		graves.close([](void *d) { *static_cast<bool *>(d) = true; }, &done);
		hosted::run_deferred();
		EXPECT_TRUE(done);
	}
	Installed map(u64 gfn, u64 pfn, Level l, Access want, bool log = false)
	{
		EXPECT_EQ(cache.top_up(tree.tables_for_fault()), Errc::ok);
		return map_with_what_is_there(gfn, pfn, l, want, log);
	}
	Installed map_with_what_is_there(u64 gfn, u64 pfn, Level l, Access want, bool log = false)
	{
		Window w;
		w.first = Gfn{gfn};
		w.pfn[0] = pfn;
		w.present = w.writable = 1;
		Batch owed{tlb, graves, stats};
		ReadGuard g{lock};
		typename Tree::Spot s = tree.find(Gfn{gfn}, g.held());
		if (s.level < l)
			s = tree.find(Gfn{gfn}, g.held(), l);
		const Mapping m{.gfn = Gfn{gfn}, .level = l, .want = want, .log = log, .nx = false};
		return Install<F, PlainWords>{tree, cache, owed.debt(), g.held()}.map(m, w, s).what;
	}
	void zap_range(u64 begin, u64 end)
	{
		tlb.flushed.clear();
		WriteGuard g{lock};
		Batch owed{tlb, graves, stats};
		zap(tree, {Gfn{begin}, Gfn{end}}, owed.debt(), g.excl());
	}
	/* All leaves, found by the cursor. */
	std::map<u64, Leaf> leaves(u64 begin = 0, u64 end = ~u64{0})
	{
		std::map<u64, Leaf> out;
		for (Cursor<F, PlainWords> c{tree, {Gfn{begin}, Gfn{end}}}; !c.done(); c.next())
			if (const auto e = c.get(); e.is_leaf(c.level())) {
				EXPECT_FALSE(out.count(c.entry_gfn().raw())) << "visited twice";
				out[c.entry_gfn().raw()] = {e.pfn(caps).raw(), e.is_writable(), c.level()};
			}
		return out;
	}
};

constexpr Access rw = Access::write;

}

template <class F> class TablesOf : public testing::Test {};
using Formats = testing::Types<LongMode, Ept>;
TYPED_TEST_SUITE(TablesOf, Formats);

TYPED_TEST(TablesOf, TheCursorVisitsEveryLeafOnceInOrder)
{
	Tables<TypeParam> t;
	std::map<u64, Leaf> want;
	for (u64 g : {u64{0}, u64{511}, u64{512}, u64{1000}, (u64{1} << 36) - 1, u64{1} << 27, (u64{1} << 27) - 1}) {
		t.map(g, 0x1000 + g % 999, Level::page, rw);
		want[g] = {0x1000 + g % 999, true, Level::page};
	}
	t.map(2048, 0x40000, Level::large, rw);
	want[2048] = {0x40000, true, Level::large};
	t.map(u64{3} << 18, u64{1} << 18, Level::huge, rw);
	want[u64{3} << 18] = {u64{1} << 18, true, Level::huge};
	EXPECT_EQ(t.leaves(), want);
	EXPECT_EQ(t.leaves(2100, 2101).size(), 1u) << "the middle of a huge leaf";
	EXPECT_EQ(t.leaves(511, 513).size(), 2u);
	EXPECT_EQ(t.leaves(513, 1000).size(), 0u);
	EXPECT_EQ(t.leaves(5, 5).size(), 0u);
}

/* As a shadow of a guest's tables is; the machine's own trees beside it have another height. */
TYPED_TEST(TablesOf, ATreeIsAsHighAsItWasMade)
{
	MmuCaps five;
	five.levels = 5;
	for (Level top : {Level::huge, Level::top4, Level::top5}) {
		Tables<TypeParam> t{five, top};
		const u64 end = reach_of(top);
		EXPECT_EQ(t.tree.tables_for_fault(), unsigned(top));
		EXPECT_TRUE(t.tree.reaches(Gfn{end - 1}));
		EXPECT_FALSE(t.tree.reaches(Gfn{end}));
		EXPECT_EQ(t.tree.clamp({Gfn{5}, Gfn{~u64{0}}}), (GfnRange{Gfn{5}, Gfn{end}}));
		const auto pages = hosted::live_pages();
		EXPECT_EQ(t.map(end - 1, 7, Level::page, rw), Installed::mapped);
		EXPECT_EQ(hosted::live_pages(), pages + s64(top));
		EXPECT_TRUE(t.cache.empty()) << "as many as one fault can need";
		EXPECT_EQ(t.map(0, 8, Level::page, rw), Installed::mapped);
		EXPECT_EQ(t.leaves(), (std::map<u64, Leaf>{{0, {8, true, Level::page}}, {end - 1, {7, true, Level::page}}}));
		t.zap_range(1, ~u64{0});
		EXPECT_EQ(t.leaves().size(), 1u);
		EXPECT_TRUE(t.tlb.covered(end - 1));
	}
}

/* Tables that one attempt linked can be cut off before the next. */
TYPED_TEST(TablesOf, AFaultThatRunsOutOfTablesTriesAgain)
{
	Tables<TypeParam> t;
	EXPECT_EQ(t.map_with_what_is_there(5, 0x1000, Level::page, rw), Installed::again);
	EXPECT_EQ(t.cache.top_up(1), Errc::ok);
	EXPECT_EQ(t.map_with_what_is_there(5, 0x1000, Level::page, rw), Installed::again);
	EXPECT_TRUE(t.cache.empty()) << "one level further";
	EXPECT_EQ(t.map(5, 0x1000, Level::page, rw), Installed::mapped);
	EXPECT_EQ(t.map(512, 0x2000, Level::large, Access::read), Installed::mapped);
	t.cache.drain();
	EXPECT_EQ(t.map_with_what_is_there(6, 0x1001, Level::page, rw), Installed::mapped) << "needs none";
	EXPECT_EQ(t.leaves().size(), 3u);
}

TYPED_TEST(TablesOf, AZapIsBoundedHoweverLargeItsRange)
{
	Tables<TypeParam> t;
	for (u64 g = 0; g < 40 * 512; g += 64)
		t.map(g, 1 + g, Level::page, rw);
	t.zap_range(300, 39 * 512 + 300);
	for (auto &[g, l] : t.leaves())
		EXPECT_TRUE(g < 300 || g >= 39 * 512 + 300);
	EXPECT_EQ(t.stats.zapped_tables.relaxed(), 38u);
	EXPECT_EQ(t.stats.zapped_leaves.relaxed(), 3u + 5u) << "the edges, one by one";
	EXPECT_EQ(t.tlb.flushed.size(), 1u);
	t.zap_range(0, ~u64{0});
	EXPECT_TRUE(t.leaves().empty());
	t.zap_range(0, ~u64{0});
	EXPECT_TRUE(t.tlb.flushed.empty()) << "nothing there, nothing owed";
}

TYPED_TEST(TablesOf, AZapTakesAStraddledHugeLeafWhole)
{
	Tables<TypeParam> t;
	t.map(1024, 0x40000, Level::large, rw);
	t.map(1023, 5, Level::page, rw);
	t.zap_range(1030, 1031);
	EXPECT_EQ(t.leaves().size(), 1u);
	EXPECT_TRUE(t.tlb.covered(1024) && t.tlb.covered(1535)) << "and owes all of it";
	EXPECT_FALSE(t.tlb.covered(1023));
}

TYPED_TEST(TablesOf, TablesWaitForFlushAndGracePeriod)
{
	Tables<TypeParam> t;
	t.map(5, 5, Level::page, rw);
	const auto pages = hosted::live_pages();
	{
		hosted::RcuSection reader;
		t.zap_range(0, 1 << 20);
		EXPECT_EQ(hosted::live_pages(), pages);
	}
	EXPECT_EQ(hosted::live_pages(), pages);
	hosted::run_deferred();
	EXPECT_EQ(hosted::live_pages(), pages - 2) << "a level below the root at 512 GiB stays";
	EXPECT_EQ(t.stats.tables_freed.relaxed(), 2u);
}

TYPED_TEST(TablesOf, WhatArrivesDuringACycleWaitsForTheNext)
{
	Tables<TypeParam> t;
	t.map(5, 5, Level::page, rw);
	t.map(1 << 20, 5, Level::page, rw);
	t.zap_range(0, 1 << 18);
	t.zap_range(1 << 20, 2 << 20);
	EXPECT_EQ(t.stats.tables_freed.relaxed(), 0u);
	hosted::run_one_deferred(); /* grace period of the first cycle */
	hosted::run_one_deferred(); /* its work */
	EXPECT_GT(t.stats.tables_freed.relaxed(), 0u);
	const u64 first = t.stats.tables_freed.relaxed();
	hosted::run_deferred();
	EXPECT_GT(t.stats.tables_freed.relaxed(), first);
}

TYPED_TEST(TablesOf, WriteProtectionFindsExactlyTheMaskedPages)
{
	std::mt19937_64 random{3};
	for (int round = 0; round < 50; ++round) {
		Tables<TypeParam> t;
		const u64 base = random() % 2000;
		std::map<u64, bool> mapped;
		for (int n = 0; n < 100; ++n) {
			const u64 g = base - base % 64 + random() % 200;
			t.map(g, 0x100 + g, Level::page, rw);
			mapped[g] = true;
		}
		const u64 mask = random() & random();
		t.tlb.flushed.clear();
		{
			typename Tables<TypeParam>::Batch owed{t.tlb, t.graves, t.stats};
			ReadGuard g{t.lock};
			protect_pages(t.tree, Gfn{base}, mask, owed.debt(), g.held());
		}
		for (auto &[g, l] : t.leaves()) {
			const bool masked = g >= base && g < base + 64 && mask >> (g - base) & 1;
			ASSERT_EQ(l.writable, !masked) << g;
			ASSERT_TRUE(!masked || t.tlb.covered(g));
		}
	}
}

TYPED_TEST(TablesOf, ProtectionSplitsAndResumesWhereItStopped)
{
	Tables<TypeParam> t;
	t.map(u64{1} << 18, u64{1} << 18, Level::huge, rw);
	t.map(512, 0x8000, Level::large, rw);
	t.map(7, 7, Level::page, rw);
	TableCache<2> few;
	GfnRange left{Gfn{0}, Gfn{u64{2} << 18}};
	unsigned rounds = 0;
	while (!left.empty()) {
		ASSERT_EQ(few.top_up(), Errc::ok);
		typename Tables<TypeParam>::Batch owed{t.tlb, t.graves, t.stats};
		ReadGuard g{t.lock};
		left.begin = protect_some(t.tree, left, Splitting::eager, few, owed.debt(), g.held()).at;
		ASSERT_LT(++rounds, 10000u);
	}
	const auto all = t.leaves();
	EXPECT_EQ(all.size(), 512u * 512 + 512 + 1);
	for (auto &[g, l] : all) {
		ASSERT_FALSE(l.writable);
		ASSERT_EQ(l.level, Level::page);
		ASSERT_EQ(l.pfn, g >= 1 << 18 ? g : g >= 512 ? 0x8000 + g - 512 : 7);
	}
	EXPECT_TRUE(t.tlb.covered(7) && t.tlb.covered(600) && t.tlb.covered(u64{1} << 18));
}

TYPED_TEST(TablesOf, AgeingChangesOneBitAndFlushesNothing)
{
	Tables<TypeParam> t;
	t.map(5, 5, Level::page, rw);
	t.map(512, 0x8000, Level::large, rw);
	const auto before = t.leaves();
	{
		RcuRead rcu;
		EXPECT_TRUE(age(t.tree, {Gfn{0}, Gfn{1024}}, Ageing::test, rcu));
		EXPECT_TRUE(age(t.tree, {Gfn{700}, Gfn{701}}, Ageing::clear, rcu)) << "a part of a huge page is the page";
		EXPECT_FALSE(age(t.tree, {Gfn{512}, Gfn{1024}}, Ageing::clear, rcu));
		EXPECT_TRUE(age(t.tree, {Gfn{0}, Gfn{1024}}, Ageing::clear, rcu));
		EXPECT_FALSE(age(t.tree, {Gfn{0}, Gfn{1024}}, Ageing::clear, rcu));
	}
	EXPECT_EQ(t.leaves(), before);
	EXPECT_TRUE(t.tlb.flushed.empty());
}

/* A flat model: which gfn maps what. */
TYPED_TEST(TablesOf, AgreeWithAFlatMapUnderRandomOperations)
{
	std::mt19937_64 random{11};
	for (int world = 0; world < 6; ++world) {
		MmuCaps caps;
		caps.levels = world & 1 ? 5 : 4;
		Tables<TypeParam> t{caps};
		struct Flat {
			u64 pfn;
			bool writable;
		};
		std::map<u64, Flat> model;
		const u64 space = 6 * 512, base = world & 2 ? (u64{1} << 27) - 3 * 512 : 0;
		for (int op = 0; op < 400; ++op) {
			const u64 r = random();
			const u64 g = base + random() % space;
			if (r % 8 < 5) {
				const bool large = r >> 8 & 1 && r >> 9 & 1;
				const u64 at = large ? g & ~u64{511} : g;
				if (at < base)
					continue;
				const bool log = !large && r >> 10 & 1;
				const Access want = r >> 11 & 1 ? rw : Access::read;
				/* The host's memory at a gfn is always the same. */
				const auto got = t.map(at, (u64{1} << 30) + at, large ? Level::large : Level::page, want, log);
				ASSERT_NE(got, Installed::again);
				if (got == Installed::mapped)
					for (u64 i = at; i < at + (large ? 512 : 1); ++i) {
						const bool was = model.count(i) && model[i].writable;
						model[i] = {(u64{1} << 30) + i, was || !log || want == rw};
					}
				else
					ASSERT_TRUE(model.count(at) && (want != rw || model[at].writable));
			} else if (r % 8 == 5) {
				const u64 end = g + 1 + random() % 1500;
				const auto before = t.leaves();
				t.zap_range(g, end);
				for (auto &[b, l] : before) {
					const u64 n = pages_of(l.level);
					if (b < end && g < b + n)
						for (u64 i = b; i < b + n; ++i) {
							model.erase(i);
							ASSERT_TRUE(t.tlb.covered(i));
						}
				}
			} else if (r % 8 == 6) {
				typename Tables<TypeParam>::Batch owed{t.tlb, t.graves, t.stats};
				ReadGuard lock{t.lock};
				const auto s = t.tree.find(Gfn{g}, lock.held());
				if (s.value.is_leaf(s.level) && s.level == Level::page) {
					protect(t.tree, Gfn{g}, s, owed.debt(), lock.held());
					model[g].writable = false;
				}
			} else {
				hosted::run_deferred();
			}
			std::map<u64, Flat> is;
			for (auto &[b, l] : t.leaves())
				for (u64 i = 0; i < pages_of(l.level); ++i)
					is[b + i] = {l.pfn + i, l.writable};
			ASSERT_EQ(is.size(), model.size()) << op;
			for (auto &[i, f] : model)
				ASSERT_TRUE(is.count(i) && is[i].pfn == f.pfn && is[i].writable == f.writable) << i;
		}
		EXPECT_EQ(t.stats.broken.relaxed(), 0u);
	}
}

TEST(TableCache, KeepsWhatItGot)
{
	const auto pages = hosted::live_pages();
	{
		TableCache<4> c;
		hosted::fail_allocation(3);
		EXPECT_EQ(c.top_up(), Errc::nomem);
		EXPECT_EQ(c.size(), 2u);
		hosted::fail_allocation(0);
		EXPECT_EQ(c.top_up(3), Errc::ok);
		EXPECT_EQ(c.size(), 3u);
		u64 *p = c.take();
		EXPECT_EQ(p[0], 0u);
		c.give_back(p);
	}
	EXPECT_EQ(hosted::live_pages(), pages);
}
