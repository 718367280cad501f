/* SPDX-License-Identifier: GPL-2.0-only */
/* AMD's vendor: what the core asks for beyond a GuestCpu. The vCPU is a template parameter throughout. */
#pragma once
#include "arch/x86/mmu/caps.hpp"
#include "arch/x86/mmu/long_mode.hpp"
#include "arch/x86/svm/cpu.hpp"
#include "arch/x86/svm/mov_cr.hpp"

namespace kx::svm {

struct Svm {
	using Cpu = svm::Cpu;
	using TdpFormat = LongMode; /* nested tables have the host's own format */

	static constexpr const char *name = "svm";
	static constexpr bool state_needs_loading = false, keeps_pdptes = false, logs_writes = false;
	static Errc init() { return host.init(); }
	static void exit() { host.destroy(); }
	static Errc online(unsigned cpu) { return host.online(cpu); }
	static void offline(unsigned cpu) { host.offline(cpu); }
	static void emergency() { Host::emergency(); }
	/* After init(). */
	static VirtSupport support();
	static MmuCaps mmu_caps();

	template <class Vcpu> static Fast fast_exit(Vcpu &v);
	template <class Vcpu> static Next slow_exit(Vcpu &v);
	/* What EXITINTINFO says was not delivered goes back to the queue. */
	template <class Vcpu> static void collect_delivery(Vcpu &v);

	template <class Vcpu> static bool was_delivering(const Vcpu &v)
	{
		return event::Valid::test(v.hw.control().exit_int_info);
	}
	template <class Vcpu> static CutShort cut_short(const Vcpu &v)
	{
		const VmcbControl &c = v.hw.control();
		return {c.exit_int_info, c.exit_code, c.exit_info_1};
	}

	/* --- NMIs: without virtual NMIs the end of a handler shows by its IRET ---------------------- */
	template <class Vcpu> static bool nmi_allowed(Vcpu &v)
	{
		return !v.events.nmi_masked() && v.hw.interrupt_shadow() == InterruptShadow::none;
	}
	/* The mask may have changed: follow the handler's IRET or leave it alone. */
	template <class Vcpu> static void nmi_masked(Vcpu &v)
	{
		if (v.events.nmi_masked())
			v.hw.intercept_iret();
		else
			v.hw.ignore_iret();
	}
	/* The mask as it is now: the IRET has told already. */
	template <class Vcpu> static void sync_nmi(Vcpu &) {}
	template <class Vcpu> static void want_nmi_window(Vcpu &v);
	/* Every mode of a guest can be entered. */
	template <class Vcpu> static Next check_mode(Vcpu &) { return Next::guest; }

	/* Bytes of the instruction that a nested fault came with. APM vol. 2 §15.8.4 */
	template <class Vcpu> static unsigned prefetched(Vcpu &v, u8 *bytes)
	{
		const VmcbControl &c = v.hw.control();
		if (!host.caps().decode_assists || c.exit_code != exit::npf)
			return 0;
		const unsigned n = c.insn_len & 15;
		__builtin_memcpy(bytes, c.insn_bytes, 15);
		return n;
	}
	template <class Vcpu> static void cpuid_changed(Vcpu &v)
	{
		v.hw.follow_cpuid(v.cpuid);
	}
};

}
