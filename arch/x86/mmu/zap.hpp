/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "direct.hpp"

namespace kx {

/*
 * Empties a range. What lies wholly inside is cut off at the highest level, in one exchange whatever
 * hangs below; at the two edges it goes down to single leaves. So the work is bounded by the entries of
 * two paths, not by the size of the range, and the lock need not be dropped. A huge leaf that straddles
 * an edge goes as a whole: the next fault maps what is left of it.
 */
template <TableFormat F, TableWords Words> class Zap {
	const Direct<F, Words> &tree_;
	GfnRange range_;
	Debt &debt_;
	Exclusive excl_;

	void table(u64 *t, Level l, Gfn base)
	{
		const u64 span = pages_of(l);
		const unsigned first = range_.begin > base ? index_of(range_.begin, l) : 0;
		for (unsigned i = first; i < entries_per_table; ++i) {
			const Gfn begin = base + i * span;
			if (begin >= range_.end)
				return;
			const Spot<F, Words> s{&t[i], l};
			if (s.value.is_empty())
				continue;
			const bool inside = range_.begin <= begin && begin + span <= range_.end;
			if (inside || !s.value.is_table(l))
				tree_.take(begin, s, debt_, excl_);
			else
				table(tree_.child(s.value), below(l), begin);
		}
	}

public:
	Zap(const Direct<F, Words> &tree, GfnRange r, Debt &d, Exclusive x)
		: tree_{tree}, range_{tree.clamp(r)}, debt_{d}, excl_{x}
	{
	}
	void run()
	{
		if (!range_.empty())
			table(tree_.root(), tree_.top(), Gfn{0});
	}
};

template <TableFormat F, TableWords Words>
void zap(const Direct<F, Words> &tree, GfnRange r, Debt &d, Exclusive x)
{
	Zap<F, Words>{tree, r, d, x}.run();
}

}
