/* SPDX-License-Identifier: GPL-2.0-only */
/* The ioctls of a vCPU's file. Called with its mutex held; may sleep. */
#pragma once
#include "arch/x86/vm/usercopy.hpp"
#include "arch/x86/vm/vcpu.hpp"

namespace kx {

template <Vendor V> Errc Vcpu<V>::get_regs(unsigned long arg)
{
	kvm_regs r;
	const auto g = [this](Gpr n) { return hw.gpr(n); };
	r = {g(Gpr::rax), g(Gpr::rbx), g(Gpr::rcx), g(Gpr::rdx), g(Gpr::rsi), g(Gpr::rdi), g(Gpr::rsp), g(Gpr::rbp),
	     g(Gpr::r8), g(Gpr::r9), g(Gpr::r10), g(Gpr::r11), g(Gpr::r12), g(Gpr::r13), g(Gpr::r14), g(Gpr::r15),
	     hw.rip(), hw.rflags()};
	return to_user(arg, r);
}

template <Vendor V> Errc Vcpu<V>::set_regs(unsigned long arg)
{
	const kvm_regs r = KX_TRY(from_user<kvm_regs>(arg));
	const u64 in_order[16] = {r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi,
				  r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15};
	for (u8 i = 0; i < 16; ++i)
		hw.set_gpr(Gpr(i), in_order[i]);
	hw.set_rip(r.rip);
	hw.set_rflags(r.rflags | rflags::fixed);
	events.forget_new_exception();
	return Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::get_sregs(unsigned long arg)
{
	kvm_sregs s;
	__builtin_memset(&s, 0, sizeof s);
	kvm_segment *const segs[seg_count] = {&s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs, &s.ldt, &s.tr};
	for (u8 i = 0; i < seg_count; ++i)
		*segs[i] = to_kvm(hw.segment(Seg(i)));
	s.gdt = to_kvm(hw.gdt());
	s.idt = to_kvm(hw.idt());
	s.cr0 = hw.cr0();
	s.cr2 = hw.cr2();
	s.cr3 = hw.cr3();
	s.cr4 = hw.cr4();
	s.cr8 = hw.cr8();
	s.efer = hw.efer();
	s.apic_base = msrs.apic_base();
	/* Legacy mode ignores it, and it is refused when it comes back (by KVM as well). */
	if (!(s.efer & efer::lma))
		s.cs.l = 0;
	if (events.interrupt_queued())
		set_pending_vector(s, events.interrupt());
	return to_user(arg, s);
}

template <Vendor V> Errc Vcpu<V>::set_sregs(unsigned long arg)
{
	const kvm_sregs s = KX_TRY(from_user<kvm_sregs>(arg));
	KX_CHECK(check_sregs(s, cpuid, sys->caps));
	KX_CHECK(msrs.set_apic_base(s.apic_base, cpuid));
	hw.set_gdt(from_kvm(s.gdt));
	hw.set_idt(from_kvm(s.idt));
	hw.set_cr2(s.cr2);
	hw.set_cr8(unsigned(s.cr8 & 15));
	set_control_regs({.regs = {s.cr0, s.cr3, s.cr4, s.efer}, .tlb = TlbOwed::everything}, Rewrite::all);
	const kvm_segment *const segs[seg_count] = {&s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs, &s.ldt, &s.tr};
	for (u8 i = 0; i < seg_count; ++i)
		hw.set_segment(Seg(i), from_kvm(*segs[i]));
	if constexpr (V::keeps_pdptes) {
		if (regs().pae_paging()) {
			/* Bad ones become absent: the VMM may not have put the memory there yet. */
			u64 entries[4];
			const bool good = read_pdptes(s.cr3, entries);
			for (unsigned i = 0; i < 4; ++i)
				hw.set_pdpte(i, good ? entries[i] : 0);
		}
	}
	if (const int vector = pending_vector(s); vector >= 0)
		events.queue_interrupt(u8(vector));
	return Errc::ok;
}

/* The kernel's XSAVE image knows which components are in their initial state; the legacy structure is
 * cut out of it and put back into it. SDM vol. 1 §13.4 */
namespace xsave_area {
inline constexpr u64 header = 512, xstate_bv = header;
}

template <Vendor V> Result<Array<u8>> Vcpu<V>::fpu_image()
{
	auto a = KX_TRY(Array<u8>::make(kx_fpu_image_size(fpu_)));
	kx_fpu_get(fpu_, a.get(), unsigned(a.size()), cpuid.supported_xcr0() | xcr0::fp | xcr0::sse, pkru);
	return Result<Array<u8>>{move(a)};
}

struct FxsaveArea {
	u16 fcw, fsw;
	u8 ftw, reserved;
	u16 fop;
	u64 rip, rdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16], xmm[16][16];
};
static_assert(sizeof(FxsaveArea) == 416);

template <Vendor V> Errc Vcpu<V>::get_fpu(unsigned long arg)
{
	const auto image = KX_TRY(fpu_image());
	FxsaveArea x;
	__builtin_memcpy(&x, image.get(), sizeof x);
	kvm_fpu f;
	__builtin_memset(&f, 0, sizeof f);
	__builtin_memcpy(f.fpr, x.st, sizeof f.fpr);
	__builtin_memcpy(f.xmm, x.xmm, sizeof f.xmm);
	f.fcw = x.fcw;
	f.fsw = x.fsw;
	f.ftwx = x.ftw;
	f.last_opcode = x.fop;
	f.last_ip = x.rip;
	f.last_dp = x.rdp;
	f.mxcsr = x.mxcsr;
	return to_user(arg, f);
}

template <Vendor V> Errc Vcpu<V>::set_fpu(unsigned long arg)
{
	const kvm_fpu f = KX_TRY(from_user<kvm_fpu>(arg));
	auto image = KX_TRY(fpu_image());
	FxsaveArea x;
	__builtin_memcpy(&x, image.get(), sizeof x);
	__builtin_memcpy(x.st, f.fpr, sizeof f.fpr);
	__builtin_memcpy(x.xmm, f.xmm, sizeof f.xmm);
	x.fcw = f.fcw;
	x.fsw = f.fsw;
	x.ftw = f.ftwx;
	x.fop = f.last_opcode;
	x.rip = f.last_ip;
	x.rdp = f.last_dp;
	/* Reserved bits would be refused by the image's own check; KVM keeps quiet and masks. */
	x.mxcsr = f.mxcsr & (x.mxcsr_mask ? x.mxcsr_mask : 0xffbfu);
	__builtin_memcpy(image.get(), &x, sizeof x);
	u64 bv;
	__builtin_memcpy(&bv, image.get() + xsave_area::xstate_bv, sizeof bv);
	bv |= xcr0::fp | xcr0::sse;
	__builtin_memcpy(image.get() + xsave_area::xstate_bv, &bv, sizeof bv);
	return kx_fpu_set(fpu_, image.get(), sys->caps.xcr0() | xcr0::fp | xcr0::sse, &pkru) ? Errc::inval : Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::get_xsave(unsigned long arg)
{
	if (kx_fpu_image_size(fpu_) > sizeof(kvm_xsave))
		return Errc::inval; /* KVM_GET_XSAVE2 is for these */
	const auto image = KX_TRY(fpu_image());
	return array_to_user(arg, image.get(), sizeof(kvm_xsave));
}

template <Vendor V> Errc Vcpu<V>::set_xsave(unsigned long arg)
{
	const auto image = KX_TRY(array_from_user<u8>(arg, kx_fpu_image_size(fpu_)));
	return kx_fpu_set(fpu_, image.get(), sys->caps.xcr0() | xcr0::fp | xcr0::sse, &pkru) ? Errc::inval : Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::get_xcrs(unsigned long arg)
{
	kvm_xcrs x;
	__builtin_memset(&x, 0, sizeof x);
	kx::get_xcrs(x, xcr0);
	return to_user(arg, x);
}

template <Vendor V> Errc Vcpu<V>::set_xcrs(unsigned long arg)
{
	const kvm_xcrs x = KX_TRY(from_user<kvm_xcrs>(arg));
	xcr0 = KX_TRY(kx::set_xcrs(x, xcr0, cpuid.supported_xcr0()));
	refresh_cpuid();
	return Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::get_debugregs(unsigned long arg)
{
	kvm_debugregs d;
	__builtin_memset(&d, 0, sizeof d);
	sync_debug();
	debug.get(d);
	return to_user(arg, d);
}

template <Vendor V> Errc Vcpu<V>::set_debugregs(unsigned long arg)
{
	const kvm_debugregs d = KX_TRY(from_user<kvm_debugregs>(arg));
	KX_CHECK(debug.set(d));
	hw.set_dr6(debug.dr6());
	hw.set_dr7(debug.dr7());
	return Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::get_events(unsigned long arg)
{
	kvm_vcpu_events e;
	__builtin_memset(&e, 0, sizeof e);
	V::sync_nmi(*this);
	static_assert(u8(InterruptShadow::mov_ss) == KVM_X86_SHADOW_INT_MOV_SS &&
		      u8(InterruptShadow::sti) == KVM_X86_SHADOW_INT_STI);
	events.get(e, u8(hw.interrupt_shadow()));
	return to_user(arg, e);
}

template <Vendor V> Errc Vcpu<V>::set_events(unsigned long arg)
{
	const kvm_vcpu_events e = KX_TRY(from_user<kvm_vcpu_events>(arg));
	const Events::Set s = KX_TRY(events.set(e));
	if (s.has_shadow)
		hw.set_interrupt_shadow(InterruptShadow(s.shadow & u8(InterruptShadow::either)));
	V::nmi_masked(*this);
	return Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::get_mp_state(unsigned long arg)
{
	return to_user(arg, kvm_mp_state{mp_state_});
}

/* The VMM's interrupt controllers decide who sleeps: here a vCPU is always runnable. */
template <Vendor V> Errc Vcpu<V>::set_mp_state(unsigned long arg)
{
	const kvm_mp_state s = KX_TRY(from_user<kvm_mp_state>(arg));
	if (s.mp_state != KVM_MP_STATE_RUNNABLE)
		return Errc::inval;
	mp_state_ = s.mp_state;
	return Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::get_cpuid(unsigned long arg)
{
	auto head = KX_TRY(from_user<ListHead>(arg));
	const auto have = cpuid.entries();
	const bool fits = head.n >= have.size();
	if (fits)
		KX_CHECK(array_to_user(arg + sizeof head, have.data(), have.size()));
	head.n = u32(have.size());
	KX_CHECK(to_user(arg, head));
	return fits ? Errc::ok : Errc::toobig;
}

template <Vendor V> Errc Vcpu<V>::set_cpuid(unsigned cmd, unsigned long arg)
{
	const auto head = KX_TRY(from_user<ListHead>(arg)); /* both forms begin alike */
	if (head.n > max_cpuid_entries)
		return Errc::toobig;
	Array<kvm_cpuid_entry2> entries;
	if (cmd == KVM_SET_CPUID2) {
		entries = KX_TRY(array_from_user<kvm_cpuid_entry2>(arg + sizeof head, head.n));
	} else {
		const auto old = KX_TRY(array_from_user<kvm_cpuid_entry>(arg + sizeof head, head.n));
		entries = KX_TRY(Array<kvm_cpuid_entry2>::make(head.n));
		for (u32 i = 0; i < head.n; ++i) {
			entries[i].function = old[i].function;
			entries[i].eax = old[i].eax;
			entries[i].ebx = old[i].ebx;
			entries[i].ecx = old[i].ecx;
			entries[i].edx = old[i].edx;
		}
	}
	const HasRun has_run = mode.relaxed() == CpuMode::new_born ? HasRun::no : HasRun::yes;
	KX_CHECK(cpuid.set(move(entries), cpuid_runtime(), sys->caps, has_run));
	V::cpuid_changed(*this);
	return Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::set_signal_mask(unsigned long arg)
{
	if (!arg) {
		sigmask_set_ = false;
		return Errc::ok;
	}
	const u32 len = KX_TRY(from_user<u32>(arg)); /* kvm_signal_mask: the set follows */
	if (len != sizeof sigmask_)
		return Errc::inval;
	/* A VMM that could block these in a spinning guest could not be killed. */
	constexpr u64 sigkill = bit(9 - 1), sigstop = bit(19 - 1);
	sigmask_ = KX_TRY(from_user<u64>(arg + sizeof len)) & ~(sigkill | sigstop);
	sigmask_set_ = true;
	return Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::interrupt(unsigned long arg)
{
	const auto i = KX_TRY(from_user<kvm_interrupt>(arg));
	if (i.irq > 255)
		return Errc::inval;
	events.queue_interrupt(u8(i.irq));
	return Errc::ok;
}

template <Vendor V> Errc Vcpu<V>::setup_mce(unsigned long arg)
{
	return msrs.mce().setup(KX_TRY(from_user<u64>(arg)), sys->caps.vendor());
}

template <Vendor V> Errc Vcpu<V>::set_mce(unsigned long arg)
{
	const auto e = KX_TRY(from_user<kvm_x86_mce>(arg));
	switch (KX_TRY(msrs.mce().report(e, hw.cr4() & cr4::mce ? MceEnabled::yes : MceEnabled::no))) {
	case MceEvent::none:
		break;
	case MceEvent::machine_check:
		raise(Exception::plain(Vector::mc));
		break;
	case MceEvent::shutdown:
		events.shut_down();
		break;
	}
	return Errc::ok;
}

/* Stops at the first one refused and says how many went well; the structure is written back whole. */
template <Vendor V> long Vcpu<V>::msrs_ioctl(unsigned cmd, unsigned long arg)
{
	const auto head = from_user<ListHead>(arg);
	if (!head.ok())
		return -long(Errc::fault);
	const u32 n = head.peek().n;
	if (n >= 256)
		return -long(Errc::toobig);
	auto list = array_from_user<kvm_msr_entry>(arg + sizeof(ListHead), n);
	if (!list.ok())
		return -long(list.error());
	auto m = move(list).take();
	u32 i = 0;
	for (; i < n; ++i) {
		const ControlRegs now = regs();
		if (cmd == KVM_GET_MSRS) {
			const auto r = msrs.read(m[i].index, MsrBy::host, msr_context(now), *this);
			if (!r.ok())
				break;
			m[i].data = r.peek();
		} else {
			const auto r = msrs.write(m[i].index, m[i].data, MsrBy::host, msr_context(now), *this);
			if (!r.ok())
				break;
			apply_effect(r.peek());
		}
	}
	if (cmd == KVM_GET_MSRS && array_to_user(arg + sizeof(ListHead), m.get(), n) != Errc::ok)
		return -long(Errc::fault);
	return i;
}

template <Vendor V> Errc Vcpu<V>::state_ioctl(unsigned cmd, unsigned long arg)
{
	switch (cmd) {
	case KVM_GET_REGS: return get_regs(arg);
	case KVM_SET_REGS: return set_regs(arg);
	case KVM_GET_SREGS: return get_sregs(arg);
	case KVM_SET_SREGS: return set_sregs(arg);
	case KVM_GET_FPU: return get_fpu(arg);
	case KVM_SET_FPU: return set_fpu(arg);
	case KVM_GET_XSAVE: return get_xsave(arg);
	case KVM_SET_XSAVE: return set_xsave(arg);
	case KVM_GET_XCRS: return get_xcrs(arg);
	case KVM_SET_XCRS: return set_xcrs(arg);
	case KVM_GET_DEBUGREGS: return get_debugregs(arg);
	case KVM_SET_DEBUGREGS: return set_debugregs(arg);
	case KVM_GET_VCPU_EVENTS: return get_events(arg);
	case KVM_SET_VCPU_EVENTS: return set_events(arg);
	case KVM_GET_MP_STATE: return get_mp_state(arg);
	case KVM_SET_MP_STATE: return set_mp_state(arg);
	case KVM_GET_CPUID2: return get_cpuid(arg);
	case KVM_SET_CPUID:
	case KVM_SET_CPUID2: return set_cpuid(cmd, arg);
	case KVM_SET_SIGNAL_MASK: return set_signal_mask(arg);
	case KVM_NMI:
		events.queue_nmi();
		return Errc::ok;
	case KVM_X86_SETUP_MCE: return setup_mce(arg);
	case KVM_X86_SET_MCE: return set_mce(arg);
	case KVM_SET_TSC_KHZ: return tsc.set_khz(u32(arg), kx_tsc_khz());
	default: return Errc::notty;
	}
}

template <Vendor V> long Vcpu<V>::ioctl(unsigned cmd, unsigned long arg)
{
	if (vm.mm != kx_current_mm() || vm.dead())
		return -long(Errc::io);
	/* An interrupt or an NMI from another thread does not wait for KVM_RUN to return: KVM lets
	 * KVM_INTERRUPT wait for the mutex like all others, and so do we. */
	if (!mutex.lock_killable())
		return -long(Errc::intr);
	long r;
	switch (cmd) {
	case KVM_RUN:
		r = arg ? -long(Errc::inval) : -long(run_ioctl());
		break;
	case KVM_GET_TSC_KHZ:
		r = tsc.khz();
		break;
	case KVM_INTERRUPT:
		r = -long(interrupt(arg));
		break;
	default: {
		const OnCpu on{*this};
		/* Who looks from outside sees what the handler would. (KVM_CAP_EXCEPTION_PAYLOAD is not offered.) */
		settle_exception();
		note_position();
		r = cmd == KVM_GET_MSRS || cmd == KVM_SET_MSRS ? msrs_ioctl(cmd, arg)
		    : cmd == KVM_GET_STATS_FD			 ? as_long(stats_fd())
								 : -long(state_ioctl(cmd, arg));
		break;
	}
	}
	mutex.unlock();
	return r;
}

template <Vendor V> Result<int> Vcpu<V>::stats_fd()
{
	vm.get_file();
	const int fd = kx_fd_vcpu_stats(this, id);
	if (fd >= 0)
		return fd;
	vm.put_file(); /* not the last: this is an ioctl of another */
	return Errc(-fd);
}

template <Vendor V> long Vcpu<V>::read_stats(u64 to, size_t n, u64 pos) const
{
	const vcpu_stat::Source from{stats, mmu.stats};
	return as_long(kx::read_stats(StatsId{vm.creator, id}, vcpu_stat::descs, vcpu_stat::table, from, to, n, pos));
}

template <Vendor V> void *Vcpu<V>::page(unsigned long pgoff)
{
	switch (pgoff) {
	case 0: return run;
	case KVM_PIO_PAGE_OFFSET: return pio_page.get();
	case KVM_COALESCED_MMIO_PAGE_OFFSET: return vm.devices.ring_page();
	default: return nullptr;
	}
}

}
