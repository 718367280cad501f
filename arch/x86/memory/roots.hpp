/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory: roots and the end. */
#pragma once
#include "faults.hpp"

namespace kx {

KX_MEMORY Root<F, Words> *Memory<F, Tlb, Words, Host>::find_root(const PageRole &role) const
{
	Root<F, Words> *found = nullptr;
	for_roots([&](Root<F, Words> &r) { found = r.role == role ? &r : found; });
	return found;
}

/* Law 4: the current root first, then one that stands already, and only then a new one. */
KX_MEMORY Result<Hpa> Memory<F, Tlb, Words, Host>::load_root(Vcpu &v, const GuestRole &guest)
{
	const PageRole role = tdp_role(guest, caps_);
	if (v.root && v.root->role == role)
		return phys_of(v.root->tree.root());

	Root<F, Words> *root = find_root(role);
	if (!root) {
		TableCache<1> table;
		KX_CHECK(table.top_up());
		u64 *const page = table.take();
		Result<Owned<Root<F, Words>>> made = make<Root<F, Words>>(role, caps_, page);
		if (!made.ok()) {
			table.give_back(page);
			return made.error();
		}
		Owned<Root<F, Words>> fresh = kx::move(made).take();
		WriteGuard lock{mmu_lock_};
		root = find_root(role);
		for (auto &place : roots_) {
			if (root || place.relaxed())
				continue;
			root = fresh.release();
			place.release(root);
			stats_.roots_built.count();
			stats_.tables_linked.count();
		}
		if (fresh)
			table.give_back(page); /* somebody was faster */
	}
	v.root = root;
	v.stats.root_loads.count();
	return phys_of(root->tree.root());
}

KX_MEMORY void Memory<F, Tlb, Words, Host>::detach(Vcpu &v)
{
	v.root = nullptr;
	v.tables.drain();
}

KX_MEMORY void Memory<F, Tlb, Words, Host>::teardown(void (*done)(void *), void *arg)
{
	DeadTables dead;
	for (auto &place : roots_)
		if (Owned<Root<F, Words>> root{place.exchange(nullptr)})
			dead.push(root->tree.root(), caps_.top());
	graves_.bury(dead);
	graves_.close(done, arg);
}

}
