/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "role.hpp"

namespace kx {

/* One access of the guest to a linear address. */
struct WalkRequest {
	u32 access = 0; /* pfec::write, user, fetch; user also decides who runs: without it, a supervisor */
	/* SMAP does not apply: RFLAGS.AC is set and the access is not an implicit one (descriptor tables,
	 * TSS: supervisor accesses whatever the CPL). */
	bool smap_exempt = false;
	u32 pkru = 0;
};

/*
 * Which accesses the guest's page permissions refuse, computed at compile time. SDM vol. 3 §4.6; APM
 * vol. 2 §5.6. A row is (CR0.WP, CR4.SMEP, CR4.SMAP), a column the request; the word has a bit for each
 * combination of W, X and U of the page: set, the access faults. CR0.WP and its like change which row is
 * read and nothing else (law 3).
 */
class PermissionTable {
	u8 refuses_[8][16] = {};

	static constexpr bool refused(unsigned row, unsigned column, Access page)
	{
		const bool wp = row & 1, smep = row & 2, smap = row & 4;
		const bool write = column & 1, user = column & 2, fetch = column & 4, smap_exempt = column & 8;
		const bool user_page = allows(page, Access::user);
		if (user && !user_page)
			return true;
		if (write && !allows(page, Access::write) && (user || wp))
			return true;
		if (fetch && !allows(page, Access::exec))
			return true;
		if (!user && user_page && fetch && smep)
			return true;
		return !user && user_page && !fetch && smap && !smap_exempt;
	}
	/* W, X, U are neighbours in Access. */
	static constexpr unsigned page_index(Access a) { return u8(a) >> 1 & 7; }

public:
	consteval PermissionTable()
	{
		for (unsigned row = 0; row < 8; ++row)
			for (unsigned column = 0; column < 16; ++column)
				for (unsigned page = 0; page < 8; ++page)
					if (refused(row, column, Access(page << 1)))
						refuses_[row][column] |= u8(1u << page);
	}
	constexpr bool refuses(const GuestRole &g, const WalkRequest &r, Access page) const
	{
		const unsigned row = unsigned(g.write_protect) | unsigned(g.smep) << 1 | unsigned(g.smap) << 2;
		/* write, user and fetch are bits 1, 2 and 4 of the code. */
		const unsigned column = (r.access >> 1 & 3) | (r.access >> 2 & 4) | unsigned(r.smap_exempt) << 3;
		return refuses_[row][column] >> page_index(page) & 1;
	}
};
inline constexpr PermissionTable guest_permissions;

/* Protection keys: data accesses to user pages in long mode; WD binds a supervisor only with CR0.WP. */
constexpr bool key_refuses(const GuestRole &g, const WalkRequest &r, Access page, unsigned key)
{
	if (!g.pke || !g.long_mode || !allows(page, Access::user) || r.access & pfec::fetch)
		return false;
	const u32 rights = r.pkru >> (2 * key);
	const bool bound = r.access & pfec::user || g.write_protect;
	return rights & 1 || (rights & 2 && r.access & pfec::write && bound);
}

namespace permission_proof {
inline constexpr Access kernel = Access::read | Access::write | Access::exec, user = kernel | Access::user;
inline constexpr GuestRole wp{.write_protect = true}, smep{.smep = true}, smap{.smap = true};
static_assert(guest_permissions.refuses({}, {.access = pfec::user}, kernel));
static_assert(!guest_permissions.refuses({}, {.access = pfec::write}, Access::read));
static_assert(guest_permissions.refuses(wp, {.access = pfec::write}, Access::read));
static_assert(guest_permissions.refuses(smep, {.access = pfec::fetch}, user));
static_assert(!guest_permissions.refuses(smep, {}, user));
static_assert(guest_permissions.refuses(smap, {}, user));
static_assert(!guest_permissions.refuses(smap, {.smap_exempt = true}, user));
static_assert(pfec::write == 2 && pfec::user == 4 && pfec::fetch == 16);
}

}
