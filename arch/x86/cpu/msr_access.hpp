/* SPDX-License-Identifier: GPL-2.0-only */
/* MsrFile's dispatch: registers of the backend here, the rest behind one call. Part of msr.hpp. */
#pragma once
#include "msr.hpp"

namespace kx {

namespace detail {

/* The slot of a register that needs no rule to be read, or -1. */
constexpr int plain_slot(u32 index)
{
	switch (index) {
	case msr::IA32_TSC: return int(MsrSlot::tsc);
	case msr::FS_BASE: return int(MsrSlot::fs_base);
	case msr::GS_BASE: return int(MsrSlot::gs_base);
	case msr::KERNEL_GS_BASE: return int(MsrSlot::kernel_gs_base);
	case msr::EFER: return int(MsrSlot::efer);
	case msr::STAR: return int(MsrSlot::star);
	case msr::LSTAR: return int(MsrSlot::lstar);
	case msr::CSTAR: return int(MsrSlot::cstar);
	case msr::SFMASK: return int(MsrSlot::sfmask);
	case msr::IA32_SYSENTER_CS: return int(MsrSlot::sysenter_cs);
	case msr::IA32_SYSENTER_ESP: return int(MsrSlot::sysenter_esp);
	case msr::IA32_SYSENTER_EIP: return int(MsrSlot::sysenter_eip);
	case msr::IA32_TSC_ADJUST: return int(MsrSlot::tsc_adjust);
	default: return -1;
	}
}

constexpr MsrSlot lbr_slot(u32 index)
{
	switch (index) {
	case msr::LASTBRANCHFROMIP: return MsrSlot::br_from;
	case msr::LASTBRANCHTOIP: return MsrSlot::br_to;
	case msr::LASTINTFROMIP: return MsrSlot::last_excp_from;
	case msr::LASTINTTOIP: return MsrSlot::last_excp_to;
	default: return MsrSlot::debugctl;
	}
}

/* May this one touch the register at all: it must work on the host, and a guest must know of it. */
constexpr bool reachable(bool works, bool guest_has, MsrBy by)
{
	return works && (by == MsrBy::host || guest_has);
}

/* Sign-extend from the guest's linear width, as hardware would see the address. */
constexpr u64 make_canonical(u64 a, unsigned bits)
{
	return u64(s64(a << (64 - bits)) >> (64 - bits));
}

/* AMD's DEBUGCTL: 5:2 were pin controls once and are dropped, the rest above 1 is reserved. */
inline constexpr u64 debugctl_dropped = 0x3c, debugctl_valid = 0x3;

}

template <MsrBackend B>
Result<u64> MsrFile::read(u32 index, MsrBy by, const MsrContext &c, const B &hw) const
{
	if (const int slot = detail::plain_slot(index); slot >= 0) [[likely]]
		return hw.read(MsrSlot(slot));
	switch (index) {
	case msr::IA32_SPEC_CTRL:
		if (!detail::reachable(c.limits.spec_ctrl != 0, c.cpuid.has_spec_ctrl(), by))
			return Errc::inval;
		return hw.read(MsrSlot::spec_ctrl);
	case msr::VIRT_SPEC_CTRL:
		if (!detail::reachable(c.limits.virt_ssbd, c.cpuid.has(Feature::virt_ssbd), by))
			return Errc::inval;
		return hw.read(MsrSlot::virt_spec_ctrl);
	case msr::TSC_AUX:
		if (!detail::reachable(c.limits.tsc_aux,
				       c.cpuid.has(Feature::rdtscp) || c.cpuid.has(Feature::rdpid),
				       by))
			return Errc::inval;
		return hw.read(MsrSlot::tsc_aux);
	case msr::IA32_DEBUGCTL:
	case msr::LASTBRANCHFROMIP:
	case msr::LASTBRANCHTOIP:
	case msr::LASTINTFROMIP:
	case msr::LASTINTTOIP:
		return c.limits.lbr ? hw.read(detail::lbr_slot(index)) : u64{0};
	default:
		return read_cold(index, by, c);
	}
}

template <MsrBackend B>
Result<MsrEffect> MsrFile::write(u32 index, u64 value, MsrBy by, const MsrContext &c, B &hw)
{
	const unsigned bits = c.regs.linear_bits();
	switch (index) {
	case msr::IA32_TSC:
		hw.write(MsrSlot::tsc, value, by);
		return MsrEffect::none;
	case msr::FS_BASE:
	case msr::GS_BASE:
	case msr::KERNEL_GS_BASE:
	case msr::LSTAR:
	case msr::CSTAR:
		if (!canonical(value, bits))
			return Errc::inval;
		[[fallthrough]];
	case msr::STAR:
	case msr::IA32_SYSENTER_CS:
		hw.write(MsrSlot(detail::plain_slot(index)), value, by);
		return MsrEffect::none;
	case msr::SFMASK:
		if (value >> 32 && c.limits.vendor == CpuVendor::intel) /* AMD's ignores them */
			return Errc::inval;
		hw.write(MsrSlot(detail::plain_slot(index)), value, by);
		return MsrEffect::none;
	case msr::IA32_SYSENTER_ESP:
	case msr::IA32_SYSENTER_EIP:
		/* Intel faults on a non-canonical one, AMD has 32 bits only. Made canonical, it can
		 * never make a VM entry fail. */
		hw.write(MsrSlot(detail::plain_slot(index)), detail::make_canonical(value, bits),
			 by);
		return MsrEffect::none;
	case msr::IA32_SPEC_CTRL:
		if (!detail::reachable(c.limits.spec_ctrl != 0, c.cpuid.has_spec_ctrl(), by) ||
		    (value & ~c.limits.spec_ctrl))
			return Errc::inval;
		hw.write(MsrSlot::spec_ctrl, value, by);
		return value ? MsrEffect::spec_ctrl : MsrEffect::none;
	case msr::IA32_PRED_CMD:
		if (!detail::reachable(c.limits.ibpb, c.cpuid.has_pred_cmd(), by) ||
		    (value & ~u64{1}))
			return Errc::inval;
		if (!value)
			return MsrEffect::none;
		hw.write(MsrSlot::pred_cmd, value, by);
		return MsrEffect::pred_cmd;
	case msr::VIRT_SPEC_CTRL:
		if (!detail::reachable(c.limits.virt_ssbd, c.cpuid.has(Feature::virt_ssbd), by) ||
		    (value & ~bit(2)))
			return Errc::inval;
		hw.write(MsrSlot::virt_spec_ctrl, value, by);
		return MsrEffect::none;
	case msr::EFER: {
		if (by == MsrBy::host) {
			hw.write(MsrSlot::efer, KX_TRY(host_efer(c.regs, value, c.caps)), by);
			return MsrEffect::efer;
		}
		const OrException<u64> v = write_efer(c.regs, value, c.cpuid, c.caps);
		if (!v.ok())
			return Errc::inval;
		hw.write(MsrSlot::efer, v.value(), by);
		return MsrEffect::efer;
	}
	case msr::TSC_AUX:
		if (!detail::reachable(c.limits.tsc_aux,
				       c.cpuid.has(Feature::rdtscp) || c.cpuid.has(Feature::rdpid),
				       by))
			return Errc::inval;
		/* Reserved above bit 31 on Intel, ignored elsewhere. */
		if (c.cpuid.vendor() == CpuVendor::intel && value >> 32)
			return Errc::inval;
		hw.write(MsrSlot::tsc_aux, u32(value), by);
		return MsrEffect::none;
	case msr::IA32_TSC_ADJUST:
		/* A guest without the feature: the write is dropped. */
		if (c.cpuid.has(Feature::tsc_adjust))
			hw.write(MsrSlot::tsc_adjust, value, by);
		return MsrEffect::none;
	case msr::IA32_DEBUGCTL:
		if (!c.limits.lbr)
			return MsrEffect::none;
		value &= ~detail::debugctl_dropped;
		if (value & ~detail::debugctl_valid)
			return Errc::inval;
		hw.write(MsrSlot::debugctl, value, by);
		return MsrEffect::none;
	default:
		return write_cold(index, value, by, c);
	}
}

}
