/* SPDX-License-Identifier: GPL-2.0-only */
/* The VM's clock, nanoseconds since its creation unless set: KVM_GET_CLOCK, KVM_SET_CLOCK. */
#pragma once
#include <linux/kvm.h>
#include "cxxrt/addr.hpp"
#include "cxxrt/result.hpp"

namespace kx {

struct ClockNow {
	u64 boot_ns, real_ns, host_tsc;
	bool tsc_stable; /* on the host, and all vCPUs in step: each of them reads just this */
};

inline constexpr u32 clock_flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;

/* Serialised by the caller. */
class VmClock {
	u64 offset_; /* clock = boot time + offset */

public:
	explicit VmClock(u64 boot_ns) : offset_{0 - boot_ns} {}
	u64 ns(u64 boot_ns) const { return boot_ns + offset_; }
	void get(kvm_clock_data &out, const ClockNow &now) const;
	Errc set(const kvm_clock_data &in, const ClockNow &now);
};

}
