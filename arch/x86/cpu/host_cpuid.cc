/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/host_cpuid.hpp"

namespace kx {

CpuidRegs HostCpuid::at(u32 leaf, u32 subleaf) const
{
	if (!cpuid_is_indexed(leaf))
		subleaf = 0;
	for (unsigned i = 0; i < used_; ++i)
		if (entries_[i].leaf == leaf && entries_[i].subleaf == subleaf)
			return entries_[i].regs;
	return {};
}

u32 HostCpuid::max_extended() const
{
	/* A processor without them answers with its highest basic leaf. */
	const u32 top = at(0x80000000).eax;
	return top >= 0x80000000 && top < 0x90000000 ? top : 0;
}

}
