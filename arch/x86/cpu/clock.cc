/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/clock.hpp"

namespace kx {

void VmClock::get(kvm_clock_data &out, const ClockNow &now) const
{
	out = {};
	out.clock = ns(now.boot_ns);
	/* The other two are worth something only as a triple read at one moment. */
	if (now.tsc_stable) {
		out.flags = clock_flags;
		out.realtime = now.real_ns;
		out.host_tsc = now.host_tsc;
	}
}

Errc VmClock::set(const kvm_clock_data &in, const ClockNow &now)
{
	/* What KVM_GET_CLOCK returned may come back; only the real time in it is used. */
	if (in.flags & ~clock_flags)
		return Errc::inval;
	u64 clock = in.clock;
	/* The time the VM spent under way, unless the host's clock was set back meanwhile. */
	if ((in.flags & KVM_CLOCK_REALTIME) && now.real_ns > in.realtime)
		clock += now.real_ns - in.realtime;
	offset_ = clock - now.boot_ns;
	return Errc::ok;
}

}
