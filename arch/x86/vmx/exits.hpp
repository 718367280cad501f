/* SPDX-License-Identifier: GPL-2.0-only */
/* VM exits, from the exit reason to what the core calls it. SDM vol. 3 appendix C, §28.2. */
#pragma once
#include "arch/x86/vmx/vmx.hpp"

namespace kx::vmx {

namespace reason {
enum : u32 {
	exception = 0, external_interrupt = 1, triple_fault = 2, init = 3, sipi = 4, interrupt_window = 7,
	nmi_window = 8, task_switch = 9, cpuid = 10, getsec = 11, hlt = 12, invd = 13, invlpg = 14, rdpmc = 15,
	rdtsc = 16, rsm = 17, vmcall = 18, vmclear = 19, vmlaunch = 20, vmptrld = 21, vmptrst = 22, vmread = 23,
	vmresume = 24, vmwrite = 25, vmxoff = 26, vmxon = 27, control_register = 28, debug_register = 29, io = 30,
	rdmsr = 31, wrmsr = 32, invalid_state = 33, msr_load = 34, mwait = 36, monitor = 39, pause = 40,
	machine_check = 41, ept_violation = 48, ept_misconfiguration = 49, invept = 50, rdtscp = 51, invvpid = 53,
	wbinvd = 54, xsetbv = 55, rdrand = 57, invpcid = 58, vmfunc = 59, encls = 60, rdseed = 61, log_full = 62,
	umwait = 67,
	tpause = 68,
};
}

/* Exit qualifications. SDM vol. 3 §28.2.1 */
namespace ept_violation {
using Read = Bits<0>;
using Write = Bits<1>;
using Fetch = Bits<2>;
using Allowed = Bits<5, 3>; /* by the entry that refused */
using Linear = Bits<7>; /* there was a linear address; without one Final says nothing */
using Final = Bits<8>;	/* its tables led to this address; not: it is one in them */
using NmiUnblocked = Bits<12>;
}
namespace cr_access {
using Number = Bits<3, 0>;
using Type = Bits<5, 4>;
using Register = Bits<11, 8>;
using LmswSource = Bits<31, 16>;
enum : u32 { to_cr, from_cr, clts, lmsw };
}
namespace dr_access {
using Number = Bits<2, 0>;
using From = Bits<4>;
using Register = Bits<11, 8>;
}
namespace task_switch {
using Selector = Bits<15, 0>;
using Source = Bits<31, 30>; /* emulate::TaskSwitch::By */
}
namespace io_access {
using Size = Bits<2, 0>; /* bytes, less one */
using In = Bits<3>;
using String = Bits<4>;
using Port = Bits<31, 16>;
}

namespace detail {

constexpr u32 fault_code(u64 q)
{
	return (ept_violation::Allowed::test(q) ? pfec::present : 0) | (ept_violation::Write::test(q) ? pfec::write : 0) |
	       (ept_violation::Fetch::test(q) ? pfec::fetch : 0);
}

}

/* Interrupts off, no lock held, RCU not watching: nothing but this vCPU's own memory. */
template <class Vcpu> Fast Vmx::fast_exit(Vcpu &v)
{
	const u32 why = v.hw.reason();
	switch (why) {
	case reason::cpuid:
		v.cpuid_exit(v.hw.next_rip());
		break;
	case reason::rdmsr:
		v.rdmsr(v.hw.next_rip());
		break;
	case reason::vmcall:
		v.vmcall(v.hw.next_rip());
		break;
	case reason::ept_violation: {
		const u64 q = v.hw.qualification();
		/* Of a delivery: what was not delivered has to go in again. */
		if (info::Valid::test(v.hw.idt_vectoring()) || ept_violation::NmiUnblocked::test(q))
			return Fast::slow;
		return v.fast_fault(Gpa{v.hw.physical_address()}, detail::fault_code(q));
	}
	case reason::exception:
		/* Before anything can unblock NMIs. */
		if (info::Type::get(v.hw.exit_info()) == info::nmi)
			kx_host_nmi();
		else if (Vector(info::Vector::get(v.hw.exit_info())) == Vector::mc)
			return Fast::machine_check;
		return Fast::slow;
	default:
		/* An entry failed of it: bit 31 is set, and reason 41 stands below. SDM vol. 3 §27.9 */
		return (why & 0xffff) == reason::machine_check ? Fast::machine_check : Fast::slow;
	}
	return v.events.any() ? Fast::settled : Fast::again;
}

template <class Vcpu> void Vmx::collect_delivery(Vcpu &v)
{
	if (v.hw.entry_failed()) [[unlikely]]
		return; /* no guest ran; the fields are old */
	const u32 was = v.hw.idt_vectoring();
	if (v.events.nmi_masked()) [[unlikely]]
		sync_nmi(v);
	if (!info::Valid::test(was)) [[likely]]
		return;
	const u8 vector = u8(info::Vector::get(was));
	switch (info::Type::get(was)) {
	case info::external:
		v.events.requeue_interrupt(vector);
		break;
	case info::nmi:
		/* It is masked, and goes in all the same. */
		v.events.mask_nmi();
		v.events.requeue_nmi();
		break;
	case info::hardware:
		v.events.requeue({Vector(vector), info::ErrorValid::test(was), info::ErrorValid::test(was) ? v.hw.idt_error() : 0});
		break;
	case info::software_int:
	case info::software:
		v.events.requeue_software({info::Type::get(was) == info::software ? SoftwareEvent::By::exception
										  : SoftwareEvent::By::interrupt,
					   vector, v.hw.exit_length(), v.linear_rip()});
		break;
	default: /* INT1 exits before it is delivered */
		break;
	}
}

namespace detail {

/* An IRET that is to be executed again had opened NMIs before it faulted. SDM vol. 3 §28.2.3 */
template <class Vcpu> void undo_iret(Vcpu &v, bool unblocked)
{
	if (unblocked && host.caps().vnmi && !info::Valid::test(v.hw.idt_vectoring())) {
		v.events.mask_nmi();
		v.hw.block_nmi(true);
	}
}

template <class Vcpu> Next exception(Vcpu &v)
{
	const u32 i = v.hw.exit_info();
	const Vector vec = Vector(info::Vector::get(i));
	if (info::Type::get(i) == info::nmi || vec == Vector::mc)
		return Next::guest; /* the host has taken it meanwhile */
	undo_iret(v, info::NmiUnblocked::test(i) && vec != Vector::df);
	switch (vec) {
	case Vector::ac:
		/* A split lock is warned of, or the VMM gets SIGBUS. */
		if (guest_caused_ac(host.split_locks(), v.hw.cpl(), v.hw.cr0(), v.hw.rflags()))
			return v.raise(Exception::coded(vec, v.hw.exit_error()));
		return kx_guest_split_lock(v.hw.rip()) ? Next::guest : v.exception_exit(vec, v.hw.exit_error());
	case Vector::db:
		if (info::Type::get(i) == info::privileged)
			v.hw.pass_int1();
		else
			v.hw.rewrite_interrupt_shadow();
		return v.debug_exception(v.hw.qualification());
	default:
		return v.unexpected_exit(v.hw.reason());
	}
}

template <class Vcpu> Next cr_access(Vcpu &v)
{
	namespace q = vmx::cr_access;
	const u64 how = v.hw.qualification();
	const unsigned n = unsigned(q::Number::get(how));
	const Gpr r = Gpr(q::Register::get(how));
	const u64 next = v.hw.next_rip();
	switch (q::Type::get(how)) {
	case q::to_cr: return v.mov_to_cr(n, r, next);
	case q::from_cr: return v.mov_from_cr(n, r, next);
	case q::clts: return v.clts(next);
	default: return v.lmsw(u16(q::LmswSource::get(how)), next);
	}
}

template <class Vcpu> Next dr_access(Vcpu &v)
{
	namespace q = vmx::dr_access;
	const u64 how = v.hw.qualification();
	const unsigned n = unsigned(q::Number::get(how));
	const Gpr r = Gpr(q::Register::get(how));
	return q::From::test(how) ? v.mov_from_dr(n, r, v.hw.next_rip()) : v.mov_to_dr(n, r, v.hw.next_rip());
}

template <class Vcpu> Next io(Vcpu &v)
{
	namespace q = vmx::io_access;
	const u64 how = v.hw.qualification();
	const PioDirection d = q::In::test(how) ? PioDirection::in : PioDirection::out;
	const u8 size = u8(q::Size::get(how) + 1);
	const u16 port = u16(q::Port::get(how));
	return q::String::test(how) ? v.string_pio(d, port, size) : v.pio(d, port, size, v.hw.next_rip());
}

template <class Vcpu> Next ept_violation(Vcpu &v)
{
	const u64 how = v.hw.qualification();
	undo_iret(v, vmx::ept_violation::NmiUnblocked::test(how));
	const bool final = vmx::ept_violation::Linear::test(how) && vmx::ept_violation::Final::test(how);
	return v.tdp_fault(Gpa{v.hw.physical_address()}, fault_code(how), final ? FaultOf::access : FaultOf::walk);
}

/* SDM vol. 3 §28.2.1, table 28-6; IDT-vectoring information tells what came to a gate, and collect_delivery
 * has queued it again. The length of an instruction is there where one did it. */
template <class Vcpu> Next task_switch(Vcpu &v)
{
	namespace q = vmx::task_switch;
	using By = emulate::TaskSwitch::By;
	using enum Events::Delivery;
	const u64 how = v.hw.qualification();
	const u32 was = v.hw.idt_vectoring();
	const u32 type = info::Type::get(was);
	emulate::TaskSwitch t{.by = By(q::Source::get(how)), .selector = u16(q::Selector::get(how)), .return_rip = v.hw.rip(),
			      .flags = v.hw.rflags()};
	if (t.by != By::gate || type >= info::software_int) {
		t.return_rip = v.hw.next_rip();
		return v.task_switch(t, t.by == By::gate ? software : none);
	}
	t.external = true;
	t.has_error = info::ErrorValid::test(was);
	t.error = t.has_error ? v.hw.idt_error() : 0;
	return v.task_switch(t, type == info::external ? interrupt : type == info::nmi ? nmi : exception);
}

template <class Vcpu> Next entry_failed(Vcpu &v)
{
	v.hw.report_failed_entry();
	return v.fail_entry(v.hw.reason() == v.hw.refused ? v.hw.instruction_error() : v.hw.reason());
}

}

template <class Vcpu> Next Vmx::slow_exit(Vcpu &v)
{
	const u32 why = v.hw.reason();
	if (v.hw.entry_failed()) [[unlikely]]
		return detail::entry_failed(v);
	switch (why) {
	case reason::ept_violation:
		return detail::ept_violation(v);
	case reason::external_interrupt:
		return Next::guest; /* the host has taken it meanwhile */
	case reason::log_full: /* and drained by now */
		detail::undo_iret(v, ept_violation::NmiUnblocked::test(v.hw.qualification()));
		return Next::guest;
	case reason::io:
		return detail::io(v);
	case reason::exception:
		return detail::exception(v);
	case reason::interrupt_window:
		v.hw.close_interrupt_window();
		return Next::guest;
	case reason::nmi_window:
		v.hw.close_nmi_window();
		return Next::guest;
	case reason::hlt:
		return v.hlt(v.hw.next_rip());
	case reason::cpuid:
		return v.cpuid_exit(v.hw.next_rip());
	case reason::rdmsr:
		return v.rdmsr(v.hw.next_rip());
	case reason::wrmsr:
		return v.wrmsr(v.hw.next_rip());
	case reason::vmcall:
		return v.vmcall(v.hw.next_rip());
	case reason::control_register:
		return detail::cr_access(v);
	case reason::debug_register:
		return detail::dr_access(v);
	case reason::xsetbv:
		return v.xsetbv(v.hw.next_rip());
	case reason::invd:
	case reason::wbinvd:
		return v.skip(v.hw.next_rip()); /* the guest's memory is coherent without it */
	case reason::monitor:
	case reason::mwait:
		/* Not in CPUID, but nothing rather than #UD: KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS is on, and
		 * KVM_CAP_DISABLE_QUIRKS2 is not there to switch it off. */
		return v.skip(v.hw.next_rip());
	case reason::pause:
		kx_cond_resched();
		return v.skip(v.hw.next_rip());
	case reason::rdpmc:
		return v.raise(gp0); /* no counters */
	case reason::task_switch:
		return detail::task_switch(v);
	case reason::triple_fault:
		return v.shutdown();
	case reason::getsec:
	case reason::rsm:
	case reason::vmclear:
	case reason::vmlaunch:
	case reason::vmptrld:
	case reason::vmptrst:
	case reason::vmread:
	case reason::vmresume:
	case reason::vmwrite:
	case reason::vmxoff:
	case reason::vmxon:
	case reason::invept:
	case reason::invvpid:
	case reason::vmfunc:
	case reason::rdtscp:
	case reason::invpcid:
	case reason::rdrand:
	case reason::rdseed:
	case reason::encls:
	case reason::umwait:
	case reason::tpause:
		return v.raise(Exception::plain(Vector::ud)); /* this guest's CPUID has none of them */
	default:
		return v.unexpected_exit(why);
	}
}

}
