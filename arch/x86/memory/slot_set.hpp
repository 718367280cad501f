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
	/* The slots that have some of [start, end) behind them, one after the other. */
	class ByHva {
		const SlotSet &set_;
		const Hva start_, end_;
		u32 chunk_ = 0, at_ = 0;

		void settle()
		{
			for (; chunk_ < set_.chunks; ++chunk_, at_ = 0) {
				const SlotChunk &c = *set_.ref[chunk_].chunk;
				if (!(start_ < c.hva_hi && c.hva_lo < end_))
					continue;
				for (; at_ < c.n; ++at_)
					if (start_ < c.slot[at_]->hva_end() && c.slot[at_]->hva < end_)
						return;
			}
		}

	public:
		ByHva(const SlotSet &set, Hva start, Hva end) : set_{set}, start_{start}, end_{end} { settle(); }
		bool done() const { return chunk_ == set_.chunks; }
		const Memslot &slot() const { return *set_.ref[chunk_].chunk->slot[at_]; }
		/* Where in it. */
		GfnRange range() const
		{
			const Memslot &s = slot();
			const Hva lo = start_ < s.hva ? s.hva : start_;
			const Hva hi = end_ < s.hva_end() ? end_ : s.hva_end();
			return {s.base + ((lo - s.hva) >> page_shift),
				s.base + ((hi - s.hva + page_size - 1) >> page_shift)};
		}
		void next()
		{
			++at_;
			settle();
		}
	};
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
