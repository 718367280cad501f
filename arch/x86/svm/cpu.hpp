/* SPDX-License-Identifier: GPL-2.0-only */
/* One guest processor under SVM: its VMCB and what goes with it. Models the Cpu of concept Vendor. */
#pragma once
#include "arch/x86/cpu/insn.hpp"
#include "arch/x86/cpu/tlb_tags.hpp"
#include "arch/x86/svm/host.hpp"
#include "arch/x86/svm/msrpm.hpp"
#include "arch/x86/vendor.hpp"

namespace kx::svm {

/* What entry.S works on; its offsets are written down there as well. */
struct Switch {
	u64 gpr[16]; /* RAX and RSP go through the VMCB */
	u64 vmcb_pa, host_pa;
	u32 spec_ctrl;
	u8 spec_intercepted;
};
static_assert(offsetof(Switch, vmcb_pa) == 128 && offsetof(Switch, host_pa) == 136);
static_assert(offsetof(Switch, spec_ctrl) == 144 && offsetof(Switch, spec_intercepted) == 148);

extern "C" u64 kx_svm_enter(Switch *s);

class Cpu {
	Switch sw_{};
	Vmcb *vmcb_ = nullptr; /* = page_, one load less on the exit path */
	HostCpu *host_ = nullptr;
	void *const *ldt_ = nullptr; /* of the thread's process */
	TlbTags tags_;	/* ASIDs */
	u32 dirty_ = 0; /* groups changed since the last VMRUN: bits of Clean */
	u64 cr0_ = 0, cr4_ = 0, efer_ = 0; /* as the guest sees them, where the VMCB differs */
	bool iret_seen_ = false, stepping_ = false, stepped_ = false;
	u64 iret_rip_ = 0, step_flags_ = 0, step_rip_ = 0, step_dr6_ = 0;
	u64 serial_ = 0; /* never given twice, unlike an address */
	Page<Vmcb> page_;
	MsrPm msrpm_;

public:
	/* Sleeps. */
	Errc init();
	/* Architectural state at INIT or RESET is set through the ordinary setters; this puts the control
	 * area and what SVM itself wants into order. APM vol. 2 §14.1.3 */
	void reset();

	/* --- on the CPU it runs on, preemption off ------------------------------------------- */
	Loaded loaded(unsigned cpu)
	{
		HostCpu *c = &host.cpu(cpu);
		Loaded how = Loaded::again;
		if (host_ != c) {
			how = Loaded::anew;
			host_ = c;
			sw_.host_pa = c->host_pa;
			tags_.moved();
			dirty_ = ~0u; /* nothing of this VMCB is cached here */
		}
		if (c->last_guest != serial_) {
			how = Loaded::anew;
			c->last_guest = serial_;
			kx_other_guest();
		}
		/* FS, GS base and the syscall MSRs of this thread, to be put back after each exit. */
		ldt_ = kx_ldt();
		insn::vmsave(c->host_pa);
		return how;
	}
	void unloaded() {}
	void entering()
	{
		/* The LDT as well; and that one other threads of the process may have changed here since. */
		if (__atomic_load_n(ldt_, __ATOMIC_RELAXED)) [[unlikely]]
			insn::vmsave(host_->host_pa);
	}
	Entered enter()
	{
		VmcbControl &c = vmcb_->control;
		if (!tags_.ready(host_->tags)) [[unlikely]]
			settle_tags();
		c.clean = ~dirty_ & clean_mask;
		vmcb_->save.rax = sw_.gpr[unsigned(Gpr::rax)];
		vmcb_->save.rsp = sw_.gpr[unsigned(Gpr::rsp)];
		const u64 off = kx_svm_enter(&sw_);
		sw_.gpr[unsigned(Gpr::rax)] = vmcb_->save.rax;
		sw_.gpr[unsigned(Gpr::rsp)] = vmcb_->save.rsp;
		c.tlb_control = TlbControl::keep;
		c.event_inj = 0;
		dirty_ = 0;
		return off ? Entered::off : Entered::yes;
	}
	/* QEMU's TCG knows 32 bits of the code. */
	bool entry_failed() const { return u32(exit_code()) == u32(exit::invalid); }
	u64 exit_code() const { return vmcb_->control.exit_code; }
	const VmcbControl &control() const { return vmcb_->control; }

	/* --- registers ------------------------------------------------------------------------- */
	u64 gpr(Gpr r) const { return sw_.gpr[unsigned(r)]; }
	void set_gpr(Gpr r, u64 v) { sw_.gpr[unsigned(r)] = v; }
	u64 rip() const { return vmcb_->save.rip; }
	void set_rip(u64 v) { vmcb_->save.rip = v; }
	u64 rflags() const { return vmcb_->save.rflags; }
	void set_rflags(u64 v) { vmcb_->save.rflags = v; }
	unsigned cpl() const { return vmcb_->save.cpl; }
	Segment segment(Seg s) const;
	u64 segment_base(Seg s) const { return (&vmcb_->save.es)[order(s)].base; }
	void set_segment(Seg s, const Segment &v);
	bool cs_l() const { return vmcb_->save.cs.attrib & attr::L::mask; }
	bool cs_db() const { return vmcb_->save.cs.attrib & attr::Db::mask; }
	DescTable gdt() const { return {vmcb_->save.gdtr.base, u16(vmcb_->save.gdtr.limit)}; }
	DescTable idt() const { return {vmcb_->save.idtr.base, u16(vmcb_->save.idtr.limit)}; }
	void set_gdt(const DescTable &t);
	void set_idt(const DescTable &t);

	/* CR0.TS and MP change without an exit and CR0 altogether once the guest left CD and NW alone. */
	u64 cr0() const { return cr0_intercepted() ? cr0_ : vmcb_->save.cr0; }
	void set_cr0(u64 v);
	u64 cr2() const { return vmcb_->save.cr2; }
	void set_cr2(u64 v)
	{
		vmcb_->save.cr2 = v;
		touch(Clean::cr2);
	}
	u64 cr3() const { return vmcb_->save.cr3; }
	void set_cr3(u64 v)
	{
		vmcb_->save.cr3 = v;
		touch(Clean::crx);
	}
	u64 cr4() const { return cr4_; }
	u64 cr4_exiting() const { return cr4_; }
	void set_cr4(u64 v);
	/* EFER.LMA follows CR0.PG in hardware: CR0 may change without an exit. */
	u64 efer() const { return efer_ | (vmcb_->save.efer & efer::lma); }
	void set_efer(u64 v);
	unsigned cr8() const { return unsigned(vmcb_->control.int_ctl & 15); }
	void set_cr8(unsigned v);
	u64 dr6() const { return vmcb_->save.dr6; }
	u64 dr7() const { return vmcb_->save.dr7; }
	void set_dr6(u64 v)
	{
		vmcb_->save.dr6 = v;
		touch(Clean::drx);
	}
	void set_dr7(u64 v)
	{
		vmcb_->save.dr7 = v;
		touch(Clean::drx);
	}
	/* Not for TSC, TSC_AUX, PRED_CMD and VIRT_SPEC_CTRL, which are nobody's registers here. */
	u64 msr(MsrSlot m) const;
	void set_msr(MsrSlot m, u64 v);
	void set_pat(u64 v)
	{
		vmcb_->save.g_pat = v;
		touch(Clean::np);
	}
	void set_tsc_offset(u64 v)
	{
		vmcb_->control.tsc_offset = v;
		touch(Clean::intercepts);
	}

	/* --- events ------------------------------------------------------------------------------ */
	InterruptShadow interrupt_shadow() const
	{
		return vmcb_->control.int_state & 1 ? InterruptShadow::either : InterruptShadow::none;
	}
	void set_interrupt_shadow(InterruptShadow s)
	{
		vmcb_->control.int_state = (vmcb_->control.int_state & ~u64{1}) | (s != InterruptShadow::none);
	}
	void inject(const Exception &e);
	/* Only where the processor takes the next RIP from the VMCB: has_next_rip(). */
	void inject(const SoftwareEvent &e);
	void inject_interrupt(u8 vector) { inject(event::intr, vector); }
	void inject_nmi() { inject(event::nmi, u8(Vector::nmi)); }
	void drop_injection()
	{
		vmcb_->control.event_inj = 0;
		if (stepping_) [[unlikely]] { /* our TF is nobody's to see, and not the guest's wish next time */
			stepping_ = false;
			set_rflags(step_flags_);
			set_dr6(step_dr6_);
		}
	}
	/* Exit as soon as an interrupt could be taken. */
	void want_interrupt_window();
	void close_interrupt_window();
	bool interrupt_window_wanted() const { return vmcb_->control.int_ctl & vintr::Irq::mask; }

	/* --- the end of an NMI handler: its IRET exits before it executes, and NMIs are open when RIP has
	 * moved on. If one waits the IRET is single-stepped. APM vol. 2 §15.22.2 ------------------- */
	void intercept_iret() { set_intercept(Intercept::iret); }
	void ignore_iret()
	{
		clear_intercept(Intercept::iret);
		iret_seen_ = false;
	}
	void note_iret()
	{
		clear_intercept(Intercept::iret);
		iret_seen_ = true;
		iret_rip_ = rip();
	}
	bool iret_seen() const { return iret_seen_; }
	bool iret_done() const { return iret_seen_ && rip() != iret_rip_; }
	void forget_iret() { iret_seen_ = false; }
	void step_once()
	{
		stepping_ = true;
		step_flags_ = rflags();
		step_rip_ = rip();
		step_dr6_ = dr6();
		set_rflags(rflags() | rflags::tf);
		set_dr6(step_dr6_ & ~step_causes); /* what is there afterwards is the step's doing */
	}
	/* After each exit: takes our TF back. An IRET that went through brought its own flags. */
	void end_step();
	bool stepping() const { return stepping_; }
	/* The #DB at hand is of a step that only we wanted, and of nothing else. */
	bool stepped() const { return stepped_; }

	/* --- memory ------------------------------------------------------------------------------ */
	/* Flushes nothing that was cached by it before. */
	void set_root(Hpa root);
	void flush_all() { tags_.flush_all(); }
	void flush_current() { tags_.flush_current(); }
	/* Instructions this guest's CPUID does not have must not work. */
	void follow_cpuid(const CpuidTable &cpuid);

	bool has_next_rip() const { return host.caps().nrips; }
	u64 next_rip() const { return vmcb_->control.next_rip; }

private:
	static constexpr u64 step_causes = dr6::traps | dr6::bs;
	static constexpr u32 clean_mask = 0x3ff; /* the groups whose changes are followed here */
	static constexpr unsigned order(Seg s)
	{
		constexpr u8 at[seg_count] = {0, 1, 2, 3, 4, 5, 7, 9};
		return at[unsigned(s)];
	}
	void touch(Clean g) { dirty_ |= 1u << unsigned(g); }
	void set_intercept(Intercept i)
	{
		vmcb_->control.intercepts[unsigned(i) / 32] |= 1u << (unsigned(i) % 32);
		touch(Clean::intercepts);
	}
	void clear_intercept(Intercept i)
	{
		vmcb_->control.intercepts[unsigned(i) / 32] &= ~(1u << (unsigned(i) % 32));
		touch(Clean::intercepts);
	}
	bool cr0_intercepted() const { return vmcb_->control.cr_write & 1; }
	u64 *slot(MsrSlot m);
	void inject(u64 type, u8 vector)
	{
		vmcb_->control.event_inj = event::Valid::mask | event::Type::put(type) | event::Vector::put(vector);
	}
	void set_spec_ctrl(u64 v);
	void settle_tags();
};

}
