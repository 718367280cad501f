/* SPDX-License-Identifier: GPL-2.0-only */
/* Intel's vendor: what the core asks for beyond a GuestCpu. The vCPU is a template parameter throughout. */
#pragma once
#include "arch/x86/mmu/caps.hpp"
#include "arch/x86/mmu/ept.hpp"
#include "arch/x86/vmx/cpu.hpp"

namespace kx::vmx {

struct Vmx {
	using Cpu = vmx::Cpu;
	using TdpFormat = Ept;

	static constexpr const char *name = "vmx";
	/* State is in the VMCS: whoever reads or writes it has to be on a CPU where that is current. */
	static constexpr bool state_needs_loading = true;
	/* PAE page-directory pointers are registers. */
	static constexpr bool keeps_pdptes = true;
	/* Page-modification logging. */
	static constexpr bool logs_writes = true;

	static Errc init();
	static void exit() { host.destroy(); }
	static Errc online(unsigned cpu) { return host.online(cpu); }
	static void offline(unsigned cpu) { host.offline(cpu); }
	static void emergency() { host.emergency(); }
	/* After init(). */
	static VirtSupport support();
	static MmuCaps mmu_caps();

	template <class Vcpu> static Fast fast_exit(Vcpu &v);
	template <class Vcpu> static Next slow_exit(Vcpu &v);
	/* What IDT-vectoring information says was not delivered goes back to the queue. */
	template <class Vcpu> static void collect_delivery(Vcpu &v);
	template <class Vcpu> static bool was_delivering(const Vcpu &v) { return info::Valid::test(v.hw.idt_vectoring()); }
	template <class Vcpu> static CutShort cut_short(const Vcpu &v)
	{
		return {v.hw.idt_vectoring(), v.hw.reason(), v.hw.qualification()};
	}
	template <class Vcpu> static bool has_logged(const Vcpu &v) { return host.caps().pml && v.hw.has_logged(); }
	/* Preemption off. */
	template <class Vcpu> static void drain_log(Vcpu &v)
	{
		v.hw.drain_log([&v](Span<const u64> written) { v.log_writes(written); });
	}
	/* Whether the guest's mode is one that can be entered; if not, *why has been told to the VMM. */
	template <class Vcpu> static Next check_mode(Vcpu &v)
	{
		return v.hw.mode_unsupported() ? v.mode_unsupported() : Next::guest;
	}

	/* --- NMIs: the CPU follows the handler's IRET; without virtual NMIs the handler is taken to be over
	 * when interrupts are open again ------------------------------------------------------------ */
	template <class Vcpu> static bool nmi_allowed(Vcpu &v)
	{
		sync_nmi(v);
		return !v.events.nmi_masked() && v.hw.interrupt_shadow() == InterruptShadow::none;
	}
	/* Somebody has set the mask. */
	template <class Vcpu> static void nmi_masked(Vcpu &v)
	{
		if (host.caps().vnmi)
			v.hw.block_nmi(v.events.nmi_masked());
		else if (v.events.nmi_masked())
			v.hw.nmi_masked_at(kx_boot_ns());
	}
	/* The mask as it is now. */
	template <class Vcpu> static void sync_nmi(Vcpu &v)
	{
		if (!v.events.nmi_masked())
			return;
		if (host.caps().vnmi ? !v.hw.nmi_blocked() : v.interrupt_allowed() || waited_long(v))
			v.events.unmask_nmi();
	}
	template <class Vcpu> static void want_nmi_window(Vcpu &v)
	{
		/* An NMI window opens in the shadow of STI on some CPUs, where the NMI may not go in. */
		if (host.caps().vnmi && !v.hw.sti_blocked())
			v.hw.want_nmi_window();
		else
			v.hw.want_interrupt_window();
	}

	/* A guest that keeps interrupts off is not to be deaf to its watchdog's NMI. */
	template <class Vcpu> static bool waited_long(Vcpu &v)
	{
		constexpr u64 second = 1'000'000'000;
		return v.events.nmi_pending() && kx_boot_ns() - v.hw.nmi_masked_at() > second;
	}

	/* VMX gives no bytes. */
	template <class Vcpu> static unsigned prefetched(Vcpu &, u8 *) { return 0; }
	template <class Vcpu> static void cpuid_changed(Vcpu &v) { v.hw.follow_cpuid(v.cpuid); }
};

}
