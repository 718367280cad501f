// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vmx/vmx.hpp"

namespace kx::vmx {

Errc Vmx::init()
{
	KX_CHECK(host.init());
	if (kx_user_return_msr(user_return::star, kx::msr::STAR) || kx_user_return_msr(user_return::lstar, kx::msr::LSTAR) ||
	    kx_user_return_msr(user_return::sfmask, kx::msr::SFMASK)) {
		host.destroy();
		return Errc::nodev; /* no long mode */
	}
	if (host.switches_tsx())
		kx_user_return_msr(user_return::tsx_ctrl, hwmsr::tsx_ctrl);
	return Errc::ok;
}

VirtSupport Vmx::support()
{
	const CpuidRegs leaf7 = insn::cpuid(0, 0).eax >= 7 ? insn::cpuid(7, 0) : CpuidRegs{};
	const CpuidRegs xsave = insn::cpuid(1, 0).ecx & bit(26) ? insn::cpuid(0xd, 1) : CpuidRegs{};
	const u32 by_cpuid = host.caps().proc2_by_cpuid;
	return {
		.vendor = vendor_of(insn::cpuid(0, 0)),
		.tdp = true,
		.tsc_aux = (by_cpuid & proc2::rdtscp) && kx_user_return_msr(user_return::tsc_aux, kx::msr::TSC_AUX) == 0,
		.invpcid = (by_cpuid & proc2::invpcid) != 0,
		.spec_ctrl = kx_spec_ctrl_bits(),
		.virt_ssbd = false,
		.xsaves = (xsave.eax & bit(3)) && (by_cpuid & proc2::xsaves),
		.pku = (leaf7.ecx & bit(4)) != 0, /* OSPKE: the host uses it and switches PKRU */
		.la57 = (leaf7.ecx & bit(16)) != 0,
		.flushes_l1d = host.flushes_l1d(),
		.xcr0 = kx_fpu_user_features(),
	};
}

MmuCaps Vmx::mmu_caps()
{
	MmuCaps c;
	c.phys_bits = u8(insn::cpuid(0x80000008, 0).eax & 0xff);
	c.levels = u8(host.ept_levels());
	if (c.phys_bits > c.levels * 9 + 12)
		c.phys_bits = u8(c.levels * 9 + 12);
	c.huge_1g = host.caps().ept_1g;
	c.nx_huge_pages = kx_nx_huge_pages();
	c.ad_bits = host.caps().ept_ad;
	c.pml = host.caps().pml;
	return c;
}

}
