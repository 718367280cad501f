/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/atomic.hpp"
#include "cxxrt/lock.hpp"

namespace kx {

/*
 * Invalidations of the VMM's address space that the host has announced and not ended, and how many have
 * ended. Independent of the memslots, so a slot may come or go in the midst of one.
 *
 * announce() precedes, by the exclusive mmu_lock, the zap of what it concerns; in_progress() is asked
 * under the shared lock. So for a fault an announced range is either visible, or its zap is still to
 * come and will take away what the fault maps. That is why the two ends need not be read as one: they
 * only widen while somebody who has zapped is still in progress.
 */
class Invalidations {
	SpinLock lock_{KX_LOCK_MMU_LIST};
	Atomic<u64> sequence_;	/* ended ones */
	Atomic<u64> active_, lo_, hi_;

public:
	void announce(Hva start, Hva end)
	{
		{
			Guard g{lock_};
			const u64 n = active_.relaxed();
			if (!n || start.raw() < lo_.relaxed())
				lo_.set_relaxed(start.raw());
			if (!n || end.raw() > hi_.relaxed())
				hi_.set_relaxed(end.raw());
			active_.release(n + 1);
		}
		/* Before the announcer looks which slots are concerned: a slot it does not see will see it. */
		full_barrier();
	}
	void finish()
	{
		Guard g{lock_};
		sequence_.release(sequence_.relaxed() + 1);
		active_.release(active_.relaxed() - 1);
	}
	bool any_in_progress() const { return active_.acquire() != 0; }
	bool in_progress(Hva start, Hva end) const
	{
		return any_in_progress() && start.raw() < hi_.relaxed() && lo_.relaxed() < end.raw();
	}
	/* Taken before the host is asked for a page; if it has not moved, and nothing is in progress under
	 * the shared lock, the answer still holds. */
	u64 sequence() const { return sequence_.acquire(); }
};

}
