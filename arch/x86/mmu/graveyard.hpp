/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/grace_work.hpp"
#include "cxxrt/lock.hpp"
#include "cxxrt/resched.hpp"
#include "debt.hpp"
#include "spte.hpp"
#include "stats.hpp"

namespace kx {

/*
 * Where cut-off subtrees wait. They arrive after the TLB flush that their loss owed, so no CPU in a guest
 * walks them; a thread in an RCU section (fault, fast fault, ageing) still may, so a grace period passes;
 * then a work item takes them apart page by page. Each cycle frees what had arrived before its grace
 * period began.
 */
template <TableFormat F> class Graveyard {
	SpinLock lock_{KX_LOCK_MMU_LIST};
	DeadTables arrived_ KX_GUARDED_BY(lock_);
	DeadTables waiting_; /* of the cycle under way */
	bool cycle_ KX_GUARDED_BY(lock_) = false;
	void (*done_)(void *) KX_GUARDED_BY(lock_) = nullptr;
	void *done_arg_ KX_GUARDED_BY(lock_) = nullptr;
	const MmuCaps &caps_;
	MmuStats &stats_;
	GraceWork grace_{[](void *g) { static_cast<Graveyard *>(g)->work(); }, this};

	void begin_cycle() KX_REQUIRES(lock_)
	{
		cycle_ = true;
		waiting_.take_all(arrived_);
		grace_.start();
	}

	/* Children join the list before their parent's page goes: no recursion, no memory but the pages'. */
	void free_waiting()
	{
		u64 freed = 0;
		while (!waiting_.empty()) {
			const auto [table, level] = waiting_.pop();
			if (level != Level::page)
				for (unsigned i = 0; i < entries_per_table; ++i)
					if (const Spte<F> e{table[i]}; e.is_table(level))
						waiting_.push(direct_of<u64>(e.address(caps_)), below(level));
			table_page_free(table);
			++freed;
			if (freed % 64 == 0)
				cond_resched();
		}
		stats_.tables_freed.count(freed);
	}

	void work()
	{
		free_waiting();
		void (*done)(void *) = nullptr;
		void *arg = nullptr;
		{
			Guard g{lock_};
			cycle_ = false;
			if (!arrived_.empty())
				begin_cycle();
			else
				done = done_, arg = done_arg_;
		}
		if (done)
			done(arg); /* may destroy us */
	}

public:
	Graveyard(const MmuCaps &caps, MmuStats &stats) : caps_{caps}, stats_{stats} {}
	Graveyard(const Graveyard &) = delete;

	/* What is in `dead` has been flushed. */
	void bury(DeadTables &dead)
	{
		if (dead.empty())
			return;
		Guard g{lock_};
		arrived_.take_all(dead);
		if (!cycle_)
			begin_cycle();
	}
	/* Nothing will be buried any more: call done(arg) from the work queue once all is freed. */
	void close(void (*done)(void *), void *arg)
	{
		Guard g{lock_};
		done_ = done;
		done_arg_ = arg;
		if (!cycle_)
			begin_cycle();
	}
};

}
