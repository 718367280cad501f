/* SPDX-License-Identifier: GPL-2.0-only */
/* What all VMs share: the host's features, the lists that come of them. Constant after load. */
#pragma once
#include "arch/x86/cpu/msr.hpp"
#include "arch/x86/cpu/supported_cpuid.hpp"
#include "arch/x86/mmu/caps.hpp"
#include "uapi/kvmxx.h"

namespace kx {

struct System {
	HostCpuid cpuid;
	CpuCaps caps;
	MsrLimits limits;
	MsrLists msrs;
	u64 host_xcr0 = 0, host_xss = 0; /* IA32_XSS: 0 as well without XSAVES */
	bool pku = false, rcu_watches_guests = false;
	MmuCaps mmu;

	/* Sleeps; called once at load, by whom the vendor's support is known. */
	void init(const VirtSupport &virt);
};

/* Made at load in kxc_init; null before. */
extern constinit System *sys;

/* KVM_CHECK_EXTENSION, on the system and on the VM file. Unknown ones are 0. */
long check_extension(unsigned long cap);
/* The ioctls of /dev/kvmxx, but for KVM_CREATE_VM. */
long system_ioctl(unsigned cmd, unsigned long arg);

inline constexpr u32 max_vcpus = KVMXX_MAX_VCPUS, max_vcpu_id = KVMXX_MAX_VCPU_ID;

}
