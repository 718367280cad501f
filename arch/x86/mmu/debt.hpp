/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "dead_tables.hpp"

namespace kx {

/* What changes of entries still owe: a TLB flush over [lo, hi), and then the burial of cut-off tables. */
struct Debt {
	Gfn lo{~u64{0}}, hi{0};
	DeadTables dead;
	u32 leaves = 0, tables = 0, split = 0, promoted = 0, linked = 0, broken = 0; /* for the statistics */

	bool owes() const { return lo < hi; }
	bool any() const { return owes() || (linked | split); }
	void owe(Gfn g, u64 pages)
	{
		if (g < lo)
			lo = g;
		if (hi < g + pages)
			hi = g + pages;
	}
};

}
