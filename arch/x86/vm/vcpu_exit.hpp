/* SPDX-License-Identifier: GPL-2.0-only */
/* What guests' exits ask for, in no vendor's terms. Those that V::fast_exit calls touch this vCPU alone;
 * the rest may sleep. */
#pragma once
#include <linux/errno.h>
#include <linux/kvm_para.h>
#include "arch/x86/vm/vcpu_emulate.hpp"

namespace kx {

template <Vendor V> Next Vcpu<V>::raise(const Exception &e)
{
	events.raise(e);
	return Next::guest;
}

template <Vendor V> Next Vcpu<V>::skip(u64 next_rip)
{
	hw.set_rip(next_rip);
	hw.set_interrupt_shadow(InterruptShadow::none);
	const u64 flags = hw.rflags();
	if (flags & (rflags::tf | rflags::rf)) [[unlikely]] {
		hw.set_rflags(flags & ~rflags::rf);
		if (flags & rflags::tf)
			return single_step();
	}
	return Next::guest;
}

template <Vendor V> Next Vcpu<V>::single_step()
{
	return debug_exception(dr6::bs);
}

template <Vendor V> Next Vcpu<V>::debug_exception(u64 payload)
{
	return raise(Exception::debug(payload));
}

template <Vendor V> Next Vcpu<V>::hlt(u64 next_rip)
{
	if (const Next n = skip(next_rip); n != Next::guest)
		return n;
	run->exit_reason = KVM_EXIT_HLT;
	return Next::user;
}

/* No hypercall is offered; KVM answers the two below anyway. Documentation/virt/kvm/x86/hypercalls */
template <Vendor V> Next Vcpu<V>::vmcall(u64 next_rip)
{
	const bool wide = in_64bit();
	const u64 nr = wide ? hw.gpr(Gpr::rax) : u32(hw.gpr(Gpr::rax));
	s64 ret = -KVM_ENOSYS;
	if (hw.cpl())
		ret = -KVM_EPERM;
	else if (nr == KVM_HC_VAPIC_POLL_IRQ)
		ret = 0;
	hw.set_gpr(Gpr::rax, wide ? u64(ret) : u32(ret));
	return skip(next_rip);
}

template <Vendor V> u64 Vcpu<V>::rip_after(unsigned length) const
{
	const u64 next = hw.rip() + length;
	return in_64bit() ? next : u32(next);
}

template <Vendor V> unsigned Vcpu<V>::fetch(u8 (&bytes)[15], FetchFault f)
{
	VcpuMachine<V> m{*this};
	const u64 at = linear_rip();
	unsigned got = 0;
	while (got < sizeof bytes) {
		const Gva a{at + got};
		const u64 in_page = page_size - a.offset();
		const unsigned left = unsigned(sizeof bytes) - got;
		const unsigned n = in_page < left ? unsigned(in_page) : left;
		const auto t = m.translate(a, kx::emulate::Access::fetch);
		if (!t.ok()) {
			/* Behind the end of a page the instruction may not need the next one. */
			if (!got && f == FetchFault::raise && t.kind() == kx::emulate::Translation::Kind::fault)
				raise(t.fault());
			break;
		}
		if (m.ram_read(t.gpa(), bytes + got, n) != kx::emulate::Ram::ok)
			break;
		got += n;
	}
	return got;
}

template <Vendor V> Next Vcpu<V>::tdp_fault(Gpa gpa, u32 code, FaultOf of)
{
	return after_fault(vm.memory.fault(mmu, gpa, code), gpa, code, of);
}

/* The address of a table's entry is nothing the instruction accesses, and what may be executed may not be read,
 * where SMAP or a protection key has a say. */
constexpr emulate::Hint hint_of(Gpa gpa, u32 code, FaultOf of)
{
	using Known = emulate::Hint::Known;
	if (of == FaultOf::walk || code & pfec::fetch)
		return {Known::nothing, gpa};
	return {code & pfec::write ? Known::writing : Known::reading, gpa};
}

template <Vendor V> Next Vcpu<V>::after_fault(const FaultOutcome &r, Gpa gpa, u32 code, FaultOf of)
{
	switch (r.kind) {
	case FaultKind::fixed:
	case FaultKind::spurious:
	case FaultKind::retry:
		return Next::guest;
	case FaultKind::mmio:
	case FaultKind::readonly:
		/* A gate or a stack that is no memory: the instruction at RIP has nothing to do with it. */
		if (V::was_delivering(*this)) [[unlikely]] {
			const CutShort c = V::cut_short(*this);
			const u64 data[] = {c.event, c.reason, c.qualification, gpa.raw(), cpu.relaxed()};
			return internal_error(KVM_INTERNAL_ERROR_DELIVERY_EV, {data, 5});
		}
		return emulate(hint_of(gpa, code, of));
	case FaultKind::failed:
		break;
	}
	/* The signal that tells the VMM of the poisoned page is pending: it ends KVM_RUN. */
	if (r.error == Errc::hwpoison)
		return Next::guest;
	if (r.error == Errc::intr)
		run->exit_reason = KVM_EXIT_INTR;
	return fail(r.error);
}

template <Vendor V> void Vcpu<V>::log_writes(Span<const u64> gpas)
{
	const RcuRead rcu;
	for (u64 g : gpas)
		vm.memory.logged(mmu, Gpa{g}.frame(), rcu);
}

template <Vendor V> Fast Vcpu<V>::fast_fault(Gpa gpa, u32 code)
{
	if (!sys->rcu_watches_guests || !(code & pfec::present))
		return Fast::slow;
	/* Locking it would also tell lockdep, which believes the CPU to be in the guest. */
	const RcuRead rcu{IrqsOff{}};
	return vm.memory.fast_fault(mmu, gpa, code, rcu) == FastFault::fixed ? Fast::again : Fast::slow;
}

}
