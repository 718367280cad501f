/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/xcr.hpp"

namespace kx {

XstateLayout::XstateLayout(const HostCpuid &host)
{
	for (unsigned i = 2; i < components; ++i) {
		const CpuidRegs r = host.at(0xd, i);
		parts_[i] = {r.eax, r.ebx, (r.ecx & 2) != 0};
	}
}

u32 XstateLayout::size(u64 features, XsaveForm form) const
{
	u32 end = legacy_and_header;
	for (unsigned i = 2; i < components; ++i) {
		const Component &p = parts_[i];
		if (!(features >> i & 1))
			continue;
		u32 at = p.offset;
		if (form == XsaveForm::compacted)
			at = p.aligned ? (end + 63) & ~u32{63} : end;
		/* In the standard form a later component may lie below an earlier one. */
		end = at + p.size > end ? at + p.size : end;
	}
	return end;
}

Result<u64> check_xsetbv(u32 index, u64 value, u64 supported)
{
	if (index != 0 || !valid_xcr0(value, supported))
		return Errc::inval;
	return value;
}

void get_xcrs(kvm_xcrs &out, u64 xcr0)
{
	out = {};
	out.nr_xcrs = 1;
	out.xcrs[0].value = xcr0;
}

Result<u64> set_xcrs(const kvm_xcrs &in, u64 current, u64 supported)
{
	if (in.nr_xcrs > KVM_MAX_XCRS || in.flags)
		return Errc::inval;
	for (unsigned i = 0; i < in.nr_xcrs; ++i)
		if (in.xcrs[i].xcr == 0)
			return check_xsetbv(0, in.xcrs[i].value, supported);
	return current;
}

}
