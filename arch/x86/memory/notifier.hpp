/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory: what the host does with the VMM's address space. */
#pragma once
#include "faults.hpp"

namespace kx {

/* Under the lock until the flush is paid: see FlushBatch. */
KX_MEMORY void Memory<F, Tlb, Words, Host>::zap_host_range(Space space, SlotSet::ByHva at)
{
	WriteGuard lock{mmu_lock_};
	Batch owed = batch();
	for (; !at.done(); at.next())
		for_roots(space, [&](Root<F, Words> &root) { zap(root.tree, at.range(), owed.debt(), lock.excl()); });
}

KX_MEMORY void Memory<F, Tlb, Words, Host>::notifier_start(Hva start, Hva end)
{
	stats_.invalidations.count();
	invalidations_.announce(start, end);
	RcuRead rcu;
	bool hit = false;
	for (Space space : every_space) {
		/* As far as the first slot without the lock. None: one that comes from now on finds the announcement. */
		const SlotSet::ByHva at{*slots_.current(space, rcu), start, end};
		if (at.done())
			continue;
		zap_host_range(space, at);
		hit = true;
	}
	if (hit)
		stats_.invalidations_hit.count();
}

KX_MEMORY bool Memory<F, Tlb, Words, Host>::notifier_age(Hva start, Hva end, Ageing how)
{
	RcuRead rcu;
	bool any = false;
	for (Space space : every_space) {
		const SlotSet::ByHva first{*slots_.current(space, rcu), start, end};
		bool young = false;
		for (SlotSet::ByHva at = first; !at.done(); at.next())
			for_roots(space, [&](Root<F, Words> &root) {
				young |= caps_.ad_bits ? age(root.tree, at.range(), how, rcu)
						       : any_mapped(root.tree, at.range(), rcu);
			});
		if (!caps_.ad_bits && young && how == Ageing::clear)
			zap_host_range(space, first);
		any |= young;
	}
	return any;
}

/* The mm is going and its pages with it: whatever the slots say. */
KX_MEMORY void Memory<F, Tlb, Words, Host>::notifier_gone()
{
	WriteGuard lock{mmu_lock_};
	Batch owed = batch();
	for (Space space : every_space)
		for_roots(space, [&](Root<F, Words> &root) {
			zap(root.tree, root.tree.all(), owed.debt(), lock.excl());
		});
}

}
