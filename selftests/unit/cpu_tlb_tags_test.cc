// SPDX-License-Identifier: GPL-2.0-only
#include <gtest/gtest.h>
#include <set>
#include "arch/x86/cpu/tlb_tags.hpp"

using namespace kx;

TEST(TagPool, NeverGivesTheHostsAndNeverOneTwiceInAGeneration)
{
	TagPool pool{16};
	u64 generation = pool.take().generation;
	std::set<u32> seen{1};
	for (int i = 0; i < 200; ++i) {
		const auto g = pool.take();
		EXPECT_GE(g.tag, 1u);
		EXPECT_LT(g.tag, 16u);
		if (g.generation != generation) {
			EXPECT_TRUE(g.flush_all) << "a new generation reuses tags: the TLB has to go first";
			generation = g.generation;
			seen.clear();
		} else {
			EXPECT_FALSE(g.flush_all);
		}
		EXPECT_TRUE(seen.insert(g.tag).second);
	}
}

TEST(TagPool, UsesAllOfThemBeforeItFlushes)
{
	TagPool pool{16};
	for (int i = 0; i < 15; ++i)
		EXPECT_FALSE(pool.take().flush_all) << i;
	EXPECT_TRUE(pool.take().flush_all);
}

TEST(TagPool, AnOlderGenerationIsVoid)
{
	TagPool pool{2};
	const auto first = pool.take();
	EXPECT_TRUE(pool.current(first.generation));
	const auto second = pool.take();
	EXPECT_TRUE(second.flush_all);
	EXPECT_FALSE(pool.current(first.generation));
	EXPECT_TRUE(pool.current(second.generation));
	EXPECT_FALSE(pool.current(0)) << "0 is what a vCPU holds that never ran on this CPU";
}

TEST(TagPool, AfterTheCpuWasOffTheFirstGrantFlushes)
{
	TagPool pool{16};
	const auto before = pool.take();
	pool.restart();
	EXPECT_FALSE(pool.current(before.generation));
	EXPECT_TRUE(pool.take().flush_all);
}

TEST(TagPool, SurvivesAProcessorThatReportsNone)
{
	TagPool pool{0};
	EXPECT_EQ(pool.take().tag, 1u);
	EXPECT_EQ(pool.take().tag, 1u);
}

namespace {

/* A vCPU and the CPU it is on. */
struct OnCpu {
	TagPool pool{16};
	TlbTags tags;
	unsigned flushes = 0, settled = 0;
	u32 tag = 0;

	/* What an entry does; true: something cached before is gone, or never was. */
	bool enter()
	{
		if (tags.ready(pool))
			return false;
		++settled;
		const TlbTags::Due d = tags.settle(pool);
		EXPECT_TRUE(tags.ready(pool)) << "once is enough";
		tag = d.tag;
		flushes += d.behind;
		return d.behind;
	}
	bool enter(u64 root)
	{
		tags.switch_to(root);
		return enter();
	}
};

}

TEST(TlbTags, AnEntryThatOwesNothingAsksOnce)
{
	OnCpu c;
	EXPECT_TRUE(c.enter(0x1000)) << "nobody knows what is cached by a root that is new here";
	for (int i = 0; i < 10; ++i)
		EXPECT_FALSE(c.enter());
	EXPECT_EQ(c.settled, 1u);
}

TEST(TlbTags, RootsThatTakeTurnsCauseNoFlush)
{
	OnCpu c;
	std::set<u32> tags;
	for (u64 root = 1; root <= 8; ++root) {
		EXPECT_TRUE(c.enter(root << 12));
		EXPECT_TRUE(tags.insert(c.tag).second) << "each has its own";
	}
	for (int round = 0; round < 50; ++round)
		for (u64 root = 1; root <= 8; ++root) {
			EXPECT_FALSE(c.enter(root << 12));
			EXPECT_TRUE(tags.count(c.tag));
		}
	EXPECT_EQ(c.flushes, 8u);
}

TEST(TlbTags, OneRootTooManyTakesThePlaceOfTheOldest)
{
	OnCpu c;
	for (u64 root = 1; root <= 9; ++root)
		EXPECT_TRUE(c.enter(root << 12));
	EXPECT_FALSE(c.enter(2 << 12));
	EXPECT_TRUE(c.enter(1 << 12)) << "forgotten: what it left in the TLB may have become old";
}

TEST(TlbTags, FlushAllLeavesEveryTagBehind)
{
	OnCpu c;
	for (u64 root = 1; root <= 4; ++root)
		c.enter(root << 12);
	c.tags.flush_all();
	EXPECT_FALSE(c.tags.ready(c.pool));
	const unsigned before = c.flushes;
	for (u64 root = 1; root <= 4; ++root) {
		EXPECT_TRUE(c.enter(root << 12)) << root;
		EXPECT_FALSE(c.enter());
	}
	EXPECT_EQ(c.flushes, before + 4);
	for (u64 root = 1; root <= 4; ++root)
		EXPECT_FALSE(c.enter(root << 12));
}

TEST(TlbTags, FlushCurrentLeavesTheOthers)
{
	OnCpu c;
	c.enter(0x1000);
	c.enter(0x2000);
	c.tags.flush_current();
	EXPECT_FALSE(c.enter(0x1000)) << "and waits for the one it was asked of";
	EXPECT_TRUE(c.enter(0x2000));
	EXPECT_FALSE(c.enter(0x2000));
	c.tags.flush_current();
	EXPECT_TRUE(c.enter());
}

TEST(TlbTags, AnotherCpuKnowsNoneOfThem)
{
	OnCpu c;
	for (u64 root = 1; root <= 3; ++root)
		c.enter(root << 12);
	c.pool = TagPool{16}; /* its generation is the same number */
	c.tags.moved();
	for (u64 root = 3; root >= 1; --root) {
		c.tags.switch_to(root << 12);
		EXPECT_FALSE(c.tags.ready(c.pool));
		const TlbTags::Due d = c.tags.settle(c.pool);
		EXPECT_TRUE(d.fresh && d.behind);
		EXPECT_EQ(d.tag, u32(4 - root)) << "given out there";
	}
}

/* A root's cached nested translations are no matter of the tag: who has to, flushes when it is behind. */
TEST(TlbTags, WhenTagsRunOutTheyAreGivenOutAnew)
{
	OnCpu c;
	c.enter(0x1000);
	c.enter(0x2000);
	while (!c.pool.take().flush_all) /* to other vCPUs */
		;
	EXPECT_FALSE(c.tags.ready(c.pool));
	TlbTags::Due d = c.tags.settle(c.pool);
	EXPECT_TRUE(d.fresh && !d.behind && !d.flush_cpu);
	EXPECT_EQ(d.tag, 2u);
	c.tags.switch_to(0x1000);
	d = c.tags.settle(c.pool);
	EXPECT_TRUE(d.fresh && !d.behind);
	EXPECT_EQ(d.tag, 3u);
	c.pool.restart();
	d = c.tags.settle(c.pool);
	EXPECT_TRUE(d.fresh && d.flush_cpu) << "who is first after the CPU was off";
}

TEST(TlbTags, AProcessorThatCannotFlushOneTagTakesAnother)
{
	OnCpu c;
	c.enter(0x1000);
	c.tags.flush_all();
	const u32 was = c.tag;
	EXPECT_TRUE(c.enter());
	EXPECT_EQ(c.tag, was) << "the same one, to be flushed";
	const TlbTags::Due d = c.tags.renew(c.pool);
	EXPECT_TRUE(d.fresh);
	EXPECT_NE(d.tag, was);
	EXPECT_TRUE(c.tags.ready(c.pool));
	EXPECT_FALSE(c.enter());
}
