/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/addr.hpp"

namespace kx {

/* What one entry spans, counted from the leaves: 4 KiB, 2 MiB, 1 GiB, 512 GiB, 256 TiB. */
enum class Level : u8 { page = 0, large = 1, huge = 2, top4 = 3, top5 = 4 };
constexpr Level below(Level l) { return Level(u8(l) - 1); }
constexpr Level above(Level l) { return Level(u8(l) + 1); }

/* Every table this module writes has 512 entries of 8 bytes. */
inline constexpr unsigned index_bits = 9;
inline constexpr unsigned entries_per_table = 1u << index_bits;
constexpr unsigned order_of(Level l) { return unsigned(l) * index_bits; }
constexpr u64 pages_of(Level l) { return u64{1} << order_of(l); }
constexpr unsigned index_of(Gfn g, Level l) { return unsigned(g.raw() >> order_of(l)) & (entries_per_table - 1); }
/* First frame that tables from that level down cannot reach. */
constexpr u64 reach_of(Level top) { return pages_of(top) << index_bits; }
/* The largest level a run of 2^order pages can be mapped at. */
constexpr Level level_of_order(unsigned order)
{
	return order >= 18 ? Level::huge : order >= 9 ? Level::large : Level::page;
}

static_assert(index_of(Gfn{0x7fff'ffff}, Level::huge) == 511 && index_of(Gfn{1}, Level::page) == 1);
static_assert(reach_of(Level::top4) == u64{1} << 36 && reach_of(Level::huge) == pages_of(Level::top4));
static_assert(level_of_order(17) == Level::large && pages_of(Level::huge) == u64{1} << 18);

}
