/* SPDX-License-Identifier: GPL-2.0-only */
/* XCR0 and the sizes of what XSAVE writes. SDM vol. 1 §13.2-13.5, APM vol. 2 §11.5. */
#pragma once
#include <linux/kvm.h>
#include "cxxrt/result.hpp"
#include "host_cpuid.hpp"
#include "regs.hpp"

namespace kx {

enum class XsaveForm : u8 { standard, compacted };

/* Where each state component lies: CPUID leaf 0xD of the host. */
class XstateLayout {
	struct Component {
		u32 size, offset;
		bool aligned; /* to 64 bytes in the compacted form */
	};
	static constexpr unsigned legacy_and_header = 512 + 64;
	static constexpr unsigned components = 32; /* the highest defined is 18 */
	Component parts_[components] = {};

public:
	constexpr XstateLayout() = default;
	explicit XstateLayout(const HostCpuid &host);
	/* Bytes for these components; x87 and SSE are part of the legacy area, always there. */
	u32 size(u64 features, XsaveForm form) const;
};

/* May XCR0 be this for a guest that has `supported`? */
constexpr bool valid_xcr0(u64 v, u64 supported)
{
	constexpr u64 avx512 = xcr0::opmask | xcr0::zmm_hi256 | xcr0::hi16_zmm;
	constexpr u64 mpx = xcr0::bndregs | xcr0::bndcsr;
	constexpr u64 tile = xcr0::xtilecfg | xcr0::xtiledata;
	const auto whole = [v](u64 m) { return !(v & m) || (v & m) == m; };
	return (v & xcr0::fp) &&
	       !(v & ~(supported | xcr0::fp)) && /* x87 stays even without XSAVE */
	       (!(v & xcr0::avx) || (v & xcr0::sse)) && (!(v & avx512) || (v & xcr0::avx)) &&
	       whole(mpx) && whole(avx512) && whole(tile);
}

/* The value XSETBV (index in ECX) would install, or inval for #GP(0). CPL and CR4.OSXSAVE are the
 * caller's. */
Result<u64> check_xsetbv(u32 index, u64 value, u64 supported);

/* KVM_GET_XCRS and KVM_SET_XCRS where the host has XSAVE. Without an XCR0 in the list it stays. */
void get_xcrs(kvm_xcrs &out, u64 xcr0);
Result<u64> set_xcrs(const kvm_xcrs &in, u64 current, u64 supported);

}
