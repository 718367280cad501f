/* SPDX-License-Identifier: GPL-2.0-only */
#include "slot_set.hpp"
#include <initializer_list>
#include "cxxrt/alloc.hpp"

namespace kx {

void SlotChunk::put(const Memslot *s)
{
	base[n] = s->base.raw();
	slot[n++] = s;
	if (s->hva < hva_lo)
		hva_lo = s->hva;
	if (hva_hi < s->hva_end())
		hva_hi = s->hva_end();
}

const Memslot *SlotChunk::at_or_before(Gfn g) const
{
	u32 lo = 0, hi = n;
	while (lo < hi) { /* base[lo - 1] <= g < base[hi] */
		const u32 mid = (lo + hi) / 2;
		if (base[mid] <= g.raw())
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? slot[lo - 1] : nullptr;
}

const Memslot *SlotSet::after(Gfn g) const
{
	for (u32 i = 0; i < chunks; ++i) {
		const SlotChunk &c = *ref[i].chunk;
		if (c.base[c.n - 1] <= g.raw())
			continue;
		for (u32 k = 0; k < c.n; ++k)
			if (g.raw() < c.base[k])
				return c.slot[k];
	}
	return nullptr;
}

Level SlotSet::empty_level(Gfn g, Level max) const
{
	const SlotChunk *c = chunk_of(g);
	const Memslot *before = c ? c->at_or_before(g) : nullptr, *next = after(g);
	Level l = max;
	for (; l > Level::page; l = below(l)) {
		const Gfn first = g.aligned_down(pages_of(l));
		if ((!before || before->end() <= first) && (!next || first + pages_of(l) <= next->base))
			break;
	}
	return l;
}

bool SlotSet::overlaps(GfnRange r, const Memslot *but) const
{
	/* Slots do not overlap each other, so at most one begins before r and reaches into it. */
	const SlotChunk *c = chunk_of(r.begin);
	const Memslot *s = c ? c->at_or_before(r.begin) : nullptr;
	if (s && s != but && r.begin < s->end())
		return true;
	s = after(r.begin);
	if (s && s == but)
		s = after(s->base);
	return s && s->base < r.end;
}

u32 SlotSet::slots() const
{
	u32 n = 0;
	for (u32 i = 0; i < chunks; ++i)
		n += ref[i].chunk->n;
	return n;
}

SlotSet *SlotSet::make(u32 chunks)
{
	auto *s = static_cast<SlotSet *>(kx_vzalloc(sizeof(SlotSet) + chunks * sizeof(Ref)));
	if (s)
		::new (s) SlotSet, s->chunks = chunks;
	return s;
}

namespace {

/* Two chunks to take the place of one; the second only where the first is full. */
struct Pair {
	SlotChunk *first = nullptr, *second = nullptr;
	bool ok = true;

	static SlotChunk *chunk()
	{
		auto *c = static_cast<SlotChunk *>(kx_zalloc(sizeof(SlotChunk)));
		return c ? ::new (c) SlotChunk : nullptr;
	}
	Pair(u32 slots)
	{
		if (slots)
			ok = (first = chunk());
		if (ok && slots > SlotChunk::capacity)
			ok = (second = chunk());
	}
	void free()
	{
		if (first)
			kx_free(first);
		if (second)
			kx_free(second);
	}
	void put(const Memslot *s, u32 cut, u32 i) { (second && i >= cut ? second : first)->put(s); }
	u32 count() const { return u32(!!first) + u32(!!second); }
};

/* A copy of `from` in which chunk `at` is replaced by the pair (with `at` one past the end: added). */
SlotSet *replaced(const SlotSet &from, u32 at, Pair p)
{
	const u32 gone = at < from.chunks;
	SlotSet *s = p.ok ? SlotSet::make(from.chunks - gone + p.count()) : nullptr;
	if (!s) {
		p.free();
		return nullptr;
	}
	u32 k = 0;
	for (u32 i = 0; i < at; ++i)
		s->ref[k++] = from.ref[i];
	if (p.first)
		s->ref[k++] = {p.first->base[0], p.first};
	if (p.second)
		s->ref[k++] = {p.second->base[0], p.second};
	for (u32 i = at + gone; i < from.chunks; ++i)
		s->ref[k++] = from.ref[i];
	return s;
}

u32 index_of_chunk(const SlotSet &s, Gfn g)
{
	u32 lo = 0;
	for (u32 hi = s.chunks; hi - lo > 1;) {
		const u32 mid = (lo + hi) / 2;
		(s.ref[mid].base <= g.raw() ? lo : hi) = mid;
	}
	return lo;
}

}

SlotSet *SlotSet::with(const Memslot *added) const
{
	const u32 at = chunks ? index_of_chunk(*this, added->base) : 0;
	if (!chunks) {
		Pair p{1};
		if (p.ok)
			p.put(added, 1, 0);
		return replaced(*this, 0, p);
	}
	const SlotChunk &c = *ref[at].chunk;
	const u32 total = c.n + 1;
	Pair p{total};
	/* Slots are mostly added in order: then the full chunk stays full. */
	const u32 cut = added->base.raw() > c.base[c.n - 1] ? c.n : total / 2;
	for (u32 i = 0, k = 0; p.ok && k < total; ++k) {
		const bool here = i == k && (i == c.n || added->base.raw() < c.base[i]);
		p.put(here ? added : c.slot[i++], cut, k);
	}
	return replaced(*this, at, p);
}

SlotSet *SlotSet::without(const Memslot &removed) const
{
	const u32 at = index_of_chunk(*this, removed.base);
	const SlotChunk &c = *ref[at].chunk;
	Pair p{c.n - 1};
	for (u32 i = 0, k = 0; p.ok && i < c.n; ++i)
		if (c.slot[i] != &removed)
			p.put(c.slot[i], c.n - 1, k++);
	return replaced(*this, at, p);
}

SlotSet *SlotSet::with_instead(const Memslot &old, const Memslot *now) const
{
	const u32 at = index_of_chunk(*this, old.base);
	const SlotChunk &c = *ref[at].chunk;
	Pair p{c.n};
	for (u32 i = 0; p.ok && i < c.n; ++i)
		p.put(c.slot[i] == &old ? now : c.slot[i], c.n, i);
	return replaced(*this, at, p);
}

SlotChunk *SlotSet::replaced_by(const SlotSet &next) const
{
	for (u32 i = 0; i < chunks; ++i)
		if (i >= next.chunks || ref[i].chunk != next.ref[i].chunk)
			return ref[i].chunk;
	return nullptr;
}

void SlotSet::discard(SlotSet *next) const
{
	if (!next)
		return;
	/* One chunk was replaced: before it both are alike from the front, after it from the back. */
	u32 i = 0, back = 0;
	while (i < chunks && i < next->chunks && ref[i].chunk == next->ref[i].chunk)
		++i;
	while (back < chunks - i && back < next->chunks - i &&
	       ref[chunks - 1 - back].chunk == next->ref[next->chunks - 1 - back].chunk)
		++back;
	for (; i < next->chunks - back; ++i)
		kx_free(next->ref[i].chunk);
	kx_free(next);
}

}
