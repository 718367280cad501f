// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vmx/caps.hpp"

namespace kx::vmx {

namespace {

/* Bits that early processors report as fixed to one, and that mean nothing to anybody. */
constexpr u32 pin_default1 = 0x16, proc_default1 = 0x0401e172, exit_default1 = 0x00036dff, entry_default1 = 0x000011ff;

struct Word {
	u32 value = 0;
	u32 trouble = 0;
};

/* One capability MSR: its low half are the bits that must be one, its high half those that may be. */
constexpr Word choose(u64 msr, u32 required, u32 optional, u32 default1)
{
	const u32 must = u32(msr), may = u32(msr >> 32);
	Word w;
	w.value = ((required | optional) & may) | must;
	w.trouble = (required & ~may) | (must & ~(required | optional | default1));
	return w;
}

}

const char *text(Lacks l)
{
	switch (l) {
	case Lacks::nothing: return "";
	case Lacks::vmcs_format: return "VMX: the processor's VMCS has another format (IA32_VMX_BASIC)";
	case Lacks::pin: return "VMX: pin-based controls are missing (bits)";
	case Lacks::proc: return "VMX: processor-based controls are missing (bits)";
	case Lacks::proc2: return "VMX: secondary controls are missing, extended page tables among them (bits)";
	case Lacks::exit: return "VMX: VM-exit controls are missing (bits)";
	case Lacks::entry: return "VMX: VM-entry controls are missing (bits)";
	case Lacks::ept: return "VMX: extended page tables lack features (bits of IA32_VMX_EPT_VPID_CAP)";
	}
	return "";
}

Negotiated negotiate(const CapMsrs &m, const Switches &s)
{
	Caps c;
	const auto lacks = [](Lacks what, u64 bits) { return Negotiated{what, bits, {}}; };

	/* One page at most, write-back. */
	const u64 size = m.basic >> 32 & 0x1fff, type = m.basic >> 50 & 15;
	if (size > 4096 || type != 6)
		return lacks(Lacks::vmcs_format, m.basic);
	c.revision = u32(m.basic) & 0x7fffffff;

	/* Virtual NMIs without a window to wait for would be of no use. */
	const bool vnmi = s.vnmi && (m.proc >> 32 & proc::nmi_window);
	const Word p = choose(m.pin, pin::external_interrupt | pin::nmi, vnmi ? pin::virtual_nmi : 0, pin_default1);
	if (p.trouble)
		return lacks(Lacks::pin, p.trouble);
	c.pin = p.value;
	c.vnmi = c.pin & pin::virtual_nmi;
	c.preemption_timer = m.pin >> 32 & pin::preemption_timer;

	/* Without the shadow every access to CR8 comes to us: a guest would read the host's. */
	c.tpr_shadow = s.tpr_shadow && (m.proc >> 32 & proc::tpr_shadow);
	const u32 proc_required = proc::hlt | proc::mwait | proc::rdpmc | proc::tsc_offset | proc::mov_dr |
				  proc::unconditional_io | proc::msr_bitmaps | proc::monitor | proc::secondary |
				  proc::cr8_load | (c.tpr_shadow ? proc::tpr_shadow : proc::cr8_store);
	/* Whoever has the window controls may have them off. */
	const Word q = choose(m.proc, proc_required, 0, proc_default1);
	if (q.trouble || !(m.proc >> 32 & proc::interrupt_window))
		return lacks(Lacks::proc, q.trouble ? q.trouble : proc::interrupt_window);
	c.proc = q.value;

	const u32 by_cpuid = proc2::rdtscp | proc2::invpcid | proc2::xsaves | proc2::rdrand | proc2::rdseed;
	u32 optional = proc2::pause_loop | proc2::wbinvd | proc2::encls;
	const u64 e = m.ept_vpid;
	if (s.vpid && (e & ept_cap::invvpid) && (e & ept_cap::invvpid_all))
		optional |= proc2::vpid;
	if (s.unrestricted)
		optional |= proc2::unrestricted;
	const Word r = choose(m.proc2, proc2::ept, optional, 0);
	if (r.trouble)
		return lacks(Lacks::proc2, r.trouble);
	c.proc2 = r.value;
	c.proc2_by_cpuid = u32(m.proc2 >> 32) & by_cpuid;
	c.vpid = c.proc2 & proc2::vpid;
	c.unrestricted = c.proc2 & proc2::unrestricted;
	c.pause_loop = c.proc2 & proc2::pause_loop;

	/* Both or none: a guest's PAT must not stay behind. */
	c.pat = (m.exit >> 32 & exit_control::load_pat) && (m.entry >> 32 & entry_control::load_pat);
	const Word x = choose(m.exit, exit_control::save_debug | exit_control::host_64 | exit_control::load_efer,
			      c.pat ? exit_control::load_pat : 0, exit_default1);
	if (x.trouble)
		return lacks(Lacks::exit, x.trouble);
	c.exit = x.value;
	const Word y = choose(m.entry, entry_control::load_debug | entry_control::load_efer,
			      c.pat ? entry_control::load_pat : 0, entry_default1);
	if (y.trouble || !(m.entry >> 32 & entry_control::ia32e))
		return lacks(Lacks::entry, y.trouble ? y.trouble : entry_control::ia32e);
	c.entry = y.value;

	/* All contexts: what another hypervisor has left is in none of ours. */
	const u64 ept_required = ept_cap::levels4 | ept_cap::write_back | ept_cap::pages_2m | ept_cap::invept |
				 ept_cap::invept_all;
	if ((e & ept_required) != ept_required)
		return lacks(Lacks::ept, ept_required & ~e);
	c.invept_single = e & ept_cap::invept_single;
	c.ept_5_levels = e & ept_cap::levels5;
	c.ept_1g = e & ept_cap::pages_1g;
	c.ept_ad = s.ept_ad && (e & ept_cap::accessed_dirty);
	/* The log is of dirty bits. */
	c.pml = s.pml && c.ept_ad && (m.proc2 >> 32 & proc2::pml);

	c.cr0_fixed0 = m.cr0_fixed0;
	c.cr0_fixed1 = m.cr0_fixed1;
	c.cr4_fixed0 = m.cr4_fixed0;
	c.cr4_fixed1 = m.cr4_fixed1;
	return {Lacks::nothing, 0, c};
}

}
