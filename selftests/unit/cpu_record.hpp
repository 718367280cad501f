/* SPDX-License-Identifier: GPL-2.0-only */
/* Recorded processors, and what the module makes of them. */
#pragma once
#include <gtest/gtest.h>
#include <cstring>
#include <memory>
#include <vector>
#include "arch/x86/cpu/cpuid.hpp"

namespace kx::test {

struct RawCpuid {
	u32 leaf, subleaf, eax, ebx, ecx, edx;
};
struct KvmCpuid {
	u32 leaf, subleaf, indexed, eax, ebx, ecx, edx;
};

/* A host: its CPUID, and what its kernel made of it. */
struct Host {
	HostCpuid cpuid;
	std::vector<u32> words = std::vector<u32>(22);
	HostBugs bugs;
	VirtSupport virt;
	CpuCaps caps;
	unsigned phys_bits = 0;

	void kernel_bit(unsigned n) { words[n / 32] |= u32{1} << (n % 32); }
	void kernel_lacks(Feature f) { words[unsigned(word_of(f))] &= ~mask_of(f); }
	KernelView view() const { return {{words.data(), words.size()}, bugs}; }
	void make_caps() { caps = CpuCaps{cpuid, view(), virt}; }
	std::vector<kvm_cpuid_entry2> supported() const
	{
		std::vector<kvm_cpuid_entry2> v(max_cpuid_entries);
		auto r = supported_cpuid({v.data(), v.size()}, cpuid, caps, phys_bits);
		EXPECT_TRUE(r.ok());
		v.resize(r.ok() ? r.peek() : 0);
		return v;
	}
};

inline constexpr unsigned lfence_rdtsc = 3 * 32 + 18, ls_cfg_ssbd = 7 * 32 + 24;

/* The kernel enables everything it finds; vendor code carries everything; as yet no caps. */
template <size_t N> std::unique_ptr<Host> host_of(const RawCpuid (&raw)[N])
{
	auto h = std::make_unique<Host>();
	h->cpuid.capture([&raw](u32 leaf, u32 subleaf) -> CpuidRegs {
		for (const RawCpuid &r : raw)
			if (r.leaf == leaf && (r.subleaf == subleaf || !cpuid_is_indexed(leaf)))
				return {r.eax, r.ebx, r.ecx, r.edx};
		return {};
	});
	for (const FeatureHome &f : feature_homes)
		if (unsigned(f.word) < h->words.size())
			h->words[unsigned(f.word)] =
				cpuid_reg(h->cpuid.at(f.leaf, f.subleaf), f.reg);
	const CpuidRegs d = h->cpuid.at(0xd);
	h->virt = {.vendor = h->cpuid.vendor(), .tdp = true, .tsc_aux = true, .spec_ctrl = 7,
		   .virt_ssbd = true, .xsaves = true, .pku = true, .la57 = true,
		   .xcr0 = d.eax | u64{d.edx} << 32};
	h->phys_bits = h->cpuid.at(0x80000008).eax & 0xff;
	h->kernel_bit(lfence_rdtsc);
	return h;
}

inline Array<kvm_cpuid_entry2> array_of(const std::vector<kvm_cpuid_entry2> &v)
{
	auto a = kx::move(Array<kvm_cpuid_entry2>::make(v.size())).take();
	for (size_t i = 0; i < v.size(); ++i)
		a[i] = v[i];
	return a;
}

inline kvm_cpuid_entry2 entry(u32 leaf, CpuidRegs r)
{
	kvm_cpuid_entry2 e = {};
	e.function = leaf;
	e.eax = r.eax, e.ebx = r.ebx, e.ecx = r.ecx, e.edx = r.edx;
	return e;
}
inline kvm_cpuid_entry2 entry(u32 leaf, u32 subleaf, CpuidRegs r)
{
	kvm_cpuid_entry2 e = entry(leaf, r);
	e.index = subleaf;
	e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	return e;
}

/* A guest with what its host offers. */
inline std::unique_ptr<CpuidTable> table_of(const Host &h, const std::vector<kvm_cpuid_entry2> &v)
{
	auto t = std::make_unique<CpuidTable>();
	EXPECT_EQ(t->set(array_of(v), {}, h.caps, HasRun::no), Errc::ok);
	return t;
}

}
