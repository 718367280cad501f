/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "direct.hpp"

namespace kx {

/* How many pages a fault looks at, an aligned run around its own; a power of two, at most 64. */
inline constexpr unsigned around_pages = 16;

/* The pages a fault may map, as the host has them while the lock is held. */
struct Window {
	Gfn first{0};
	unsigned focus = 0;	       /* the faulting page, counted from first */
	u64 present = 0, writable = 0; /* a bit a page; the slot's word included */
	u64 pfn[around_pages];
	MemType type = MemType::ram;
};

struct Mapping {
	Gfn gfn;
	Level level;
	Access want;	/* of read, write, exec: what the guest tried */
	bool log;	/* the slot's dirty log is on: what is not being written must be noticed later */
	bool nx;	/* no execution from this mapping */
};

enum class Installed : u8 { mapped, spurious, again };
struct InstallResult {
	Installed what;
	unsigned around; /* neighbours mapped */
};

/* Puts a mapping into the tables under the shared lock, from the place where the walk ended. The cache
 * holds as many pages as tables_for_fault() says. */
template <TableFormat F, TableWords Words> class Install {
	using Tree = Direct<F, Words>;
	using Entry = Spte<F>;
	using Spot = typename Tree::Spot;
	const Tree &tree_;
	TableCache<4> &cache_;
	Debt &debt_;
	Shared shared_;

	static constexpr u64 grants = F::MmuWritable::mask | F::HostWritable::mask;
	static constexpr u64 writes = F::W::mask | F::Dirty::mask;
	u64 unwritten(bool log) const
	{
		return !log ? writes : tree_.log_by() == LogBy::dirty_bit ? writes & ~F::Dirty::mask : 0;
	}

	/* A table below spot; false: somebody was there first, look again. */
	bool link(const Mapping &m, Spot &s, u64 *table)
	{
		const Entry now = Entry::table(phys_of(table), tree_.caps());
		if (!tree_.change(m.gfn, s, now, debt_, shared_))
			return false;
		++debt_.linked;
		s.value = now;
		return true;
	}
	void down(Gfn g, Spot &s) const
	{
		const Level l = below(s.level);
		s = Spot{&tree_.child(s.value)[index_of(g, l)], l};
	}

	/* The leaf for the faulting page. */
	Entry leaf(const Mapping &m, const Window &w) const
	{
		u64 bits = w.type == MemType::ram && m.level == Level::page && !m.nx
				   ? tree_.page_bits()
				   : F::leaf_bits(m.level,
						  {.access = m.nx ? Access::read : Access::read | Access::exec,
						   .type = w.type},
						  tree_.caps());
		bits |= F::Accessed::mask;
		if (w.writable >> w.focus & 1)
			bits |= grants | (allows(m.want, Access::write) ? writes : unwritten(m.log));
		const u64 pfn = w.pfn[w.focus] & ~(pages_of(m.level) - 1);
		return Entry{bits | pfn << page_shift};
	}

	/* The neighbours: not accessed, and not dirty where that would have to be logged. */
	template <class Put> unsigned around(const Mapping &m, const Window &w, Put put) const
	{
		const u64 plain = tree_.page_bits(), writable = plain | grants | unwritten(m.log);
		unsigned n = 0;
		for (u64 todo = w.present & ~bit(w.focus); todo; todo &= todo - 1) {
			const unsigned i = unsigned(__builtin_ctzll(todo));
			n += put(i, Entry{(w.writable >> i & 1 ? writable : plain) | w.pfn[i] << page_shift});
		}
		return n;
	}

	/* No leaf table yet: it is filled before anybody can see it. */
	InstallResult link_filled(const Mapping &m, const Window &w, Spot &s)
	{
		u64 *t = cache_.take();
		u64 *run = &t[index_of(w.first, Level::page)];
		Words::store_unlinked(&run[w.focus], leaf(m, w).raw());
		const unsigned n = around(m, w, [run](unsigned at, Entry now) {
			Words::store_unlinked(&run[at], now.raw());
			return 1u;
		});
		if (link(m, s, t))
			return {Installed::mapped, n};
		for (unsigned i = 0; i < around_pages && index_of(w.first, Level::page) + i < entries_per_table; ++i)
			Words::store_unlinked(&run[i], 0);
		cache_.give_back(t);
		return {Installed::again, 0};
	}

	bool link_empty(const Mapping &m, Spot &s)
	{
		u64 *t = cache_.take();
		if (link(m, s, t))
			return true;
		cache_.give_back(t);
		return false;
	}

	InstallResult put_leaf(const Mapping &m, const Window &w, Spot &s)
	{
		Entry now = leaf(m, w);
		if (s.value.is_leaf(s.level)) {
			if (allows(s.value.access(), m.want))
				return {Installed::spurious, 0};
			/* Rights are added, never lost: W may have been granted while the host was asked. */
			if (s.value.pfn(tree_.caps()) == now.pfn(tree_.caps()))
				now = Entry{now.raw() | (s.value.raw() & writes)};
			else
				++debt_.broken; /* an invalidation went past us; change() owes the flush */
		}
		if (!tree_.change(m.gfn, s, now, debt_, shared_))
			return {Installed::again, 0};
		if (m.level != Level::page)
			return {Installed::mapped, 0};
		const Spot first = s.beside(-s64{w.focus});
		return {Installed::mapped, around(m, w, [&](unsigned at, Entry neighbour) {
				const Spot there = first.beside(at);
				return unsigned(there.value.is_empty() && tree_.fill(there, neighbour, shared_));
			})};
	}

public:
	Install(const Tree &tree, TableCache<4> &cache, Debt &d, Shared s)
		: tree_{tree}, cache_{cache}, debt_{d}, shared_{s}
	{
	}

	/* s: where find() ended, at m.level or above it. `again` means a compare-exchange was lost: start
	 * over with find(). Nothing is lost by that, somebody else made progress. */
	InstallResult map(const Mapping &m, const Window &w, Spot s)
	{
		for (;;) {
			if (s.level == m.level)
				return put_leaf(m, w, s);
			/* The cache has enough for one way down, and an attempt may have gone several. */
			if (!s.value.is_table(s.level) && cache_.empty()) [[unlikely]]
				return {Installed::again, 0};
			if (s.value.is_leaf(s.level)) {
				if (allows(s.value.access(), m.want))
					return {Installed::spurious, 0};
				if (!tree_.split(m.gfn, s, Tree::Pieces::same, cache_, debt_, shared_))
					return {Installed::again, 0};
				s.reload();
				if (!s.value.is_table(s.level))
					return {Installed::again, 0};
			} else if (!s.value.is_table(s.level)) {
				if (m.level == Level::page && s.level == Level::large)
					return link_filled(m, w, s);
				if (!link_empty(m, s))
					return {Installed::again, 0};
			}
			down(m.gfn, s);
		}
	}

	/* Remembers that there is no memory in the whole block of that level around g, as high up as the
	 * tables end: slotless space costs no table pages. */
	Installed remember_mmio(Gfn g, Level empty, Spot s)
	{
		const Mapping m{.gfn = g, .level = Level::page, .want = Access::none, .log = false, .nx = false};
		if (tree_.mmio().is_empty())
			return Installed::spurious;
		for (;;) {
			if (s.value == tree_.mmio())
				return Installed::spurious;
			if (s.value.is_leaf(s.level))
				return Installed::again; /* a leaf where there is no slot: its zap is under way */
			if (s.value.is_table(s.level)) {
				down(g, s);
			} else if (s.level <= empty) {
				return tree_.change(g, s, tree_.mmio(), debt_, shared_)
					       ? Installed::mapped
					       : Installed::again;
			} else if (!cache_.empty() && link_empty(m, s)) {
				down(g, s);
			} else {
				return Installed::again;
			}
		}
	}
};

}
