/* SPDX-License-Identifier: GPL-2.0-only */
/* Making, resetting and unmaking a vCPU; the guest's own paging. */
#pragma once
#include <initializer_list>
#include "arch/x86/mmu/walker.hpp"
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
	write(MsrSlot::tsc, 0, MsrBy::host);
	return Errc::ok;
}

/* The state after RESET. APM vol. 2 §14.1.3; RDX is family, model and stepping as far as known. */
template <Vendor V> void Vcpu<V>::reset()
{
	hw.reset();
	events.reset();
	debug.reset();
	emulation.drop();
	triple_fault_ = false;
	xcr0 = xcr0::fp;
	for (u8 i = 0; i < 16; ++i)
		hw.set_gpr(Gpr(i), 0);
	hw.set_gpr(Gpr::rdx, cpuid.signature() ? cpuid.signature() : 0x600);
	hw.set_efer(0);
	hw.set_cr0(cr0::cd | cr0::nw | cr0::et);
	hw.set_cr2(0);
	hw.set_cr3(0);
	hw.set_cr4(0);
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
	refresh_cpuid();
	V::cpuid_changed(*this);
}

/* The guest's CPU as it translates now. Looked at when a walk needs it, since guests change CR0 without an
 * exit, and made again when a register it is made from changed. */
template <Vendor V> const GuestRole &Vcpu<V>::role()
{
	const u64 c0 = hw.cr0(), c4 = hw.cr4(), e = hw.efer();
	if (c0 == role_.cr0 && c4 == role_.cr4 && e == role_.efer) [[likely]]
		return role_.role;
	GuestRole g;
	g.paging = c0 & cr0::pg;
	g.write_protect = c0 & cr0::wp;
	g.pae = c4 & cr4::pae;
	g.pse = c4 & cr4::pse;
	g.la57 = c4 & cr4::la57;
	g.smep = c4 & cr4::smep;
	g.smap = c4 & cr4::smap;
	g.pke = c4 & cr4::pke;
	g.long_mode = e & efer::lma;
	g.nx = e & efer::nx;
	role_ = {c0, c4, e, g};
	return role_.role;
}

template <Vendor V> emulate::Translation Vcpu<V>::walk(GuestRam &ram, Gva a, u32 want, Implicit implicit)
{
	const GuestRole &g = role();
	GuestTables tables{hw.cr3()};
	u64 pdptes[4] = {};
	if constexpr (V::keeps_pdptes) {
		if (paging_of(g) == GuestPaging::pae)
			for (unsigned i = 0; i < 4; ++i)
				pdptes[i] = hw.pdpte(i);
		tables.pdptes = pdptes;
	} else if (paging_of(g) == GuestPaging::pae) {
		/* With nested paging the CPU reads them from memory each time. APM vol. 2 §15.25.10 */
		const unsigned i = u32(a.raw()) >> 30;
		const Result<u64> e = ram.read64(Gpa{(tables.cr3 & 0xffffffe0) + i * 8});
		pdptes[i] = e.ok() ? e.peek() : 0;
		tables.pdptes = pdptes;
	}
	WalkRequest r;
	r.access = want | (hw.cpl() == 3 && implicit == Implicit::no ? pfec::user : 0);
	r.smap_exempt = implicit == Implicit::no && hw.cpl() < 3 && (hw.rflags() & rflags::ac);
	r.pkru = pkru; /* taken out of the register at each exit */
	WalkCaps caps{.phys_bits = u8(cpuid.max_phys_bits())};
	caps.top_global_rsvd = cpuid.vendor() != CpuVendor::intel;
	WalkResult w;
	if (want & pfec::fetch) {
		FetchMemo::Watch watch{fetched, ram};
		w = walk_guest(watch, g, caps, tables, a, r);
		/* Of an instruction over two pages the second walk has nothing to say about its start. */
		if (w.ok && a.raw() == linear_rip() && paging_of(g) != GuestPaging::pae)
			fetched.keep(a.raw(), w.gpa, regs(), ram);
		else
			fetched.forget();
	} else {
		w = walk_guest(ram, g, caps, tables, a, r);
	}
	if (!w.ok)
		return Exception::page_fault(w.error, a.raw());
	return w.gpa;
}

}
