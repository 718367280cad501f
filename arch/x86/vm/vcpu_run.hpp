/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM_RUN. An exit comes back from the world switch with interrupts off and is offered to
 * V::fast_exit, which touches this vCPU alone; the rest leaves guest mode, takes pending interrupts
 * and goes to V::slow_exit, which may sleep.
 */
#pragma once
#include "arch/x86/cpu/insn.hpp"
#include "arch/x86/vm/vcpu.hpp"

namespace kx {

inline constexpr unsigned max_fast_exits = 128;

template <Vendor V> void Vcpu<V>::sched_in(unsigned c)
{
	cpu.set_relaxed(c);
	if (hw.loaded(c) == Loaded::anew) [[unlikely]]
		follow_host_tsc();
	/* Until this thread leaves the kernel or another one runs here nobody else touches it. */
	if (sys->limits.tsc_aux)
		kx_user_return_set(0, tsc_aux);
}

template <Vendor V> void Vcpu<V>::follow_host_tsc()
{
	const u64 was = tsc.offset();
	tsc.make_up(kx_tsc_lost);
	if (tsc.offset() != was)
		set_offset();
}

/* Host registers that the guest reads or is subject to and that no other switch covers. An NMI of the host may come
 * while they are the guest's: its handler uses no XSAVE and no vector register (the kernel forbids both in NMIs), and
 * where it looks at user space, as perf does for call chains, a key that the guest closed ends that as a page that is
 * not there would. A machine check of the guest is taken behind guest_state_out(). */
template <Vendor V> void Vcpu<V>::guest_state_in()
{
	if (hw.cr4_exiting() & cr4::osxsave) {
		if (xcr0 != sys->host_xcr0)
			insn::xsetbv(0, xcr0);
		if (msrs.xss() != sys->host_xss)
			insn::wrmsr(msr::IA32_XSS, msrs.xss());
	}
	if (reaches_pkru() && pkru != host_pkru_)
		insn::wrpkru(pkru);
	if (debug.dr7() & dr7::enables) [[unlikely]] {
		insn::write_dr<7>(0); /* or the host breaks where the guest says */
		insn::write_dr<0>(debug.address(0));
		insn::write_dr<1>(debug.address(1));
		insn::write_dr<2>(debug.address(2));
		insn::write_dr<3>(debug.address(3));
	}
}

template <Vendor V> void Vcpu<V>::guest_state_out()
{
	if (reaches_pkru()) {
		pkru = insn::rdpkru();
		if (pkru != host_pkru_)
			insn::wrpkru(host_pkru_);
	}
	if (hw.cr4_exiting() & cr4::osxsave) {
		if (xcr0 != sys->host_xcr0)
			insn::xsetbv(0, sys->host_xcr0);
		if (msrs.xss() != sys->host_xss)
			insn::wrmsr(msr::IA32_XSS, sys->host_xss);
	}
}

template <Vendor V> Next Vcpu<V>::take_requests()
{
	const u32 r = requests.exchange(0);
	if (r & request::flush_all)
		hw.flush_all();
	else if (r & request::flush_current)
		hw.flush_current();
	if (r & request::load_root)
		if (const Errc e = load_root(); e != Errc::ok) {
			requests.or_with(request::load_root);
			return fail(e);
		}
	if (vm.dead())
		return fail(Errc::io);
	return Next::guest;
}

/* A new exception becomes the guest's: its payload goes where the handler looks, and it meets what was being delivered. A
 * hypervisor in the guest that wants it for itself is to be asked before this. */
template <Vendor V> void Vcpu<V>::settle_exception()
{
	if (!events.raised())
		return;
	if (events.take_payload()) {
		const Exception &e = events.new_exception_raised();
		if (e.vector == Vector::pf) {
			hw.set_cr2(e.payload);
		} else {
			sync_debug();
			debug.record(e.payload);
			hw.set_dr6(debug.dr6());
			hw.set_dr7(debug.dr7());
		}
	}
	if (events.settle() == Merge::shutdown)
		events.shut_down();
}

/* One event an entry: an exception, what was half delivered before (the VMM's interrupt counts as that), a
 * new NMI. An exception may have closed the guest to the interrupt that the VMM thought it open for: that
 * one waits for the window. APM vol. 2 §15.20, §8.5 */
template <Vendor V> Next Vcpu<V>::inject_events()
{
	settle_exception();
	if (events.take_shutdown()) [[unlikely]]
		return shutdown();
	if (events.raised()) {
		const Vector x = events.new_exception_raised().vector;
		/* A fault's pushed RFLAGS has RF set, a trap's has not; #DB as a fault is not raised here. */
		if (x != Vector::db && !is_software(x))
			hw.set_rflags(hw.rflags() | rflags::rf);
		events.inject_exception();
	}
	if (events.software_injected() && events.software().at != linear_rip())
		events.forget_software();
	const bool waits = events.interrupt_queued();
	using enum Events::Delivery;
	if (events.injected()) {
		const InjectedException &x = events.exception();
		events.deliver(exception);
		hw.inject(Exception{x.vector, x.has_error, x.error});
	} else if (events.nmi_injected()) {
		/* The VMM may have said otherwise, or have looked while it was held back. */
		events.mask_nmi();
		V::nmi_masked(*this);
		events.deliver(nmi);
		hw.inject_nmi();
	} else if (events.software_injected()) {
		events.deliver(software);
		hw.inject(events.software());
	} else if (waits && interrupt_allowed()) {
		events.deliver(interrupt);
		hw.inject_interrupt(events.interrupt());
		return Next::guest;
	} else if (events.nmi_pending()) {
		if (V::nmi_allowed(*this)) {
			events.inject_nmi();
			V::nmi_masked(*this);
			events.deliver(nmi);
			hw.inject_nmi();
			if (events.nmi_pending()) /* a second one, latched */
				V::want_nmi_window(*this);
		} else {
			V::want_nmi_window(*this);
		}
	}
	if (waits)
		hw.want_interrupt_window();
	return Next::guest;
}

template <Vendor V> void Vcpu<V>::delivered()
{
	if (!hw.entry_failed()) {
		events.take_delivery();
	} else {
		hw.drop_injection();
		events.drop_delivery();
	}
}

/* One stay in guest mode, any number of fast exits long, and the slow exit that ended it. */
template <Vendor V> Next Vcpu<V>::enter_once()
{
	if (requests.relaxed()) [[unlikely]]
		if (const Next n = take_requests(); n != Next::guest)
			return n;
	if (const Next n = V::check_mode(*this); n != Next::guest)
		return n;
	bool nmi_next = false;
	if (events.any()) {
		if (const Next n = inject_events(); n != Next::guest)
			return n;
		nmi_next = events.delivering() && events.nmi_pending() && !events.nmi_masked();
	}
	if (run->request_interrupt_window)
		hw.want_interrupt_window();

	kx_preempt_off();
	kx_irq_off();
	/* A full barrier: whoever asks for something after this finds us in guest mode, or we find the
	 * request below. */
	const CpuMode before = mode.exchange(CpuMode::in_guest);
	const auto work = [this] {
		return (__atomic_load_n(thread_flags, __ATOMIC_RELAXED) & KX_THREAD_WORK) || requests.relaxed();
	};
	if (work()) [[unlikely]] {
		mode.release(before);
		kx_irq_on();
		kx_preempt_on();
		hw.drop_injection();
		events.drop_delivery();
		return Next::guest;
	}
	if (__atomic_load_n(thread_flags, __ATOMIC_RELAXED) & KX_THREAD_NEED_FPU) [[unlikely]]
		kx_fpu_return();
	if (nmi_next) [[unlikely]] /* beside what goes in now there is no room: out again behind it */
		kx_kick_cpu(cpu.relaxed());
	hw.entering();
	guest_state_in();
	kx_guest_enter();

	/* Interrupts stay off over a run of fast exits: a guest, or a processor that lets an exit win over
	 * a pending interrupt, must not keep them off for ever. */
	unsigned budget = max_fast_exits;
	Fast fast;
	Entered entered;
	do {
		entered = hw.enter();
		if (events.delivering()) [[unlikely]]
			delivered();
		if (entered != Entered::yes) [[unlikely]] {
			fast = Fast::settled;
			break;
		}
		fast = V::fast_exit(*this);
	} while (fast == Fast::again && --budget && !work());

	guest_state_out();
	if (V::logs_writes || fast == Fast::machine_check) {
		kx_guest_out();
		if (fast == Fast::machine_check) [[unlikely]] {
			if (kx_machine_check())
				events.shut_down();
			fast = Fast::slow;
		}
		/* Outside is who has nothing to drain: whoever waits for that looks at the mode once this CPU has taken
		 * his interrupt. There may be hundreds of pages to mark, which no interrupt has to wait for. */
		bool logged = false;
		if constexpr (V::logs_writes)
			logged = V::has_logged(*this);
		mode.release(logged ? CpuMode::draining : CpuMode::outside);
		kx_guest_interrupts();
		if constexpr (V::logs_writes)
			if (logged) {
				V::drain_log(*this);
				mode.release(CpuMode::outside);
			}
	} else {
		mode.release(CpuMode::outside);
		kx_guest_leave();
	}
	kx_preempt_on();

	if (entered != Entered::yes) [[unlikely]] {
		vm.die("hardware virtualization was switched off under a running guest", id, 0);
		return fail(Errc::io);
	}
	if (fast != Fast::slow)
		return Next::guest;
	V::collect_delivery(*this);
	return V::slow_exit(*this);
}

template <Vendor V> Next Vcpu<V>::loop()
{
	for (;;) {
		Next n = enter_once();
		if (n != Next::guest)
			return n;
		if (run->request_interrupt_window && ready_for_injection()) {
			stats.request_irq_exits.count();
			run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			return Next::user;
		}
		if (__atomic_load_n(thread_flags, __ATOMIC_RELAXED) & KX_THREAD_WORK)
			if (kx_thread_handle_work()) {
				stats.signal_exits.count();
				run->exit_reason = KVM_EXIT_INTR;
				return fail(Errc::intr);
			}
	}
}

/* The fields every exit fills. */
template <Vendor V> void Vcpu<V>::report()
{
	run->if_flag = (hw.rflags() & rflags::intf) != 0;
	run->cr8 = hw.cr8();
	run->apic_base = msrs.apic_base();
	run->ready_for_interrupt_injection = ready_for_injection();
	run->flags = 0;
}

template <Vendor V> Errc Vcpu<V>::run_ioctl()
{
	if (vm.dead())
		return Errc::io;
	if (sigmask_set_)
		kx_sigmask_enter(&sigmask_);
	thread_flags = kx_thread_flags();
	run->flags = 0;
	error_ = Errc::ok;

	/* The page is the VMM's: each of its fields is read once. */
	const u64 cr8 = __atomic_load_n(&run->cr8, __ATOMIC_RELAXED);
	Next n = Next::guest;
	kx_thread_load(thread_);
	if (run->kvm_valid_regs || run->kvm_dirty_regs || cr8 > 15) {
		n = fail(Errc::inval);
	} else {
		host_pkru_ = kx_host_pkru();
		kx_fpu_load(fpu_);
		if (cr8 != hw.cr8())
			hw.set_cr8(unsigned(cr8));
		n = finish();
		if (n == Next::guest) {
			if (run->immediate_exit)
				n = fail(Errc::intr);
			else
				n = loop();
		}
		kx_fpu_save(fpu_);
	}
	report();
	kx_thread_put(thread_);
	if (sigmask_set_)
		kx_sigmask_leave();
	return n == Next::error ? error_ : Errc::ok;
}

}
