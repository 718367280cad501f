/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a vendor gives the core. The core is a template over it: inside KVM_RUN no call depends on the
 * vendor at run time.
 */
#pragma once
#include "arch/x86/cpu/debugreg.hpp"
#include "arch/x86/cpu/events.hpp"
#include "arch/x86/cpu/msr.hpp"
#include "arch/x86/emulate/length.hpp"
#include "arch/x86/emulate/task_switch.hpp"
#include "arch/x86/mmu/format.hpp"

namespace kx {

enum class PioDirection : u8 { in, out };

/* Where nested paging refused the processor: in the guest's own tables, or what they led to. */
enum class FaultOf : u8 { walk, access };

enum class InterruptShadow : u8 { none, active }; /* of STI or MOV SS: interrupts wait one instruction */

/* What a fast exit (interrupts off, no lock) came to. */
enum class Fast : u8 {
	again,	 /* dealt with: straight back into the guest */
	settled, /* dealt with, but something has to be injected or looked at first */
	slow,	 /* not for here */
	machine_check, /* neither; and the host has to look into this CPU's banks before anything else runs on it */
};

/* What a slow exit came to. */
enum class Next : u8 {
	guest, /* on with it */
	user,  /* kvm_run says why */
	error, /* KVM_RUN fails with Vcpu::error() */
};

/* Slots of kx_user_return_set: registers that nobody in the kernel reads. */
namespace user_return {
inline constexpr unsigned tsc_aux = 0, star = 1, lstar = 2, sfmask = 3;
}

/* The event whose delivery the last exit cut short, and that exit, as kvm_run tells them. */
struct CutShort {
	u64 event = 0, reason = 0, qualification = 0;
};

enum class Entered : u8 { yes, off }; /* off: virtualization was switched off under us (crash, reboot) */

/* One guest processor in hardware. Everything but init() and the constructors runs under the vCPU's mutex
 * or in its thread; loaded(), unloaded(), enter() with preemption off. */
template <class C>
concept GuestCpu = requires(C &c, const C &k, Gpr r, u64 v, Seg s, const Segment &sv, const DescTable &t, MsrSlot m,
			    InterruptShadow sh, const Exception &e, u8 vector, Hpa root, unsigned cpu) {
	{ c.init() } -> std::same_as<Errc>;
	c.reset();
	c.loaded(cpu);
	c.unloaded();
	c.entering(); /* interrupts off; then any number of enter() */
	{ c.enter() } -> std::same_as<Entered>;
	{ k.entry_failed() } -> std::same_as<bool>; /* that one: of invalid state; the guest did not run */
	{ k.gpr(r) } -> std::same_as<u64>;
	c.set_gpr(r, v);
	{ k.rip() } -> std::same_as<u64>;
	c.set_rip(v);
	{ k.rflags() } -> std::same_as<u64>;
	c.set_rflags(v);
	{ k.cpl() } -> std::same_as<unsigned>;
	{ k.segment(s) } -> std::same_as<Segment>;
	{ k.segment_base(s) } -> std::same_as<u64>;
	c.set_segment(s, sv);
	{ k.gdt() } -> std::same_as<DescTable>;
	c.set_gdt(t);
	{ k.idt() } -> std::same_as<DescTable>;
	c.set_idt(t);
	{ k.cr0() } -> std::same_as<u64>;
	c.set_cr0(v);
	{ k.cr2() } -> std::same_as<u64>;
	c.set_cr2(v);
	{ k.cr3() } -> std::same_as<u64>;
	c.set_cr3(v);
	{ k.cr4() } -> std::same_as<u64>;
	{ k.cr4_exiting() } -> std::same_as<u64>; /* those bits right that no guest changes without an exit */
	c.set_cr4(v);
	{ k.efer() } -> std::same_as<u64>;
	c.set_efer(v);
	{ k.cr8() } -> std::same_as<unsigned>;
	c.set_cr8(0u);
	c.set_dr6(v);
	c.set_dr7(v);
	{ k.dr6() } -> std::same_as<u64>;
	{ k.dr7() } -> std::same_as<u64>;
	{ k.msr(m) } -> std::same_as<u64>;
	c.set_msr(m, v);
	c.set_pat(v);
	c.set_tsc_offset(v);
	{ k.interrupt_shadow() } -> std::same_as<InterruptShadow>;
	c.set_interrupt_shadow(sh);
	c.inject(e);
	c.inject_interrupt(vector);
	c.inject_nmi();
	c.drop_injection(); /* not entered after all: also what was set up to wait for the next event's time */
	c.want_interrupt_window();
	c.close_interrupt_window();
	c.set_root(root);   /* a switch: what was cached by it before stays */
	c.flush_all();	    /* of whatever root, before it enters by that */
	c.flush_current();  /* of this one */
};

/* V::fast_exit and V::slow_exit are templates over the vCPU and checked where they are used. */
template <class V>
concept Vendor = requires(unsigned cpu) {
	requires GuestCpu<typename V::Cpu>;
	requires TableFormat<typename V::TdpFormat>;
	/* The state is in a place that must be made current on a CPU first: state ioctls load as KVM_RUN does. */
	{ V::state_needs_loading } -> std::convertible_to<bool>;
	/* PAE page-directory pointers are registers, loaded with CR3, and not read from memory at each walk. */
	{ V::keeps_pdptes } -> std::convertible_to<bool>;
	/* The processor itself may log what a guest writes: V::has_logged(vcpu) after each stay in the guest, interrupts
	 * off, and if so V::drain_log(vcpu), with interrupts. */
	{ V::logs_writes } -> std::convertible_to<bool>;
	{ V::init() } -> std::same_as<Errc>; /* module load */
	V::exit();
	{ V::online(cpu) } -> std::same_as<Errc>;
	V::offline(cpu);
	V::emergency();
};

}
