/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/rcu.hpp"
#include "memslot.hpp"

namespace kx {

/* A run of neighbouring slots, in order of gfn. Immutable once published; shared by the sets before and
 * after a change elsewhere. */
struct SlotChunk {
	static constexpr unsigned capacity = 64;
	u32 n = 0;
	Hva hva_lo{~u64{0}}, hva_hi{0}; /* around all of them */
	u64 base[capacity];
	const Memslot *slot[capacity];

	void put(const Memslot *s);
	/* The last slot that begins at or before g; nullptr: none does. */
	const Memslot *at_or_before(Gfn g) const;
};

/*
 * All slots at one moment: chunks in order of gfn, so that a change copies one chunk and this table of
 * chunks, not every slot, and a look-up is a binary search in each. A VM with few slots has one chunk.
 */
struct SlotSet {
	struct Ref {
		u64 base; /* of the chunk's first slot */
		SlotChunk *chunk;
	};
	u64 generation = 0; /* no two sets of a VM have the same */
	u32 chunks = 0;

	/* For whoever frees this set once its successor is published. */
	struct Retired {
		RcuHead head; /* first: the callback gets its address */
		SlotSet *self = nullptr;
		SlotChunk *chunk = nullptr; /* the one that was replaced */
		const Memslot *slot = nullptr;
		DirtyLog *log = nullptr;
	} retired;

	Ref ref[]; /* chunks of them */

	const SlotChunk *chunk_of(Gfn g) const
	{
		u32 lo = 0, hi = chunks; /* ref[lo].base <= g, if any */
		if (!hi || g.raw() < ref[0].base)
			return nullptr;
		while (hi - lo > 1) {
			const u32 mid = (lo + hi) / 2;
			(ref[mid].base <= g.raw() ? lo : hi) = mid;
		}
		return ref[lo].chunk;
	}
	const Memslot *find(Gfn g) const
	{
		const SlotChunk *c = chunk_of(g);
		const Memslot *s = c ? c->at_or_before(g) : nullptr;
		return s && s->has(g) ? s : nullptr;
	}
	/* The first slot that begins after g. */
	const Memslot *after(Gfn g) const;
	/* There is no slot at g; the largest level whose whole block around g has none either. */
	Level empty_level(Gfn g, Level max) const;
	/* f(const Memslot &, GfnRange) for every slot that has some of [start, end) behind it. */
	template <class Fn> void for_hva(Hva start, Hva end, Fn f) const
	{
		for (u32 i = 0; i < chunks; ++i) {
			const SlotChunk &c = *ref[i].chunk;
			if (!(start < c.hva_hi && c.hva_lo < end))
				continue;
			for (u32 k = 0; k < c.n; ++k) {
				const Memslot &s = *c.slot[k];
				if (!(start < s.hva_end() && s.hva < end))
					continue;
				const Hva lo = start < s.hva ? s.hva : start;
				const Hva hi = end < s.hva_end() ? end : s.hva_end();
				f(s, GfnRange{s.base + ((lo - s.hva) >> page_shift),
					      s.base + ((hi - s.hva + page_size - 1) >> page_shift)});
			}
		}
	}
	bool overlaps(GfnRange r, const Memslot *but) const;
	u32 slots() const;

	/* New sets, not yet published and of no generation; nullptr when there is no memory. */
	SlotSet *with(const Memslot *added) const;
	SlotSet *without(const Memslot &removed) const;
	SlotSet *with_instead(const Memslot &old, const Memslot *now) const;
	static SlotSet *make(u32 chunks);
	/* Frees `next`, made from this set and not published, and what it has that this one has not. */
	void discard(SlotSet *next) const;
	/* The chunk that `next` has replaced; nullptr: it only added one. */
	SlotChunk *replaced_by(const SlotSet &next) const;
};

}
