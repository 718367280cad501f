/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "format.hpp"

namespace kx {

/* One entry, by value. Reading memory gives a Spte; a Spte never points into memory; an edit is a new
 * value. */
template <TableFormat F> class Spte {
	u64 w_ = 0;

public:
	constexpr Spte() = default;
	explicit constexpr Spte(u64 w) : w_{w} {}
	static constexpr Spte leaf(Pfn p, Level l, const LeafAttr &a, const MmuCaps &c)
	{
		return Spte{Hpa{p}.raw() | F::leaf_bits(l, a, c)};
	}
	static constexpr Spte table(Hpa p, const MmuCaps &c) { return Spte{F::table(p, c)}; }
	static constexpr Spte mmio(const MmuCaps &c) { return Spte{F::mmio(c)}; }

	constexpr bool is_empty() const { return !w_; }
	constexpr bool is_present() const { return F::mmu_present(w_); }
	constexpr bool is_leaf(Level l) const { return is_present() && F::leaf(w_, l); }
	/* One comparison where the level leaves a choice. */
	constexpr bool is_table(Level l) const
	{
		return (w_ & (F::MmuPresent::mask | F::Large::mask)) == F::MmuPresent::mask && l != Level::page;
	}
	constexpr bool is_mmio(const MmuCaps &c) const { return w_ && w_ == F::mmio(c); }
	constexpr bool is_writable() const { return F::W::test(w_); }
	constexpr bool is_mmu_writable() const { return F::MmuWritable::test(w_); }
	constexpr bool is_dirty() const { return F::Dirty::test(w_); }
	constexpr bool is_accessed() const { return F::Accessed::test(w_); }

	constexpr Hpa address(const MmuCaps &c) const { return Hpa{w_ & c.address_mask()}; }
	constexpr Pfn pfn(const MmuCaps &c) const { return address(c).frame(); }
	constexpr Access access() const { return F::access(w_); }

	constexpr Spte write_protected() const { return Spte{w_ & ~(F::W::mask | F::Dirty::mask)}; }
	constexpr Spte cleaned() const { return Spte{w_ & ~F::Dirty::mask}; }
	/* So that the next write to it, or to a piece of it, is noticed. */
	constexpr Spte logged(LogBy by) const { return by == LogBy::dirty_bit ? cleaned() : write_protected(); }
	constexpr Spte made_writable() const { return Spte{w_ | F::W::mask | F::Dirty::mask | F::Accessed::mask}; }
	constexpr Spte aged() const { return Spte{w_ & ~F::Accessed::mask}; }
	/* Entry i of the table that says the same as this huge leaf at l. */
	constexpr Spte piece(Level l, unsigned i) const
	{
		return Spte{F::piece(w_, l) + (u64{i} << (page_shift + order_of(below(l))))};
	}

	constexpr u64 raw() const { return w_; }
	constexpr bool operator==(const Spte &) const = default;
};

static_assert(Spte<LongMode>::leaf(Pfn{5}, Level::page, {}, {}).pfn({}) == Pfn{5});
static_assert(Spte<Ept>::leaf(Pfn{512}, Level::large, {}, {}).piece(Level::large, 3).pfn({}) == Pfn{515});

}
