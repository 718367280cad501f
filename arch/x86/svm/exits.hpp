/* SPDX-License-Identifier: GPL-2.0-only */
/* #VMEXIT, from EXITCODE to what the core calls it. APM vol. 2 §15.7-15.13, appendix C. */
#pragma once
#include "arch/x86/svm/svm.hpp"

namespace kx::svm {

/* Interrupts off, no lock held, RCU not watching: nothing but this vCPU's own memory. */
template <class Vcpu> Fast Svm::fast_exit(Vcpu &v)
{
	const VmcbControl &c = v.hw.control();
	const u64 code = c.exit_code;
	if (code == exit::exception + u64(Vector::mc)) [[unlikely]]
		return Fast::machine_check;
	if (v.hw.stepping()) [[unlikely]]
		return Fast::slow; /* its TF has to go before the instruction is done */
	if (code == exit::npf) /* of a delivery: what was not delivered has to go in again */
		return event::Valid::test(c.exit_int_info) ? Fast::slow
							   : v.fast_fault(Gpa{c.exit_info_2}, u32(c.exit_info_1));
	if (!v.hw.has_next_rip())
		return Fast::slow;
	switch (code) {
	case exit::cpuid:
		v.cpuid_exit(c.next_rip);
		break;
	case exit::msr:
		if (c.exit_info_1)
			return Fast::slow;
		v.rdmsr(c.next_rip);
		break;
	case exit::vmmcall:
		v.vmcall(c.next_rip);
		break;
	default:
		return Fast::slow;
	}
	return v.events.any() ? Fast::settled : Fast::again;
}

namespace detail {

/* The processor tells no length: it is looked for in the bytes, and if they are not there any more, what is there
 * now runs. Where it takes no next RIP the instruction is executed again, in a shadow, so that nothing comes
 * between: with RIP advanced by hand a fault of the delivery would return behind it. */
template <class Vcpu> void requeue_software(Vcpu &v, SoftwareEvent::By by, u8 vector)
{
	namespace opcode = emulate::opcode;
	if (!v.hw.has_next_rip())
		return v.hw.set_interrupt_shadow(InterruptShadow::either);
	u8 bytes[15];
	const unsigned n = v.fetch(bytes, FetchFault::ignore);
	const emulate::Opcode &op = by == SoftwareEvent::By::interrupt ? opcode::int_n
				    : Vector(vector) == Vector::bp     ? opcode::int3
								       : opcode::into;
	const unsigned length = emulate::intercepted_length(
		{bytes, n}, op, v.in_64bit() ? emulate::RexBytes::present : emulate::RexBytes::none);
	if (length && (by == SoftwareEvent::By::exception || bytes[length - 1] == vector))
		v.events.requeue_software({by, vector, u8(length), v.linear_rip()});
}

}

template <class Vcpu> void Svm::collect_delivery(Vcpu &v)
{
	v.hw.end_step();
	if (v.hw.iret_done()) [[unlikely]] {
		v.events.unmask_nmi();
		v.hw.forget_iret();
	}
	const u64 info = v.hw.control().exit_int_info;
	if (!(info & event::Valid::mask)) [[likely]]
		return;
	if (v.hw.entry_failed()) [[unlikely]]
		return; /* no guest ran; the field is old */
	const u8 vector = u8(event::Vector::get(info));
	switch (event::Type::get(info)) {
	case event::intr:
		v.events.requeue_interrupt(vector);
		break;
	case event::nmi:
		v.events.requeue_nmi();
		break;
	case event::exception:
		if (is_software(Vector(vector)))
			detail::requeue_software(v, SoftwareEvent::By::exception, vector);
		else
			v.events.requeue({Vector(vector), event::ErrorValid::test(info), u32(event::Error::get(info))});
		break;
	case event::soft:
		detail::requeue_software(v, SoftwareEvent::By::interrupt, vector);
		break;
	default:
		break;
	}
}

/* An NMI waits for the end of the handler of another: the next IRET exits before it executes, and one
 * single step later NMIs are open again. With a shadow only, the step is enough. */
template <class Vcpu> void Svm::want_nmi_window(Vcpu &v)
{
	if (v.events.nmi_masked() && !v.hw.iret_seen())
		return; /* the IRET exit comes first */
	v.hw.step_once();
}

namespace detail {

/* Where the next instruction is: from the CPU, or by looking at the bytes. */
template <class Vcpu, class F> Next with_next_rip(Vcpu &v, const emulate::Opcode &op, F f)
{
	if (v.hw.has_next_rip())
		return f(v.hw.next_rip());
	u8 bytes[15];
	const unsigned n = v.fetch(bytes);
	const unsigned length = emulate::intercepted_length(
		{bytes, n}, op, v.in_64bit() ? emulate::RexBytes::present : emulate::RexBytes::none);
	/* The fetch faulted (that is queued now), or the code is not what exited: have it exit again. */
	return length ? f(v.rip_after(length)) : Next::guest;
}

template <class Vcpu> Next cr_or_dr(Vcpu &v, unsigned n, MovCr::Form form)
{
	const VmcbControl &c = v.hw.control();
	Gpr gpr;
	u64 next;
	const bool of_dr = form == MovCr::Form::from_dr || form == MovCr::Form::to_dr;
	const bool assisted = host.caps().decode_assists && host.caps().nrips && (c.exit_info_1 >> 63 || of_dr);
	if (assisted) {
		gpr = Gpr(c.exit_info_1 & 15);
		next = c.next_rip;
	} else {
		u8 bytes[15];
		const unsigned got = v.fetch(bytes);
		if (!got)
			return Next::guest;
		const MovCr m = decode_mov_cr({bytes, got}, v.in_64bit() ? Width::long64 : Width::legacy);
		/* LMSW, SMSW, CLTS: also exits of CR0. */
		if (m.form == MovCr::Form::other)
			return form == MovCr::Form::from_cr || form == MovCr::Form::to_cr ? v.cr0_instruction({bytes, got}) : Next::guest;
		if (!explains(m, form, v.hw.cpl()))
			return Next::guest; /* it exits again, as what it is now */
		/* Some emulated processors name the wrong register in the exit code. */
		n = m.reg;
		gpr = m.gpr;
		next = v.rip_after(m.length);
	}
	switch (form) {
	case MovCr::Form::to_cr: return v.mov_to_cr(n, gpr, next);
	case MovCr::Form::from_cr: return v.mov_from_cr(n, gpr, next);
	case MovCr::Form::to_dr: return v.mov_to_dr(n, gpr, next);
	case MovCr::Form::from_dr: return v.mov_from_dr(n, gpr, next);
	default: return Next::guest;
	}
}

template <class Vcpu> Next io(Vcpu &v)
{
	const VmcbControl &c = v.hw.control();
	const u64 info = c.exit_info_1;
	const PioDirection d = ioio::In::test(info) ? PioDirection::in : PioDirection::out;
	const u8 size = u8(ioio::Size::get(info));
	const u16 port = u16(ioio::Port::get(info));
	return ioio::String::test(info) ? v.string_pio(d, port, size) : v.pio(d, port, size, c.exit_info_2);
}

/* EXITINTINFO tells what came to a gate, and collect_delivery has queued it again. */
template <class Vcpu> Next task_switch(Vcpu &v)
{
	namespace info = svm::task_switch;
	using By = emulate::TaskSwitch::By;
	using enum Events::Delivery;
	const VmcbControl &c = v.hw.control();
	const u64 how = c.exit_info_2, was = c.exit_int_info, type = event::Type::get(was);
	emulate::TaskSwitch t{.by = info::Iret::test(how)    ? By::iret
				   : info::Jump::test(how)   ? By::jmp
				   : event::Valid::test(was) ? By::gate
							     : By::call,
			      .selector = u16(c.exit_info_1),
			      .return_rip = v.hw.rip(),
			      .flags = (v.hw.rflags() & ~rflags::rf) | (info::Rf::test(how) ? rflags::rf : 0)};
	if (t.by != By::gate || type == event::soft ||
	    (type == event::exception && is_software(Vector(event::Vector::get(was))))) {
		u8 bytes[15];
		const unsigned got = v.fetch(bytes);
		const unsigned length = emulate::task_switch_length({bytes, got}, v.hw.cs_db() ? 4 : 2);
		if (!length) /* the fetch faulted, or the code is not what exited */
			return Next::guest;
		t.return_rip = v.rip_after(length);
		return v.task_switch(t, t.by == By::gate ? software : none);
	}
	t.external = true;
	t.has_error = info::HasError::test(how);
	t.error = u32(info::Error::get(how));
	return v.task_switch(t, type == event::intr ? interrupt : type == event::nmi ? nmi : exception);
}

template <class Vcpu> Next exception(Vcpu &v, Vector vec)
{
	const VmcbControl &c = v.hw.control();
	switch (vec) {
	case Vector::mc:
		return Next::guest; /* the host has taken it meanwhile */
	case Vector::ac:
		return v.raise(Exception::coded(vec, u32(c.exit_info_1)));
	case Vector::db:
		if (v.hw.stepped())
			return Next::guest;
		/* The processor has written DR6 already. */
		return v.debug_exception(v.hw.dr6() ^ dr6::active_low);
	default:
		return v.unexpected_exit(c.exit_code);
	}
}

}

template <class Vcpu> Next Svm::slow_exit(Vcpu &v)
{
	const VmcbControl &c = v.hw.control();
	const u64 code = c.exit_code;
	switch (code) {
	case exit::npf:
		return v.tdp_fault(Gpa{c.exit_info_2}, u32(c.exit_info_1) & 0x1f,
				      npf::Final::test(c.exit_info_1) ? FaultOf::access : FaultOf::walk);
	case exit::intr:
	case exit::nmi:
	case exit::smi:
	case exit::init:
		return Next::guest; /* the host has taken it meanwhile */
	case exit::ioio:
		return detail::io(v);
	case exit::vintr:
		v.hw.close_interrupt_window();
		return Next::guest;
	case exit::hlt:
		return detail::with_next_rip(v, emulate::opcode::hlt, [&](u64 n) { return v.hlt(n); });
	case exit::cpuid:
		return detail::with_next_rip(v, emulate::opcode::cpuid, [&](u64 n) { return v.cpuid_exit(n); });
	case exit::msr:
		return c.exit_info_1 ? detail::with_next_rip(v, emulate::opcode::wrmsr, [&](u64 n) { return v.wrmsr(n); })
				     : detail::with_next_rip(v, emulate::opcode::rdmsr, [&](u64 n) { return v.rdmsr(n); });
	case exit::vmmcall:
		return detail::with_next_rip(v, emulate::opcode::vmmcall, [&](u64 n) { return v.vmcall(n); });
	case exit::xsetbv:
		return detail::with_next_rip(v, emulate::opcode::xsetbv, [&](u64 n) { return v.xsetbv(n); });
	case exit::invd:
	case exit::wbinvd:
		/* The guest's memory is coherent without it. */
		return detail::with_next_rip(v, code == exit::invd ? emulate::opcode::invd : emulate::opcode::wbinvd,
					     [&](u64 n) { return v.skip(n); });
	case exit::monitor:
		/* Not in CPUID, but nothing rather than #UD: KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS is on, and
		 * KVM_CAP_DISABLE_QUIRKS2 is not there to switch it off. */
		return detail::with_next_rip(v, emulate::opcode::monitor, [&](u64 n) { return v.skip(n); });
	case exit::mwait:
	case exit::mwait_armed:
		return detail::with_next_rip(v, emulate::opcode::mwait, [&](u64 n) { return v.skip(n); });
	case exit::pause:
		kx_cond_resched();
		return Next::guest; /* PAUSE is executed again; that is what a spinning vCPU wants */
	case exit::iret:
		v.hw.note_iret();
		return Next::guest;
	case exit::rdpmc:
		return v.raise(gp0); /* no counters */
	case exit::rsm:
	case exit::invlpga:
	case exit::vmrun:
	case exit::vmload:
	case exit::vmsave:
	case exit::stgi:
	case exit::clgi:
	case exit::skinit:
	case exit::rdtscp:
	case exit::invpcid:
	case exit::rdpru:
	case exit::invlpgb:
	case exit::invlpgb_illegal:
	case exit::tlbsync:
	case exit::mcommit:
		return v.raise(Exception::plain(Vector::ud)); /* this guest's CPUID has none of them */
	case exit::shutdown:
		/* The VMCB is undefined now. APM vol. 2 §15.14.3 */
		v.reset_after_shutdown();
		return v.shutdown();
	case exit::task_switch:
		return detail::task_switch(v);
	default:
		break;
	}
	if (v.hw.entry_failed())
		return v.fail_entry(u32(exit::invalid)); /* KVM keeps 32 bits of it */
	if (code < exit::dr_read)
		return detail::cr_or_dr(v, unsigned(code & 15),
					code < exit::cr_write ? MovCr::Form::from_cr : MovCr::Form::to_cr);
	if (code < exit::exception)
		return detail::cr_or_dr(v, unsigned(code & 15),
					code < exit::dr_write ? MovCr::Form::from_dr : MovCr::Form::to_dr);
	if (code < exit::exception + 32)
		return detail::exception(v, Vector(code - exit::exception));
	return v.unexpected_exit(code);
}

}
