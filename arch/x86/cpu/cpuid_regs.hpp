/* SPDX-License-Identifier: GPL-2.0-only */
/* What one CPUID instruction returns, and whose processor it claims to be. */
#pragma once
#include "cxxrt/addr.hpp"

namespace kx {

struct CpuidRegs {
	u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
	constexpr bool operator==(const CpuidRegs &) const = default;
};

enum class CpuVendor : u8 { other, intel, amd, hygon };

/* Hygon's processors are Zen: everything that is true of AMD is true of them. */
constexpr bool is_amd_like(CpuVendor v) { return v == CpuVendor::amd || v == CpuVendor::hygon; }

/* Four characters as CPUID packs them. */
constexpr u32 cpuid_text(const char (&s)[5])
{
	return u32(u8(s[0])) | u32(u8(s[1])) << 8 | u32(u8(s[2])) << 16 | u32(u8(s[3])) << 24;
}

/* From leaf 0. The vendor string reads EBX, EDX, ECX. */
constexpr CpuVendor vendor_of(const CpuidRegs &r)
{
	const auto is = [&r](u32 b, u32 d, u32 c) {
		return r.ebx == b && r.edx == d && r.ecx == c;
	};
	if (is(cpuid_text("Genu"), cpuid_text("ineI"), cpuid_text("ntel")))
		return CpuVendor::intel;
	if (is(cpuid_text("Auth"), cpuid_text("enti"), cpuid_text("cAMD")) ||
	    is(cpuid_text("AMDi"), cpuid_text("sbet"), cpuid_text("ter!")))
		return CpuVendor::amd;
	if (is(cpuid_text("Hygo"), cpuid_text("nGen"), cpuid_text("uine")))
		return CpuVendor::hygon;
	return CpuVendor::other;
}

/* From EAX of leaf 1, with the extended fields added. APM vol. 3 §E.3.2 */
constexpr unsigned cpu_family(u32 eax)
{
	const unsigned base = eax >> 8 & 15;
	return base == 15 ? base + (eax >> 20 & 255) : base;
}
constexpr unsigned cpu_model(u32 eax)
{
	const unsigned low = eax >> 4 & 15;
	return cpu_family(eax) >= 6 ? low | (eax >> 16 & 15) << 4 : low;
}
constexpr unsigned cpu_stepping(u32 eax) { return eax & 15; }

/* Leaves whose answer depends on ECX: the ones KVM marks KVM_CPUID_FLAG_SIGNIFCANT_INDEX. */
constexpr bool cpuid_is_indexed(u32 leaf)
{
	switch (leaf) {
	case 4: case 7: case 0xb: case 0xd: case 0xf: case 0x10: case 0x12: case 0x14:
	case 0x17: case 0x18: case 0x1d: case 0x1e: case 0x1f: case 0x8000001d:
		return true;
	default:
		return false;
	}
}

}
