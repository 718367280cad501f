/* SPDX-License-Identifier: GPL-2.0-only */
/* Making, resetting and unmaking a vCPU. */
#pragma once
#include <initializer_list>
#include "arch/x86/vm/vcpu.hpp"

namespace kx {

template <Vendor V>
Vcpu<V>::Vcpu(Vm<V> &v, u32 n)
	: VcpuBase{n}, vm{v}, msrs{sys->limits, n == 0 ? MsrFile::Boot::bootstrap : MsrFile::Boot::application},
	  tsc{kx_tsc_khz()}
{
	vm.memory.attach(mmu);
}

template <Vendor V> Vcpu<V>::~Vcpu()
{
	vm.memory.detach(mmu);
	if (fpu_made_)
		kx_fpu_destroy(fpu_);
}

template <Vendor V> Errc Vcpu<V>::init()
{
	run_page_ = KX_TRY(Page<kvm_run>::make());
	run = run_page_.get();
	pio_page = KX_TRY(Page<u8>::make());
	if (kx_fpu_init(fpu_))
		return Errc::nomem;
	fpu_made_ = true;
	kx_thread_init(thread_, this);
	KX_CHECK(hw.init());
	const Hpa root = KX_TRY(vm.memory.load_root(mmu, GuestRole{}));
	const OnCpu on{*this};
	hw.set_root(root);
	reset();
	return Errc::ok;
}

/* The state after RESET. APM vol. 2 §14.1.3; RDX is family, model and stepping as far as known. */
template <Vendor V> void Vcpu<V>::reset()
{
	hw.reset();
	events.reset();
	debug.reset();
	emulation.drop();
	xcr0 = xcr0::fp;
	for (u8 i = 0; i < 16; ++i)
		hw.set_gpr(Gpr(i), 0);
	hw.set_gpr(Gpr::rdx, cpuid.signature() ? cpuid.signature() : 0x600);
	context_ = {};
	set_control_regs({.regs = {cr0::cd | cr0::nw | cr0::et, 0, 0, 0}, .tlb = TlbOwed::everything}, Rewrite::all);
	hw.set_cr2(0);
	hw.set_cr8(0);
	hw.set_dr6(debug.dr6());
	hw.set_dr7(debug.dr7());
	hw.set_pat(msrs.pat());
	hw.set_rip(0xfff0);
	hw.set_rflags(rflags::fixed);
	Segment data{};
	data.limit = 0xffff;
	data.s = data.present = true;
	data.type = 3;
	for (Seg s : {Seg::es, Seg::ss, Seg::ds, Seg::fs, Seg::gs})
		hw.set_segment(s, data);
	Segment cs = data;
	cs.selector = 0xf000;
	cs.base = 0xffff0000;
	cs.type = 11;
	hw.set_segment(Seg::cs, cs);
	Segment system{};
	system.limit = 0xffff;
	system.present = true;
	system.type = 2;
	hw.set_segment(Seg::ldtr, system);
	system.type = 11;
	hw.set_segment(Seg::tr, system);
	hw.set_gdt({0, 0xffff});
	hw.set_idt({0, 0xffff});
	hw.set_tsc_offset(tsc.offset());
	V::cpuid_changed(*this);
}

}
