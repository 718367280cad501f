/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tables that map guest-physical memory directly. Faults of many vCPUs change them in parallel under
 * the shared mmu_lock, each entry by compare-exchange; nothing is taken away under the shared lock but
 * by a promotion, which puts a larger mapping of the same memory in its place. Zaps hold the lock
 * exclusively. Fast faults and ageing hold nothing but an RCU section, and change single bits.
 *
 * Every change of a linked entry is made here, and nowhere else could it be (Spot; scripts/check-layers.sh):
 * by change() and take(), which add to the Debt what it owes, and by fill(), grant_write() and age(), which
 * say why they owe nothing.
 *
 * A and D bits below a cut are not read before the tables go. D is nobody's only record of a write: a page
 * of the host is marked dirty before it is mapped writable, the log is marked when a write is granted, and
 * what the CPU logs stands in its buffer when it sets D. A is a guess anyway: who still uses the page faults,
 * and its new entry has A from the start.
 */
#pragma once
#include "cxxrt/lock.hpp"
#include "cxxrt/rcu.hpp"
#include "debt.hpp"
#include "spot.hpp"
#include "table_cache.hpp"

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
	using Spot = kx::Spot<F, Words>;

private:
	const MmuCaps &caps_;
	u64 *root_;
	u64 address_mask_;
	u64 reach_;
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
	/* Trees of several heights stand side by side: it is not the machine's, but this tree's. */
	Direct(const MmuCaps &caps, Level top, u64 *root)
		: caps_{caps}, root_{root}, address_mask_{caps.address_mask()}, reach_{reach_of(top)}, top_{top},
		  page_bits_{F::leaf_bits(Level::page, {.access = Access::read | Access::exec}, caps)},
		  mmio_{Entry::mmio(caps)}
	{
	}
	const MmuCaps &caps() const { return caps_; }
	u64 *root() const { return root_; }
	Level top() const { return top_; }
	Entry mmio() const { return mmio_; }
	u64 page_bits() const { return page_bits_; }
	LogBy log_by() const
	{
		if constexpr (F::has_pml)
			return caps_.pml ? LogBy::dirty_bit : LogBy::write_protect;
		return LogBy::write_protect;
	}
	/* How many table pages one fault can need at most. */
	unsigned tables_for_fault() const { return unsigned(top_); }
	u64 *child(Entry table) const { return direct_of<u64>(table.address(caps_)); }
	bool reaches(Gfn g) const { return g.raw() < reach_; }
	GfnRange all() const { return {Gfn{0}, Gfn{reach_}}; }
	GfnRange clamp(GfnRange r) const { return {r.begin, r.end.raw() > reach_ ? Gfn{reach_} : r.end}; }

	/* The entry that decides about g: a leaf, or where the tables end; not further down than `to`. */
	Spot find(Gfn g, Reading, Level to = Level::page) const
	{
		/* Copies: the compiler would read the members again after each load of an entry. */
		const u64 mask = address_mask_, direct = direct_map();
		u64 *table = root_;
		for (Level l = top_;; l = below(l)) {
			u64 *e = &table[index_of(g, l)];
			const Entry v{Words::load(e)};
			if (l == to || !v.is_table(l))
				return {e, l, v};
			table = reinterpret_cast<u64 *>((v.raw() & mask) + direct);
		}
	}

	/* g lies in what the spot spans. False: somebody was faster. */
	bool change(Gfn g, const Spot &s, Entry now, Debt &d, Shared) const
	{
		if (!Words::compare_exchange(s.entry_, s.value.raw(), now.raw()))
			return false;
		account(g, s.level, s.value, now, d);
		return true;
	}
	/* Whatever stands there by now. An exchange even though everybody else is locked out: the CPU sets A and
	 * D, fast faults set W. */
	Entry take(Gfn g, const Spot &s, Debt &d, Exclusive) const
	{
		const Entry old{Words::exchange(s.entry_, 0)};
		account(g, s.level, old, Entry{}, d);
		return old;
	}
	/* Where nothing is: no CPU can have cached that. */
	bool fill(const Spot &s, Entry now, Shared) const { return Words::compare_exchange(s.entry_, 0, now.raw()); }
	/* The right that logging took away comes back. Adding one owes nothing: who still is refused by what it
	 * cached faults, and finds it here. Whoever is granted it marks the log afterwards. */
	bool grant_write(const Spot &s, const RcuRead &) const
	{
		return s.value.is_mmu_writable() &&
		       Words::compare_exchange(s.entry_, s.value.raw(), s.value.made_writable().raw());
	}
	/* No flush: a CPU that still caches the entry sets A when it loads it again, and to be a little late makes
	 * nothing wrong. An entry that changes under us has been used by somebody just now. */
	void age(const Spot &s, const RcuRead &) const
	{
		Words::compare_exchange(s.entry_, s.value.raw(), s.value.aged().raw());
	}

	/*
	 * Puts a table that says the same, or the same but for what logging takes away, in the place of a huge
	 * leaf. The page is zeroed again when somebody was faster.
	 *
	 * Until the TLBs are flushed, and with Pieces::same that may be never, one CPU translates by the leaf and
	 * another by a piece of it, or the same CPU by both in turn. Both lead to the same bytes with the same
	 * memory type, and the pieces allow no more than the leaf did; what they allow less is owed. A write
	 * through the old leaf sets D there or nowhere, which nobody asks for (above), and is missed by no log: the
	 * one that begins waits for the flush. A processor that must not meet both sizes of an instruction's page
	 * (iTLB multihit: MmuCaps::nx_huge_pages) has no executable huge leaf to split.
	 */
	enum class Pieces : u8 { same, logged };
	template <unsigned N>
	bool split(Gfn g, const Spot &s, Pieces how, TableCache<N> &cache, Debt &d, Shared shared) const
	{
		const Entry leaf = s.value, like = how == Pieces::same ? leaf : leaf.logged(log_by());
		u64 *t = cache.take();
		for (unsigned i = 0; i < entries_per_table; ++i)
			Words::store_unlinked(&t[i], like.piece(s.level, i).raw());
		if (change(g, s, Entry::table(phys_of(t), caps_), d, shared)) {
			++d.linked;
			if (!(like == leaf))
				d.owe(g.aligned_down(pages_of(s.level)), pages_of(s.level));
			return true;
		}
		for (unsigned i = 0; i < entries_per_table; ++i)
			Words::store_unlinked(&t[i], 0);
		cache.give_back(t);
		return false;
	}
};

}
