/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "format.hpp"

namespace kx {

/* Extended page tables with accessed and dirty bits enabled. SDM vol. 3 §29.3.2, §29.3.5. */
struct Ept {
	using R = Bits<0>;
	using W = Bits<1>;
	using X = Bits<2>;
	using Type = Bits<5, 3>;
	using IgnorePat = Bits<6>;
	using Large = Bits<7>;
	using Accessed = Bits<8>;
	using Dirty = Bits<9>;
	using UserX = Bits<10>; /* only with mode-based execute control */
	using MmuPresent = Bits<11>;
	using Address = Bits<51, 12>;
	using HostWritable = Bits<53>;
	using MmuWritable = Bits<54>;
	using SuppressVe = Bits<63>;
	static_assert(disjoint<R, W, X, Type, IgnorePat, Large, Accessed, Dirty, UserX, MmuPresent, Address,
			       HostWritable, MmuWritable, SuppressVe>());
	static constexpr u64 uncached = 0, write_back = 6;
	static constexpr bool has_pml = true;

	static constexpr bool mmu_present(u64 e) { return MmuPresent::test(e); }
	static constexpr bool walked(u64 e) { return (e & (R::mask | W::mask | X::mask)) && mmu_present(e); }
	static constexpr bool leaf(u64 e, Level l) { return l == Level::page || Large::test(e); }
	static constexpr Access access(u64 e) { return Access(u8(e & 7) | u8(Access::user)); }
	static constexpr u64 leaf_bits(Level l, const LeafAttr &a, const MmuCaps &)
	{
		const bool w = allows(a.access, Access::write);
		const bool ram = a.type == MemType::ram;
		return (u64(a.access) & 7) | MmuPresent::mask | SuppressVe::mask | (w ? Dirty::mask : 0) |
		       (a.accessed ? Accessed::mask : 0) | (l == Level::page ? 0 : Large::mask) |
		       (a.mmu_writable ? MmuWritable::mask : 0) | (a.host_writable ? HostWritable::mask : 0) |
		       Type::put(ram ? write_back : uncached) | (ram ? IgnorePat::mask : 0);
	}
	static constexpr u64 piece(u64 e, Level l) { return l == Level::large ? e & ~Large::mask : e; }
	static constexpr u64 table(Hpa p, const MmuCaps &)
	{
		return p.raw() | R::mask | W::mask | X::mask | Accessed::mask | MmuPresent::mask | SuppressVe::mask;
	}
	/* Not present: the exit is an EPT violation, which says what was tried, and whether by the instruction or by the
	 * guest's walk. A misconfiguration (SDM vol. 3 §29.3.3.1) would be told from other faults at once, and says
	 * neither: an emulator that may not guess has to walk the guest's tables. */
	static constexpr u64 mmio(const MmuCaps &) { return Address::mask | SuppressVe::mask; }
	static constexpr u32 mmio_fault = 0;
};

static_assert(TableFormat<Ept>);
static_assert(!Ept::mmu_present(Ept::mmio({})) && !Ept::Accessed::test(Ept::mmio({})));

}
