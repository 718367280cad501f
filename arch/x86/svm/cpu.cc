// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/svm/cpu.hpp"
#include "cxxrt/atomic.hpp"
#include <initializer_list>

namespace kx::svm {

namespace {
/* MSRs that VMLOAD and VMSAVE switch: the guest has them to itself. APM vol. 2 §15.5.2 */
constexpr u32 free_msrs[] = {
	kx::msr::STAR, kx::msr::LSTAR, kx::msr::CSTAR, kx::msr::SFMASK,
	kx::msr::FS_BASE, kx::msr::GS_BASE, kx::msr::KERNEL_GS_BASE,
	kx::msr::IA32_SYSENTER_CS, kx::msr::IA32_SYSENTER_ESP, kx::msr::IA32_SYSENTER_EIP,
};
constinit Atomic<u64> serials;
constexpr u64 reset_pat = 0x0007040600070406;

u16 pack(const Segment &s)
{
	return u16(attr::Type::put(s.type) | attr::S::put(s.s) | attr::Dpl::put(s.dpl) | attr::P::put(s.present) |
		   attr::Avl::put(s.avl) | attr::L::put(s.l) | attr::Db::put(s.db) | attr::G::put(s.g));
}
}

Errc Cpu::init()
{
	page_ = KX_TRY(Page<Vmcb>::make_inside());
	vmcb_ = page_.get();
	sw_.vmcb_pa = encrypted(phys_of(vmcb_));
	serial_ = serials.add(1);
	KX_CHECK(msrpm_.init());
	for (u32 m : free_msrs)
		msrpm_.set(m, MsrAccess::pass, MsrAccess::pass);
	sw_.spec_intercepted = 1;
	reset();
	return Errc::ok;
}

void Cpu::reset()
{
	const Caps &caps = host.caps();
	VmcbControl &c = vmcb_->control;
	const u64 root = c.nested_cr3;
	const u64 tsc_offset = c.tsc_offset;

	__builtin_memset(vmcb_, 0, sizeof *vmcb_);
	c.nested_cr3 = root;
	c.tsc_offset = tsc_offset;
	c.cr_write = 1u << 4 | 1u << 8;
	c.dr_read = c.dr_write = 0xff;
	c.exceptions = 1u << unsigned(Vector::mc) | 1u << unsigned(Vector::ac) | 1u << unsigned(Vector::db);
	using enum Intercept;
	for (Intercept i : {intr, nmi, smi, init_, rdpmc, cpuid, rsm, invd, hlt, invlpga, ioio, msr_, task_switch,
			    shutdown, vmrun, vmmcall, vmload, vmsave, stgi, clgi, skinit, wbinvd, monitor, mwait, xsetbv})
		set_intercept(i);
	if (caps.rdpru)
		set_intercept(rdpru);
	if (caps.invlpgb) {
		set_intercept(invlpgb_all);
		set_intercept(invlpgb_illegal);
		set_intercept(tlbsync);
	}
	if (caps.mcommit)
		set_intercept(mcommit);
	if (caps.pause_filter) {
		/* A spinning vCPU gives its CPU away now and then. */
		set_intercept(pause);
		c.pause_count = 3000;
		c.pause_threshold = caps.pause_threshold ? 128 : 0;
	}
	c.iopm_pa = host.iopm();
	c.msrpm_pa = encrypted(msrpm_.pa());
	c.int_ctl = vintr::Masking::mask;
	c.nested_ctl = 1;
	vmcb_->save.g_pat = reset_pat;
	vmcb_->save.efer = efer::svme;
	efer_ = cr0_ = cr4_ = 0;
	iret_seen_ = stepping_ = stepped_ = false;
	iret_rip_ = step_rip_ = step_flags_ = 0;
	sw_.spec_ctrl = 0;
	tags_.moved(); /* its ASID was in the VMCB */
	dirty_ = ~0u;
}

Segment Cpu::segment(Seg which) const
{
	const VmcbSeg &v = (&vmcb_->save.es)[order(which)];
	Segment s{};
	s.base = v.base;
	s.limit = v.limit;
	s.selector = v.selector;
	s.type = u8(attr::Type::get(v.attrib));
	s.s = attr::S::get(v.attrib);
	s.dpl = attr::Dpl::get(v.attrib) & 3;
	s.present = attr::P::get(v.attrib);
	s.avl = attr::Avl::get(v.attrib);
	s.l = attr::L::get(v.attrib);
	s.db = attr::Db::get(v.attrib);
	s.g = attr::G::get(v.attrib);
	s.unusable = !s.present;
	switch (which) {
	case Seg::cs:
		/* AMD keeps no G bit for a CS loaded from a descriptor; VMMs that move the guest to an
		 * Intel host need one that agrees with the limit. */
		s.g = s.limit > 0xfffff;
		break;
	case Seg::tr:
		s.type |= 2; /* busy: VMX insists */
		break;
	case Seg::ds:
	case Seg::es:
	case Seg::fs:
	case Seg::gs:
		if (!s.unusable)
			s.type |= 1; /* accessed: VMX insists */
		break;
	case Seg::ss:
		if (s.unusable)
			s.db = false;
		s.dpl = vmcb_->save.cpl & 3;
		break;
	default:
		break;
	}
	return s;
}

void Cpu::set_segment(Seg which, const Segment &s)
{
	VmcbSeg &v = (&vmcb_->save.es)[order(which)];
	v.base = s.base;
	v.limit = s.limit;
	v.selector = s.selector;
	v.attrib = pack(s);
	if (s.unusable)
		v.attrib &= u16(~attr::P::mask);
	/* CPL is SS.DPL, in every mode; conforming code segments make CS.DPL differ. */
	if (which == Seg::ss)
		vmcb_->save.cpl = s.dpl;
	touch(Clean::seg);
}

void Cpu::set_gdt(const DescTable &t)
{
	vmcb_->save.gdtr.base = t.base;
	vmcb_->save.gdtr.limit = t.limit;
	touch(Clean::dt);
}

void Cpu::set_idt(const DescTable &t)
{
	vmcb_->save.idtr.base = t.base;
	vmcb_->save.idtr.limit = t.limit;
	touch(Clean::dt);
}

/* CD and NW would make the CPU run the guest uncached, whatever the VMM's memory type is: they are shown
 * to the guest, not to the CPU, and CR0 exits as long as the two differ. */
void Cpu::set_cr0(u64 v)
{
	VmcbControl &c = vmcb_->control;
	const u64 hw = (v | cr0::et) & ~(cr0::cd | cr0::nw);
	/* LMA is what LME and PG make it; hardware keeps it from here on. */
	if ((hw & cr0::pg) && (efer_ & efer::lme))
		vmcb_->save.efer |= efer::lma;
	else
		vmcb_->save.efer &= ~efer::lma;
	cr0_ = v | cr0::et;
	vmcb_->save.cr0 = hw;
	const bool differ = hw != cr0_;
	c.cr_write = u16((c.cr_write & ~1u) | differ);
	c.cr_read = u16((c.cr_read & ~1u) | differ);
	touch(Clean::crx);
	touch(Clean::intercepts);
}

void Cpu::set_cr4(u64 v)
{
	VmcbControl &c = vmcb_->control;
	cr4_ = v;
	/* A machine check in the guest is the host's: CR4.MCE stays as the host has it. */
	vmcb_->save.cr4 = v | (insn::read_cr4() & cr4::mce);
	const bool differ = vmcb_->save.cr4 != v;
	c.cr_read = u16((c.cr_read & ~(1u << 4)) | unsigned(differ) << 4);
	touch(Clean::crx);
	touch(Clean::intercepts);
}

void Cpu::set_efer(u64 v)
{
	efer_ = v & ~efer::lma;
	vmcb_->save.efer = v | efer::svme;
	touch(Clean::crx);
}

void Cpu::set_cr8(unsigned v)
{
	VmcbControl &c = vmcb_->control;
	c.int_ctl = (c.int_ctl & ~vintr::Tpr::mask) | vintr::Tpr::put(v);
	touch(Clean::tpr);
}

u64 *Cpu::slot(MsrSlot m)
{
	VmcbSave &s = vmcb_->save;
	switch (m) {
	case MsrSlot::star: return &s.star;
	case MsrSlot::lstar: return &s.lstar;
	case MsrSlot::cstar: return &s.cstar;
	case MsrSlot::sfmask: return &s.sfmask;
	case MsrSlot::kernel_gs_base: return &s.kernel_gs_base;
	case MsrSlot::fs_base: return &s.fs.base;
	case MsrSlot::gs_base: return &s.gs.base;
	case MsrSlot::sysenter_cs: return &s.sysenter_cs;
	case MsrSlot::sysenter_esp: return &s.sysenter_esp;
	case MsrSlot::sysenter_eip: return &s.sysenter_eip;
	default: return nullptr;
	}
}

u64 Cpu::msr(MsrSlot m) const
{
	if (m == MsrSlot::spec_ctrl)
		return host.caps().v_spec_ctrl ? vmcb_->save.spec_ctrl : sw_.spec_ctrl;
	if (m == MsrSlot::efer)
		return efer();
	const u64 *p = const_cast<Cpu *>(this)->slot(m);
	return p ? *p : 0;
}

/* VMLOAD reads what slot() names afresh each time: no clean bit covers it. */
void Cpu::set_msr(MsrSlot m, u64 v)
{
	if (m == MsrSlot::spec_ctrl)
		set_spec_ctrl(v);
	else if (m == MsrSlot::efer)
		set_efer(v);
	else if (u64 *p = slot(m))
		*p = v;
}

/* Once the guest uses the register, it has it to itself. */
void Cpu::set_spec_ctrl(u64 v)
{
	if (host.caps().v_spec_ctrl)
		vmcb_->save.spec_ctrl = u32(v);
	else
		sw_.spec_ctrl = u32(v);
	if (v && sw_.spec_intercepted) {
		sw_.spec_intercepted = 0;
		msrpm_.set(kx::msr::IA32_SPEC_CTRL, MsrAccess::pass, MsrAccess::pass);
		touch(Clean::iopm);
	}
}

/* Without a next RIP an INT3 or INTO is executed again: then it returns behind itself. */
void Cpu::inject(const Exception &e)
{
	if (is_software(e.vector)) {
		if (has_next_rip())
			inject(SoftwareEvent{SoftwareEvent::By::exception, u8(e.vector), 1, 0});
		return;
	}
	vmcb_->control.event_inj = event::Valid::mask | event::Type::put(event::exception) |
				   event::Vector::put(u8(e.vector)) |
				   (e.has_error ? event::ErrorValid::mask | event::Error::put(e.error) : 0);
}

/* APM vol. 2 §15.20 */
void Cpu::inject(const SoftwareEvent &e)
{
	const u64 next = rip() + e.length;
	vmcb_->control.next_rip = (efer() & efer::lma) && cs_l() ? next : u32(next);
	inject(e.by == SoftwareEvent::By::interrupt ? event::soft : event::exception, e.vector);
}

/* A virtual interrupt that is never delivered: its VINTR exit comes the moment it could be. */
void Cpu::want_interrupt_window()
{
	VmcbControl &c = vmcb_->control;
	if (interrupt_window_wanted())
		return;
	c.int_ctl = (c.int_ctl & ~(vintr::Prio::mask | vintr::Vector::mask)) | vintr::Irq::mask | vintr::Prio::mask |
		    vintr::IgnTpr::mask;
	set_intercept(Intercept::vintr);
	touch(Clean::tpr);
}

void Cpu::close_interrupt_window()
{
	VmcbControl &c = vmcb_->control;
	c.int_ctl &= ~(vintr::Irq::mask | vintr::Prio::mask | vintr::IgnTpr::mask);
	clear_intercept(Intercept::vintr);
	touch(Clean::tpr);
}

void Cpu::end_step()
{
	stepped_ = false;
	if (!stepping_)
		return;
	stepping_ = false;
	const bool was_iret = iret_seen_ && step_rip_ == iret_rip_;
	if (!(was_iret && rip() != step_rip_) && !(step_flags_ & rflags::tf))
		set_rflags(rflags() & ~rflags::tf);
	const u64 causes = dr6() & step_causes & (step_flags_ & rflags::tf ? ~u64{0} : ~dr6::bs);
	stepped_ = !causes;
	/* What the guest had left there stays until a #DB of its own; B0-B3 are then that one's alone. */
	set_dr6((dr6() & ~step_causes) | causes | (step_dr6_ & (causes ? dr6::bs : step_causes)));
}

void Cpu::follow_cpuid(const CpuidTable &cpuid)
{
	const auto allow = [this](Intercept i, bool has) { has ? clear_intercept(i) : set_intercept(i); };
	allow(Intercept::rdtscp, cpuid.has(Feature::rdtscp));
	allow(Intercept::invpcid, cpuid.has(Feature::invpcid) || !host.caps().invpcid);
	/* A barrier the guest asks for is its own affair: no exit. */
	msrpm_.set(kx::msr::IA32_PRED_CMD, MsrAccess::intercept,
		   cpuid.has_pred_cmd() && kx_ibpb_there() ? MsrAccess::pass : MsrAccess::intercept);
	touch(Clean::iopm);
}

void Cpu::set_root(Hpa root)
{
	vmcb_->control.nested_cr3 = encrypted(root);
	touch(Clean::np);
	tags_.switch_to(root.raw());
}

void Cpu::settle_tags()
{
	VmcbControl &c = vmcb_->control;
	TlbTags::Due d = tags_.settle(host_->tags);
	const bool behind = d.behind && !d.fresh;
	if (behind && !host.caps().flush_by_asid)
		d = tags_.renew(host_->tags);
	else if (behind)
		c.tlb_control = TlbControl::flush_asid;
	if (d.flush_cpu)
		c.tlb_control = TlbControl::flush_all;
	if (c.asid != d.tag) {
		c.asid = d.tag;
		touch(Clean::asid);
	}
}

}
