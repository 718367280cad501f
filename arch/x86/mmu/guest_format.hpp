/* SPDX-License-Identifier: GPL-2.0-only */
/* Formats of the tables a guest writes. SDM vol. 3 §4.3 to §4.5; APM vol. 2 §5.2, §5.3. */
#pragma once
#include "role.hpp"

namespace kx {

/* What the guest's CPUID says about its paging. */
struct WalkCaps {
	u8 phys_bits = 48;
	bool huge_1g = true, pse36 = true;
	bool top_global_rsvd = true; /* bit 8 of the two upper levels is reserved: AMD */
};

/* Common to all formats. */
namespace gpte {
inline constexpr u64 present = bit(0), write = bit(1), user = bit(2), accessed = bit(5), dirty = bit(6), large = bit(7),
		     global = bit(8), nx = bit(63);
}

/* top: its tables' highest level. shift(l): of the address bits an entry at l leaves untranslated. */
template <class G>
concept GuestFormat = requires(u64 e, Level l, const GuestRole &r, const WalkCaps &c) {
	typename G::Entry;
	{ G::top } -> std::convertible_to<Level>;
	{ G::index_bits } -> std::convertible_to<unsigned>;
	{ G::leaf(e, l, r) } -> std::same_as<bool>;
	{ G::rsvd(e, l, r, c) } -> std::same_as<u64>; /* the bits that must be 0 in this entry */
	{ G::page(e, l, c) } -> std::same_as<u64>;	/* a leaf's address */
	{ G::key(e) } -> std::same_as<unsigned>;
};

/* 32-bit paging, with 4 MiB pages under CR4.PSE whose address may have up to 40 bits (PSE-36). */
struct Guest32 {
	using Entry = u32;
	static constexpr Level top = Level::large;
	static constexpr unsigned index_bits = 10;
	static constexpr bool leaf(u64 e, Level l, const GuestRole &r)
	{
		return l == Level::page || (r.pse && e & gpte::large);
	}
	/* Address bits above 32 that a large page has: bits 13 and up of the entry. */
	static constexpr unsigned extra(const WalkCaps &c)
	{
		const unsigned width = c.phys_bits < 40 ? c.phys_bits : 40;
		return c.pse36 && width > 32 ? width - 32 : 0;
	}
	static constexpr u64 rsvd(u64 e, Level l, const GuestRole &r, const WalkCaps &c)
	{
		return l == Level::page || !leaf(e, l, r) ? 0 : ones(21, 13) & ~((bit(extra(c)) - 1) << 13);
	}
	static constexpr u64 page(u64 e, Level l, const WalkCaps &c)
	{
		return l == Level::page ? e & ones(31, 12)
					: (e & ones(31, 22)) | (e >> 13 & (bit(extra(c)) - 1)) << 32;
	}
	static constexpr unsigned key(u64) { return 0; }
};

template <Level Top> struct Guest64 {
	using Entry = u64;
	static constexpr Level top = Top;
	static constexpr unsigned index_bits = 9;
	static constexpr bool pae = Top == Level::large; /* below the four PDPTEs */
	static constexpr bool leaf(u64 e, Level l, const GuestRole &)
	{
		return l == Level::page || (l <= Level::huge && e & gpte::large);
	}
	static constexpr u64 rsvd(u64 e, Level l, const GuestRole &r, const WalkCaps &c)
	{
		u64 bits = c.phys_bits < 52 ? ones(51, c.phys_bits) : 0;
		if constexpr (pae)
			bits |= ones(62, 52);
		if (!r.nx)
			bits |= gpte::nx;
		if (l >= Level::top4)
			return bits | gpte::large | (c.top_global_rsvd ? gpte::global : 0);
		if (l == Level::huge && !c.huge_1g)
			return bits | gpte::large;
		if (l != Level::page && leaf(e, l, r))
			bits |= ones(page_shift + order_of(l) - 1, 13);
		return bits;
	}
	static constexpr u64 page(u64 e, Level l, const WalkCaps &) { return e & ones(51, page_shift + order_of(l)); }
	static constexpr unsigned key(u64 e) { return unsigned(Bits<62, 59>::get(e)); }
};
using GuestPae = Guest64<Level::large>;
using Guest4 = Guest64<Level::top4>;
using Guest5 = Guest64<Level::top5>;

static_assert(GuestFormat<Guest32> && GuestFormat<GuestPae> && GuestFormat<Guest4> && GuestFormat<Guest5>);
static_assert(Guest32::page(0x0040'2000 | gpte::large, Level::large, {}) == 0x1'0040'0000);

}
