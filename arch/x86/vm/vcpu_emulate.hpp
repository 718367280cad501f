/* SPDX-License-Identifier: GPL-2.0-only */
/* The vCPU as the emulator sees it, and what becomes of the emulator's outcomes. */
#pragma once
#include "arch/x86/emulate/emulator.hpp"
#include "arch/x86/emulate/task.hpp"
#include "arch/x86/vm/vcpu.hpp"

namespace kx {

template <Vendor V> class VcpuMachine {
	Vcpu<V> &v_;
	/* One read section for the whole instruction, begun when it first touches memory: the second half
	 * of a device write does not. */
	union {
		GuestRam ram_;
	};
	bool reading_ = false;

	GuestRam &ram()
	{
		if (!reading_) {
			::new (&ram_) GuestRam(v_.vm.memory.ram(v_.mmu));
			reading_ = true;
		}
		return ram_;
	}

public:
	explicit VcpuMachine(Vcpu<V> &v) : v_{v} {}
	VcpuMachine(const VcpuMachine &) = delete;
	~VcpuMachine()
	{
		if (reading_)
			ram_.~GuestRam();
	}

	u64 gpr(Gpr r) const { return v_.hw.gpr(r); }
	void set_gpr(Gpr r, u64 x) { v_.hw.set_gpr(r, x); }
	u64 rip() const { return v_.hw.rip(); }
	void set_rip(u64 x) { v_.hw.set_rip(x); }
	u64 rflags() const { return v_.hw.rflags(); }
	void set_rflags(u64 x) { v_.hw.set_rflags(x); }
	Segment segment(Seg s) const { return v_.hw.segment(s); }
	u64 segment_base(Seg s) const { return v_.hw.segment_base(s); }
	emulate::Mode mode() const;

	void load_vector(unsigned n, u8 *bytes, unsigned size) { kx_fpu_read_vector(n, bytes, size); }
	void store_vector(unsigned n, const u8 *bytes, unsigned size, emulate::Upper upper)
	{
		kx_fpu_write_vector(n, bytes, size, upper == emulate::Upper::zero);
	}

	emulate::Translation translate(Gva a, emulate::Access access);

	emulate::Ram ram_read(Gpa a, void *to, unsigned n)
	{
		return of(ram().read(a, to, n));
	}
	emulate::Ram ram_write(Gpa a, const void *from, unsigned n)
	{
		return of(ram().write(a, from, n));
	}
	emulate::Swap ram_swap(Gpa a, const void *old, const void *now, unsigned n);
	bool is_ram(Gpa a, emulate::Access access)
	{
		const GuestRam::Backing b = ram().backing(a);
		return b == GuestRam::Backing::ram ||
		       (b == GuestRam::Backing::readonly && access != emulate::Access::write &&
			access != emulate::Access::implicit_write);
	}

	/* For a task switch. */
	DescTable gdt() const { return v_.hw.gdt(); }
	void set_segment(Seg s, const Segment &to) { v_.hw.set_segment(s, to); }
	bool paging() const { return v_.hw.cr0() & cr0::pg; }
	bool set_cr3(u32 to)
	{
		const OrException<CrWrite> w = kx::write_cr3(v_.regs(), to, v_.cpuid);
		return w.ok() && v_.set_control_regs(w.value());
	}
	void task_switched()
	{
		ControlRegs r = v_.regs();
		r.cr0 |= cr0::ts;
		v_.set_control_regs({.regs = r});
		v_.sync_debug();
		v_.debug.task_switched();
		v_.hw.set_dr7(v_.debug.dr7());
	}

	unsigned prefetched(u8 *bytes) { return V::prefetched(v_, bytes); }
	/* Fetching at RIP would give these bytes again. */
	bool unchanged(Span<const u8> bytes) { return v_.fetched.holds(v_.linear_rip(), v_.regs(), ram(), bytes); }
	/* Something the run loop has to see to. For the window IF is enough: a shadow ends with the element. */
	bool event_pending() const
	{
		/* The VMM's, which may set them while the guest runs. */
		const auto is_set = [](const u8 &b) { return __atomic_load_n(&b, __ATOMIC_RELAXED) != 0; };
		return v_.requests.relaxed() || (__atomic_load_n(v_.thread_flags, __ATOMIC_RELAXED) & KX_THREAD_WORK) ||
		       v_.events.any() || is_set(v_.run->immediate_exit) ||
		       (is_set(v_.run->request_interrupt_window) && (v_.hw.rflags() & rflags::intf));
	}
	u8 *port_data() { return v_.pio_page.get(); }
	/* KVM hands OUTS out one by one; VMMs rely on it. */
	unsigned port_batch(emulate::PortDirection d) const
	{
		return d == emulate::PortDirection::in ? 1024 : 1;
	}

private:
	/* KVM treats RAM the host cannot reach as a device: the VMM gets to see the access. */
	static emulate::Ram of(Errc e) { return e == Errc::ok ? emulate::Ram::ok : emulate::Ram::absent; }
};

template <Vendor V> emulate::Mode VcpuMachine<V>::mode() const
{
	const ControlRegs r = v_.regs();
	emulate::Mode m;
	m.cpl = u8(v_.hw.cpl());
	if (!(r.cr0 & cr0::pe)) {
		m.cpu = emulate::CpuMode::real;
		m.code_size = v_.hw.cs_db() ? 4 : 2;
	} else if (v_.hw.rflags() & rflags::vm) {
		m.cpu = emulate::CpuMode::vm86;
		m.code_size = 2;
	} else if ((r.efer & efer::lma) && v_.hw.cs_l()) {
		m.cpu = emulate::CpuMode::long64;
		m.code_size = 4;
	} else {
		m.cpu = emulate::CpuMode::protect;
		m.code_size = v_.hw.cs_db() ? 4 : 2;
	}
	m.linear_bits = u8(r.linear_bits());
	if (r.cr0 & cr0::em || !(r.cr4 & cr4::osfxsr))
		m.sse = emulate::Simd::undefined;
	else if (r.cr0 & cr0::ts)
		m.sse = emulate::Simd::unavailable;
	if ((r.cr4 & cr4::osxsave) && (v_.xcr0 & xcr0::avx))
		m.avx = r.cr0 & cr0::ts ? emulate::Simd::unavailable : emulate::Simd::usable;
	m.branch66 = v_.cpuid.vendor() == CpuVendor::intel ? emulate::Branch66::ignored : emulate::Branch66::honoured;
	m.alignment_checked = m.cpl == 3 && (r.cr0 & cr0::am) && (v_.hw.rflags() & rflags::ac);
	m.umip = r.cr4 & cr4::umip;
	return m;
}

/* Atomic where a LOCK CMPXCHG of the VMM's memory can be: naturally aligned, up to 8 bytes. Only MMIO and
 * read-only memory bring locked instructions here, so that the rest is a guest that mixes both in one
 * operand. */
template <Vendor V> emulate::Swap VcpuMachine<V>::ram_swap(Gpa a, const void *old, const void *now, unsigned n)
{
	if (n <= 8 && !(a.raw() & (n - 1))) {
		u64 o = 0, w = 0;
		__builtin_memcpy(&o, old, n);
		__builtin_memcpy(&w, now, n);
		switch (ram().cmpxchg(a, n, &o, w)) {
		case GuestSwap::stored: return emulate::Swap::swapped;
		case GuestSwap::differs: return emulate::Swap::differs;
		default: return emulate::Swap::absent;
		}
	}
	u8 have[16];
	if (ram().read(a, have, n) != Errc::ok)
		return emulate::Swap::absent;
	if (__builtin_memcmp(have, old, n))
		return emulate::Swap::differs;
	return ram().write(a, now, n) == Errc::ok ? emulate::Swap::swapped : emulate::Swap::absent;
}

template <Vendor V> emulate::Translation VcpuMachine<V>::translate(Gva a, emulate::Access access)
{
	using A = emulate::Access;
	u32 want = 0;
	if (access == A::write || access == A::implicit_write)
		want |= pfec::write;
	if (access == A::fetch)
		want |= pfec::fetch;
	const bool implicit = access == A::implicit_read || access == A::implicit_write;
	return v_.walk(ram(), a, want, implicit ? Implicit::yes : Implicit::no);
}

template <Vendor V> Next Vcpu<V>::emulate(emulate::Hint hint)
{
	stats.insn_emulation.count();
	VcpuMachine<V> m{*this};
	return outcome(kx::emulate::begin(m, emulation, hint));
}

template <Vendor V> Next Vcpu<V>::task_switch(const kx::emulate::TaskSwitch &t, Events::Delivery event)
{
	using K = kx::emulate::Outcome::Kind;
	VcpuMachine<V> m{*this};
	const kx::emulate::Outcome o = kx::emulate::switch_task(m, t);
	if (o.kind == K::retry)
		return Next::guest;
	if (o.kind == K::fault) {
		raise(o.exception);
		if (event == Events::Delivery::exception)
			return Next::guest; /* the two meet when it goes in */
	}
	events.deliver(event);
	events.take_delivery();
	if (t.by == kx::emulate::TaskSwitch::By::iret)
		events.unmask_nmi();
	V::nmi_masked(*this);
	switch (o.kind) {
	case K::done:
		hw.set_interrupt_shadow(InterruptShadow::none);
		if (o.trap == kx::emulate::Outcome::Trap::none)
			return Next::guest;
		return debug_exception(dr6::bt);
	case K::fault:
		return Next::guest;
	case K::error:
		return fail(Errc::fault);
	default:
		return internal_error(KVM_INTERNAL_ERROR_EMULATION, {});
	}
}

template <Vendor V> Next Vcpu<V>::outcome(kx::emulate::Outcome o)
{
	using K = kx::emulate::Outcome::Kind;
	for (;;)
		switch (o.kind) {
		case K::done:
		case K::retry:
			/* RF tells that an element of a REP is done: no STI or MOV SS leaves it set. */
			if (o.kind == K::done || (hw.rflags() & rflags::rf))
				hw.set_interrupt_shadow(InterruptShadow::none);
			return o.trap == kx::emulate::Outcome::Trap::single_step ? single_step() : Next::guest;
		case K::fault:
			return raise(o.exception);
		case K::mmio_read:
			return mmio_exit(o, 0);
		case K::mmio_write:
			hw.set_interrupt_shadow(InterruptShadow::none); /* the instruction, or the element, is done otherwise */
			if (vm.devices.write(*this, Bus::mmio, o.gpa.raw(), &o.data, o.len) == Taken::no)
				return mmio_exit(o, 1);
			{
				VcpuMachine<V> m{*this};
				o = kx::emulate::write_taken(m, emulation);
			}
			break;
		case K::port_out:
			hw.set_interrupt_shadow(InterruptShadow::none);
			if (o.count == 1 && vm.devices.write(*this, Bus::pio, o.port, pio_page.get(), o.len) == Taken::yes) {
				VcpuMachine<V> m{*this};
				o = kx::emulate::port_done(m, emulation);
				break;
			}
			[[fallthrough]];
		case K::port_in:
			return port_exit(o.kind == K::port_in ? PioDirection::in : PioDirection::out, o.port, o.len, o.count);
		case K::unhandled:
			return emulation_failed();
		case K::error:
			return fail(Errc::fault);
		}
}

}
