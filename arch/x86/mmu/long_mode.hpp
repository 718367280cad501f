/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "format.hpp"

namespace kx {

/* Long-mode tables as nested tables of SVM, 4 or 5 levels. APM vol. 2 §5.3.3, §15.25.5: nested walks
 * are user-mode accesses, so U is set at every level; A and D are set by the CPU. */
struct LongMode {
	using P = Bits<0>;
	using W = Bits<1>;
	using U = Bits<2>;
	using Pwt = Bits<3>;
	using Pcd = Bits<4>;
	using Accessed = Bits<5>;
	using Dirty = Bits<6>;
	using Large = Bits<7>;
	using HostWritable = Bits<9>;
	using MmuWritable = Bits<10>;
	using MmuPresent = Bits<11>;
	using Address = Bits<51, 12>;
	using Nx = Bits<63>;
	static_assert(disjoint<P, W, U, Pwt, Pcd, Accessed, Dirty, Large, HostWritable, MmuWritable, MmuPresent,
			       Address, Nx>());

	static constexpr bool has_pml = false;

	static constexpr bool mmu_present(u64 e) { return MmuPresent::test(e); }
	static constexpr bool walked(u64 e) { return P::test(e) && mmu_present(e); }
	static constexpr bool leaf(u64 e, Level l) { return l == Level::page || Large::test(e); }
	static constexpr Access access(u64 e)
	{
		return Access(u8(P::get(e)) * u8(Access::read) | u8(W::get(e)) * u8(Access::write) |
			      u8(!Nx::test(e)) * u8(Access::exec) | u8(U::get(e)) * u8(Access::user));
	}
	static constexpr u64 leaf_bits(Level l, const LeafAttr &a, const MmuCaps &c)
	{
		const bool w = allows(a.access, Access::write);
		/* UC- where the host has no RAM: the guest's PAT may still make it write-combining. D goes
		 * with W: nobody asks for it, and the CPU is spared a locked update. */
		return P::mask | U::mask | MmuPresent::mask | (w ? W::mask | Dirty::mask : 0) |
		       (allows(a.access, Access::exec) ? 0 : Nx::mask) | (a.accessed ? Accessed::mask : 0) |
		       (l == Level::page ? 0 : Large::mask) | (a.mmu_writable ? MmuWritable::mask : 0) |
		       (a.host_writable ? HostWritable::mask : 0) | (a.type == MemType::ram ? c.me_mask : Pcd::mask);
	}
	static constexpr u64 piece(u64 e, Level l) { return l == Level::large ? e & ~Large::mask : e; }
	static constexpr u64 table(Hpa p, const MmuCaps &c)
	{
		return p.raw() | c.me_mask | P::mask | W::mask | U::mask | Accessed::mask | MmuPresent::mask;
	}
	/* A present entry with every address bit set: the reserved ones make it fault with RSVD. With no
	 * reserved bit it would be a mapping of the last page there is. */
	static constexpr u64 mmio(const MmuCaps &c)
	{
		const bool reserved = c.rsvd_from <= 51 && ones(51, c.rsvd_from) & ~c.me_mask;
		return reserved ? P::mask | U::mask | Address::mask : 0;
	}
	static constexpr u32 mmio_fault = pfec::present | pfec::rsvd;
};

static_assert(TableFormat<LongMode>);
static_assert(!LongMode::mmu_present(LongMode::mmio({})) && !LongMode::Accessed::test(LongMode::mmio({})));

}
