/* SPDX-License-Identifier: GPL-2.0-only */
/* What this processor's SVM can do. APM vol. 2 §15.4; CPUID 8000_000A. */
#pragma once
#include "cxxrt/bits.hpp"

namespace kx::svm {

namespace hwmsr {
inline constexpr u32 efer = 0xc0000080, vm_cr = 0xc0010114, vm_hsave_pa = 0xc0010117, tsc_ratio = 0xc0000104;
inline constexpr u64 vm_cr_svmdis = bit(4), vm_cr_lock = bit(3);
inline constexpr u64 tsc_ratio_one = u64{1} << 32;
}

struct Caps {
	u32 asids = 0;	  /* valid ASIDs are 1 .. asids - 1 */
	bool svm = false, npt = false, nrips = false, decode_assists = false, flush_by_asid = false, clean = false,
	     tsc_ratio = false, pause_filter = false, pause_threshold = false, v_spec_ctrl = false;
	bool rdtscp = false, xsave = false, monitor = false, rdpru = false, invlpgb = false, mcommit = false, invpcid = false;
};

/* Pure: Cpuid is any callable (leaf, subleaf) -> {eax, ebx, ecx, edx}. */
template <class Cpuid> constexpr Caps detect(Cpuid cpuid)
{
	Caps c;
	if (cpuid(0x80000000, 0).eax < 0x8000000a || !(cpuid(0x80000001, 0).ecx & bit(2)))
		return c;
	const auto svm = cpuid(0x8000000a, 0);
	const auto ext1 = cpuid(0x80000001, 0);
	const auto std1 = cpuid(1, 0);
	const auto ext8 = cpuid(0x80000008, 0);
	c.svm = true;
	c.asids = svm.ebx;
	c.npt = svm.edx & bit(0);
	c.nrips = svm.edx & bit(3);
	c.tsc_ratio = svm.edx & bit(4);
	c.clean = svm.edx & bit(5);
	c.flush_by_asid = svm.edx & bit(6);
	c.decode_assists = svm.edx & bit(7);
	c.pause_filter = svm.edx & bit(10);
	c.pause_threshold = svm.edx & bit(12);
	c.v_spec_ctrl = svm.edx & bit(20);
	c.rdtscp = ext1.edx & bit(27);
	c.monitor = std1.ecx & bit(3);
	c.xsave = std1.ecx & bit(26);
	c.rdpru = ext8.ebx & bit(4);
	c.invlpgb = ext8.ebx & bit(3);
	c.mcommit = ext8.ebx & bit(8);
	c.invpcid = cpuid(7, 0).ebx & bit(10);
	return c;
}

}
