/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The CPUID of one vCPU: what KVM_SET_CPUID2 gave it, indexed for the exit path, and what follows
 * from it. Bits that follow CR4, APIC_BASE, XCR0 and XSS are patched when those are written
 * (refresh), so that a query only looks up.
 */
#pragma once
#include <linux/kvm.h>
#include "cxxrt/alloc.hpp"
#include "cxxrt/nospec.hpp"
#include "supported_cpuid.hpp"

namespace kx {

/* The registers CPUID's answers follow. */
struct CpuidRuntime {
	u64 cr4 = 0, apic_base = 0, xcr0 = xcr0::fp, xss = 0;
};

enum class HasRun : u8 { no, yes };

class CpuidTable {
	static constexpr unsigned indexed = 0x40; /* leaves per class reached without a search */
	static constexpr u16 none = 0xffff;

	Array<kvm_cpuid_entry2> entries_;
	u16 head_[4][indexed];		    /* class (leaf bits 31:30), leaf -> first entry */
	u16 next_[max_cpuid_entries];	    /* entry -> next of the same leaf */
	FeatureSet features_;
	u64 supported_xcr0_ = 0, reserved_gpa_ = 0, cr4_reserved_ = 0;
	u32 signature_ = 0; /* leaf 1 EAX */
	CpuVendor vendor_ = CpuVendor::other;
	u8 max_phys_bits_ = 36;
	bool has_spec_ctrl_ = false, has_pred_cmd_ = false;

public:
	CpuidTable();

	/*
	 * KVM_SET_CPUID2 (the v1 form has flags and index zero). Takes the entries on success and
	 * when they equal what is there; after the first KVM_RUN nothing else is accepted. inval,
	 * toobig.
	 */
	Errc set(Array<kvm_cpuid_entry2> entries, const CpuidRuntime &now, const CpuCaps &caps,
		 HasRun ran);
	/* KVM_GET_CPUID2; with a smaller nent the door answers toobig and this size. */
	Span<const kvm_cpuid_entry2> entries() const { return {entries_.get(), entries_.size()}; }
	/* After a change of CR4.OSXSAVE, CR4.PKE, APIC_BASE.EN, XCR0 or XSS. */
	void refresh(const CpuidRuntime &now, const CpuCaps &caps);

	/* The CPUID instruction. */
	CpuidRegs query(u32 leaf, u32 subleaf) const
	{
		const u32 low = leaf & 0x3fffffff;
		if (low < indexed) [[likely]]
			if (const kvm_cpuid_entry2 *e =
				    walk(head_[leaf >> 30][index_nospec<indexed>(low)], subleaf)) [[likely]]
				return {e->eax, e->ebx, e->ecx, e->edx};
		return query_slow(leaf, subleaf);
	}
	/* Exactly this entry, or null. */
	const kvm_cpuid_entry2 *find(u32 leaf, u32 subleaf = 0) const;

	/* Is the bit set in the table? Not for OSXSAVE, OSPKE and APIC, which follow registers. */
	bool has(Feature f) const { return features_.has(f); }
	CpuVendor vendor() const { return vendor_; }
	bool is_amd_like() const { return kx::is_amd_like(vendor_); }
	unsigned max_phys_bits() const { return max_phys_bits_; }
	/* Physical address bits that must be zero. */
	u64 reserved_gpa() const { return reserved_gpa_; }
	bool legal_gpa(u64 a) const { return !(a & reserved_gpa_); }
	/* CR4 bits to refuse beyond CpuCaps::cr4_reserved. None before SET_CPUID2. */
	u64 cr4_reserved() const { return cr4_reserved_; }
	/* XCR0 bits this guest may set. */
	u64 supported_xcr0() const { return supported_xcr0_; }
	bool has_spec_ctrl() const { return has_spec_ctrl_; }
	bool has_pred_cmd() const { return has_pred_cmd_; }
	u32 signature() const { return signature_; }
	unsigned family() const { return cpu_family(signature_); }
	unsigned model() const { return cpu_model(signature_); }

private:
	const kvm_cpuid_entry2 *walk(unsigned i, u32 subleaf) const
	{
		for (; i != none; i = next_[i]) {
			const kvm_cpuid_entry2 &e = entries_[i];
			if (!(e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e.index == subleaf)
				return &e;
		}
		return nullptr;
	}
	CpuidRegs query_slow(u32 leaf, u32 subleaf) const;
	void build_index();
	void derive(const CpuCaps &caps);
};

}
