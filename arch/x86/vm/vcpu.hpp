/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A virtual CPU. The class is declared here; its parts are in vcpu_run.hpp (KVM_RUN), vcpu_exit.hpp
 * (what exits ask for, in no vendor's terms), vcpu_registers.hpp (those that read and write registers),
 * vcpu_paging.hpp (what the guest translates by), vcpu_io.hpp (what goes out to the VMM and comes back),
 * vcpu_emulate.hpp (the emulator's machine), vcpu_reports.hpp (what cannot go on) and vcpu_state.hpp
 * (the ioctls that read and write state).
 */
#pragma once
#include <linux/kvm.h>
#include "arch/x86/cpu/guest_role.hpp"
#include "arch/x86/cpu/sregs.hpp"
#include "arch/x86/emulate/emulation.hpp"
#include "arch/x86/emulate/outcome.hpp"
#include "arch/x86/emulate/task_switch.hpp"
#include "arch/x86/vm/fetch_memo.hpp"
#include "arch/x86/vm/vcpu_stats.hpp"
#include "arch/x86/vm/vm.hpp"

namespace kx {

enum class Rewrite : u8 { changed, all }; /* all: what hardware has is not known */
enum class Implicit : u8 { no, yes }; /* a supervisor access whatever the CPL */

template <Vendor V> class Vcpu : public VcpuBase {
public:
	using TdpFormat = typename V::TdpFormat;

	/* Hot: what each exit touches. */
	typename V::Cpu hw;
	const unsigned long *thread_flags = nullptr;
	Events events;
	CpuidTable cpuid;
	Vm<V> &vm;

	MsrFile msrs;
	VcpuTsc tsc;
	DebugRegs debug;
	typename Memory<TdpFormat, VmTlb>::Vcpu mmu;
	u64 xcr0 = xcr0::fp;
	u64 tsc_aux = 0;
	u32 pkru = 0;
	kvm_run *run = nullptr;
	VcpuStats stats;

	Vcpu(Vm<V> &v, u32 id);
	~Vcpu();
	/* Sleeps. */
	Errc init();
	/* It is one of the VM's now: its TSC starts, or joins those of the others. Sleeps. */
	void start_tsc()
	{
		const OnCpu on{*this};
		write(MsrSlot::tsc, 0, MsrBy::host);
	}

	/* --- the file ------------------------------------------------------------------------- */
	long ioctl(unsigned cmd, unsigned long arg);
	void *page(unsigned long pgoff);
	Result<int> stats_fd();
	/* From its file of statistics, in any thread. Sleeps. */
	long read_stats(u64 to, size_t n, u64 pos) const;
	void sched_in(unsigned c);
	void sched_out() { hw.unloaded(); }

	/* --- what exits ask for: vcpu_exit.hpp, vcpu_registers.hpp, vcpu_reports.hpp -------------- */
	ControlRegs regs() const { return {hw.cr0(), hw.cr3(), hw.cr4(), hw.efer()}; }
	/* Refers to r, which has to outlive it. */
	MsrContext msr_context(const ControlRegs &r) const { return {cpuid, sys->caps, sys->limits, r}; }
	MsrContext msr_context(ControlRegs &&) const = delete;
	bool in_64bit() const { return (hw.efer() & efer::lma) && hw.cs_l(); }
	u64 linear_rip() const { return in_64bit() ? hw.rip() : u32(hw.segment_base(Seg::cs) + hw.rip()); }
	/* MSR backend. */
	u64 read(MsrSlot s) const;
	void write(MsrSlot s, u64 v, MsrBy by);

	/* Past the instruction that exited: RIP, the interrupt shadow, a single step that ends with it. */
	Next skip(u64 next_rip);
	/* RIP length bytes on, as wide as the code segment has it. */
	u64 rip_after(unsigned length) const;
	/* Up to 15 bytes at RIP; 0: the fetch faulted, which is raised unless told otherwise. */
	unsigned fetch(u8 (&bytes)[15], FetchFault f = FetchFault::raise);
	const GuestRole &role();
	/* The guest's own paging; want as pfec. */
	emulate::Translation walk(GuestRam &ram, Gva a, u32 want, Implicit implicit);
	Next raise(const Exception &e);
	Next cpuid_exit(u64 next_rip);
	Next rdmsr(u64 next_rip);
	Next wrmsr(u64 next_rip);
	Next xsetbv(u64 next_rip);
	Next mov_to_cr(unsigned cr, Gpr from, u64 next_rip);
	Next mov_from_cr(unsigned cr, Gpr to, u64 next_rip);
	Next lmsw(u16 value, u64 next_rip);
	Next clts(u64 next_rip);
	Next mov_to_dr(unsigned dr, Gpr from, u64 next_rip);
	Next mov_from_dr(unsigned dr, Gpr to, u64 next_rip);
	/* LMSW, SMSW or CLTS, whose bytes these are. */
	Next cr0_instruction(Span<const u8> bytes);
	Next vmcall(u64 next_rip);
	Next pio(PioDirection d, u16 port, u8 size, u64 next_rip);
	/* INS or OUTS at RIP, elements of that size. */
	Next string_pio(PioDirection d, u16 port, u8 size);
	Next hlt(u64 next_rip);
	/* #DB with what goes into DR6, in the format of pending debug exceptions. */
	Next debug_exception(u64 payload);
	/* A hardware task switch the processor leaves to us; event: what it came of, and is queued again. */
	Next task_switch(const emulate::TaskSwitch &t, Events::Delivery event);
	/* The processor cannot run the mode the guest is in. */
	Next mode_unsupported();
	Next shutdown();
	/* A fault of the nested page tables; code as pfec. */
	Next tdp_fault(Gpa gpa, u32 code, FaultOf of);
	/* Pages the processor has logged. Preemption off. */
	void log_writes(Span<const u64> gpas);
	/* The same as a fast exit: only permissions, without a lock. */
	Fast fast_fault(Gpa gpa, u32 code);
	/* Run the emulator on the instruction at RIP. */
	Next emulate(emulate::Hint hint);
	Next internal_error(u32 suberror, Span<const u64> data);
	Next emulation_failed();
	Next unexpected_exit(u64 reason);
	/* An exception that is not the guest's to handle. */
	Next exception_exit(Vector v, u32 error);
	Next fail_entry(u64 reason);
	void reset_after_shutdown() { reset(); }
	Next fail(Errc e)
	{
		error_ = e;
		return Next::error;
	}

	Next apply(const OrException<CrWrite> &w, u64 next_rip);
	/* False, and nothing is changed: page-directory pointers that cannot be loaded. */
	bool set_control_regs(const CrWrite &c, Rewrite how = Rewrite::changed);
	bool set_context(PagingContext to, const CrWrite &c);
	/* The four entries that cr3 points to under PAE paging; false: one has a reserved bit, or no memory. */
	bool read_pdptes(u64 cr3, u64 (&to)[4]);

	bool interrupt_allowed() const
	{
		return (hw.rflags() & rflags::intf) && hw.interrupt_shadow() == InterruptShadow::none;
	}
	bool ready_for_injection() const
	{
		return interrupt_allowed() && !events.needs_reinjection() && !events.raised();
	}

	Page<u8> pio_page;
	emulate::Emulation emulation;
	FetchMemo fetched;

private:
	template <Vendor W> friend class VcpuMachine;

	/* While it lives the state is within reach. Not beside KVM_RUN, which loads itself. */
	class OnCpu {
		Vcpu &v_;

	public:
		explicit OnCpu(Vcpu &v) : v_{v}
		{
			if constexpr (V::state_needs_loading)
				kx_thread_load(v.thread_);
		}
		OnCpu(const OnCpu &) = delete;
		~OnCpu()
		{
			if constexpr (V::state_needs_loading)
				kx_thread_put(v_.thread_);
		}
	};

	alignas(8) unsigned char fpu_[KX_SIZEOF_FPU];
	alignas(8) unsigned char thread_[KX_SIZEOF_THREAD];
	Page<kvm_run> run_page_;
	Errc error_ = Errc::ok;
	PagingContext context_;
	struct {
		u64 cr0 = 0, cr4 = 0, efer = 0;
		PagingContext context;
		GuestRole role;
	} role_;
	u32 host_pkru_ = 0;
	bool fpu_made_ = false;
	u32 mp_state_ = KVM_MP_STATE_RUNNABLE;
	bool sigmask_set_ = false;
	u64 sigmask_ = 0;

	/* vcpu_run.hpp */
	Errc run_ioctl();
	Next loop();
	Next enter_once();
	Next take_requests();
	void settle_exception();
	Next inject_events();
	/* Behind an entry that had an event to deliver. */
	void delivered();
	/* By WRPKRU, which needs CR4.PKE alone, or by XRSTOR. */
	bool reaches_pkru() const
	{
		return sys->pku && ((hw.cr4_exiting() & cr4::pke) ||
				    ((hw.cr4_exiting() & cr4::osxsave) && (xcr0 & xcr0::pkru)));
	}
	void guest_state_in();
	void guest_state_out();
	void report();
	CpuidRuntime cpuid_runtime() const { return {hw.cr4(), msrs.apic_base(), xcr0, msrs.xss()}; }
	void refresh_cpuid() { cpuid.refresh(cpuid_runtime(), sys->caps); }
	void reset();
	void follow_role();
	Errc load_root();
	Next outcome(emulate::Outcome o);
	Next single_step();
	void sync_debug();
	Next after_fault(const FaultOutcome &r, Gpa gpa, u32 code, FaultOf of);
	OrException<unsigned> dr_number(unsigned dr);
	void apply_effect(MsrEffect e);
	void follow_host_tsc();
	void set_offset() { hw.set_tsc_offset(tsc.offset()); }

	/* vcpu_io.hpp */
	Next port_exit(PioDirection d, u16 port, u8 size, u32 count);
	Next mmio_exit(const emulate::Outcome &o, u8 is_write);
	Next finish();
	emulate::Position position();
	/* Ahead of what may change it. */
	void note_position()
	{
		if (emulation.pending.to_be_noted())
			emulation.pending.note(position());
	}

	/* vcpu_state.hpp */
	Errc state_ioctl(unsigned cmd, unsigned long arg);
	Errc get_regs(unsigned long arg);
	Errc set_regs(unsigned long arg);
	Errc get_sregs(unsigned long arg);
	Errc set_sregs(unsigned long arg);
	Result<Array<u8>> fpu_image();
	Errc get_fpu(unsigned long arg);
	Errc set_fpu(unsigned long arg);
	Errc get_xsave(unsigned long arg);
	Errc set_xsave(unsigned long arg);
	Errc get_xcrs(unsigned long arg);
	Errc set_xcrs(unsigned long arg);
	Errc get_debugregs(unsigned long arg);
	Errc set_debugregs(unsigned long arg);
	Errc get_events(unsigned long arg);
	Errc set_events(unsigned long arg);
	Errc get_mp_state(unsigned long arg);
	Errc set_mp_state(unsigned long arg);
	Errc get_cpuid(unsigned long arg);
	Errc set_cpuid(unsigned cmd, unsigned long arg);
	Errc set_signal_mask(unsigned long arg);
	Errc interrupt(unsigned long arg);
	Errc setup_mce(unsigned long arg);
	Errc set_mce(unsigned long arg);
	long msrs_ioctl(unsigned cmd, unsigned long arg);
};

}
