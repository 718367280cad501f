// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/svm/svm.hpp"

namespace kx::svm {

VirtSupport Svm::support()
{
	const CpuidRegs leaf7 = insn::cpuid(0, 0).eax >= 7 ? insn::cpuid(7, 0) : CpuidRegs{};
	const CpuidRegs xsave = host.caps().xsave ? insn::cpuid(0xd, 1) : CpuidRegs{};
	return {
		.vendor = vendor_of(insn::cpuid(0, 0)),
		.tdp = true,
		.tsc_aux = host.caps().rdtscp && kx_user_return_msr(0, msr::TSC_AUX) == 0,
		.spec_ctrl = kx_spec_ctrl_bits(),
		.virt_ssbd = false,
		.xsaves = (xsave.eax & bit(3)) != 0,
		.pku = (leaf7.ecx & bit(4)) != 0, /* OSPKE: the host uses it and switches PKRU */
		.la57 = (leaf7.ecx & bit(16)) != 0,
		.xcr0 = kx_fpu_user_features(),
	};
}

/* Nested tables have as many levels as the host's own: the CPU walks them in the mode CR4 had at VMRUN.
 * APM vol. 2 §15.25.3 */
MmuCaps Svm::mmu_caps()
{
	const CpuidRegs ext8 = insn::cpuid(0x80000008, 0);
	const u32 guest_bits = ext8.eax >> 16 & 0xff;
	MmuCaps c;
	c.phys_bits = u8(guest_bits ? guest_bits : ext8.eax & 0xff);
	c.rsvd_from = u8(kx_phys_bits());
	c.levels = insn::read_cr4() & cr4::la57 ? 5 : 4;
	c.huge_1g = insn::cpuid(0x80000001, 0).edx & bit(26);
	c.me_mask = kx_sme_mask();
	return c;
}

}
