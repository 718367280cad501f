/* SPDX-License-Identifier: GPL-2.0-only */
/* What guests' exits ask for, in no vendor's terms. Those that V::fast_exit calls touch this vCPU alone;
 * the rest may sleep. */
#pragma once
#include <linux/errno.h>
#include <linux/kvm_para.h>
#include "arch/x86/cpu/insn.hpp"
#include "arch/x86/emulate/length.hpp"
#include "arch/x86/vm/vcpu_emulate.hpp"

namespace kx {

template <Vendor V> u64 Vcpu<V>::read(MsrSlot s) const
{
	switch (s) {
	case MsrSlot::tsc: return tsc.read(insn::rdtsc());
	case MsrSlot::tsc_adjust: return tsc.adjust();
	case MsrSlot::tsc_aux: return tsc_aux;
	default: return hw.msr(s);
	}
}

template <Vendor V> void Vcpu<V>::write(MsrSlot s, u64 v, MsrBy by)
{
	switch (s) {
	case MsrSlot::tsc:
		if (by == MsrBy::guest) {
			tsc.guest_write(v, insn::rdtsc());
		} else {
			const TscNow now{insn::rdtsc(), kx_boot_ns(), kx_tsc_stable() != 0};
			Guard g{vm.clock_lock};
			vm.tsc.host_write(tsc, v, now);
		}
		set_offset();
		break;
	case MsrSlot::tsc_adjust:
		if (by == MsrBy::guest)
			tsc.guest_adjust(v);
		else
			tsc.host_adjust(v);
		set_offset();
		break;
	case MsrSlot::tsc_aux:
		tsc_aux = v;
		kx_preempt_off();
		kx_user_return_set(0, v);
		kx_preempt_on();
		break;
	case MsrSlot::pred_cmd:
		kx_ibpb();
		break;
	default:
		hw.set_msr(s, v);
		break;
	}
}

template <Vendor V> Next Vcpu<V>::raise(const Exception &e)
{
	if (e.vector == Vector::pf)
		hw.set_cr2(e.cr2);
	if (events.queue(e) == Merge::shutdown)
		triple_fault_ = true;
	return Next::guest;
}

template <Vendor V> Next Vcpu<V>::skip(u64 next_rip)
{
	hw.set_rip(next_rip);
	hw.set_shadow(Shadow::none);
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
	sync_debug();
	debug.record(payload);
	hw.set_dr6(debug.dr6());
	hw.set_dr7(debug.dr7());
	return raise(Exception::plain(Vector::db));
}

template <Vendor V> Next Vcpu<V>::mode_unsupported() { return internal_error(KVM_INTERNAL_ERROR_EMULATION, {}); }

template <Vendor V> Next Vcpu<V>::cpuid_exit(u64 next_rip)
{
	if (msrs.cpuid_faults() && hw.cpl())
		return raise(gp0);
	const CpuidRegs r = cpuid.query(u32(hw.gpr(Gpr::rax)), u32(hw.gpr(Gpr::rcx)));
	hw.set_gpr(Gpr::rax, r.eax);
	hw.set_gpr(Gpr::rbx, r.ebx);
	hw.set_gpr(Gpr::rcx, r.ecx);
	hw.set_gpr(Gpr::rdx, r.edx);
	return skip(next_rip);
}

template <Vendor V> Next Vcpu<V>::rdmsr(u64 next_rip)
{
	const ControlRegs now = regs();
	const Result<u64> r = msrs.read(u32(hw.gpr(Gpr::rcx)), MsrBy::guest, msr_context(now), *this);
	if (!r.ok())
		return raise(gp0);
	hw.set_gpr(Gpr::rax, u32(r.peek()));
	hw.set_gpr(Gpr::rdx, r.peek() >> 32);
	return skip(next_rip);
}

/* The part of a write that other registers see. */
template <Vendor V> void Vcpu<V>::apply_effect(MsrEffect e)
{
	switch (e) {
	case MsrEffect::apic_base:
	case MsrEffect::xss:
		refresh_cpuid();
		break;
	case MsrEffect::pat:
		hw.set_pat(msrs.pat());
		break;
	default: /* registers of the backend took effect there; the roles are made from them when needed */
		break;
	}
}

template <Vendor V> Next Vcpu<V>::wrmsr(u64 next_rip)
{
	const u64 value = u32(hw.gpr(Gpr::rax)) | hw.gpr(Gpr::rdx) << 32;
	const ControlRegs now = regs();
	const Result<MsrEffect> r =
		msrs.write(u32(hw.gpr(Gpr::rcx)), value, MsrBy::guest, msr_context(now), *this);
	if (!r.ok())
		return raise(gp0);
	apply_effect(r.peek());
	return skip(next_rip);
}

template <Vendor V> Next Vcpu<V>::xsetbv(u64 next_rip)
{
	const u64 value = u32(hw.gpr(Gpr::rax)) | hw.gpr(Gpr::rdx) << 32;
	const Result<u64> r = check_xsetbv(u32(hw.gpr(Gpr::rcx)), value, cpuid.supported_xcr0());
	if (hw.cpl() || !r.ok())
		return raise(gp0);
	xcr0 = r.peek();
	refresh_cpuid();
	return skip(next_rip);
}

template <Vendor V> Next Vcpu<V>::apply(const OrException<CrWrite> &w, u64 next_rip)
{
	if (!w.ok())
		return raise(w.fault());
	return set_control_regs(w.value()) ? skip(next_rip) : raise(gp0);
}

template <Vendor V> bool Vcpu<V>::set_control_regs(const CrWrite &c)
{
	const ControlRegs was = regs();
	if constexpr (V::keeps_pdptes) {
		u64 entries[4];
		if (c.pdptrs == Pdptrs::load) {
			if (!read_pdptes(c.regs.cr3, entries))
				return false;
			for (unsigned i = 0; i < 4; ++i)
				hw.set_pdpte(i, entries[i]);
		}
	}
	if (c.regs.cr3 != was.cr3)
		hw.set_cr3(c.regs.cr3);
	if (c.regs.cr4 != was.cr4) {
		hw.set_cr4(c.regs.cr4);
		refresh_cpuid();
	}
	if (c.regs.cr0 != was.cr0)
		hw.set_cr0(c.regs.cr0);
	if (c.tlb != TlbOwed::nothing)
		hw.flush_tlb();
	return true;
}

/* SDM vol. 3 §4.4.1, table 4-8 */
template <Vendor V> bool Vcpu<V>::read_pdptes(u64 cr3, u64 (&to)[4])
{
	VcpuMachine<V> m{*this};
	if (m.ram_read(Gpa{cr3 & 0xffffffe0}, to, sizeof to) != kx::emulate::Ram::ok)
		return false;
	const u64 reserved = cpuid.reserved_gpa() | ones(8, 5) | ones(2, 1);
	for (u64 e : to)
		if ((e & 1) && (e & reserved))
			return false;
	return true;
}

template <Vendor V> Next Vcpu<V>::mov_to_cr(unsigned cr, Gpr from, u64 next_rip)
{
	const u64 v = in_64bit() ? hw.gpr(from) : u32(hw.gpr(from));
	switch (cr) {
	case 0:
		return apply(kx::write_cr0(regs(), v, hw.cs_l() ? CodeSize::is64 : CodeSize::not64), next_rip);
	case 3:
		return apply(kx::write_cr3(regs(), v, cpuid), next_rip);
	case 4:
		return apply(kx::write_cr4(regs(), v, cpuid, sys->caps), next_rip);
	case 8: {
		const OrException<u64> w = kx::write_cr8(v);
		if (!w.ok())
			return raise(w.fault());
		const unsigned was = hw.cr8();
		hw.set_cr8(unsigned(w.value()));
		if (const Next n = skip(next_rip); n != Next::guest || w.value() >= was)
			return n;
		/* A lower priority may let an interrupt through that the VMM's APIC holds back. */
		run->exit_reason = KVM_EXIT_SET_TPR;
		return Next::user;
	}
	default:
		return raise(Exception::plain(Vector::ud));
	}
}

template <Vendor V> Next Vcpu<V>::mov_from_cr(unsigned cr, Gpr to, u64 next_rip)
{
	u64 v;
	switch (cr) {
	case 0: v = hw.cr0(); break;
	case 2: v = hw.cr2(); break;
	case 3: v = hw.cr3(); break;
	case 4: v = hw.cr4(); break;
	case 8: v = hw.cr8(); break;
	default: return raise(Exception::plain(Vector::ud));
	}
	hw.set_gpr(to, in_64bit() ? v : u32(v));
	return skip(next_rip);
}

template <Vendor V> Next Vcpu<V>::lmsw(u16 value, u64 next_rip)
{
	return apply(write_msw(regs(), value, hw.cs_l() ? CodeSize::is64 : CodeSize::not64), next_rip);
}

/* DR0-3 are kept here and loaded only while breakpoints are on; DR6 and DR7 travel in hardware. */
template <Vendor V> OrException<unsigned> Vcpu<V>::dr_number(unsigned dr)
{
	sync_debug();
	const OrException<unsigned> n = debug.access(dr, hw.cr4(), hw.cpl());
	if (!n.ok() && n.fault().vector == Vector::db) {
		debug.take_general_detect();
		hw.set_dr6(debug.dr6());
		hw.set_dr7(debug.dr7());
	}
	return n;
}

template <Vendor V> Next Vcpu<V>::mov_from_dr(unsigned dr, Gpr to, u64 next_rip)
{
	const OrException<unsigned> n = dr_number(dr);
	if (!n.ok())
		return raise(n.fault());
	const u64 v = debug.read(n.value());
	hw.set_gpr(to, in_64bit() ? v : u32(v));
	return skip(next_rip);
}

template <Vendor V> Next Vcpu<V>::mov_to_dr(unsigned dr, Gpr from, u64 next_rip)
{
	const OrException<unsigned> n = dr_number(dr);
	if (!n.ok())
		return raise(n.fault());
	const OrException<u64> w = debug.write(n.value(), in_64bit() ? hw.gpr(from) : u32(hw.gpr(from)), cpuid);
	if (!w.ok())
		return raise(w.fault());
	hw.set_dr6(debug.dr6());
	hw.set_dr7(debug.dr7());
	return skip(next_rip);
}

template <Vendor V> void Vcpu<V>::sync_debug()
{
	const u64 db[4] = {debug.address(0), debug.address(1), debug.address(2), debug.address(3)};
	debug.take(db, hw.dr6(), hw.dr7());
}

template <Vendor V> Next Vcpu<V>::pio(PioDirection d, u16 port, u8 size, u64 next_rip)
{
	if (d == PioDirection::out) {
		const u64 v = hw.gpr(Gpr::rax);
		if (vm.write(Bus::pio, port, &v, size) == Taken::yes)
			return skip(next_rip);
		__builtin_memcpy(pio_page.get(), &v, sizeof v);
		/* The quirk of port 0x7e: VMMs that reset the vCPU there expect RIP behind the OUT. */
		if (port == 0x7e) {
			if (const Next n = skip(next_rip); n != Next::guest)
				return n;
		} else {
			unfinished_ = Unfinished::pio_out;
		}
	} else {
		unfinished_ = Unfinished::pio_in;
	}
	pio_ = {hw.rip(), next_rip, size};
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = d == PioDirection::in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = size;
	run->io.port = port;
	run->io.count = 1;
	run->io.data_offset = page_size;
	return Next::user;
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

/* CR0 exits only while the guest has CD or NW set: firmware, which uses MOV. CLTS costs two lines. */
template <Vendor V> Next Vcpu<V>::cr0_instruction(Span<const u8> bytes)
{
	const unsigned length = kx::emulate::intercepted_length(
		bytes, kx::emulate::opcode::clts,
		in_64bit() ? kx::emulate::RexBytes::present : kx::emulate::RexBytes::none);
	if (!length)
		return emulate({});
	if (hw.cpl()) /* the exit was that of an SMSW, which another vCPU has changed since */
		return Next::guest;
	hw.set_cr0(hw.cr0() & ~cr0::ts);
	return skip(rip_after(length));
}

template <Vendor V> u64 Vcpu<V>::rip_after(unsigned length) const
{
	const u64 next = hw.rip() + length;
	return in_64bit() ? next : u32(next);
}

template <Vendor V> unsigned Vcpu<V>::fetch(u8 (&bytes)[15])
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
			if (!got && t.kind() == kx::emulate::Translation::Kind::fault)
				raise(t.fault());
			break;
		}
		if (m.ram_read(t.gpa(), bytes + got, n) != kx::emulate::Ram::ok)
			break;
		got += n;
	}
	return got;
}

template <Vendor V> Next Vcpu<V>::unexpected_exit(u64 reason)
{
	const u64 data[] = {reason, cpu.relaxed()};
	return internal_error(KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, {data, 2});
}

template <Vendor V> Next Vcpu<V>::exception_exit(Vector v, u32 error)
{
	run->exit_reason = KVM_EXIT_EXCEPTION;
	run->ex.exception = u32(v);
	run->ex.error_code = error;
	return Next::user;
}

template <Vendor V> Next Vcpu<V>::fail_entry(u64 reason)
{
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = reason;
	run->fail_entry.cpu = cpu.relaxed();
	return Next::user;
}

template <Vendor V> Next Vcpu<V>::shutdown()
{
	run->exit_reason = KVM_EXIT_SHUTDOWN;
	return Next::user;
}

template <Vendor V> Next Vcpu<V>::internal_error(u32 suberror, Span<const u64> data)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	run->internal.ndata = u32(data.size());
	for (size_t i = 0; i < data.size(); ++i)
		run->internal.data[i] = data[i];
	return Next::user;
}

/* User code of the guest must not be able to stop the VM: it gets #UD. The kernel's fault is the VMM's to
 * see, with the bytes. */
template <Vendor V> Next Vcpu<V>::emulation_failed()
{
	raise(Exception::plain(Vector::ud));
	if (hw.cpl())
		return Next::guest;
	const Span<const u8> bytes = emulation.bytes();
	auto &f = run->emulation_failure;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	f.suberror = KVM_INTERNAL_ERROR_EMULATION;
	f.ndata = 1;
	f.flags = 0;
	__builtin_memset(f.insn_bytes, 0x90, sizeof f.insn_bytes);
	if (bytes.size()) {
		f.ndata = 3;
		f.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		f.insn_size = u8(bytes.size());
		__builtin_memcpy(f.insn_bytes, bytes.data(), bytes.size());
	}
	return Next::user;
}

/* The address of a table's entry is nothing the instruction accesses. */
template <Vendor V> Next Vcpu<V>::nested_fault(Gpa gpa, u32 code, FaultOf of)
{
	using Known = kx::emulate::Hint::Known;
	const Known known = of == FaultOf::walk ? Known::nothing : code & pferr::write ? Known::writing : Known::reading;
	return after_fault(vm.memory.fault(mmu, gpa, code), {known, gpa});
}

/* The guest's own walk is over when this happens: if the instruction writes there, it may. */
template <Vendor V> Next Vcpu<V>::misconfigured(Gpa gpa)
{
	return after_fault(vm.memory.fault(mmu, gpa, pferr::present | pferr::rsvd),
			   {kx::emulate::Hint::Known::writing, gpa});
}

template <Vendor V> Next Vcpu<V>::after_fault(const FaultOutcome &r, kx::emulate::Hint hint)
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
			const u64 data[] = {c.event, c.reason, c.qualification, hint.gpa.raw(), cpu.relaxed()};
			return internal_error(KVM_INTERNAL_ERROR_DELIVERY_EV, {data, 5});
		}
		return emulate(hint);
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
	const RcuRead rcu{IrqsOff{}};
	for (u64 g : gpas)
		vm.memory.logged(mmu, Gpa{g}.frame(), rcu);
}

template <Vendor V> Fast Vcpu<V>::fast_fault(Gpa gpa, u32 code)
{
	if (!sys->rcu_watches_guests || !(code & pferr::present))
		return Fast::slow;
	/* Locking it would also tell lockdep, which believes the CPU to be in the guest. */
	const RcuRead rcu{IrqsOff{}};
	return vm.memory.fast_fault(mmu, gpa, code, rcu) == FastFault::fixed ? Fast::again : Fast::slow;
}

}
