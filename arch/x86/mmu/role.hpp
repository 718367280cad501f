/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * GuestRole: how the guest's CPU translates now. PageRole: what one of our table pages is valid for.
 * A projection leads from the first to the second and there is no third place: what a projection does
 * not read cannot unload a root.
 */
#pragma once
#include "caps.hpp"
#include "space.hpp"

namespace kx {

/* Made from the registers when it is looked at: guests change some bits of CR0 and CR4 without an exit. */
struct GuestRole {
	bool paging : 1 = false, pae : 1 = false;	/* CR0.PG CR4.PAE */
	bool long_mode : 1 = false, la57 : 1 = false;	/* EFER.LMA CR4.LA57 */
	bool pse : 1 = false, nx : 1 = false;		/* CR4.PSE EFER.NX */
	bool write_protect : 1 = false;			/* CR0.WP */
	bool smep : 1 = false, smap : 1 = false, pke : 1 = false;
	bool smm : 1 = false, guest_mode : 1 = false; /* which address space; running a nested guest */
	constexpr Space space() const { return smm ? Space::smm : Space::normal; }
	constexpr bool operator==(const GuestRole &) const = default;
};

/* How many levels the guest's own tables have. */
enum class GuestPaging : u8 { none, legacy32, pae, level4, level5 };
constexpr GuestPaging paging_of(const GuestRole &g)
{
	if (!g.paging)
		return GuestPaging::none;
	if (g.long_mode)
		return g.la57 ? GuestPaging::level5 : GuestPaging::level4;
	return g.pae ? GuestPaging::pae : GuestPaging::legacy32;
}

struct PageRole {
	Level level = Level::top4; /* of a root: how high its tables are */
	Access access = Access::all;
	u8 quadrant = 0;	/* of a 32-bit guest's table: which half or quarter */
	Space space = Space::normal;
	bool direct : 1 = true, gpte32 : 1 = false, guest_mode : 1 = false;
	bool nx : 1 = false, write_protect : 1 = false, smep_no_wp : 1 = false, smap_no_wp : 1 = false;
	constexpr bool operator==(const PageRole &) const = default;
};

/* Under TDP the tables map guest-physical addresses: nothing of the guest's own paging reaches them. */
constexpr PageRole tdp_role(const GuestRole &g, const MmuCaps &c)
{
	return {.level = c.top(), .space = g.space(), .direct = true};
}

/* A shadow root. With CR0.WP set, SMEP and SMAP change no entry. */
constexpr PageRole shadow_role(const GuestRole &g)
{
	const GuestPaging p = paging_of(g);
	return {.level = p == GuestPaging::level5 ? Level::top5 : p == GuestPaging::level4 ? Level::top4 : Level::huge,
		.access = Access::all,
		.quadrant = 0,
		.space = g.space(),
		.direct = !g.paging,
		.gpte32 = p == GuestPaging::legacy32,
		.guest_mode = g.guest_mode,
		.nx = g.paging && g.nx,
		.write_protect = g.paging && g.write_protect,
		.smep_no_wp = g.paging && g.smep && !g.write_protect,
		.smap_no_wp = g.paging && g.smap && !g.write_protect};
}

namespace role_proof {
inline constexpr GuestRole linux64{.paging = true, .pae = true, .long_mode = true, .nx = true, .write_protect = true};
constexpr GuestRole with(GuestRole g, bool wp, bool smep, bool smap, bool pke)
{
	g.write_protect = wp, g.smep = smep, g.smap = smap, g.pke = pke;
	return g;
}
/* Law 3: under TDP none of WP, SMEP, SMAP, PKE, nor paging itself, reaches the PageRole. */
consteval bool tdp_ignores_guest_paging()
{
	const PageRole base = tdp_role(linux64, MmuCaps{});
	for (unsigned i = 0; i < 16; ++i)
		if (!(tdp_role(with(linux64, i & 1, i & 2, i & 4, i & 8), MmuCaps{}) == base))
			return false;
	return tdp_role(GuestRole{}, MmuCaps{}) == base;
}
static_assert(tdp_ignores_guest_paging());
static_assert(!(tdp_role({.smm = true}, MmuCaps{}) == tdp_role({}, MmuCaps{})));
static_assert(shadow_role(with(linux64, true, true, true, true)) == shadow_role(linux64));
static_assert(!(shadow_role(with(linux64, false, true, false, false)) ==
		shadow_role(with(linux64, false, false, false, false))));
}

}
