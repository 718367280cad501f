/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory: roots and the end. */
#pragma once
#include "faults.hpp"

namespace kx {

/* Law 4: the current root first, then one that stands already, and only then a new one. */
KX_MEMORY Result<Hpa> Memory<F, Tlb, Words, Host>::load_root(Vcpu &v, const GuestRole &guest)
{
	const PageRole role = tdp_role(guest, caps_);
	if (v.root && v.root->role == role)
		return phys_of(v.root->tree.root());

	/* A direct root's role says its space and nothing else that could differ. */
	Atomic<Root<F, Words> *> &place = roots_[role.space];
	Root<F, Words> *root = place.acquire();
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
		root = place.relaxed();
		if (!root) {
			root = fresh.release();
			place.release(root);
			stats_.roots_built.count();
			stats_.tables_linked.count();
		} else {
			table.give_back(page); /* somebody was faster */
		}
	}
	v.root = root;
	v.space = role.space;
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
	for (Space space : every_space)
		if (Owned<Root<F, Words>> root{roots_[space].exchange(nullptr)})
			dead.push(root->tree.root(), root->tree.top());
	graves_.bury(dead);
	graves_.close(done, arg);
}

}
