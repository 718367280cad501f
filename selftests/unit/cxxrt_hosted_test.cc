/* SPDX-License-Identifier: GPL-2.0-only */
/* The seam in userspace checks its callers: each wrong use ends the process. */
#include <gtest/gtest.h>
#include <algorithm>
#include <memory>
#include <thread>
#include "cxxrt/alloc.hpp"
#include "cxxrt/grace_work.hpp"
#include "cxxrt/hosted/hosted.hpp"
#include "cxxrt/hosted/stepper.hpp"
#include "cxxrt/hosted/vmm_memory.hpp"
#include "cxxrt/lock.hpp"
#include "cxxrt/nospec.hpp"
#include "cxxrt/rcu.hpp"

using namespace kx;

namespace {

struct Locks {
	Mutex vm{KX_LOCK_VM}, slots{KX_LOCK_SLOTS};
	RwLock mmu{KX_LOCK_MMU};
	SpinLock list{KX_LOCK_MMU_LIST};
};

}

TEST(HostedLocks, InTheirOrder)
{
	Locks l;
	Guard a{l.vm};
	Guard b{l.slots};
	WriteGuard c{l.mmu};
	Guard d{l.list};
	EXPECT_EQ(hosted::locks_held(), 4u);
}

TEST(HostedLocksDeathTest, OutOfOrder)
{
	GTEST_FLAG_SET(death_test_style, "threadsafe");
	EXPECT_DEATH(
		{
			Locks l;
			Guard a{l.slots};
			Guard b{l.vm};
		},
		"out of order");
	EXPECT_DEATH(
		{
			Locks l; /* by the seam: the compiler refuses it by the guards */
			kx_read_lock(&l.mmu);
			kx_read_lock(&l.mmu);
		},
		"out of order");
}

TEST(HostedLocksDeathTest, SleepingWhereNothingSleeps)
{
	GTEST_FLAG_SET(death_test_style, "threadsafe");
	EXPECT_DEATH(
		{
			Locks l;
			ReadGuard a{l.mmu};
			kx_free(kx_zalloc(8));
		},
		"atomic context");
	EXPECT_DEATH(
		{
			RcuRead r;
			kx_cond_resched();
		},
		"atomic context");
	EXPECT_DEATH(
		{
			RcuRead r;
			Locks l;
			Guard m{l.vm};
		},
		"atomic context");
	EXPECT_DEATH(
		{
			RcuHead h;
			kx_call_rcu(h.os(), [](void *) { kx_cond_resched(); });
			hosted::run_deferred();
		},
		"atomic context");
}

TEST(HostedLocksDeathTest, MisusedLocks)
{
	GTEST_FLAG_SET(death_test_style, "threadsafe");
	EXPECT_DEATH(
		{
			alignas(8) unsigned char never[KX_SIZEOF_SPINLOCK] = {};
			kx_spin_lock(never);
		},
		"not initialised");
	EXPECT_DEATH(
		{
			Locks l;
			kx_spin_unlock(&l.list);
		},
		"does not hold");
	EXPECT_DEATH(kx_rcu_read_unlock(), "never began");
}

TEST(HostedRcu, CallbacksWaitForReaders)
{
	static bool called;
	called = false;
	RcuHead head;
	std::thread other;
	{
		hosted::RcuSection reader;
		kx_call_rcu(head.os(), [](void *) { called = true; });
		other = std::thread{[] { hosted::run_deferred(); }};
		for (int i = 0; i < 1000; ++i)
			std::this_thread::yield();
		EXPECT_FALSE(called);
	}
	other.join();
	EXPECT_TRUE(called);
}

TEST(HostedRcu, SrcuDomainsAreSeparate)
{
	Srcu a, b;
	ASSERT_EQ(a.init(), Errc::ok);
	ASSERT_EQ(b.init(), Errc::ok);
	{
		SrcuRead in_a{a};
		b.synchronize();
		SrcuRead nested{a};
	}
	a.synchronize();
	static int order;
	order = 0;
	RcuHead head;
	kx_call_srcu(a.os(), head.os(), [](void *) { order = 1; });
	a.destroy();
	EXPECT_EQ(order, 1) << "destruction runs what waits";
	b.destroy();
}

TEST(HostedRcu, GraceWorkRunsAfterTheGracePeriod)
{
	static int ran;
	ran = 0;
	int seven = 7;
	GraceWork w{[](void *n) { ran += *static_cast<int *>(n); }, &seven};
	w.start();
	EXPECT_EQ(ran, 0);
	EXPECT_TRUE(hosted::run_one_deferred());
	EXPECT_EQ(ran, 0) << "the callback only queues";
	EXPECT_TRUE(hosted::run_one_deferred());
	EXPECT_EQ(ran, 7);
	EXPECT_FALSE(hosted::run_one_deferred());
	w.start();
	hosted::run_deferred();
	EXPECT_EQ(ran, 14);
}

TEST(HostedMemory, FailsWhenTold)
{
	const auto live = hosted::live_allocations();
	hosted::fail_allocation(2);
	void *a = kx_zalloc(8), *b = kx_vzalloc(8), *c = kx_page_alloc();
	EXPECT_TRUE(a && !b && c);
	EXPECT_EQ(hosted::live_allocations(), live + 2);
	hosted::fail_allocations_from(1);
	EXPECT_EQ(kx_zalloc(8), nullptr);
	EXPECT_EQ(kx_page_alloc(), nullptr);
	hosted::fail_allocation(0);
	kx_page_link(c)[0] = 5;
	EXPECT_EQ(kx_page_link(c)[0], 5u);
	kx_free(a);
	kx_page_free(c);
	EXPECT_EQ(hosted::live_allocations(), live);
}

TEST(Alloc, OwnersReleaseAndPass)
{
	struct Thing {
		int *alive;
		explicit Thing(int *a) : alive{a} { ++*a; }
		~Thing() { --*alive; }
	};
	int alive = 0;
	{
		auto r = kx::make<Thing>(&alive);
		ASSERT_TRUE(r.ok());
		Owned<Thing> a = kx::move(r).take(), b;
		b = kx::move(a);
		EXPECT_FALSE(a);
		EXPECT_EQ(alive, 1);
	}
	EXPECT_EQ(alive, 0);
	hosted::fail_allocation(1);
	EXPECT_EQ(kx::make<Thing>(&alive).error(), Errc::nomem);
	EXPECT_EQ(Array<u64>::make(~size_t{0} / 4).error(), Errc::nomem) << "the size overflows";
	hosted::fail_allocation(0);
	auto array = Array<u64>::make(100);
	ASSERT_TRUE(array.ok());
	EXPECT_EQ(kx::move(array).take()[99], 0u);
}

TEST(Stepper, FindsTheOneBadOrder)
{
	/* Two increments that are not atomic: with one preemption the second is lost. */
	int value = 0;
	bool lost = false;
	const auto add = [&] {
		const int seen = value;
		hosted::point();
		value = seen + 1;
	};
	hosted::Stepper none{0}, one{1};
	const auto begin = [&] {
		value = 0;
		return hosted::Stepper::Run{{add, add}, [&] { lost = lost || value != 2; }};
	};
	EXPECT_TRUE(none.explore(begin).exhausted);
	EXPECT_FALSE(lost);
	EXPECT_FALSE(one.explore(begin, [&] { return lost; }).exhausted);
	EXPECT_TRUE(lost);
	lost = false;
	one.replay(one.schedule(), begin);
	EXPECT_TRUE(lost) << "the same schedule does it again";
}

TEST(Stepper, LocksKeepStrandsApart)
{
	unsigned most = 0;
	const auto result = hosted::Stepper{2}.explore([&] {
		auto l = std::make_shared<Locks>();
		auto inside = std::make_shared<unsigned>(0);
		const auto body = [l, inside, &most] {
			Guard g{l->list};
			most = std::max(most, ++*inside);
			hosted::point();
			--*inside;
		};
		return hosted::Stepper::Run{{body, body, body}, {}};
	});
	EXPECT_TRUE(result.exhausted);
	EXPECT_EQ(most, 1u);
	EXPECT_GT(result.schedules, 10u);
}

TEST(StepperDeathTest, SeesADeadlock)
{
	GTEST_FLAG_SET(death_test_style, "threadsafe");
	EXPECT_DEATH(hosted::Stepper{2}.explore([] {
		auto a = std::make_shared<SpinLock>(KX_LOCK_MMU_LIST);
		return hosted::Stepper::Run{{[a] {
						     Guard g{*a};
						     hosted::wait_until([] { return false; });
					     },
					     [a] { Guard g{*a}; }},
					    {}};
	}),
		     "every strand waits");
}

TEST(VmmMemory, TellsBeforeItTakes)
{
	struct Watcher : hosted::VmmWatcher {
		hosted::VmmMemory *m;
		u64 seen = 0;
		int open = 0;
		void start(u64 b, u64) override
		{
			++open;
			seen = m->pfn_at(b);
		}
		void end(u64, u64) override { --open; }
	} w;
	hosted::VmmMemory m;
	w.m = &m;
	const u64 at = m.map(16 * page_size);
	m.touch(at, 16 * page_size);
	m.watch(&w);
	const u64 pfn = m.pfn_at(at + page_size);
	m.migrate(at + page_size, page_size);
	EXPECT_EQ(w.seen, pfn);
	EXPECT_EQ(w.open, 0);
	EXPECT_TRUE(m.freed(pfn));
	EXPECT_NE(m.pfn_at(at + page_size), pfn);
	u32 word = 5;
	EXPECT_EQ(kx_copy_to_user(at + page_size - 2, &word, 4), 0);
	word = 0;
	EXPECT_EQ(kx_copy_from_user(&word, at + page_size - 2, 4), 0);
	EXPECT_EQ(word, 5u);
	EXPECT_EQ(kx_copy_from_user(&word, at + 16 * page_size, 4), -14);
	EXPECT_EQ(kx_copy_from_user(&word, 8, 4), -14);
}

/* What a processor that guesses wrong would read with. */
TEST(Nospec, AnIndexBeyondTheTableStaysInIt)
{
	for (u64 n : {u64{1}, u64{11}, u64{64}, u64{32764}}) {
		EXPECT_EQ(index_nospec(0, n), 0u);
		EXPECT_EQ(index_nospec(n - 1, n), n - 1);
		for (u64 beyond : {n, n + 1, u64{1} << 31, u64{1} << 63, ~u64{0}})
			EXPECT_EQ(index_nospec(beyond, n), 0u);
	}
	for (u64 i = 0; i < 64; ++i)
		EXPECT_EQ(index_nospec<64>(i), i);
	EXPECT_LT(index_nospec<64>(~u64{0}), 64u);
	EXPECT_LT(index_nospec<64>(64), 64u);
}
