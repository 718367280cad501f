/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/control_regs.hpp"

namespace kx {

namespace {

constexpr u64 pcid_mask = 0xfff, no_flush = bit(63);
/* A change of these under PAE paging loads the page-directory pointers again. SDM vol. 3 §4.4.1 */
constexpr u64 pdptr_cr0 = cr0::cd | cr0::nw | cr0::pg;
constexpr u64 pdptr_cr4 = cr4::pge | cr4::pse | cr4::pae | cr4::smep;
/* A change of these, or of CR0.PG, empties the TLB: what either manual asks for. APM vol. 2 §5.5.2, SDM vol. 3
 * §4.10.4.1 */
constexpr u64 tlb_cr4 = cr4::pge | cr4::pse | cr4::pae;

}

OrException<CrWrite> write_cr0(const ControlRegs &now, u64 value, CodeSize cs)
{
	if (!valid_cr0(value))
		return gp0;
	/* ET is wired to one, reserved bits of the low half to zero: writing them does nothing. */
	value = (value | cr0::et) & cr0::defined;

	CrWrite w{.regs = now};
	const bool on = value & cr0::pg;
	if (on && !now.paging() && (now.efer & efer::lme)) {
		/* Long mode begins, and must not begin in a 64-bit segment. APM vol. 2 §14.6.1 */
		if (!(now.cr4 & cr4::pae) || cs == CodeSize::is64)
			return gp0;
		w.regs.efer |= efer::lma;
	}
	if (!on) {
		if ((now.long_mode() && cs == CodeSize::is64) || (now.cr4 & cr4::pcide))
			return gp0;
		w.regs.efer &= ~efer::lma;
	}
	if (on && !(now.efer & efer::lme) && (now.cr4 & cr4::pae) &&
	    ((value ^ now.cr0) & pdptr_cr0))
		w.pdptrs = Pdptrs::load;
	if (on != now.paging())
		w.tlb = TlbOwed::everything;
	w.regs.cr0 = value;
	return w;
}

OrException<CrWrite> write_msw(const ControlRegs &now, u16 value, CodeSize cs)
{
	return write_cr0(now, (now.cr0 & ~u64{0xe}) | (value & 0xf), cs);
}

OrException<CrWrite> write_cr3(const ControlRegs &now, u64 value, const CpuidTable &cpuid)
{
	CrWrite w{.regs = now, .tlb = TlbOwed::current};
	if (now.cr4 & cr4::pcide) {
		if (value & no_flush)
			w.tlb = TlbOwed::nothing;
		value &= ~no_flush;
	}
	const bool pae = now.pae_paging();
	/* The same again is a flush and nothing else, even of a CR3 only a VMM could put there. */
	if (value == now.cr3 && !pae)
		return w;
	if (!cpuid.legal_gpa(value))
		return gp0;
	if (pae)
		w.pdptrs = Pdptrs::load;
	w.regs.cr3 = value;
	return w;
}

OrException<CrWrite> write_cr4(const ControlRegs &now, u64 value, const CpuidTable &cpuid,
			       const CpuCaps &caps)
{
	const u64 changed = value ^ now.cr4;
	CrWrite w{.regs = now};

	if (!valid_cr4(value, cpuid, caps))
		return gp0;
	if (now.long_mode()) {
		if (!(value & cr4::pae) || (changed & cr4::la57))
			return gp0;
	} else if (now.paging() && (value & cr4::pae) && (changed & pdptr_cr4)) {
		w.pdptrs = Pdptrs::load;
	}
	if ((changed & value & cr4::pcide) && ((now.cr3 & pcid_mask) || !now.long_mode()))
		return gp0;

	if ((changed & tlb_cr4) || (changed & now.cr4 & cr4::pcide))
		w.tlb = TlbOwed::everything;
	else if (changed & value & cr4::smep)
		w.tlb = TlbOwed::current;
	w.regs.cr4 = value;
	return w;
}

OrException<u64> write_cr8(u64 value)
{
	if (value & ~u64{15})
		return gp0;
	return value;
}

OrException<u64> write_efer(const ControlRegs &now, u64 value, const CpuidTable &cpuid,
			    const CpuCaps &caps)
{
	const auto needs = [&](u64 bits, Feature f) { return !(value & bits) || cpuid.has(f); };
	if ((value & caps.efer_reserved()) || !needs(efer::ffxsr, Feature::fxsr_opt) ||
	    !needs(efer::svme, Feature::svm) || !needs(efer::lme | efer::lma, Feature::lm) ||
	    !needs(efer::nx, Feature::nx))
		return gp0;
	if (now.paging() && ((value ^ now.efer) & efer::lme))
		return gp0;
	return (value & ~efer::lma) | (now.efer & efer::lma);
}

Result<u64> host_efer(const ControlRegs &now, u64 value, const CpuCaps &caps)
{
	if (value & caps.efer_reserved())
		return Errc::inval;
	return (value & ~efer::lma) | (now.efer & efer::lma);
}

}
