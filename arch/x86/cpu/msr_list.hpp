/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which MSRs there are on this host: the limits their rules need, KVM_GET_MSR_INDEX_LIST,
 * KVM_GET_MSR_FEATURE_INDEX_LIST and the system form of KVM_GET_MSRS. Every index listed is a
 * promise that KVM_SET_MSRS takes back what KVM_GET_MSRS gave.
 */
#pragma once
#include "cpu_caps.hpp"
#include "msr_index.hpp"

namespace kx {

enum class UnknownMsr : u8 { fault, ignore };	   /* module parameter ignore_msrs */

/* Constant after load but for `unknown`. */
struct MsrLimits {
	CpuVendor vendor = CpuVendor::other; /* of the host */
	u64 arch_capabilities = 0;	     /* what guests see at first */
	u64 host_ucode = 0;		     /* the host's IA32_BIOS_SIGN_ID */
	u64 de_cfg = 0;			     /* DE_CFG bits a guest sees set */
	u64 spec_ctrl = 0;		     /* bits the host's SPEC_CTRL takes */
	bool tsc_aux = false, ibpb = false, virt_ssbd = false;
	bool lbr = false;		     /* the backend has DEBUGCTL and the LBR stack */
	UnknownMsr unknown = UnknownMsr::fault;
};

/* The caller fills host_ucode, lbr and unknown from the host. host_arch_cap: its MSR, 0 if none. */
MsrLimits msr_limits(const CpuCaps &caps, const KernelView &kernel, const VirtSupport &virt,
		     u64 host_arch_cap);

class MsrLists {
	static constexpr unsigned capacity = 32;
	u32 list_[capacity] = {};
	u32 features_[4] = {};
	unsigned saved_ = 0, total_ = 0, nr_features_ = 0;

public:
	MsrLists() = default;
	MsrLists(const CpuCaps &caps, const MsrLimits &limits);
	/* Drop what the hardware does not have. Exists: a callable bool(u32 msr), true if RDMSR
	 * works. */
	template <class Exists> void probe(Exists exists)
	{
		unsigned out = 0, saved = 0;
		for (unsigned i = 0; i < total_; ++i) {
			if (i < saved_ && !exists(list_[i]))
				continue;
			saved += i < saved_;
			list_[out++] = list_[i];
		}
		saved_ = saved, total_ = out;
	}
	/* What KVM_GET_MSR_INDEX_LIST copies out: hardware registers, then emulated ones. */
	Span<const u32> all() const { return {list_, total_}; }
	Span<const u32> features() const { return {features_, nr_features_}; }
};

/* System-fd KVM_GET_MSRS; noent where there is no such feature MSR (ignore_msrs: 0). */
Result<u64> feature_msr(u32 index, const MsrLimits &limits);

}
