// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vm/coalesced.hpp"

namespace kx {

Errc CoalescedZones::add(const kvm_coalesced_mmio_zone &z)
{
	if (z.pio > 1)
		return Errc::inval;
	if (!zones_) {
		auto fresh = KX_TRY(Array<Zone>::make(capacity));
		Guard g{lock_};
		zones_ = move(fresh);
	}
	const Bus bus = z.pio ? Bus::pio : Bus::mmio;
	Guard g{lock_};
	const u32 n = used_.relaxed();
	unsigned there = 0;
	for (u32 i = 0; i < n; ++i)
		there += zones_[i].bus == bus;
	if (there == of_a_bus)
		return Errc::nospc;
	zones_[n] = {z.addr, z.size, bus};
	used_.set_relaxed(n + 1);
	return Errc::ok;
}

Errc CoalescedZones::remove(const kvm_coalesced_mmio_zone &z)
{
	if (z.pio > 1)
		return Errc::inval;
	/* KVM's length has a sign, and no zone goes round the end of memory. */
	if (s32(z.size) < 0 || z.addr + z.size < z.addr)
		return Errc::ok;
	const Bus bus = z.pio ? Bus::pio : Bus::mmio;
	Guard g{lock_};
	u32 n = used_.relaxed();
	for (u32 i = n; i-- > 0;) {
		const Zone &have = zones_[i];
		if (have.bus == bus && have.at <= z.addr && z.addr + z.size <= have.at + have.size)
			zones_[i] = zones_[--n];
	}
	used_.set_relaxed(n);
	return Errc::ok;
}

/* `first` belongs to the VMM, which may write anything there: it is read, never used as an index. */
Taken CoalescedZones::write_locked(Bus bus, u64 at, const void *data, u32 len)
{
	Guard g{lock_};
	for (u32 i = 0; i < used_.relaxed(); ++i) {
		const Zone &z = zones_[i];
		if (z.bus != bus || at < z.at || at + len > z.at + z.size || at + len < at)
			continue;
		kvm_coalesced_mmio_ring &r = *ring_;
		const u32 last = __atomic_load_n(&r.last, __ATOMIC_RELAXED);
		const u32 first = __atomic_load_n(&r.first, __ATOMIC_ACQUIRE);
		if (last >= ring_size || (last + 1) % ring_size == first)
			return Taken::no;
		kvm_coalesced_mmio &e = r.coalesced_mmio[last];
		e.phys_addr = at;
		e.len = len;
		__builtin_memcpy(e.data, data, len);
		e.pio = bus == Bus::pio;
		__atomic_store_n(&r.last, (last + 1) % ring_size, __ATOMIC_RELEASE);
		return Taken::yes;
	}
	return Taken::no;
}

}
