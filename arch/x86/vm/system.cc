// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vm/system.hpp"
#include "arch/x86/cpu/clock.hpp"
#include "arch/x86/cpu/insn.hpp"
#include "arch/x86/cpu/mce.hpp"
#include "arch/x86/memory/memslots.hpp"
#include "arch/x86/vm/usercopy.hpp"

namespace kx {

constinit System *sys;

void System::init(const VirtSupport &virt)
{
	cpuid.capture([](u32 leaf, u32 sub) { return insn::cpuid(leaf, sub); });
	const unsigned b = kx_cpu_bugs();
	const KernelView kernel{{kx_cpu_caps(), kx_cpu_cap_words()},
				{.spec_store_bypass = (b & KX_BUG_SPEC_STORE_BYPASS) != 0,
				 .null_seg = (b & KX_BUG_NULL_SEG) != 0,
				 .meltdown = (b & KX_BUG_MELTDOWN) != 0,
				 .mds = (b & KX_BUG_MDS) != 0,
				 .taa = (b & KX_BUG_TAA) != 0,
				 .gds = (b & KX_BUG_GDS) != 0,
				 .rfds = (b & KX_BUG_RFDS) != 0,
				 .its = (b & KX_BUG_ITS) != 0,
				 .tsa = (b & KX_BUG_TSA) != 0,
				 .l1d_unflushed = (b & KX_BUG_L1TF) && !virt.flushes_l1d}};
	caps = CpuCaps{cpuid, kernel, virt};
	u64 arch_cap = 0;
	if (cpuid.at(7).edx & bit(29))
		(void)kx_rdmsr_safe(msr::IA32_ARCH_CAPABILITIES, &arch_cap);
	limits = msr_limits(caps, kernel, virt, arch_cap);
	(void)kx_rdmsr_safe(msr::IA32_BIOS_SIGN_ID, &limits.host_ucode);
	limits.unknown = kx_params.ignore_msrs ? UnknownMsr::ignore : UnknownMsr::fault;
	msrs = MsrLists{caps, limits};
	msrs.probe([](u32 m) {
		u64 v;
		return kx_rdmsr_safe(m, &v) == 0;
	});
	host_xcr0 = kx_fpu_host_xcr0();
	pku = virt.pku;
	if (cpuid.at(0xd, 1).eax & bit(3)) /* whether guests are offered XSAVES or not: it cannot be taken from them */
		(void)kx_rdmsr_safe(msr::IA32_XSS, &host_xss);
	rcu_watches_guests = kx_rcu_watches_guests();
}

/* What is not listed is 0: not there. A capability is here when all of it works. */
long check_extension(unsigned long cap)
{
	switch (cap) {
	case KVM_CAP_MMU_SHADOW_CACHE_CONTROL:
	case KVM_CAP_USER_MEMORY:
	case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
	case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
	case KVM_CAP_SYNC_MMU:
	case KVM_CAP_READONLY_MEM:
	case KVM_CAP_SET_TSS_ADDR:
	case KVM_CAP_SET_IDENTITY_MAP_ADDR:
	case KVM_CAP_EXT_CPUID:
	case KVM_CAP_HLT:
	case KVM_CAP_MP_STATE:
	case KVM_CAP_IMMEDIATE_EXIT:
	case KVM_CAP_CHECK_EXTENSION_VM:
	case KVM_CAP_USER_NMI:
	case KVM_CAP_VCPU_EVENTS:
	case KVM_CAP_DEBUGREGS:
	case KVM_CAP_XSAVE:
	case KVM_CAP_GET_TSC_KHZ:
	case KVM_CAP_GET_MSR_FEATURES:
	case KVM_CAP_INTERNAL_ERROR_DATA:
	case KVM_CAP_COALESCED_PIO:
	case KVM_CAP_IOEVENTFD:
	case KVM_CAP_IOEVENTFD_NO_LENGTH:
	case KVM_CAP_IOEVENTFD_ANY_LENGTH:
	case KVM_CAP_BINARY_STATS_FD:
		return 1;
	case KVM_CAP_IRQ_ROUTING:
		return 4096; /* QEMU wants it in every mode, and sets no routes without a controller */
	case KVM_CAP_XCRS:
		return sys->caps.has(Feature::xsave);
	case KVM_CAP_COALESCED_MMIO:
		return KVM_COALESCED_MMIO_PAGE_OFFSET;
	case KVM_CAP_MCE:
		return max_mce_banks;
	case KVM_CAP_ADJUST_CLOCK:
		return clock_flags;
	case KVM_CAP_NR_VCPUS:
		return kx_nr_online_cpus() < max_vcpus ? kx_nr_online_cpus() : max_vcpus;
	case KVM_CAP_MAX_VCPUS:
		return max_vcpus;
	case KVM_CAP_MAX_VCPU_ID:
		return max_vcpu_id;
	case KVM_CAP_NR_MEMSLOTS:
		return Memslots::user_slots;
	default:
		return 0;
	}
}

namespace {

Errc get_supported_cpuid(unsigned long arg)
{
	const auto head = KX_TRY(from_user<ListHead>(arg));
	if (!head.n)
		return Errc::toobig;
	const u32 room = head.n < max_cpuid_entries ? head.n : max_cpuid_entries;
	auto list = KX_TRY(Array<kvm_cpuid_entry2>::make(room));
	const unsigned n = KX_TRY(supported_cpuid({list.get(), room}, sys->cpuid, sys->caps, kx_phys_bits()));
	KX_CHECK(array_to_user(arg + sizeof head, list.get(), n));
	return to_user(arg, ListHead{n, head.padding});
}

/* Both list ioctls: the count always goes out, the list when it fits. */
Errc msr_list(unsigned long arg, Span<const u32> list)
{
	auto head = KX_TRY(from_user<IndexListHead>(arg));
	const u32 room = head.n;
	head.n = u32(list.size());
	KX_CHECK(to_user(arg, head));
	if (room < list.size())
		return Errc::toobig;
	return array_to_user(arg + sizeof head, list.data(), list.size());
}

/* KVM_GET_MSRS on the device: feature MSRs. How many were read. */
long feature_msrs(unsigned long arg)
{
	const auto head = from_user<ListHead>(arg);
	if (!head.ok())
		return -long(Errc::fault);
	const u32 n = head.peek().n;
	if (n >= 256)
		return -long(Errc::toobig);
	auto list = array_from_user<kvm_msr_entry>(arg + sizeof(ListHead), n);
	if (!list.ok())
		return -long(list.error());
	auto m = move(list).take();
	u32 i = 0;
	for (; i < n; ++i) {
		const auto r = feature_msr(m[i].index, sys->limits);
		if (!r.ok())
			break;
		m[i].data = r.peek();
	}
	if (array_to_user(arg + sizeof(ListHead), m.get(), n) != Errc::ok)
		return -long(Errc::fault);
	return i;
}

}

long system_ioctl(unsigned cmd, unsigned long arg)
{
	switch (cmd) {
	case KVM_GET_API_VERSION:
		return arg ? -long(Errc::inval) : KVM_API_VERSION;
	case KVM_CHECK_EXTENSION:
		return check_extension(arg);
	case KVM_GET_VCPU_MMAP_SIZE:
		return arg ? -long(Errc::inval) : long(3 * page_size); /* kvm_run, port data, coalesced ring */
	case KVM_GET_SUPPORTED_CPUID:
		return -long(get_supported_cpuid(arg));
	case KVM_GET_MSR_INDEX_LIST:
		return -long(msr_list(arg, sys->msrs.all()));
	case KVM_GET_MSR_FEATURE_INDEX_LIST:
		return -long(msr_list(arg, sys->msrs.features()));
	case KVM_GET_MSRS:
		return feature_msrs(arg);
	case KVM_X86_GET_MCE_CAP_SUPPORTED:
		return -long(to_user(arg, u64{supported_mce_cap}));
	default:
		return -long(Errc::notty);
	}
}

}
