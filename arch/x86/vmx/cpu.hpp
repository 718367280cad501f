/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One guest processor under VMX: its VMCS and what goes with it. Models the GuestCpu of vendor.hpp. The
 * VMCS is reachable on the CPU it is current on alone: everything but the constructor, init() and the
 * destructor runs between loaded() and unloaded().
 */
#pragma once
#include "arch/x86/cpu/insn.hpp"
#include "arch/x86/cpu/tlb_tags.hpp"
#include "arch/x86/vendor.hpp"
#include "arch/x86/vmx/host.hpp"
#include "arch/x86/vmx/msr_bitmap.hpp"

namespace kx::vmx {

/* What entry.S works on; its offsets are written down there as well. */
struct Switch {
	u64 gpr[16]; /* RSP goes through the VMCS */
	u64 host_rsp; /* as the VMCS has it */
	u32 spec_ctrl;
	u8 spec_intercepted, launched;
};
static_assert(offsetof(Switch, host_rsp) == 128 && offsetof(Switch, spec_ctrl) == 136);
static_assert(offsetof(Switch, spec_intercepted) == 140 && offsetof(Switch, launched) == 141);

/* What VMLAUNCH or VMRESUME came to. */
enum class Launch : u64 { exited, refused, off };
extern "C" Launch kx_vmx_enter(Switch *s);
extern "C" const char kx_vmx_exit[];

namespace interruptibility {
inline constexpr u32 sti = bit(0), mov_ss = bit(1), smi = bit(2), nmi = bit(3);
}

/* Of entry_info, exit_info and idt_vectoring alike. SDM vol. 3 §25.8.3, §25.9.2 */
namespace info {
using Vector = Bits<7, 0>;
using Type = Bits<10, 8>;
using ErrorValid = Bits<11>;
using NmiUnblocked = Bits<12>;
using Valid = Bits<31>;
enum : u32 { external = 0, nmi = 2, hardware = 3, software_int = 4, privileged = 5, software = 6 };
}

/* The access rights of a segment. SDM vol. 3 §25.4.1 */
namespace ar {
using Type = Bits<3, 0>;
using S = Bits<4>;
using Dpl = Bits<6, 5>;
using P = Bits<7>;
using Avl = Bits<12>;
using L = Bits<13>;
using Db = Bits<14>;
using G = Bits<15>;
using Unusable = Bits<16>;
}

/* MSRs that entries load, and exits. SDM vol. 3 §25.7.2, §25.8.2 */
struct MsrLists {
	struct alignas(16) Entry {
		u32 index, reserved;
		u64 value;
	};
	static constexpr unsigned room = 8;
	Entry guest[room], host[room];
};

class Cpu {
	/* Fields read at most once an exit and written at most once an entry. */
	enum class Reg : u8 { rip, rflags, interruptibility, rsp, cr0, cr3, cr4, cs_ar, ss_ar, count };

	Switch sw_{};
	mutable u32 have_ = 0; /* reg_ is what the VMCS has, or will have */
	u32 put_ = 0;	       /* to be written */
	mutable u64 reg_[unsigned(Reg::count)] = {};
	u32 reason_ = 0;
	/* Before each entry; then tags_ is never ready. */
	enum : u8 { flush_caches = 1, quiet_pebs = 2 };
	u8 before_each_ = 0;
	/* What load_lazy() loads. */
	enum : u8 { syscall_msrs = 1, tsx = 2 };
	u8 lazy_ = 0;
	bool switched_ = false;
	HostCpu *host_ = nullptr;
	TlbTags tags_; /* VPIDs */
	u64 ept_pointer_ = 0;
	u64 host_cr3_ = 0, host_cr4_ = 0, host_fs_base_ = 0, host_debugctl_ = 0;
	u64 serial_ = 0; /* never given twice, unlike an address */
	u32 proc_ = 0;	 /* controls as the VMCS has them */
	u64 cr0_owned_ = 0, cr4_owned_ = 0, cr0_shadow_ = 0, cr4_shadow_ = 0;
	u64 cr2_ = 0, efer_ = 0, dr6_ = 0, dr7_ = 0;
	u64 kernel_gs_base_ = 0, star_ = 0, lstar_ = 0, cstar_ = 0, sfmask_ = 0, tsx_ctrl_ = 0;
	unsigned cr8_ = 0;
	u64 nmi_masked_at_ = 0;
	kx_segments segments_{};
	Vmcs vmcs_;
	MsrBitmap msrs_;
	Page<MsrLists> lists_;
	struct WriteLog {
		u64 gpa[512];
	};
	static constexpr u16 log_entries = 512;
	Page<WriteLog> log_;
	u32 listed_ = 0;
	Page<u8> apic_page_; /* the TPR shadow */

public:
	Cpu() = default;
	~Cpu() { vmcs_.clear(); }
	/* Sleeps. The VMCS is filled by reset(). */
	Errc init();
	void reset();

	/* --- on the CPU it runs on ---------------------------------------------------------------- */
	/* Preemption off, interrupts on. */
	Loaded loaded(unsigned cpu)
	{
		HostCpu &h = host.cpu(cpu);
		host_ = &h;
		if (!vmcs_.make_current(h)) [[likely]]
			return Loaded::again;
		moved_to(h);
		return Loaded::anew;
	}
	/* The thread goes somewhere else: preemption off. */
	void unloaded()
	{
		if (switched_)
			switch_out();
	}
	/* Once before any number of enter(): interrupts off. */
	void entering()
	{
		if (!switched_) [[unlikely]]
			switch_in();
		if (const u64 v = insn::read_cr3(); v != host_cr3_) [[unlikely]]
			vmwrite<Field::host_cr3>(host_cr3_ = v);
		if (const u64 v = insn::read_cr4(); v != host_cr4_) [[unlikely]]
			vmwrite<Field::host_cr4>(host_cr4_ = v);
		/* Perf changes it by interrupts: it stays as it is from here on. */
		host_debugctl_ = insn::rdmsr(kx::msr::IA32_DEBUGCTL);
		if (host.switches_perf()) [[unlikely]]
			switch_perf();
		if (host.flushes()) [[unlikely]]
			kx_vmx_flush();
	}
	Entered enter()
	{
		if (put_)
			put();
		if (!tags_.ready(host_->vpids)) [[unlikely]]
			settle_tags();
		if (insn::read_cr2() != cr2_) /* nobody but the guest may have changed it since */
			insn::write_cr2(cr2_);
		const Launch r = kx_vmx_enter(&sw_);
		cr2_ = insn::read_cr2();
		have_ = 0;
		if (r != Launch::exited) [[unlikely]]
			return not_entered(r);
		if (host_debugctl_) [[unlikely]] /* an exit clears it */
			insn::wrmsr(kx::msr::IA32_DEBUGCTL, host_debugctl_);
		reason_ = vmread<Field::exit_reason>();
		sw_.launched = 1;
		return Entered::yes;
	}
	/* Of the basic reason and its flags; ~0: VMLAUNCH or VMRESUME itself failed. */
	static constexpr u32 refused = ~0u;
	u32 reason() const { return reason_; }
	bool entry_failed() const { return reason_ & bit(31); }
	u64 qualification() const { return vmread<Field::qualification>(); }
	u64 physical_address() const { return vmread<Field::guest_physical>(); }
	u32 idt_vectoring() const { return vmread<Field::idt_vectoring>(); }
	u32 exit_info() const { return vmread<Field::exit_info>(); }
	u32 exit_error() const { return vmread<Field::exit_error>(); }
	u32 idt_error() const { return vmread<Field::idt_error>(); }
	u8 exit_length() const { return u8(vmread<Field::exit_length>()); }
	u32 instruction_error() const { return vmread<Field::instruction_error>(); }
	/* Says so in the kernel's log, the first time, and with the whole VMCS if dump_invalid_vmcs is set. */
	void report_failed_entry() const;
	/* Behind the instruction that exited. */
	u64 next_rip() const
	{
		const u64 next = rip() + vmread<Field::exit_length>();
		return (next ^ rip()) >> 32 && !in_64bit() ? u32(next) : next;
	}

	/* --- registers ------------------------------------------------------------------------------ */
	u64 gpr(Gpr r) const { return r == Gpr::rsp ? get<Reg::rsp>() : sw_.gpr[unsigned(r)]; }
	void set_gpr(Gpr r, u64 v)
	{
		if (r == Gpr::rsp)
			set<Reg::rsp>(v);
		else
			sw_.gpr[unsigned(r)] = v;
	}
	u64 rip() const { return get<Reg::rip>(); }
	void set_rip(u64 v) { set<Reg::rip>(v); }
	u64 rflags() const { return get<Reg::rflags>(); }
	void set_rflags(u64 v) { set<Reg::rflags>(v & defined_flags); }
	unsigned cpl() const { return unsigned(ar::Dpl::get(get<Reg::ss_ar>())); }
	Segment segment(Seg s) const;
	u64 segment_base(Seg s) const { return vmread_at(nth(Field::guest_es_base, unsigned(s))); }
	void set_segment(Seg s, const Segment &v);
	bool cs_l() const { return ar::L::test(get<Reg::cs_ar>()); }
	bool cs_db() const { return ar::Db::test(get<Reg::cs_ar>()); }
	bool in_64bit() const { return (efer_ & efer::lma) && cs_l(); }
	DescTable gdt() const { return {vmread<Field::guest_gdtr_base>(), u16(vmread<Field::guest_gdtr_limit>())}; }
	DescTable idt() const { return {vmread<Field::guest_idtr_base>(), u16(vmread<Field::guest_idtr_limit>())}; }
	void set_gdt(const DescTable &t);
	void set_idt(const DescTable &t);

	/* The bits a guest owns change without an exit; the others it sees in the shadow. */
	u64 cr0() const { return (get<Reg::cr0>() & cr0_owned_) | (cr0_shadow_ & ~cr0_owned_); }
	void set_cr0(u64 v);
	u64 cr2() const { return cr2_; }
	void set_cr2(u64 v) { cr2_ = v; }
	u64 cr3() const { return get<Reg::cr3>(); }
	void set_cr3(u64 v) { set<Reg::cr3>(v); }
	u64 cr4() const { return (get<Reg::cr4>() & cr4_owned_) | (cr4_shadow_ & ~cr4_owned_); }
	u64 cr4_exiting() const { return cr4_shadow_; }
	void set_cr4(u64 v);
	u64 efer() const { return efer_; }
	void set_efer(u64 v);
	unsigned cr8() const { return apic_page_.get() ? tpr() >> 4 : cr8_; }
	void set_cr8(unsigned v);
	/* DR6 has no field: the guest never sees the register itself. */
	u64 dr6() const { return dr6_; }
	u64 dr7() const { return dr7_; }
	void set_dr6(u64 v) { dr6_ = v; }
	void set_dr7(u64 v) { vmwrite<Field::guest_dr7>(dr7_ = v); }
	u64 msr(MsrSlot m) const;
	void set_msr(MsrSlot m, u64 v);
	void set_pat(u64 v)
	{
		if (host.caps().pat)
			vmwrite<Field::guest_pat>(v);
	}
	void set_tsc_offset(u64 v) { vmwrite<Field::tsc_offset>(v); }
	/* PAE page-directory pointers: kept by the CPU from CR3's load on. SDM vol. 3 §4.4.1 */
	u64 pdpte(unsigned n) const { return vmread_at(nth(Field::guest_pdpte0, n)); }
	void set_pdpte(unsigned n, u64 v) { vmwrite_at(nth(Field::guest_pdpte0, n), v); }
	/* CR0 and CR4 bits this guest may change on its own. */
	void own_cr4(u64 allowed);

	/* --- events ----------------------------------------------------------------------------------- */
	InterruptShadow interrupt_shadow() const
	{
		const u64 v = get<Reg::interruptibility>();
		return v & interruptibility::mov_ss ? InterruptShadow::mov_ss
		       : v & interruptibility::sti  ? InterruptShadow::sti
						    : InterruptShadow::none;
	}
	void set_interrupt_shadow(InterruptShadow s);
	/* An exit for #DB takes the pending ones away, also a step that an entry with a shadow insists on: put_rest()
	 * has to look. */
	void rewrite_interrupt_shadow() { set<Reg::interruptibility>(get<Reg::interruptibility>()); }
	/* INT1 is a trap, but its exit comes before it. */
	void pass_int1();
	void inject(const Exception &e);
	void inject(const SoftwareEvent &e);
	void inject_interrupt(u8 vector) { inject(info::external, vector); }
	void inject_nmi();
	void drop_injection();
	void want_interrupt_window() { set_proc(proc_ | proc::interrupt_window); }
	void close_interrupt_window() { set_proc(proc_ & ~proc::interrupt_window); }
	void want_nmi_window() { set_proc(proc_ | proc::nmi_window); }
	void close_nmi_window() { set_proc(proc_ & ~proc::nmi_window); }
	bool nmi_blocked() const { return get<Reg::interruptibility>() & interruptibility::nmi; }
	bool sti_blocked() const { return get<Reg::interruptibility>() & interruptibility::sti; }
	void block_nmi(bool b);
	/* Without virtual NMIs: ns of kx_boot_ns. */
	u64 nmi_masked_at() const { return nmi_masked_at_; }
	void nmi_masked_at(u64 t) { nmi_masked_at_ = t; }

	/* --- memory ----------------------------------------------------------------------------------- */
	/* Flushes nothing that was cached by it before. */
	void set_root(Hpa root);
	void flush_all() { tags_.flush_all(); }
	void flush_current() { tags_.flush_current(); }
	/* Instructions this guest's CPUID does not have must not work. */
	void follow_cpuid(const CpuidTable &cpuid);

	bool has_logged() const { return vmread<Field::guest_pml_index>() != log_entries - 1; }
	/* What the guest has written since: guest-physical addresses of pages. */
	template <class F> void drain_log(F f)
	{
		const u16 next = vmread<Field::guest_pml_index>();
		/* It counts down, from the last to below the first. SDM vol. 3 §29.3.6 */
		const u16 first = next < log_entries ? u16(next + 1) : u16{0};
		f(Span<const u64>{log_->gpa + first, size_t(log_entries - first)});
		vmwrite<Field::guest_pml_index>(u16(log_entries - 1));
	}
	/* The guest's mode is one this processor cannot run: real or unpaged mode without «unrestricted guest». */
	bool mode_unsupported() const
	{
		constexpr u64 both = cr0::pe | cr0::pg;
		return !host.caps().unrestricted && (cr0() & both) != both;
	}

private:
	static u32 base_proc2() { return host.caps().proc2 | (host.caps().pml ? proc2::pml : 0); }
	static constexpr u64 defined_flags = 0x3f7fd7;
	template <Reg R> static constexpr Field field()
	{
		constexpr Field fields[] = {Field::guest_rip,	Field::guest_rflags, Field::guest_interruptibility,
					    Field::guest_rsp,	Field::guest_cr0,    Field::guest_cr3,
					    Field::guest_cr4,	Field::guest_cs_ar,  Field::guest_ss_ar};
		static_assert(sizeof fields / sizeof *fields == unsigned(Reg::count));
		return fields[unsigned(R)];
	}
	template <Reg R> u64 get() const
	{
		if (!(have_ & 1u << unsigned(R))) {
			reg_[unsigned(R)] = vmread<field<R>()>();
			have_ |= 1u << unsigned(R);
		}
		return reg_[unsigned(R)];
	}
	template <Reg R> void set(u64 v)
	{
		reg_[unsigned(R)] = v;
		have_ |= 1u << unsigned(R);
		put_ |= 1u << unsigned(R);
	}
	template <Reg R> void put_one()
	{
		if (put_ & 1u << unsigned(R))
			vmwrite_at(field<R>(), reg_[unsigned(R)]);
	}
	void put()
	{
		put_one<Reg::rip>();
		if (put_ & ~(1u << unsigned(Reg::rip))) [[unlikely]]
			put_rest();
		put_ = 0;
	}
	void put_rest();
	static void dump();
	u32 tpr() const { return *reinterpret_cast<const volatile u32 *>(apic_page_.get() + 0x80) & 0xff; }
	void set_proc(u32 v)
	{
		if (v != proc_)
			vmwrite<Field::proc_controls>(proc_ = v);
	}
	void inject(u32 type, u8 vector);
	void moved_to(HostCpu &h);
	void switch_in();
	void switch_out();
	void switch_perf();
	void settle_tags();
	void prepare_entry();
	Entered not_entered(Launch r);
	void set_spec_ctrl(u64 v);
	void load_lazy();
};

}
