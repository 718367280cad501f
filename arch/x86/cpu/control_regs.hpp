/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What happens when a guest writes CR0, CR3, CR4, CR8 or EFER: the new values or the #GP, and what
 * the caller owes afterwards. APM vol. 2 §3.1, SDM vol. 3 §2.5, §4.1. Nothing here touches state;
 * Vcpu::set_control_regs() does, and what a change means for paging is in guest_role.hpp.
 */
#pragma once
#include "cpuid.hpp"
#include "or_exception.hpp"

namespace kx {

struct ControlRegs {
	u64 cr0, cr3, cr4, efer;
	constexpr bool paging() const { return cr0 & cr0::pg; }
	constexpr bool long_mode() const { return efer & efer::lma; }
	constexpr bool pae_paging() const { return paging() && (cr4 & cr4::pae) && !long_mode(); }
	constexpr unsigned linear_bits() const { return cr4 & cr4::la57 ? 57 : 48; }
};

enum class CodeSize : u8 { not64, is64 }; /* CS.L, as the descriptor cache has it */

/* How much of the guest's TLB the change invalidates, architecturally. */
enum class TlbOwed : u8 { nothing, current, everything };
/* PAE page-directory pointers to be loaded from the new CR3; the write is #GP(0) if they are bad,
 * before anything is changed. */
enum class Pdptrs : u8 { keep, load };

struct CrWrite {
	ControlRegs regs;
	TlbOwed tlb = TlbOwed::nothing;
	Pdptrs pdptrs = Pdptrs::keep;
};

OrException<CrWrite> write_cr0(const ControlRegs &now, u64 value, CodeSize cs);
OrException<CrWrite> write_cr3(const ControlRegs &now, u64 value, const CpuidTable &cpuid);
OrException<CrWrite> write_cr4(const ControlRegs &now, u64 value, const CpuidTable &cpuid,
			       const CpuCaps &caps);
OrException<u64> write_cr8(u64 value);
/* LMSW: never clears PE. */
OrException<CrWrite> write_msw(const ControlRegs &now, u16 value, CodeSize cs);

/* WRMSR EFER by the guest. LMA follows CR0.PG and is kept whatever is written. */
OrException<u64> write_efer(const ControlRegs &now, u64 value, const CpuidTable &cpuid,
			    const CpuCaps &caps);
/* The same from KVM_SET_MSRS: only what no guest could have is refused. */
Result<u64> host_efer(const ControlRegs &now, u64 value, const CpuCaps &caps);

constexpr bool valid_cr0(u64 v)
{
	return !(v >> 32) && (!(v & cr0::nw) || (v & cr0::cd)) && (!(v & cr0::pg) || (v & cr0::pe));
}
inline bool valid_cr4(u64 v, const CpuidTable &cpuid, const CpuCaps &caps)
{
	return !(v & (caps.cr4_reserved() | cpuid.cr4_reserved()));
}

}
