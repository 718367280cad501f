/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "direct.hpp"

namespace kx {

/* Pre-order walk of a range of a tree. It stands on one entry at a time: down() enters the table it
 * found there, over() goes to what follows. Whoever holds it keeps the tables from being freed. */
template <TableFormat F, TableWords Words> class Cursor {
	const Direct<F, Words> &tree_;
	u64 *path_[5];
	Gfn at_, end_;
	Level level_;

public:
	Cursor(const Direct<F, Words> &tree, GfnRange r)
		: tree_{tree}, at_{r.begin}, end_{tree.clamp(r).end}, level_{tree.top()}
	{
		path_[unsigned(level_)] = tree.root();
	}
	bool done() const { return at_ >= end_; }
	/* Where in the range: not before its begin, though the entry may start earlier. */
	Gfn gfn() const { return at_; }
	Gfn entry_gfn() const { return at_.aligned_down(pages_of(level_)); }
	Level level() const { return level_; }
	Spot<F, Words> spot() const { return {&path_[unsigned(level_)][index_of(at_, level_)], level_}; }
	Spte<F> get() const { return spot().value; }
	/* t: what stood here, a table. */
	void down(Spte<F> t)
	{
		level_ = below(level_);
		path_[unsigned(level_)] = tree_.child(t);
	}
	void over()
	{
		at_ = entry_gfn() + pages_of(level_);
		while (level_ != tree_.top() && index_of(at_, level_) == 0)
			level_ = above(level_);
	}
	void next()
	{
		if (const Spte<F> e = get(); e.is_table(level_))
			down(e);
		else
			over();
	}
};

}
