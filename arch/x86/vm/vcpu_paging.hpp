/* SPDX-License-Identifier: GPL-2.0-only */
/* How the guest translates: the one writer of the registers that say so, the role they make, and walks by it. */
#pragma once
#include "arch/x86/mmu/walker.hpp"
#include "arch/x86/vm/vcpu_emulate.hpp"

namespace kx {

/*
 * CR0, CR3, CR4 and EFER are written here and nowhere else (scripts/check-layers.sh), so that roles, roots and
 * what is cached by them see each change once. What the TLB owes is in c, as the manuals have it for the
 * instruction. A root is owed when the new role asks for another one, and loaded before the next entry.
 */
template <Vendor V> bool Vcpu<V>::set_control_regs(const CrWrite &c, Rewrite how)
{
	const ControlRegs was = regs(), &now = c.regs;
	const auto writes = [how](u64 a, u64 b) { return a != b || how == Rewrite::all; };
	if constexpr (V::keeps_pdptes) {
		u64 entries[4];
		if (c.pdptrs == Pdptrs::load) {
			if (!read_pdptes(now.cr3, entries))
				return false;
			for (unsigned i = 0; i < 4; ++i)
				hw.set_pdpte(i, entries[i]);
		}
	}
	if (writes(now.cr3, was.cr3))
		hw.set_cr3(now.cr3);
	/* EFER first: what LMA becomes with CR0.PG depends on it. */
	if (writes(now.efer, was.efer))
		hw.set_efer(now.efer);
	if (writes(now.cr4, was.cr4)) {
		hw.set_cr4(now.cr4);
		refresh_cpuid();
	}
	if (writes(now.cr0, was.cr0))
		hw.set_cr0(now.cr0);
	if (c.tlb == TlbOwed::everything)
		hw.flush_all();
	else if (c.tlb == TlbOwed::current)
		hw.flush_current();
	if (((now.cr0 ^ was.cr0) & role_cr0) | ((now.cr4 ^ was.cr4) & role_cr4) | ((now.efer ^ was.efer) & role_efer))
		follow_role();
	return true;
}

/* Into SMM or out of it, to a nested guest or from it: other registers, and other tables for the same ones. */
template <Vendor V> bool Vcpu<V>::set_context(PagingContext to, const CrWrite &c)
{
	const PagingContext was = context_;
	context_ = to;
	if (!set_control_regs(c, Rewrite::changed)) {
		context_ = was;
		return false;
	}
	follow_role();
	return true;
}

template <Vendor V> void Vcpu<V>::follow_role()
{
	if (!mmu.root || !(tdp_role(role(), sys->mmu) == mmu.root->role))
		requests.or_with(request::load_root);
}

/* Law 4: the root at hand, one that stands already, and only then a new one; and no flush. */
template <Vendor V> Errc Vcpu<V>::load_root()
{
	hw.set_root(KX_TRY(vm.memory.load_root(mmu, role())));
	return Errc::ok;
}

/* Compared with the registers whenever it is used: guests change some bits of them without an exit. */
template <Vendor V> const GuestRole &Vcpu<V>::role()
{
	const u64 c0 = hw.cr0(), c4 = hw.cr4(), e = hw.efer();
	if (c0 == role_.cr0 && c4 == role_.cr4 && e == role_.efer && context_ == role_.context) [[likely]]
		return role_.role;
	role_ = {c0, c4, e, context_, guest_role({c0, 0, c4, e}, context_)};
	return role_.role;
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
