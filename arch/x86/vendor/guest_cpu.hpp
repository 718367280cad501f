/* SPDX-License-Identifier: GPL-2.0-only */
/* One guest processor in hardware, in the groups in which the core uses it. */
#pragma once
#include "arch/x86/cpu/cpuid.hpp"
#include "arch/x86/cpu/debugreg.hpp"
#include "arch/x86/cpu/events.hpp"
#include "arch/x86/cpu/msr.hpp"
#include "arch/x86/vendor/exit.hpp"

namespace kx {

/* Its life, and the switch into the guest. */
template <class C>
concept WorldSwitch = requires(C &c, const C &k, unsigned cpu) {
	{ c.init() } -> std::same_as<Errc>;
	c.reset();
	{ c.loaded(cpu) } -> std::same_as<Loaded>;
	c.unloaded();
	c.entering(); /* interrupts off; then any number of enter() */
	{ c.enter() } -> std::same_as<Entered>;
	{ k.entry_failed() } -> std::same_as<bool>; /* that one: of invalid state; the guest did not run */
};

template <class C>
concept GuestRegisters = requires(C &c, const C &k, Gpr r, u64 v, unsigned n, MsrSlot m) {
	{ k.gpr(r) } -> std::same_as<u64>;
	c.set_gpr(r, v);
	{ k.rip() } -> std::same_as<u64>;
	c.set_rip(v);
	{ k.rflags() } -> std::same_as<u64>;
	c.set_rflags(v);
	{ k.cr2() } -> std::same_as<u64>;
	c.set_cr2(v);
	{ k.cr8() } -> std::same_as<unsigned>;
	c.set_cr8(n);
	{ k.dr6() } -> std::same_as<u64>;
	c.set_dr6(v);
	{ k.dr7() } -> std::same_as<u64>;
	c.set_dr7(v);
	{ k.msr(m) } -> std::same_as<u64>; /* not the TSC's, TSC_AUX, PRED_CMD */
	c.set_msr(m, v);
	c.set_pat(v);
	c.set_tsc_offset(v);
};

template <class C>
concept GuestSegments = requires(C &c, const C &k, Seg s, const Segment &sv, const DescTable &t) {
	{ k.segment(s) } -> std::same_as<Segment>;
	c.set_segment(s, sv);
	{ k.segment_base(s) } -> std::same_as<u64>;
	{ k.cpl() } -> std::same_as<unsigned>;
	{ k.cs_l() } -> std::same_as<bool>;
	{ k.cs_db() } -> std::same_as<bool>;
	{ k.gdt() } -> std::same_as<DescTable>;
	c.set_gdt(t);
	{ k.idt() } -> std::same_as<DescTable>;
	c.set_idt(t);
};

/* What it translates by. Written by Vcpu::set_control_regs() alone. */
template <class C>
concept GuestPagingRegisters = requires(C &c, const C &k, u64 v) {
	{ k.cr0() } -> std::same_as<u64>;
	c.set_cr0(v);
	{ k.cr3() } -> std::same_as<u64>;
	c.set_cr3(v);
	{ k.cr4() } -> std::same_as<u64>;
	{ k.cr4_exiting() } -> std::same_as<u64>; /* those bits right that no guest changes without an exit */
	c.set_cr4(v);
	{ k.efer() } -> std::same_as<u64>;
	c.set_efer(v);
};

/* Where V::keeps_pdptes. */
template <class C>
concept PdpteRegisters = requires(C &c, const C &k, unsigned n, u64 v) {
	{ k.pdpte(n) } -> std::same_as<u64>;
	c.set_pdpte(n, v);
};

template <class C>
concept GuestTlb = requires(C &c, Hpa root) {
	c.set_root(root);  /* a switch: what was cached by it before stays */
	c.flush_all();	   /* of whatever root, before it enters by that */
	c.flush_current(); /* of this one */
};

/* One event goes in at an entry. */
template <class C>
concept GuestEvents = requires(C &c, const C &k, InterruptShadow sh, const Exception &e, const SoftwareEvent &se,
			       u8 vector) {
	{ k.interrupt_shadow() } -> std::same_as<InterruptShadow>;
	c.set_interrupt_shadow(sh);
	c.inject(e); /* #BP or #OF: of an instruction at RIP without prefixes */
	c.inject(se);
	c.inject_interrupt(vector);
	c.inject_nmi();
	c.drop_injection(); /* not entered after all: also what was set up to wait for the next event's time */
	c.want_interrupt_window();
	c.close_interrupt_window();
};

/* Everything but init() and the constructors runs under the vCPU's mutex or in its thread; loaded(), unloaded(),
 * enter() with preemption off. */
template <class C>
concept GuestCpu = WorldSwitch<C> && GuestRegisters<C> && GuestSegments<C> && GuestPagingRegisters<C> && GuestTlb<C> &&
		   GuestEvents<C>;

}
