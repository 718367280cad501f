// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vm/coalesced_ring.hpp"

namespace kx {

/* The page is the VMM's too, which may write anything there: each index is read once and compared before it is used. */
Taken CoalescedRing::put(Bus bus, u64 at, const void *data, u32 len)
{
	Guard g{lock_};
	kvm_coalesced_mmio_ring &r = *ring_;
	const u32 last = __atomic_load_n(&r.last, __ATOMIC_RELAXED);
	const u32 first = __atomic_load_n(&r.first, __ATOMIC_ACQUIRE);
	if (last >= size || (last + 1) % size == first)
		return Taken::no;
	kvm_coalesced_mmio &e = r.coalesced_mmio[last];
	e.phys_addr = at;
	e.len = len;
	__builtin_memcpy(e.data, data, len);
	e.pio = bus == Bus::pio;
	__atomic_store_n(&r.last, (last + 1) % size, __ATOMIC_RELEASE);
	return Taken::yes;
}

}
