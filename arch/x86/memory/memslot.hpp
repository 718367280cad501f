/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/mmu/level.hpp"
#include "dirty_log.hpp"

namespace kx {

/* Guest-physical memory and the VMM's memory behind it. Never changes once published, but for the words
 * of its dirty log; a change of flags is a new Memslot that takes the log over. */
struct Memslot {
	Gfn base;
	u64 pages;
	Hva hva;
	DirtyLog *log = nullptr; /* nullptr: not logged */
	u16 id = 0;
	bool readonly = false;
	Level congruent = Level::page; /* the largest level at which gfn and hva are aligned alike */

	Gfn end() const { return base + pages; }
	GfnRange range() const { return {base, end()}; }
	bool has(Gfn g) const { return g.raw() - base.raw() < pages; }
	Hva hva_of(Gfn g) const { return hva + ((g - base) << page_shift); }
	Hva hva_end() const { return hva + (pages << page_shift); }
	void mark(Gfn g) const
	{
		if (log)
			log->mark(g - base);
	}
	/* The whole block of that level around g lies inside. */
	bool holds_block(Gfn g, Level l) const
	{
		const Gfn first = g.aligned_down(pages_of(l));
		return base <= first && first + pages_of(l) <= end();
	}
};

}
