/* SPDX-License-Identifier: GPL-2.0-only */
/* Ports and MMIO that somebody in the kernel serves: coalesced zones (Documentation/virt/kvm/api.rst 4.116) and
 * ioeventfds (4.59). */
#pragma once
#include "arch/x86/vm/coalesced_ring.hpp"
#include "arch/x86/vm/vcpu_base.hpp"
#include "cxxrt/rcu.hpp"
#include "uapi/kvmxx.h"

namespace kx {

/*
 * One immutable set of devices at a time, sorted by bus and address; a change replaces it and waits for its readers,
 * so that nothing is signalled or coalesced any more when a removal returns. What a device does is a switch on its
 * kind: no indirect call in KVM_RUN.
 */
class DeviceBus {
	enum class Kind : u8 { zone, eventfd };
	struct Device {
		u64 at;
		u64 reach = 0; /* where the farthest zone of this bus ends that begins at this device or before */
		u64 match = 0; /* of an eventfd */
		void *eventfd = nullptr;
		u32 size; /* of a zone; of a write that an eventfd wants, or 0: any */
		Bus bus;
		Kind kind;
		bool any_value = true; /* of an eventfd */

		bool same_place(const Device &o) const { return kind == o.kind && bus == o.bus && at == o.at; }
		bool collides(const Device &o) const
		{
			return same_place(o) && (!size || !o.size ||
						 (size == o.size && (any_value || o.any_value || match == o.match)));
		}
		bool takes(u64 value, u32 n) const { return !size || (size == n && (any_value || match == value)); }
		bool same_eventfd(const Device &o) const
		{
			return same_place(o) && size == o.size && any_value == o.any_value &&
			       (any_value || match == o.match) && eventfd == o.eventfd;
		}
	};
	struct Set {
		u32 n;
		Device d[]; /* those of one place: zones, then eventfds */

		const Device *begin() const { return d; }
		const Device *end() const { return d + n; }
		/* How many stand before the place (bus, at), or there, of that kind or a lower one. */
		u32 behind(Bus bus, u64 at, Kind kind) const;
	};

	Atomic<Set *> set_; /* nullptr: none, and guests' accesses pay for a look at this */
	Srcu srcu_;
	bool srcu_made_ = false; /* with the first device */
	CoalescedRing ring_;

public:
	DeviceBus() = default;
	DeviceBus(const DeviceBus &) = delete;
	/* No vCPU runs any more. Sleeps. */
	~DeviceBus();
	/* Sleeps. */
	Errc init() { return ring_.init(); }
	void *ring_page() { return ring_.page(); }

	/* --- Sleep; the caller serialises. When there is no memory all is as before. */
	/* KVM_REGISTER_COALESCED_MMIO: inval, nospc, nomem. */
	Errc add_zone(const kvm_coalesced_mmio_zone &);
	/* KVM_UNREGISTER_COALESCED_MMIO: zones that hold the given one go; that there is none is no error. inval, nomem. */
	Errc remove_zones(const kvm_coalesced_mmio_zone &);
	/* KVM_IOEVENTFD: inval, badf, exist, noent, nomem. */
	Errc change_eventfd(const kvm_ioeventfd &);

	/* The vCPU writes 1 to 8 bytes to where no memory is. In its thread; may sleep. */
	Taken write(const VcpuBase &v, Bus bus, u64 at, const void *data, u32 len)
	{
		return set_.acquire() ? write_device(v, bus, at, data, len) : Taken::no;
	}

private:
	Errc add(const Device &);
	template <class Goes> Errc remove(Goes goes);
	static Set *make(u32 n);
	void replace(Set *next);
	Taken write_device(const VcpuBase &, Bus bus, u64 at, const void *data, u32 len);
};

}
