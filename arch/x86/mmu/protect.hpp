/* SPDX-License-Identifier: GPL-2.0-only */
/* What dirty logging takes away from leaves, under the shared lock: see LogBy. */
#pragma once
#include "cursor.hpp"

namespace kx {

template <TableFormat F, TableWords Words>
void protect(const Direct<F, Words> &tree, Gfn g, Spot<F, Words> s, Debt &d, Shared shared)
{
	const LogBy by = s.level == Level::page ? tree.log_by() : LogBy::write_protect;
	for (;; s.reload()) {
		const Spte<F> old = s.value;
		const bool noticed = by == LogBy::dirty_bit ? !old.is_dirty() : !old.is_writable();
		if (!old.is_leaf(s.level) || noticed || tree.change(g, s, old.logged(by), d, shared))
			return;
	}
}

/* Of the 64 pages from base those with a bit in mask. base need not be aligned. */
template <TableFormat F, TableWords Words>
void protect_pages(const Direct<F, Words> &tree, Gfn base, u64 mask, Debt &d, Shared shared)
{
	while (mask) {
		const Gfn g = base + unsigned(__builtin_ctzll(mask));
		if (!tree.reaches(g))
			return;
		const auto spot = tree.find(g, shared);
		if (spot.level != Level::page) {
			/* Nothing, or a huge leaf: written through only until logging has protected the slot. */
			protect(tree, g, spot, d, shared);
			const u64 next = g.aligned_down(pages_of(spot.level)).raw() + pages_of(spot.level) - base.raw();
			mask = next < 64 ? mask & (~u64{0} << next) : 0;
			continue;
		}
		/* One walk serves all bits in the same table. */
		const auto first = spot.beside(-s64{index_of(g, Level::page)});
		const Gfn table = g.aligned_down(entries_per_table);
		for (; mask; mask &= mask - 1) {
			const Gfn at = base + unsigned(__builtin_ctzll(mask));
			if (at - table >= entries_per_table)
				break;
			protect(tree, at, first.beside(s64(at - table)), d, shared);
		}
	}
}

/* Prepares a range for logging: huge leaves become tables of protected pages. One call does
 * a bounded part; `at` is where the next begins. */
struct ProtectStep {
	Gfn at;
	bool wants_table; /* stopped because the cache is empty */
};
enum class Splitting : u8 { eager, none }; /* none: no memory; the first write to a piece splits then */

template <TableFormat F, TableWords Words, unsigned N>
ProtectStep protect_some(const Direct<F, Words> &tree, GfnRange r, Splitting splitting, TableCache<N> &cache, Debt &d,
			 Shared shared)
{
	using Tree = Direct<F, Words>;
	unsigned budget = 16 * entries_per_table;
	Cursor<F, Words> c{tree, r};
	while (!c.done()) {
		if (!budget--)
			return {c.gfn(), false};
		const Spot<F, Words> s = c.spot();
		if (s.value.is_leaf(s.level) && s.level != Level::page && splitting == Splitting::eager) {
			if (cache.empty())
				return {c.gfn(), true};
			tree.split(c.gfn(), s, Tree::Pieces::logged, cache, d, shared);
			continue; /* look again: it is a table now, ours or somebody's */
		}
		if (s.value.is_leaf(s.level))
			protect(tree, c.gfn(), s, d, shared);
		c.next();
	}
	return {r.end, false};
}

}
