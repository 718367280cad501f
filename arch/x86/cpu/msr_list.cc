/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/msr_list.hpp"

namespace kx {

namespace {

/* Bits of IA32_ARCH_CAPABILITIES that promise something about the processor and need nothing of us.
 * SDM vol. 4 table 2-2 */
namespace arch_cap {
constexpr u64 rdcl_no = bit(0), ibrs_all = bit(1), rsba = bit(2), skip_l1dfl = bit(3),
	      ssb_no = bit(4), mds_no = bit(5), pschange_no = bit(6), taa_no = bit(8),
	      sbdr_no = bit(13), fbsdp_no = bit(14), psdp_no = bit(15), fb_clear = bit(17),
	      rrsba = bit(19), bhi_no = bit(20), pbrsb_no = bit(24), gds_no = bit(26),
	      rfds_no = bit(27), rfds_clear = bit(28), its_no = bit(62);
/* Not TSX_CTRL: the MSR is not there. */
constexpr u64 passed_on = rdcl_no | ibrs_all | rsba | skip_l1dfl | ssb_no | mds_no | pschange_no |
			  taa_no | sbdr_no | fbsdp_no | psdp_no | fb_clear | rrsba | bhi_no |
			  pbrsb_no | gds_no | rfds_no | rfds_clear | its_no;
}

constexpr u64 lfence_serializes = bit(1); /* DE_CFG; APM vol. 2 §3.2.11 */

u64 arch_capabilities(const CpuCaps &caps, const HostBugs &bugs, u64 host)
{
	u64 v = host & arch_cap::passed_on;
	const auto unless = [&v](bool bug, u64 promise) {
		if (!bug)
			v |= promise;
	};
	/* Guests cannot be attacked through page-size changes: the MMU keeps huge pages
	 * non-executable where the processor needs it. */
	v |= arch_cap::pschange_no;
	unless(bugs.l1d_unflushed, arch_cap::skip_l1dfl);
	unless(bugs.meltdown, arch_cap::rdcl_no);
	unless(bugs.spec_store_bypass, arch_cap::ssb_no);
	unless(bugs.mds, arch_cap::mds_no);
	unless(bugs.rfds, arch_cap::rfds_no);
	unless(bugs.its, arch_cap::its_no);
	unless(bugs.gds, arch_cap::gds_no);
	/* Without TSX there is no asynchronous abort, and the guest knows from CPUID. */
	if (!caps.has(Feature::rtm))
		v &= ~arch_cap::taa_no;
	else
		unless(bugs.taa, arch_cap::taa_no);
	return v;
}

}

MsrLimits msr_limits(const CpuCaps &caps, const KernelView &kernel, const VirtSupport &virt,
		     u64 host_arch_cap)
{
	MsrLimits l;
	l.vendor = virt.vendor;
	l.arch_capabilities = arch_capabilities(caps, kernel.bugs, host_arch_cap);
	l.de_cfg = caps.host_lfence_serializes() ? lfence_serializes : 0;
	l.tsc_aux = virt.tsc_aux;
	l.spec_ctrl = virt.spec_ctrl;
	l.ibpb = caps.has(Feature::amd_ibpb) || caps.has(Feature::spec_ctrl);
	l.virt_ssbd = virt.virt_ssbd;
	return l;
}

MsrLists::MsrLists(const CpuCaps &caps, const MsrLimits &limits)
{
	const auto add = [this](u32 index) { list_[total_++] = index; };
	add(msr::IA32_SYSENTER_CS);
	add(msr::IA32_SYSENTER_ESP);
	add(msr::IA32_SYSENTER_EIP);
	add(msr::STAR);
	add(msr::CSTAR);
	add(msr::KERNEL_GS_BASE);
	add(msr::SFMASK);
	add(msr::LSTAR);
	add(msr::IA32_TSC);
	add(msr::IA32_PAT);
	if (caps.has(Feature::rdtscp) || caps.has(Feature::rdpid))
		add(msr::TSC_AUX);
	if (limits.spec_ctrl)
		add(msr::IA32_SPEC_CTRL);
	saved_ = total_;

	add(msr::IA32_TSC_ADJUST);
	add(msr::IA32_ARCH_CAPABILITIES);
	add(msr::IA32_MISC_ENABLE);
	add(msr::IA32_MCG_STATUS);
	add(msr::IA32_MCG_CTL);
	add(msr::PLATFORM_INFO);
	add(msr::MISC_FEATURES_ENABLES);
	if (limits.virt_ssbd)
		add(msr::VIRT_SPEC_CTRL);
	add(msr::IA32_POWER_CTL);
	add(msr::IA32_BIOS_SIGN_ID);
	add(msr::HWCR);

	const auto feature = [this](u32 index) { features_[nr_features_++] = index; };
	if (is_amd_like(limits.vendor))
		feature(msr::DE_CFG);
	feature(msr::IA32_BIOS_SIGN_ID);
	feature(msr::IA32_ARCH_CAPABILITIES);
	feature(msr::IA32_PERF_CAPABILITIES);
}

Result<u64> feature_msr(u32 index, const MsrLimits &limits)
{
	switch (index) {
	case msr::IA32_ARCH_CAPABILITIES:
		return limits.arch_capabilities;
	case msr::IA32_BIOS_SIGN_ID:
		return limits.host_ucode;
	case msr::IA32_PERF_CAPABILITIES: /* no counters */
		return u64{0};
	case msr::DE_CFG:
		if (is_amd_like(limits.vendor))
			return limits.de_cfg;
		break;
	default:
		break;
	}
	if (limits.unknown == UnknownMsr::ignore)
		return u64{0};
	return Errc::noent;
}

}
