/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tables that map guest-physical memory directly. Faults of many vCPUs change them in parallel under
 * the shared mmu_lock, each entry by compare-exchange; nothing is taken away under the shared lock but
 * by a promotion, which puts a larger mapping of the same memory in its place. Zaps hold the lock
 * exclusively. Fast faults and ageing hold nothing but an RCU section, and change single bits.
 *
 * Every change of a linked entry is made by change() or take(), which add to the Debt what it owes.
 */
#pragma once
#include "cxxrt/lock.hpp"
#include "cxxrt/rcu.hpp"
#include "debt.hpp"
#include "spte.hpp"
#include "table_cache.hpp"
#include "words.hpp"

namespace kx {

/* Proof that table pages met on a walk stay allocated. */
class Reading {
public:
	Reading(const RcuRead &) {}
	Reading(Shared) {}
};

template <TableFormat F, TableWords Words> class Direct {
public:
	using Entry = Spte<F>;
	struct Spot {
		u64 *entry;
		Level level;
		Entry value;
	};

private:
	const MmuCaps &caps_;
	u64 *root_;
	u64 address_mask_;
	Level top_;
	u64 page_bits_; /* of a read-only, executable, not accessed leaf of RAM */
	Entry mmio_;

	void account(Gfn g, Level l, Entry old, Entry now, Debt &d) const
	{
		if (!old.is_present())
			return; /* no CPU keeps what it could not use */
		g = g.aligned_down(pages_of(l));
		if (old.is_leaf(l)) {
			if (now.is_table(l)) {
				++d.split; /* whose pieces allow what the leaf did; protect_split() owes the rest */
				return;
			}
			if (now.is_present() && old.pfn(caps_) == now.pfn(caps_) && allows(now.access(), old.access()) &&
			    now.is_dirty() >= old.is_dirty())
				return;
			d.leaves += !now.is_present();
			d.owe(g, pages_of(l));
		} else if (!now.is_table(l) || now.address(caps_) != old.address(caps_)) {
			++(now.is_present() ? d.promoted : d.tables);
			d.dead.push(child(old), below(l));
			d.owe(g, pages_of(l));
		}
	}

public:
	Direct(const MmuCaps &caps, u64 *root)
		: caps_{caps}, root_{root}, address_mask_{caps.address_mask()}, top_{caps.top()},
		  page_bits_{F::leaf_bits(Level::page, {.access = Access::read | Access::exec}, caps)},
		  mmio_{Entry::mmio(caps)}
	{
	}
	const MmuCaps &caps() const { return caps_; }
	u64 *root() const { return root_; }
	Entry mmio() const { return mmio_; }
	u64 page_bits() const { return page_bits_; }
	LogBy log_by() const
	{
		if constexpr (F::has_pml)
			return caps_.pml ? LogBy::dirty_bit : LogBy::write_protect;
		return LogBy::write_protect;
	}
	/* How many table pages one fault can need at most. */
	unsigned tables_for_fault() const { return caps_.levels - 1u; }
	u64 *child(Entry table) const { return direct_of<u64>(table.address(caps_)); }
	bool reaches(Gfn g) const { return g.raw() < caps_.reach(); }
	GfnRange clamp(GfnRange r) const { return {r.begin, r.end.raw() > caps_.reach() ? Gfn{caps_.reach()} : r.end}; }

	/* The entry that decides about g: a leaf, or where the tables end; not further down than `to`. */
	Spot find(Gfn g, Reading, Level to = Level::page) const
	{
		/* Copies: the compiler would read the members again after each load of an entry. */
		const u64 mask = address_mask_, direct = kx_direct_map;
		u64 *table = root_;
		for (Level l = top_;; l = below(l)) {
			u64 *e = &table[index_of(g, l)];
			const Entry v{Words::load(e)};
			if (l == to || !v.is_table(l))
				return {e, l, v};
			table = reinterpret_cast<u64 *>((v.raw() & mask) + direct);
		}
	}

	bool change(Gfn g, Level l, u64 *e, Entry old, Entry now, Debt &d, Shared) const
	{
		if (!Words::compare_exchange(e, old.raw(), now.raw()))
			return false;
		account(g, l, old, now, d);
		return true;
	}
	/* An exchange even though everybody else is locked out: the CPU sets A and D, fast faults set W. */
	Entry take(Gfn g, Level l, u64 *e, Debt &d, Exclusive) const
	{
		const Entry old{Words::exchange(e, 0)};
		account(g, l, old, Entry{}, d);
		return old;
	}
	/* Fills an entry that was empty: owes nothing. */
	bool fill(u64 *e, Entry now, Shared) const { return Words::compare_exchange(e, 0, now.raw()); }

	/* Puts a table that says the same, or the same but for what logging takes away, in the place of a huge
	 * leaf. The page is zeroed again when somebody was faster. */
	enum class Pieces : u8 { same, logged };
	template <unsigned N>
	bool split(Gfn g, Level l, u64 *e, Entry leaf, Pieces how, TableCache<N> &cache, Debt &d, Shared s) const
	{
		const Entry like = how == Pieces::same ? leaf : leaf.logged(log_by());
		u64 *t = cache.take();
		for (unsigned i = 0; i < entries_per_table; ++i)
			Words::store_unlinked(&t[i], like.piece(l, i).raw());
		if (change(g, l, e, leaf, Entry::table(phys_of(t), caps_), d, s)) {
			++d.linked;
			if (!(like == leaf))
				d.owe(g.aligned_down(pages_of(l)), pages_of(l));
			return true;
		}
		for (unsigned i = 0; i < entries_per_table; ++i)
			Words::store_unlinked(&t[i], 0);
		cache.give_back(t);
		return false;
	}
};

}
