/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a fault inside a slot to a mapping. The common case asks the host's own tables under the shared
 * mmu_lock and takes no reference to any page: whatever is read there stays true until the lock is
 * released, since an invalidation would have to take it exclusively first. Only a page the host does not
 * have ready, or has in a special way, is asked for properly (may sleep) and held until it is mapped.
 */
#pragma once
#include "backing.hpp"
#include "host_page.hpp"
#include "install.hpp"
#include "invalidations.hpp"

namespace kx {

enum class Attempt : u8 {
	mapped, spurious,
	busy,	/* the host is changing this memory */
	absent, /* the host does not have the page ready for this access */
	again,	/* lost a compare-exchange */
};
struct AttemptResult {
	Attempt what;
	Level level = Level::page;
	unsigned around = 0;
};

template <TableFormat F, TableWords Words, HostPages Host> class FaultAttempt {
	using Tree = Direct<F, Words>;
	const Tree &tree_;
	const Invalidations &invalidations_;
	Host &host_;

	bool in_progress(const Backing &b, GfnRange r) const
	{
		return invalidations_.in_progress(b.hva_of(r.begin), b.hva_of(r.end));
	}

	/* The aligned run of n pages around g, as far as it lies in the slot. */
	static GfnRange around(const Backing &b, Gfn g, u64 n)
	{
		const Gfn first = g.aligned_down(n), last = first + n;
		return {first < b.range.begin ? b.range.begin : first, b.range.end < last ? b.range.end : last};
	}

	/* How far around g nothing is going on. Asked before the host's tables are read: an invalidation that
	 * is under way then may take pages away after they were read, and be over when it is looked for. */
	struct Quiet {
		GfnRange window; /* g alone when the host is at work nearby */
		Level level;	 /* of the largest block */
		bool busy;	 /* not even g */
	};
	Quiet quiet(const Backing &b, Gfn g) const
	{
		const Level max = tree_.caps().max_leaf();
		const GfnRange window = around(b, g, around_pages);
		if (!invalidations_.any_in_progress()) [[likely]]
			return {window, max, false};
		const GfnRange alone{g, g + 1};
		Level l = max;
		while (l > Level::page && in_progress(b, around(b, g, pages_of(l))))
			l = below(l);
		return {in_progress(b, window) ? alone : window, l, in_progress(b, alone)};
	}

	/* The largest level at which the host has the page, and slot and host agree. */
	Level level_for(const Backing &b, Gfn g, unsigned order, Level quiet, Access want) const
	{
		if (order == 0 || b.congruent == Level::page || b.log ||
		    (tree_.caps().nx_huge_pages && allows(want, Access::exec)))
			return Level::page;
		Level l = level_of_order(order);
		l = l < b.congruent ? l : b.congruent;
		l = l < quiet ? l : quiet;
		for (; l > Level::page; l = below(l))
			if (around(b, g, pages_of(l)).pages() == pages_of(l))
				break;
		return l;
	}

public:
	FaultAttempt(const Tree &tree, const Invalidations &i, Host &host) : tree_{tree}, invalidations_{i}, host_{host}
	{
	}

	/* held: the page asked for beforehand, nullptr in the first attempt; it counts only while the
	 * sequence is the one from before it was asked for. */
	AttemptResult run(const Backing &b, Gfn g, Access want, const HostPage *held, u64 sequence,
			  TableCache<4> &cache, Debt &debt, Shared shared)
	{
		typename Tree::Spot spot = tree_.find(g, shared);
		if (spot.value.is_leaf(spot.level) && allows(spot.value.access(), want))
			return {Attempt::spurious};
		const Quiet quiet = this->quiet(b, g);
		if (quiet.busy) [[unlikely]]
			return {Attempt::busy};

		unsigned order = 0;
		Window w;
		w.first = quiet.window.begin;
		w.focus = unsigned(g - w.first);
		w.present = host_.present(b.hva_of(w.first), unsigned(quiet.window.pages()), w.pfn, &w.writable, &order);
		if (b.readonly)
			w.writable = 0;
		const u64 usable = allows(want, Access::write) ? w.present & w.writable : w.present;
		Level level = Level::page;
		if (usable >> w.focus & 1) [[likely]] {
			level = level_for(b, g, order, quiet.level, want);
		} else {
			if (!held || invalidations_.sequence() != sequence)
				return {Attempt::absent};
			w.pfn[w.focus] = held->pfn.raw();
			w.type = held->type;
			w.present |= bit(w.focus);
			w.writable = (w.writable & ~bit(w.focus)) | u64{held->writable && !b.readonly} << w.focus;
		}
		if (level > spot.level) {
			/* Small mappings stand where one large one could. With the mitigation that is on purpose. */
			if (tree_.caps().nx_huge_pages)
				level = spot.level;
			else
				spot = tree_.find(g, shared, level);
		}
		const Mapping m{.gfn = g, .level = level, .want = want, .log = b.log,
				.nx = tree_.caps().nx_huge_pages && level > Level::page};
		const InstallResult i = Install<F, Words>{tree_, cache, debt, shared}.map(m, w, spot);
		switch (i.what) {
		case Installed::mapped: return {Attempt::mapped, level, i.around};
		case Installed::spurious: return {Attempt::spurious};
		case Installed::again: break;
		}
		return {Attempt::again};
	}
};

}
