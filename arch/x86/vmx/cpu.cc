// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vmx/cpu.hpp"
#include "sizes.h"

namespace kx::vmx {

namespace {

/* The CPU switches these with the VMCS, or nobody in the kernel reads them: the guest has them to itself. */
constexpr u32 free_msrs[] = {
	kx::msr::FS_BASE, kx::msr::GS_BASE, kx::msr::KERNEL_GS_BASE,
	kx::msr::IA32_SYSENTER_CS, kx::msr::IA32_SYSENTER_ESP, kx::msr::IA32_SYSENTER_EIP,
};
/* No other register and no table of ours depends on these. */
constexpr u64 cr0_free = cr0::mp | cr0::em | cr0::ts | cr0::wp | cr0::am;
constexpr u64 cr4_free = cr4::vme | cr4::pvi | cr4::tsd | cr4::de | cr4::pse | cr4::pge | cr4::pce | cr4::osfxsr |
			 cr4::osxmmexcpt | cr4::umip | cr4::fsgsbase | cr4::smep | cr4::smap;
constexpr u64 reset_pat = 0x0007040600070406;
constexpr u64 pending_bs = bit(14);
constinit Atomic<u64> serials;

u32 pack(const Segment &s)
{
	/* Flags and limit have to agree, or the entry fails. SDM vol. 3 §27.3.1.2 */
	const bool g = s.limit >> 20 ? true : (s.limit & 0xfff) == 0xfff && s.g;
	return u32(ar::Type::put(s.s ? s.type | 1u : s.type) | ar::S::put(s.s) | ar::Dpl::put(s.dpl) |
		   ar::P::put(s.present) | ar::Avl::put(s.avl) | ar::L::put(s.l) | ar::Db::put(s.db) | ar::G::put(g) |
		   ar::Unusable::put(s.unusable || !s.present));
}

}

Errc Cpu::init()
{
	KX_CHECK(vmcs_.init(host.caps().revision));
	KX_CHECK(msrs_.init());
	if (host.caps().tpr_shadow)
		apic_page_ = KX_TRY(Page<u8>::make());
	if (host.caps().pml)
		log_ = KX_TRY(Page<WriteLog>::make());
	if (host.switches_perf())
		lists_ = KX_TRY(Page<MsrLists>::make());
	for (u32 m : free_msrs)
		msrs_.set(m, MsrAccess::pass, MsrAccess::pass);
	msrs_.set(kx::msr::IA32_TSC, MsrAccess::pass, MsrAccess::intercept);
	sw_.spec_intercepted = 1;
	lazy_ = host.switches_tsx() ? tsx : 0;
	tsx_ctrl_ = host.tsx_ctrl();
	before_each_ = host.flushes_always() ? flush_caches : 0;
	serial_ = serials.add(1);
	return Errc::ok;
}

/* The whole VMCS but for the guest's registers, which the ordinary setters write, and the host's state
 * that differs from CPU to CPU, which moved_to() has written. */
void Cpu::reset()
{
	const Caps &caps = host.caps();
	const auto &h = host.common();

	have_ = put_ = 0;
	vmwrite<Field::pin_controls>(caps.pin);
	proc_ = ~caps.proc; /* whatever it was: set_proc() writes */
	set_proc(caps.proc);
	vmwrite<Field::proc2_controls>(base_proc2());
	vmwrite<Field::exit_controls>(caps.exit);
	vmwrite<Field::entry_controls>(caps.entry & ~entry_control::ia32e);
	vmwrite<Field::exception_bitmap>(1u << unsigned(Vector::mc) | 1u << unsigned(Vector::ac) |
					 1u << unsigned(Vector::db));
	vmwrite<Field::pf_error_mask>(0u);
	vmwrite<Field::pf_error_match>(0u);
	vmwrite<Field::cr3_target_count>(0u);
	vmwrite<Field::exit_msr_store_count>(0u);
	vmwrite<Field::exit_msr_load_count>(0u);
	vmwrite<Field::entry_msr_load_count>(listed_ = 0);
	if (const MsrLists *l = lists_.get()) {
		vmwrite<Field::entry_msr_load>(phys_of(l->guest).raw());
		vmwrite<Field::exit_msr_load>(phys_of(l->host).raw());
	}
	vmwrite<Field::entry_info>(0u);
	vmwrite<Field::vmcs_link>(~u64{0});
	vmwrite<Field::msr_bitmap>(msrs_.pa());
	if (caps.tpr_shadow) {
		vmwrite<Field::virtual_apic>(phys_of(apic_page_.get()).raw());
		vmwrite<Field::tpr_threshold>(0u);
	}
	if (caps.pml) {
		vmwrite<Field::pml_address>(phys_of(log_.get()).raw());
		vmwrite<Field::guest_pml_index>(u16(log_entries - 1));
	}
	if (caps.pause_loop) {
		/* A spinning vCPU gives its CPU away now and then. In TSC ticks. */
		vmwrite<Field::ple_gap>(128u);
		vmwrite<Field::ple_window>(4096u);
	}
	if (caps.proc2 & proc2::encls)
		vmwrite<Field::encls_exit_bitmap>(~u64{0});
	if (caps.proc2_by_cpuid & proc2::xsaves)
		vmwrite<Field::xss_exit_bitmap>(u64{0});
	vmwrite<Field::ept_pointer>(ept_pointer_);

	vmwrite<Field::host_cr0>(h.cr0);
	host_cr3_ = host_cr4_ = host_fs_base_ = 0;
	vmwrite<Field::host_cr3>(host_cr3_);
	vmwrite<Field::host_cr4>(host_cr4_);
	vmwrite<Field::host_fs_base>(host_fs_base_);
	constexpr u16 kernel_cs = KX_KERNEL_CS, kernel_ds = KX_KERNEL_DS;
	vmwrite<Field::host_cs_sel>(kernel_cs);
	vmwrite<Field::host_ss_sel>(kernel_ds);
	vmwrite<Field::host_ds_sel>(u16{0});
	vmwrite<Field::host_es_sel>(u16{0});
	vmwrite<Field::host_fs_sel>(u16{0});
	vmwrite<Field::host_gs_sel>(u16{0});
	vmwrite<Field::host_tr_sel>(h.tr);
	vmwrite<Field::host_idtr_base>(h.idtr_base);
	vmwrite<Field::host_sysenter_cs>(h.sysenter_cs);
	vmwrite<Field::host_sysenter_eip>(h.sysenter_eip);
	vmwrite<Field::host_efer>(h.efer);
	if (caps.pat)
		vmwrite<Field::host_pat>(h.pat);
	vmwrite<Field::host_rip>(reinterpret_cast<u64>(kx_vmx_exit));
	sw_.host_rsp = 0;

	vmwrite<Field::guest_activity>(0u);
	vmwrite<Field::guest_debugctl>(u64{0});
	vmwrite<Field::guest_pending_debug>(u64{0});
	vmwrite<Field::guest_sysenter_cs>(0u);
	vmwrite<Field::guest_sysenter_esp>(u64{0});
	vmwrite<Field::guest_sysenter_eip>(u64{0});
	set<Reg::interruptibility>(0);
	set_pat(reset_pat);
	efer_ = cr0_shadow_ = cr4_shadow_ = 0;
	lazy_ &= tsx;
	set<Reg::cr4>(cr4_owned_ = 0);
	cr0_owned_ = cr0_free;
	vmwrite<Field::cr0_mask>(~cr0_owned_);
	vmwrite<Field::cr0_shadow>(cr0_shadow_);
	own_cr4(0);
	vmwrite<Field::guest_efer>(efer_);
	tags_.flush_all();
}

void Cpu::moved_to(HostCpu &h)
{
	sw_.launched = 0;
	/* What this CPU cached of our tables when we were here before may have changed meanwhile. */
	tags_.moved();
	vmwrite<Field::host_gs_base>(h.gs_base);
	vmwrite<Field::host_tr_base>(h.tr_base);
	vmwrite<Field::host_gdtr_base>(h.gdtr_base);
	vmwrite<Field::host_sysenter_esp>(h.sysenter_esp);
}

/* Registers of user space that VM exits do not restore become the guest's. */
void Cpu::switch_in()
{
	switched_ = true;
	if (host_->last_guest != serial_) {
		host_->last_guest = serial_;
		kx_other_guest();
	}
	kx_segments_save(&segments_);
	if (segments_.fs_base != host_fs_base_)
		vmwrite<Field::host_fs_base>(host_fs_base_ = segments_.fs_base);
	insn::wrmsr(hwmsr::kernel_gs_base, kernel_gs_base_);
	load_lazy();
}

void Cpu::switch_perf()
{
	kx_guest_msr m[MsrLists::room];
	const u32 n = kx_perf_msrs(m, MsrLists::room);
	before_each_ &= u8(~quiet_pebs);
	for (u32 i = 0; i < n; ++i) {
		if (m[i].msr == hwmsr::pebs_enable) {
			before_each_ |= quiet_pebs;
			tags_.ask_again();
		}
		lists_->guest[i] = {m[i].msr, 0, m[i].guest};
		lists_->host[i] = {m[i].msr, 0, m[i].host};
	}
	if (n != listed_) {
		vmwrite<Field::entry_msr_load_count>(listed_ = n);
		vmwrite<Field::exit_msr_load_count>(n);
	}
}

void Cpu::switch_out()
{
	switched_ = false;
	kernel_gs_base_ = insn::rdmsr(hwmsr::kernel_gs_base);
	kx_segments_restore(&segments_);
}

/* Of the first three only SYSCALL and SYSRET are the readers, of the last XBEGIN. */
void Cpu::load_lazy()
{
	if (lazy_ != syscall_msrs) [[unlikely]] {
		if (lazy_ & tsx)
			kx_user_return_set(user_return::tsx_ctrl, tsx_ctrl_);
		if (!(lazy_ & syscall_msrs))
			return;
	}
	kx_user_return_set(user_return::star, star_);
	kx_user_return_set(user_return::lstar, lstar_);
	kx_user_return_set(user_return::sfmask, sfmask_);
}

void Cpu::put_rest()
{
	constexpr u32 step = 1u << unsigned(Reg::rflags) | 1u << unsigned(Reg::interruptibility);
	if (put_ & step && (get<Reg::interruptibility>() & (interruptibility::sti | interruptibility::mov_ss))) {
		/* A single step that a shadow holds back has to be pending. SDM vol. 3 §27.3.1.5 */
		const u64 was = vmread<Field::guest_pending_debug>();
		const bool stepping = (get<Reg::rflags>() & rflags::tf) && !(vmread<Field::guest_debugctl>() & 2);
		const u64 now = stepping ? was | pending_bs : was & ~pending_bs;
		if (now != was)
			vmwrite<Field::guest_pending_debug>(now);
	}
	put_one<Reg::rflags>();
	put_one<Reg::interruptibility>();
	put_one<Reg::rsp>();
	put_one<Reg::cr0>();
	put_one<Reg::cr3>();
	put_one<Reg::cr4>();
	put_one<Reg::cs_ar>();
	put_one<Reg::ss_ar>();
}

void Cpu::settle_tags()
{
	const TlbTags::Due d = tags_.settle(host_->vpids);
	if (host.caps().vpid) {
		vmwrite<Field::vpid>(u16(d.tag));
		if (d.flush_cpu)
			invvpid(Invalidate::all, 0);
	}
	/* Whatever is cached of a guest comes from these tables, whatever its VPID; and what is cached by other
	 * tables is not used by these. SDM vol. 3 §29.4.1, §29.4.3.1 */
	if (d.behind)
		invept(host.caps().invept_single ? Invalidate::single : Invalidate::all, ept_pointer_);
	if (before_each_)
		prepare_entry();
}

void Cpu::prepare_entry()
{
	tags_.ask_again();
	/* A record under way goes out now. The list of MSRs, which clears the register too, leaves no time for that on a
	 * processor that does not see to it itself, and the record would go into the guest's memory. */
	if (before_each_ & quiet_pebs)
		insn::wrmsr(hwmsr::pebs_enable, 0);
	/* The last of what touches memory before the entry, but for the guest's registers. */
	if (before_each_ & flush_caches)
		kx_vmx_flush();
}

Entered Cpu::not_entered(Launch r)
{
	if (r == Launch::off)
		return Entered::off;
	reason_ = refused;
	return Entered::yes;
}

Segment Cpu::segment(Seg which) const
{
	const unsigned n = unsigned(which);
	const u64 rights = which == Seg::cs   ? get<Reg::cs_ar>()
			   : which == Seg::ss ? get<Reg::ss_ar>()
					      : vmread_at(nth(Field::guest_es_ar, n));
	Segment s{};
	s.base = vmread_at(nth(Field::guest_es_base, n));
	s.limit = u32(vmread_at(nth(Field::guest_es_limit, n)));
	s.selector = u16(vmread_at(nth(Field::guest_es_sel, n)));
	s.type = u8(ar::Type::get(rights));
	s.s = ar::S::test(rights);
	s.dpl = ar::Dpl::get(rights) & 3;
	s.unusable = ar::Unusable::test(rights);
	s.present = !s.unusable; /* of an unusable one the flags mean nothing */
	s.avl = ar::Avl::test(rights);
	s.l = ar::L::test(rights);
	s.db = ar::Db::test(rights);
	s.g = ar::G::test(rights);
	return s;
}

void Cpu::set_segment(Seg which, const Segment &s)
{
	const unsigned n = unsigned(which);
	u32 rights = pack(s);
	if (which == Seg::tr)
		rights |= 2; /* busy */
	vmwrite_at(nth(Field::guest_es_base, n), s.base);
	vmwrite_at(nth(Field::guest_es_limit, n), s.limit);
	vmwrite_at(nth(Field::guest_es_sel, n), s.selector);
	if (which == Seg::cs)
		set<Reg::cs_ar>(rights);
	else if (which == Seg::ss)
		set<Reg::ss_ar>(rights);
	else
		vmwrite_at(nth(Field::guest_es_ar, n), rights);
}

void Cpu::set_gdt(const DescTable &t)
{
	vmwrite<Field::guest_gdtr_base>(t.base);
	vmwrite<Field::guest_gdtr_limit>(t.limit);
}

void Cpu::set_idt(const DescTable &t)
{
	vmwrite<Field::guest_idtr_base>(t.base);
	vmwrite<Field::guest_idtr_limit>(t.limit);
}

/* CD and NW are shown to the guest, not to the CPU: its memory types come from the nested tables. */
void Cpu::set_cr0(u64 v)
{
	const Caps &caps = host.caps();
	v |= cr0::et;
	const u64 must = caps.unrestricted ? caps.cr0_fixed0 & ~(cr0::pe | cr0::pg) : caps.cr0_fixed0;
	set<Reg::cr0>(((v & ~(cr0::cd | cr0::nw)) | must) & caps.cr0_fixed1);
	if (v != cr0_shadow_)
		vmwrite<Field::cr0_shadow>(cr0_shadow_ = v);
	/* LMA is what LME and PG make it. */
	const u64 e = (v & cr0::pg) && (efer_ & efer::lme) ? efer_ | efer::lma : efer_ & ~efer::lma;
	if (e != efer_)
		set_efer(e);
}

void Cpu::set_cr4(u64 v)
{
	const Caps &caps = host.caps();
	/* A machine check in the guest is the host's: CR4.MCE stays as the host has it. */
	set<Reg::cr4>((v & ~cr4::mce) | (insn::read_cr4() & cr4::mce) | caps.cr4_fixed0);
	if (v != cr4_shadow_)
		vmwrite<Field::cr4_shadow>(cr4_shadow_ = v);
}

void Cpu::own_cr4(u64 allowed)
{
	cr4_shadow_ = cr4(); /* what it may have changed so far */
	cr4_owned_ = cr4_free & allowed;
	vmwrite<Field::cr4_mask>(~cr4_owned_);
	vmwrite<Field::cr4_shadow>(cr4_shadow_);
}

void Cpu::set_efer(u64 v)
{
	const bool was_long = efer_ & efer::lma;
	efer_ = v;
	lazy_ = u8((lazy_ & ~syscall_msrs) | (v & efer::sce ? syscall_msrs : 0));
	vmwrite<Field::guest_efer>(v);
	if (was_long != bool(v & efer::lma)) {
		const u32 c = vmread<Field::entry_controls>() & ~entry_control::ia32e;
		vmwrite<Field::entry_controls>(v & efer::lma ? c | entry_control::ia32e : c);
		/* A task register of an older kind is no state to enter long mode in; the guest loads another there. SDM
		 * vol. 3 §27.3.1.2 */
		if (v & efer::lma) {
			constexpr u64 busy_tss64 = 11;
			const u64 rights = vmread<Field::guest_tr_ar>();
			if (ar::Type::get(rights) != busy_tss64)
				vmwrite<Field::guest_tr_ar>(u32((rights & ~ar::Type::mask) | ar::Type::put(busy_tss64)));
		}
	}
	if (switched_) {
		kx_preempt_off();
		if (switched_)
			load_lazy();
		kx_preempt_on();
	}
}

void Cpu::set_cr8(unsigned v)
{
	if (u8 *page = apic_page_.get())
		*reinterpret_cast<volatile u32 *>(page + 0x80) = v << 4;
	else
		cr8_ = v;
}

u64 Cpu::msr(MsrSlot m) const
{
	switch (m) {
	case MsrSlot::fs_base: return vmread<Field::guest_fs_base>();
	case MsrSlot::gs_base: return vmread<Field::guest_gs_base>();
	case MsrSlot::sysenter_cs: return vmread<Field::guest_sysenter_cs>();
	case MsrSlot::sysenter_esp: return vmread<Field::guest_sysenter_esp>();
	case MsrSlot::sysenter_eip: return vmread<Field::guest_sysenter_eip>();
	case MsrSlot::star: return star_;
	case MsrSlot::lstar: return lstar_;
	case MsrSlot::cstar: return cstar_;
	case MsrSlot::sfmask: return sfmask_;
	case MsrSlot::efer: return efer_;
	case MsrSlot::spec_ctrl: return sw_.spec_ctrl;
	case MsrSlot::kernel_gs_base: {
		kx_preempt_off();
		const u64 v = switched_ ? insn::rdmsr(hwmsr::kernel_gs_base) : kernel_gs_base_;
		kx_preempt_on();
		return v;
	}
	default: return 0;
	}
}

void Cpu::set_msr(MsrSlot m, u64 v)
{
	switch (m) {
	case MsrSlot::fs_base: vmwrite<Field::guest_fs_base>(v); return;
	case MsrSlot::gs_base: vmwrite<Field::guest_gs_base>(v); return;
	case MsrSlot::sysenter_cs: vmwrite<Field::guest_sysenter_cs>(u32(v)); return;
	case MsrSlot::sysenter_esp: vmwrite<Field::guest_sysenter_esp>(v); return;
	case MsrSlot::sysenter_eip: vmwrite<Field::guest_sysenter_eip>(v); return;
	case MsrSlot::cstar: cstar_ = v; return;
	case MsrSlot::efer: set_efer(v); return;
	case MsrSlot::spec_ctrl: set_spec_ctrl(v); return;
	case MsrSlot::star: star_ = v; break;
	case MsrSlot::lstar: lstar_ = v; break;
	case MsrSlot::sfmask: sfmask_ = v; break;
	case MsrSlot::kernel_gs_base: kernel_gs_base_ = v; break;
	default: return;
	}
	/* These are in registers of the CPU while the thread runs. */
	kx_preempt_off();
	if (switched_) {
		insn::wrmsr(hwmsr::kernel_gs_base, m == MsrSlot::kernel_gs_base ? v : insn::rdmsr(hwmsr::kernel_gs_base));
		load_lazy();
	}
	kx_preempt_on();
}

/* Once the guest uses the register, it has it to itself. */
void Cpu::set_spec_ctrl(u64 v)
{
	sw_.spec_ctrl = u32(v);
	if (v && sw_.spec_intercepted) {
		sw_.spec_intercepted = 0;
		msrs_.set(kx::msr::IA32_SPEC_CTRL, MsrAccess::pass, MsrAccess::pass);
	}
}

void Cpu::set_interrupt_shadow(InterruptShadow s)
{
	constexpr u64 either = interruptibility::sti | interruptibility::mov_ss;
	const u64 was = get<Reg::interruptibility>();
	u64 now = was & ~either;
	if (s != InterruptShadow::none) /* STI's is impossible with IF clear */
		now |= s == InterruptShadow::sti && (rflags() & rflags::intf) ? interruptibility::sti : interruptibility::mov_ss;
	if (now == was)
		return;
	set<Reg::interruptibility>(now);
	/* Whoever ends a shadow says itself that a step is done. */
	if (!(now & either))
		if (const u64 d = vmread<Field::guest_pending_debug>(); d & pending_bs)
			vmwrite<Field::guest_pending_debug>(d & ~pending_bs);
}

void Cpu::pass_int1()
{
	set_rip(next_rip());
	set_interrupt_shadow(InterruptShadow::none);
	set_rflags(rflags() & ~rflags::rf);
}

void Cpu::inject(u32 type, u8 vector)
{
	vmwrite<Field::entry_info>(u32(info::Valid::mask | info::Type::put(type) | vector));
}

void Cpu::inject(const Exception &e)
{
	const bool software = is_software(e.vector);
	/* In real mode no error code is pushed, and one must not be asked for. SDM vol. 3 §27.2.1.3 */
	const bool error = e.has_error && (cr0() & cr0::pe);
	if (error)
		vmwrite<Field::entry_error>(e.error);
	if (software)
		vmwrite<Field::entry_length>(1u); /* INT3, INTO */
	vmwrite<Field::entry_info>(u32(info::Valid::mask | info::Type::put(software ? info::software : info::hardware) |
				       info::ErrorValid::put(error) | u8(e.vector)));
}

void Cpu::inject(const SoftwareEvent &e)
{
	vmwrite<Field::entry_length>(u32(e.length));
	inject(e.by == SoftwareEvent::By::interrupt ? info::software_int : info::software, e.vector);
}

/* The CPU blocks further ones itself, and insists that none is blocked now. */
void Cpu::inject_nmi()
{
	if (host.caps().vnmi)
		block_nmi(false);
	inject(info::nmi, u8(Vector::nmi));
}

void Cpu::drop_injection() { vmwrite<Field::entry_info>(0u); }

void Cpu::block_nmi(bool b)
{
	const u64 was = get<Reg::interruptibility>();
	const u64 now = b ? was | interruptibility::nmi : was & ~u64{interruptibility::nmi};
	if (now != was)
		set<Reg::interruptibility>(now);
}

void Cpu::set_root(Hpa root)
{
	const Caps &caps = host.caps();
	constexpr u64 write_back = 6;
	ept_pointer_ = root.raw() | write_back | (host.ept_levels() - 1) << 3 | (caps.ept_ad ? bit(6) : 0);
	vmwrite<Field::ept_pointer>(ept_pointer_);
	tags_.switch_to(root.raw());
}

void Cpu::follow_cpuid(const CpuidTable &cpuid)
{
	const u32 there = host.caps().proc2_by_cpuid;
	u32 v = base_proc2();
	const auto enable = [&](u32 control, bool has) { v |= has ? there & control : 0; };
	enable(proc2::rdtscp, cpuid.has(Feature::rdtscp) || cpuid.has(Feature::rdpid));
	enable(proc2::invpcid, cpuid.has(Feature::invpcid));
	enable(proc2::xsaves, cpuid.has(Feature::xsaves));
	/* These two make it exit. */
	enable(proc2::rdrand, !cpuid.has(Feature::rdrand));
	enable(proc2::rdseed, !cpuid.has(Feature::rdseed));
	vmwrite<Field::proc2_controls>(v);
	/* No control has these: of instructions that CPUID hides a guest has what is neither in a control above nor behind
	 * CR4, XCR0 or an MSR that exits (ADX, BMI, SHA, MOVDIRI, CLWB, ...). They compute, and tell nothing of the host. A
	 * transaction does (TAA), and can be switched off. */
	tsx_ctrl_ = cpuid.has(Feature::rtm) ? host.tsx_ctrl() : host.tsx_ctrl() | hwmsr::tsx_rtm_disable;
	/* A barrier the guest asks for is its own affair: no exit. */
	msrs_.set(kx::msr::IA32_PRED_CMD, MsrAccess::intercept,
		  cpuid.has_pred_cmd() && kx_ibpb_there() ? MsrAccess::pass : MsrAccess::intercept);
	own_cr4(~cpuid.cr4_reserved());
}

}
