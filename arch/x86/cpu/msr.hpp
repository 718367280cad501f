/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The model-specific registers of one vCPU: storage and rules. What lives in the VMCB or VMCS, in
 * host registers switched lazily, or with the TSC is reached through a backend the vCPU gives; what
 * the rest of the vCPU must know about a write is told by the returned effect.
 */
#pragma once
#include "apic_base.hpp"
#include "control_regs.hpp"
#include "mce.hpp"
#include "msr_list.hpp"
#include "mtrr.hpp"

namespace kx {

/* Registers a backend holds. */
enum class MsrSlot : u8 {
	sysenter_cs, sysenter_esp, sysenter_eip, star, lstar, cstar, sfmask, kernel_gs_base,
	fs_base, gs_base, tsc_aux, spec_ctrl, virt_spec_ctrl, pred_cmd /* written only, with 1 */,
	efer, tsc, tsc_adjust, debugctl, br_from, br_to, last_excp_from, last_excp_to,
};

/*
 * Values are checked before write() sees them: canonical, no reserved bits. For tsc and tsc_adjust
 * `by` decides between VcpuTsc::guest_write/guest_adjust and VmTsc::host_write/host_adjust.
 */
template <class B>
concept MsrBackend = requires(B &b, const B &cb, MsrSlot s, u64 v, MsrBy by) {
	{ cb.read(s) } -> std::same_as<u64>;
	{ b.write(s, v, by) } -> std::same_as<void>;
};

/* What a successful write changed beyond the register itself. */
enum class MsrEffect : u8 {
	none,
	efer,	      /* through the backend; paging mode and intercepts may follow */
	apic_base,    /* MsrFile::apic_base(): CPUID leaf 1, kvm_run::apic_base */
	pat,	      /* MsrFile::pat(): the guest's PAT in the VMCB/VMCS */
	xss,	      /* MsrFile::xss(): CPUID leaf 0xD */
	mtrr,
	spec_ctrl,    /* non-zero for the first time: stop intercepting */
	pred_cmd,     /* the guest may issue IBPB itself from now on */
	misc_features /* MsrFile::cpuid_faults() */
};

/* What the rules look at; made anew for each access, references only. */
struct MsrContext {
	const CpuidTable &cpuid;
	const CpuCaps &caps;
	const MsrLimits &limits;
	const ControlRegs &regs;
};

class MsrFile {
	u64 apic_base_, pat_ = reset_pat, xss_ = 0;
	u64 misc_enable_, platform_info_, misc_features_ = 0;
	u64 ucode_, arch_capabilities_, power_ctl_ = 0, hwcr_ = 0, de_cfg_ = 0;
	u64 vm_cr_ = 0, hsave_pa_ = 0, osvw_length_ = 0, osvw_status_ = 0;
	Mtrrs mtrrs_;
	MceBanks mce_;

public:
	/* State after RESET; bsp is vCPU id 0's privilege. */
	enum class Boot : u8 { application, bootstrap };
	MsrFile(const MsrLimits &limits, Boot role);

	/* RDMSR and KVM_GET_MSRS. Any error is #GP(0), or the end of the VMM's list: inval for one
	 * that exists, noent for one that does not. */
	template <MsrBackend B>
	Result<u64> read(u32 index, MsrBy by, const MsrContext &c, const B &hw) const;
	template <MsrBackend B>
	Result<MsrEffect> write(u32 index, u64 value, MsrBy by, const MsrContext &c, B &hw);

	u64 apic_base() const { return apic_base_; }
	/* KVM_SET_SREGS; inval. */
	Errc set_apic_base(u64 v, const CpuidTable &cpuid);
	u64 pat() const { return pat_; }
	u64 xss() const { return xss_; }
	/* CPUID at CPL > 0 is #GP. */
	bool cpuid_faults() const { return misc_features_ & 1; }
	MceBanks &mce() { return mce_; }

private:
	Result<u64> read_cold(u32 index, MsrBy by, const MsrContext &c) const;
	Result<MsrEffect> write_cold(u32 index, u64 value, MsrBy by, const MsrContext &c);
	Result<MsrEffect> write_misc_enable(u64 value, MsrBy by);
	Result<MsrEffect> write_hwcr(u64 value);
	Result<MsrEffect> write_vm_cr(u64 value, u64 efer);
};

}

#include "msr_access.hpp"
