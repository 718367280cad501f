/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory: changes of the slots, and the dirty log. */
#pragma once
#include "arch/x86/mmu/promote.hpp"
#include "arch/x86/mmu/protect.hpp"
#include "faults.hpp"

namespace kx {

/* One step of a plan. The new set appears when the last translation by the old one is gone: until then
 * an invalidation of the host must find the slot, and wait for the lock. */
KX_MEMORY void Memory<F, Tlb, Words, Host>::change_slots(Memslots::Plan &plan, GfnRange gone)
{
	WriteGuard lock{mmu_lock_};
	Batch owed = batch();
	for_roots(plan.space(), [&](Root<F, Words> &root) { zap(root.tree, gone, owed.debt(), lock.excl()); });
	owed.settle();
	slots_.publish(plan, lock.excl());
}

KX_MEMORY Errc Memory<F, Tlb, Words, Host>::set_region(Space space, const kvm_userspace_memory_region &r,
						     unsigned ids)
{
	Guard mutex{slots_.mutex()};
	Memslots::Plan plan = KX_TRY(slots_.plan(space, r, ids, caps_));
	const Memslot *const now = plan.now();
	const GfnRange nothing{Gfn{0}, Gfn{0}};
	const bool logged = plan.old() && plan.old()->log;
	switch (plan.change()) {
	case Memslots::Change::none: break;
	case Memslots::Change::create:
		change_slots(plan, now->range()); /* MMIO entries stood there */
		break;
	case Memslots::Change::remove:
		/* The VMM may unmap the memory when this returns: readers by hva must be gone. */
		change_slots(plan, plan.old()->range());
		slots_.drain();
		break;
	case Memslots::Change::move:
		change_slots(plan, plan.old()->range());
		slots_.drain();
		change_slots(plan, now->range());
		break;
	case Memslots::Change::flags:
		change_slots(plan, nothing);
		if (now->readonly)
			break; /* never writable, nothing to log */
		if (logged)
			promote(space, *now);
		else
			protect(space, *now);
		break;
	}
	return Errc::ok;
}

/* From now on every write to the slot is to be noticed. Faults that map by the new set see to their own
 * page; what was mapped before is protected here. */
KX_MEMORY void Memory<F, Tlb, Words, Host>::protect(Space space, const Memslot &slot)
{
	TableCache<32> cache;
	Batch owed = batch();
	for_roots(space, [&](Root<F, Words> &root) {
		GfnRange left = root.tree.clamp(slot.range());
		Splitting how = Splitting::eager;
		while (!left.empty()) {
			if (how == Splitting::eager && cache.top_up() != Errc::ok && cache.empty())
				how = Splitting::none;
			{
				ReadGuard lock{mmu_lock_};
				ProtectStep step{left.begin, false};
				do {
					step = protect_some(root.tree, left, how, cache, owed.debt(), lock.held());
					left.begin = step.at;
				} while (!left.empty() && !step.wants_table && !mmu_lock_.should_yield());
			}
			kx_cond_resched();
		}
	});
}

KX_MEMORY void Memory<F, Tlb, Words, Host>::promote(Space space, const Memslot &slot)
{
	const Backing b = backing(slot);
	for_roots(space, [&](Root<F, Words> &root) {
		for (Gfn at = b.range.begin; at < root.tree.clamp(b.range).end;) {
			{
				Batch owed = batch();
				ReadGuard lock{mmu_lock_};
				do {
					at = promote_some(root.tree, b, at, invalidations_, host_, owed.debt(),
							  lock.held());
				} while (at < root.tree.clamp(b.range).end && !mmu_lock_.should_yield());
			}
			kx_cond_resched();
		}
	});
}

/*
 * Hands out the log and clears it. A word is taken before its pages are protected, and TLBs are flushed
 * before anybody sees the result: a write that is not in it will be in the next one. A failing copy loses
 * what was taken, as it does in KVM.
 *
 * What CPUs have logged themselves is marked first, so every write from before the call is in the result.
 * Once is enough: what they log from now on waits in their buffers and is marked later, for the next
 * reader, whether D was taken away from the page meanwhile or not.
 */
KX_MEMORY Errc Memory<F, Tlb, Words, Host>::get_dirty_log(Space space, const kvm_dirty_log &request)
{
	if (request.slot >= Memslots::user_slots) /* also those of another space: whoever takes it out of the number says which */
		return Errc::inval;
	Guard mutex{slots_.mutex()};
	const Memslot *slot = slots_.by_id(space, request.slot);
	if (!slot || !slot->log)
		return Errc::noent;
	if constexpr (can_drain)
		if (caps_.pml)
			tlb_.drain_logs();
	DirtyLog &log = *slot->log;
	u64 *const taken = log.taken();
	const size_t words = log.words();
	{
		Batch owed = batch();
		for (size_t i = 0; i < words;) {
			{
				ReadGuard lock{mmu_lock_};
				/* So much at a time that a waiting writer is not kept for long. */
				for (unsigned some = 4096; some && i < words; ++i) {
					taken[i] = log.take(i);
					some -= taken[i] && some >= 64 ? 64 : 1;
					if (!taken[i])
						continue;
					for_roots(space, [&](Root<F, Words> &root) {
						protect_pages(root.tree, slot->base + i * 64, taken[i],
								    owed.debt(), lock.held());
					});
				}
			}
			kx_cond_resched();
		}
	}
	const u64 to = reinterpret_cast<u64>(request.dirty_bitmap);
	return kx_copy_to_user(to, taken, words * sizeof(u64)) ? Errc::fault : Errc::ok;
}

}
