/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/apic_base.hpp"

namespace kx {

Errc check_apic_base(u64 now, u64 value, MsrBy by, const CpuidTable &cpuid)
{
	u64 reserved = cpuid.reserved_gpa() | ones(7, 0) | bit(9);
	if (!cpuid.has(Feature::x2apic))
		reserved |= apic_base::x2apic;

	const ApicMode before = apic_mode(now), after = apic_mode(value);
	if ((value & reserved) || after == ApicMode::invalid)
		return Errc::inval;
	if (by == MsrBy::guest && ((before == ApicMode::x2apic && after == ApicMode::xapic) ||
				   (before == ApicMode::disabled && after == ApicMode::x2apic)))
		return Errc::inval;
	return Errc::ok;
}

}
