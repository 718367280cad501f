/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include <linux/kvm.h>
#include "arch/x86/vm/bus.hpp"
#include "cxxrt/alloc.hpp"
#include "cxxrt/lock.hpp"

namespace kx {

/* The page in which the VMM finds, at its next exit, the writes that went to coalesced zones. */
class CoalescedRing {
	static constexpr u32 size = (page_size - sizeof(kvm_coalesced_mmio_ring)) / sizeof(kvm_coalesced_mmio);

	SpinLock lock_{KX_LOCK_RING};
	Page<kvm_coalesced_mmio_ring> ring_;

public:
	/* Sleeps. */
	Errc init()
	{
		ring_ = KX_TRY(Page<kvm_coalesced_mmio_ring>::make());
		return Errc::ok;
	}
	void *page() { return ring_.get(); }

	/* len 1..8. no: it is full, and the write exits. */
	Taken put(Bus bus, u64 at, const void *data, u32 len);
};

}
