// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vm/vm_base.hpp"
#include "arch/x86/vm/usercopy.hpp"

namespace kx {

/* By lock, and by clock_lock: the guest's clock follows from a TSC where the host's does and all vCPUs have the same. */
ClockNow VmBase::clock_now() const
{
	const kx_instant now = instant();
	return {now.boot_ns, now.real_ns, now.host_tsc, now.host_tsc && tsc.all_match(vcpus)};
}

Errc VmBase::get_clock(unsigned long arg)
{
	kvm_clock_data d;
	__builtin_memset(&d, 0, sizeof d);
	{
		Guard v{lock};
		Guard g{clock_lock};
		clock.get(d, clock_now());
	}
	return to_user(arg, d);
}

Errc VmBase::set_clock(unsigned long arg)
{
	const kvm_clock_data d = KX_TRY(from_user<kvm_clock_data>(arg));
	Guard v{lock};
	Guard g{clock_lock};
	return clock.set(d, clock_now());
}

Errc VmBase::base_ioctl(unsigned cmd, unsigned long arg)
{
	switch (cmd) {
	case KVM_SET_TSS_ADDR: {
		/* Room for three pages below 4 GiB. Nothing is put there: real mode needs no help here. */
		if (arg > u64{0xffffffff} - 3 * page_size)
			return Errc::inval;
		Guard g{lock};
		tss_addr = arg;
		return Errc::ok;
	}
	case KVM_SET_IDENTITY_MAP_ADDR: {
		const u64 a = KX_TRY(from_user<u64>(arg));
		Guard g{lock};
		if (vcpus)
			return Errc::inval;
		identity_map_addr = a;
		return Errc::ok;
	}
	case KVM_GET_CLOCK:
		return get_clock(arg);
	case KVM_SET_CLOCK:
		return set_clock(arg);
	case KVM_REGISTER_COALESCED_MMIO:
	case KVM_UNREGISTER_COALESCED_MMIO: {
		const auto z = KX_TRY(from_user<kvm_coalesced_mmio_zone>(arg));
		Guard g{lock};
		return cmd == KVM_REGISTER_COALESCED_MMIO ? devices.add_zone(z) : devices.remove_zones(z);
	}
	case KVM_SET_GSI_ROUTING:
		/* There is no controller to route to: as KVM answers before there is one. */
		(void)KX_TRY(from_user<ListHead>(arg));
		return Errc::inval;
	case KVM_IOEVENTFD: {
		const auto r = KX_TRY(from_user<kvm_ioeventfd>(arg));
		Guard g{lock};
		return devices.change_eventfd(r);
	}
	default:
		return Errc::notty;
	}
}

}
