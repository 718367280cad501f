// SPDX-License-Identifier: GPL-2.0-only
#include <gtest/gtest.h>
#include <set>
#include "arch/x86/cpu/tlb_tags.hpp"

using namespace kx;

TEST(TlbTags, NeverGivesTheHostsAndNeverOneTwiceInAGeneration)
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

TEST(TlbTags, UsesAllOfThemBeforeItFlushes)
{
	TagPool pool{16};
	for (int i = 0; i < 15; ++i)
		EXPECT_FALSE(pool.take().flush_all) << i;
	EXPECT_TRUE(pool.take().flush_all);
}

TEST(TlbTags, AnOlderGenerationIsVoid)
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

TEST(TlbTags, AfterTheCpuWasOffTheFirstGrantFlushes)
{
	TagPool pool{16};
	const auto before = pool.take();
	pool.restart();
	EXPECT_FALSE(pool.current(before.generation));
	EXPECT_TRUE(pool.take().flush_all);
}

TEST(TlbTags, SurvivesAProcessorThatReportsNone)
{
	TagPool pool{0};
	EXPECT_EQ(pool.take().tag, 1u);
	EXPECT_EQ(pool.take().tag, 1u);
}
