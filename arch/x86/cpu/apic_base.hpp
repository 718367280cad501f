/* SPDX-License-Identifier: GPL-2.0-only */
/* MSR IA32_APIC_BASE: where the local APIC is and whether it is on. APM vol. 2 §16.3.1, §16.9. */
#pragma once
#include "cpuid.hpp"

namespace kx {

enum class MsrBy : u8 { guest, host };

namespace apic_base {
inline constexpr u64 bsp = bit(8), x2apic = bit(10), enable = bit(11);
inline constexpr u64 reset_address = 0xfee00000;
}

enum class ApicMode : u8 { disabled, xapic, x2apic, invalid };
constexpr ApicMode apic_mode(u64 base)
{
	if (base & apic_base::enable)
		return base & apic_base::x2apic ? ApicMode::x2apic : ApicMode::xapic;
	return base & apic_base::x2apic ? ApicMode::invalid : ApicMode::disabled;
}

/* ok or inval. A guest may not go x2APIC -> xAPIC nor disabled -> x2APIC; the VMM may. */
Errc check_apic_base(u64 now, u64 value, MsrBy by, const CpuidTable &cpuid);

}
