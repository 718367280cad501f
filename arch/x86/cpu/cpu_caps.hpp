/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What this module can give a guest on this host: the hardware's features, as the host kernel left
 * them enabled, as far as our code carries them. Computed once at load; the source of
 * KVM_GET_SUPPORTED_CPUID, of the reserved bits of CR4 and EFER, of the MSR lists.
 */
#pragma once
#include "cxxrt/span.hpp"
#include "feature.hpp"
#include "xcr.hpp"

namespace kx {

/* Is the host subject to it? The kernel's cpu bugs; assume the worst until told otherwise.
 * l1d_unflushed: L1TF concerns this processor, and VM entries do not flush L1D. */
struct HostBugs {
	bool spec_store_bypass = true, null_seg = true, meltdown = true, mds = true, taa = true,
	     gds = true, rfds = true, its = true, tsa = true, l1d_unflushed = true;
};

struct KernelView {
	Span<const u32> words; /* x86_capability; words it lacks count as zero */
	HostBugs bugs;
};

/* What vendor code and run loop switch correctly between host and guest. */
struct VirtSupport {
	CpuVendor vendor = CpuVendor::other;
	bool tdp = false;	/* NPT or EPT in use */
	bool tsc_aux = false;
	bool invpcid = true;	/* where the processor has it at all */
	u64 spec_ctrl = 0;	/* MSR SPEC_CTRL: the bits it takes; 0: without it and PRED_CMD */
	bool virt_ssbd = false; /* MSR VIRT_SPEC_CTRL */
	bool xsaves = false;	/* XSS */
	bool pku = false;
	bool la57 = false;
	bool flushes_l1d = false; /* before each entry that the L1TF mitigation asks it for */
	u64 xcr0 = xcr0::fp | xcr0::sse; /* what the FPU code can hold for a guest */
};

class CpuCaps {
	FeatureSet features_;
	XstateLayout xstate_;
	u64 xcr0_ = 0, xss_ = 0;
	u64 cr4_reserved_ = ~u64{0}, efer_reserved_ = ~u64{0};
	CpuVendor vendor_ = CpuVendor::other;
	bool host_lfence_serializes_ = false, host_clears_null_seg_ = false;
	bool tdp_ = false;

public:
	constexpr CpuCaps() = default;
	CpuCaps(const HostCpuid &host, const KernelView &kernel, const VirtSupport &virt);

	bool has(Feature f) const { return features_.has(f); }
	const FeatureSet &features() const { return features_; }
	const XstateLayout &xstate() const { return xstate_; }
	CpuVendor vendor() const { return vendor_; }
	u64 xcr0() const { return xcr0_; }
	u64 xss() const { return xss_; }
	/* Bits no guest of this host may set. */
	u64 cr4_reserved() const { return cr4_reserved_; }
	u64 efer_reserved() const { return efer_reserved_; }
	bool host_lfence_serializes() const { return host_lfence_serializes_; }
	bool host_clears_null_seg() const { return host_clears_null_seg_; }
	bool tdp() const { return tdp_; }
};

/* CR4 bits that a processor with these features must refuse. */
u64 cr4_reserved_for(const FeatureSet &f);

}
