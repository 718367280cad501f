/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "access.hpp"
#include "fault_code.hpp"
#include "level.hpp"

namespace kx {

/* What is known about the tables of this machine only at run time; constant after load. */
struct MmuCaps {
	u8 phys_bits = 48;	/* CPUID 8000_0008: guest-physical addresses reach this far */
	u8 rsvd_from = 48;	/* entries with an address bit from here to 51 set always fault (phys_bits, less
				   what memory encryption takes); 52: there is none */
	u8 levels = 4;		/* of direct trees: NPT has the host's, 4 or 5 */
	bool huge_1g = true;
	bool nx_huge_pages = false; /* executable pages are 4 KiB ones: iTLB multihit */
	bool ad_bits = true;	/* the CPU sets A and D; not with EPT before Haswell: there they mean nothing to it,
				   and to age a page is to unmap it */
	bool pml = false;	/* the CPU notes which pages it sets D for: a log need not take W away */
	u64 me_mask = 0;	/* the C-bit of SME when the host encrypts, else 0 */

	constexpr Level top() const { return Level(levels - 1); }
	constexpr Gfn end_gfn() const { return Gfn{u64{1} << (phys_bits - page_shift)}; }
	constexpr u64 address_mask() const { return ones(51, 12) & ~me_mask; }
	constexpr Level max_leaf() const { return huge_1g ? Level::huge : Level::large; }
};

}
