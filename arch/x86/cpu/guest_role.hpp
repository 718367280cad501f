/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/cpu/control_regs.hpp"
#include "arch/x86/mmu/role.hpp"

namespace kx {

/* What decides about translation beside the registers. */
struct PagingContext {
	bool smm : 1 = false, guest_mode : 1 = false;
	constexpr bool operator==(const PagingContext &) const = default;
};

constexpr GuestRole guest_role(const ControlRegs &r, PagingContext c)
{
	return {.paging = r.paging(),
		.pae = (r.cr4 & cr4::pae) != 0,
		.long_mode = r.long_mode(),
		.la57 = (r.cr4 & cr4::la57) != 0,
		.pse = (r.cr4 & cr4::pse) != 0,
		.nx = (r.efer & efer::nx) != 0,
		.write_protect = (r.cr0 & cr0::wp) != 0,
		.smep = (r.cr4 & cr4::smep) != 0,
		.smap = (r.cr4 & cr4::smap) != 0,
		.pke = (r.cr4 & cr4::pke) != 0,
		.smm = c.smm,
		.guest_mode = c.guest_mode};
}

/* The bits it is made from. */
inline constexpr u64 role_cr0 = cr0::pg | cr0::wp,
		     role_cr4 = cr4::pae | cr4::pse | cr4::la57 | cr4::smep | cr4::smap | cr4::pke,
		     role_efer = efer::lma | efer::nx;
static_assert(guest_role({~role_cr0, 0, ~role_cr4, ~role_efer}, {}) == GuestRole{});

}
