/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cursor.hpp"
#include "fault.hpp"

namespace kx {

/* Ageing must not find a page young that nobody touched. Of larger blocks it is not worth looking. */
template <TableFormat F, TableWords Words> bool any_accessed(const u64 *leaves, Level l)
{
	for (unsigned i = 0; l == Level::page && i < entries_per_table; ++i)
		if (const Spte<F> e{Words::load(&leaves[i])}; e.is_leaf(l) && e.is_accessed())
			return true;
	return l != Level::page;
}

/* When logging has ended: where the host maps a whole block as one page, the small mappings that logging
 * made are exchanged for one large one, in place. Under the shared lock, nothing logged in the slot, a
 * bounded part a call; returns where the next begins. */
template <TableFormat F, TableWords Words, HostPages Host>
Gfn promote_some(const Direct<F, Words> &tree, const Backing &b, Gfn from, const Invalidations &invalidations, Host &host,
		 Debt &d, Shared shared)
{
	const MmuCaps &caps = tree.caps();
	if (b.congruent == Level::page || caps.nx_huge_pages)
		return b.range.end;
	unsigned budget = entries_per_table;
	Cursor<F, Words> c{tree, {from, b.range.end}};
	while (!c.done()) {
		if (!budget--)
			return c.gfn();
		const Spot<F, Words> s = c.spot();
		const Spte<F> e = s.value;
		const Level l = s.level;
		const Gfn g = c.entry_gfn();
		if (!e.is_table(l)) {
			c.over();
			continue;
		}
		u64 pfn, writable = 0;
		unsigned order = 0;
		if (l <= caps.max_leaf() && l <= b.congruent && b.range.begin <= g && g + pages_of(l) <= b.range.end &&
		    !invalidations.in_progress(b.hva_of(g), b.hva_of(g + pages_of(l))) &&
		    host.present(b.hva_of(g), 1, &pfn, &writable, &order) && level_of_order(order) >= l) {
			const bool w = writable && !b.readonly;
			const LeafAttr attr{.access = Access::read | Access::exec | (w ? Access::write : Access::none),
					    .mmu_writable = w, .host_writable = w,
					    .accessed = any_accessed<F, Words>(tree.child(e), below(l))};
			tree.change(g, s, Spte<F>::leaf(Pfn{pfn}, l, attr, caps), d, shared);
			c.over();
		} else if (l > Level::large) {
			c.down(e);
		} else {
			c.over();
		}
	}
	return b.range.end;
}

}
