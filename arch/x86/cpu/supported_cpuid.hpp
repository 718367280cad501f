/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM_GET_SUPPORTED_CPUID: the table a VMM may give its guest. */
#pragma once
#include <linux/kvm.h>
#include "cpu_caps.hpp"

namespace kx {

inline constexpr unsigned max_cpuid_entries = 256;
inline constexpr u32 kvm_signature_leaf = 0x40000000;

/*
 * Fills `out` and says how many entries there are; toobig when they do not fit (also for an empty
 * span). kernel_phys_bits is the host's physical width as its kernel uses it, reported to guests
 * only without nested paging. The door clamps nent to max_cpuid_entries, copies the count back on
 * success alone.
 */
Result<unsigned> supported_cpuid(Span<kvm_cpuid_entry2> out, const HostCpuid &host,
				 const CpuCaps &caps, unsigned kernel_phys_bits);
}
