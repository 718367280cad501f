/* SPDX-License-Identifier: GPL-2.0-only */
/* Exits that read and write registers: CPUID, MSRs, XCR0, control and debug registers. Those that V::fast_exit calls
 * touch this vCPU alone; the rest may sleep. */
#pragma once
#include "arch/x86/cpu/insn.hpp"
#include "arch/x86/emulate/length.hpp"
#include "arch/x86/vm/vcpu_emulate.hpp"

namespace kx {

template <Vendor V> u64 Vcpu<V>::read(MsrSlot s) const
{
	switch (s) {
	case MsrSlot::tsc: return tsc.read(insn::rdtsc() + kx_tsc_lost - tsc.lost());
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
			const TscNow now{insn::rdtsc(), kx_boot_ns(), kx_tsc_stable() != 0, kx_tsc_lost};
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
	case MsrSlot::efer: {
		ControlRegs r = regs();
		r.efer = v;
		set_control_regs({.regs = r});
		break;
	}
	case MsrSlot::pred_cmd:
		kx_ibpb();
		break;
	default:
		hw.set_msr(s, v);
		break;
	}
}

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

template <Vendor V> Next Vcpu<V>::clts(u64 next_rip)
{
	ControlRegs r = regs();
	r.cr0 &= ~cr0::ts;
	set_control_regs({.regs = r});
	return skip(next_rip);
}

/* DR0-3 are kept here and loaded only while breakpoints are on; DR6 and DR7 travel in hardware. */
template <Vendor V> OrException<unsigned> Vcpu<V>::dr_number(unsigned dr)
{
	sync_debug();
	return debug.access(dr, hw.cr4(), hw.cpl());
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
	return clts(rip_after(length));
}

}
