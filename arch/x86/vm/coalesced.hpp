/* SPDX-License-Identifier: GPL-2.0-only */
/* Coalesced MMIO and PIO: writes to registered zones go into a ring the VMM reads at its next exit. */
#pragma once
#include <linux/kvm.h>
#include "arch/x86/vm/bus.hpp"
#include "cxxrt/alloc.hpp"
#include "cxxrt/atomic.hpp"
#include "cxxrt/lock.hpp"

namespace kx {

class CoalescedZones {
	static constexpr unsigned of_a_bus = 1000, capacity = 2 * of_a_bus; /* as KVM's I/O buses */
	static constexpr u32 ring_size =
		(page_size - sizeof(kvm_coalesced_mmio_ring)) / sizeof(kvm_coalesced_mmio);

	struct Zone {
		u64 at;
		u32 size;
		Bus bus;
	};
	SpinLock lock_{KX_LOCK_RING};
	Page<kvm_coalesced_mmio_ring> ring_;
	Array<Zone> zones_;
	Atomic<u32> used_; /* read without the lock to skip the common case of none */

public:
	/* Sleeps. */
	Errc init()
	{
		ring_ = KX_TRY(Page<kvm_coalesced_mmio_ring>::make());
		return Errc::ok;
	}
	void *ring_page() { return ring_.get(); }

	/* KVM_REGISTER_COALESCED_MMIO; inval, nospc, nomem. The caller serialises add and remove. */
	Errc add(const kvm_coalesced_mmio_zone &z);
	/* Zones that hold the given one go; that there is none is no error. */
	Errc remove(const kvm_coalesced_mmio_zone &z);

	/* len 1..8. no: not ours, or the ring is full; the write exits. */
	Taken write(Bus bus, u64 at, const void *data, u32 len)
	{
		return used_.relaxed() ? write_locked(bus, at, data, len) : Taken::no;
	}

private:
	Taken write_locked(Bus bus, u64 at, const void *data, u32 len);
};

}
