/* SPDX-License-Identifier: GPL-2.0-only */
/* #AC of a guest: for the alignment checks it asked for, or for an atomic access across a cache line, which the host has the
 * processor detect. SDM vol. 3 §6.15, MSR TEST_CTRL. */
#pragma once
#include "arch/x86/cpu/regs.hpp"

namespace kx::vmx {

enum class SplitLocks : u8 { unseen, detected };

/* Both look the same; where the guest checks its alignment it has done itself what it gets. */
constexpr bool guest_caused_ac(SplitLocks by_host, unsigned cpl, u64 cr0, u64 rflags)
{
	return by_host == SplitLocks::unseen || (cpl == 3 && (cr0 & cr0::am) && (rflags & rflags::ac));
}

}
