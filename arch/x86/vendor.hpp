/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a vendor gives the core. The core is a template over it: inside KVM_RUN no call depends on the
 * vendor at run time.
 */
#pragma once
#include "arch/x86/cpu/cpu_caps.hpp"
#include "arch/x86/cpu/events.hpp"
#include "arch/x86/emulate/length.hpp"
#include "arch/x86/emulate/task_switch.hpp"
#include "arch/x86/mmu/format.hpp"
#include "arch/x86/vendor/guest_cpu.hpp"

namespace kx {

/* Slots of kx_user_return_set: registers that nobody in the kernel reads. */
namespace user_return {
inline constexpr unsigned tsc_aux = 0, star = 1, lstar = 2, sfmask = 3, tsx_ctrl = 4;
}

/* The vCPU is a template parameter of what a vendor does with it; for whether that is there, any will do. */
struct AnyVcpu;

/* The module on the host's processors. */
template <class V>
concept HostVirtualization = requires(unsigned cpu) {
	{ V::name } -> std::convertible_to<const char *>;
	{ V::init() } -> std::same_as<Errc>; /* module load */
	V::exit();
	{ V::online(cpu) } -> std::same_as<Errc>;
	V::offline(cpu);
	V::emergency();
	/* After init(). */
	{ V::support() } -> std::same_as<VirtSupport>;
	{ V::mmu_caps() } -> std::same_as<MmuCaps>;
};

/* From a stay in the guest to what it ended with. */
template <class V>
concept VendorExits = requires(AnyVcpu &v, const AnyVcpu &k, u8 *bytes) {
	/* Interrupts off, no lock held, RCU not watching: nothing but this vCPU's own memory. */
	{ V::fast_exit(v) } -> std::same_as<Fast>;
	/* What was not delivered goes back to the queue; then the rest, which may sleep. */
	V::collect_delivery(v);
	{ V::slow_exit(v) } -> std::same_as<Next>;
	{ V::was_delivering(k) } -> std::same_as<bool>;
	{ V::cut_short(k) } -> std::same_as<CutShort>;
	/* Of the instruction that exited, up to 15; 0: none are known. */
	{ V::prefetched(v, bytes) } -> std::same_as<unsigned>;
};

/* Before an entry. */
template <class V>
concept VendorEntries = requires(AnyVcpu &v) {
	/* Whether the guest's mode is one that can be entered; if not, the VMM has been told why. */
	{ V::check_mode(v) } -> std::same_as<Next>;
	V::cpuid_changed(v);
};

/* When NMIs are open again is told in ways of their own. */
template <class V>
concept VendorNmis = requires(AnyVcpu &v) {
	{ V::nmi_allowed(v) } -> std::same_as<bool>;
	V::nmi_masked(v); /* somebody has set the mask, or taken it away */
	V::sync_nmi(v);	  /* the mask as it is now */
	V::want_nmi_window(v);
};

/* The processor itself may log what a guest writes. */
template <class V>
concept WriteLog = requires(AnyVcpu &v, const AnyVcpu &k) {
	{ V::has_logged(k) } -> std::same_as<bool>; /* after each stay in the guest, interrupts off */
	V::drain_log(v);			    /* if so: interrupts on, preemption off */
};

template <class V>
concept Vendor = HostVirtualization<V> && VendorExits<V> && VendorEntries<V> && VendorNmis<V> && requires {
	requires GuestCpu<typename V::Cpu>;
	requires TableFormat<typename V::TdpFormat>;
	/* The state is in a place that must be made current on a CPU first: state ioctls load as KVM_RUN does. */
	{ V::state_needs_loading } -> std::convertible_to<bool>;
	/* PAE page-directory pointers are registers, loaded with CR3, and not read from memory at each walk. */
	{ V::keeps_pdptes } -> std::convertible_to<bool>;
	requires !V::keeps_pdptes || PdpteRegisters<typename V::Cpu>;
	{ V::logs_writes } -> std::convertible_to<bool>;
	requires !V::logs_writes || WriteLog<V>;
};

}
