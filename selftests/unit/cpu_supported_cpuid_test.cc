/* SPDX-License-Identifier: GPL-2.0-only */
#include "cpu_record_qemu_max.hpp"
#include "cpu_record_ryzen.hpp"
#include "cpu_record_skylake.hpp"

using namespace kx;
using namespace kx::test;

namespace {

std::unique_ptr<Host> qemu_host()
{
	auto h = host_of(qemu_max::raw);
	h->make_caps();
	return h;
}

std::unique_ptr<Host> ryzen_host()
{
	auto h = host_of(ryzen::raw);
	h->kernel_bit(ls_cfg_ssbd);
	h->bugs.null_seg = h->bugs.tsa = false;
	h->make_caps();
	return h;
}

std::unique_ptr<Host> skylake_host()
{
	auto h = host_of(skylake::raw);
	h->virt.virt_ssbd = false;
	h->words[9] &= ~(1u << 9); /* ERMS: the kernel found fast strings off in MISC_ENABLE */
	h->bugs.null_seg = h->bugs.tsa = false;
	h->make_caps();
	return h;
}

/* In-tree KVM on the same machine, less what this module does not offer. */
KvmCpuid without_the_rest(KvmCpuid e)
{
	switch (e.leaf) {
	case 1:
		e.ebx &= 0xffffff; /* the APIC id of some CPU */
		e.ecx &= ~(mask_of(Feature::x2apic) | mask_of(Feature::vmx) |
			   mask_of(Feature::pdcm));
		break;
	case 7:
		if (!e.subleaf && e.ecx == 4) /* UMIP by emulation, on a processor that lacks it */
			e.ecx = 0;
		break;
	case 0xb:
		e.edx = 0; /* likewise */
		break;
	case 0x80000001:
		e.ecx &= ~mask_of(Feature::svm);
		break;
	case 0x8000000a:
	case 0x40000001:
		e.eax = e.ebx = e.ecx = e.edx = 0;
		break;
	default:
		break;
	}
	return e;
}

template <size_t N> void expect_like_in_tree(const Host &h, const KvmCpuid (&in_tree)[N])
{
	const auto mine = h.supported();
	ASSERT_EQ(mine.size(), N);
	for (size_t i = 0; i < N; ++i) {
		const KvmCpuid theirs = without_the_rest(in_tree[i]);
		const kvm_cpuid_entry2 &e = mine[i];
		SCOPED_TRACE(testing::Message()
			     << std::hex << "leaf " << e.function << '.' << e.index);
		EXPECT_EQ(e.function, theirs.leaf);
		EXPECT_EQ(e.index, theirs.subleaf);
		EXPECT_EQ(e.flags, theirs.indexed);
		EXPECT_EQ(e.eax, theirs.eax);
		EXPECT_EQ(e.ebx, theirs.ebx);
		EXPECT_EQ(e.ecx, theirs.ecx);
		EXPECT_EQ(e.edx, theirs.edx);
		EXPECT_EQ(e.padding[0] | e.padding[1] | e.padding[2], 0u);
	}
}

const kvm_cpuid_entry2 &leaf(const std::vector<kvm_cpuid_entry2> &v, u32 function, u32 index = 0)
{
	for (const auto &e : v)
		if (e.function == function && e.index == index)
			return e;
	static const kvm_cpuid_entry2 none = {};
	ADD_FAILURE() << "no leaf " << std::hex << function;
	return none;
}

}

TEST(SupportedCpuid, IsInTreeKvmsListOnQemuMax)
{
	expect_like_in_tree(*qemu_host(), qemu_max::in_tree);
}
TEST(SupportedCpuid, IsInTreeKvmsListOnRyzen)
{
	expect_like_in_tree(*ryzen_host(), ryzen::in_tree);
}
TEST(SupportedCpuid, IsInTreeKvmsListOnSkylake)
{
	expect_like_in_tree(*skylake_host(), skylake::in_tree);
}

TEST(SupportedCpuid, OffersNothingThatNeedsAKernelApicNestingOrAPmu)
{
	for (const auto &h : {qemu_host(), ryzen_host(), skylake_host()}) {
		for (Feature f : {Feature::x2apic, Feature::tsc_deadline, Feature::svm,
				  Feature::vmx, Feature::pdcm, Feature::perfctr_core,
				  Feature::mwait, Feature::xfd, Feature::hypervisor,
				  Feature::osxsave, Feature::ospke, Feature::bus_lock_detect})
			EXPECT_FALSE(h->caps.has(f)) << unsigned(f);
		const auto v = h->supported();
		EXPECT_EQ(leaf(v, 0xa).eax, 0u);
	}
}

TEST(SupportedCpuid, FitsTheHundredEntriesKvmtoolHas)
{
	for (const auto &h : {qemu_host(), ryzen_host(), skylake_host()})
		EXPECT_LE(h->supported().size(), 100u);
}

TEST(SupportedCpuid, SaysTooBigUntilEverythingFits)
{
	auto h = ryzen_host();
	const size_t need = h->supported().size();
	for (size_t n = 0; n <= need; ++n) {
		std::vector<kvm_cpuid_entry2> v(n);
		auto r = supported_cpuid({v.data(), n}, h->cpuid, h->caps, h->phys_bits);
		ASSERT_EQ(r.error(), n < need ? Errc::toobig : Errc::ok) << n;
		EXPECT_EQ(r.ok() ? r.peek() : need, need);
	}
}

TEST(SupportedCpuid, FollowsWhatTheHostKernelSwitchedOff)
{
	auto h = ryzen_host();
	h->kernel_lacks(Feature::smap);
	h->kernel_lacks(Feature::avx);
	h->make_caps();
	const auto v = h->supported();
	EXPECT_FALSE(leaf(v, 7).ebx & mask_of(Feature::smap));
	EXPECT_FALSE(leaf(v, 1).ecx & mask_of(Feature::avx));
	EXPECT_TRUE(h->caps.cr4_reserved() & cr4::smap);
}

TEST(SupportedCpuid, HasNoXsaveStateWithoutXsave)
{
	auto h = ryzen_host();
	h->kernel_lacks(Feature::xsave);
	h->make_caps();
	EXPECT_EQ(h->caps.xcr0(), 0u);
	EXPECT_TRUE(h->caps.cr4_reserved() & cr4::osxsave);
	const auto v = h->supported();
	EXPECT_EQ(leaf(v, 0xd).eax, 0u);
	for (const auto &e : v)
		EXPECT_FALSE(e.function == 0xd && e.index);
}

TEST(SupportedCpuid, LeavesOutWhatVendorCodeDoesNotSwitch)
{
	auto h = qemu_host();
	h->virt.tsc_aux = h->virt.pku = h->virt.la57 = false;
	h->make_caps();
	for (Feature f : {Feature::rdtscp, Feature::rdpid, Feature::pku, Feature::la57})
		EXPECT_FALSE(h->caps.has(f)) << unsigned(f);
	EXPECT_FALSE(h->caps.xcr0() & xcr0::pkru);
	EXPECT_TRUE(h->caps.cr4_reserved() & cr4::pke);
	EXPECT_TRUE(h->caps.cr4_reserved() & cr4::la57);
}

TEST(SupportedCpuid, OffersProtectionKeysOnlyWhereTheHostUsesThem)
{
	auto h = qemu_host();
	EXPECT_TRUE(h->caps.has(Feature::pku));
	h->kernel_lacks(Feature::ospke);
	h->make_caps();
	EXPECT_FALSE(h->caps.has(Feature::pku));
	auto shadow = qemu_host();
	shadow->virt.tdp = false;
	shadow->make_caps();
	EXPECT_FALSE(shadow->caps.has(Feature::pku));
}

TEST(SupportedCpuid, OffersFiveLevelsOnAFourLevelKernel)
{
	auto h = qemu_host();
	h->kernel_lacks(Feature::la57);
	h->make_caps();
	EXPECT_TRUE(h->caps.has(Feature::la57));
}

TEST(SupportedCpuid, OffersSpeculationControlsInBothVendorsNames)
{
	auto h = ryzen_host();
	for (unsigned b : {7 * 32 + 25u, 7 * 32 + 26u, 7 * 32 + 27u})
		h->kernel_bit(b);
	h->make_caps();
	for (Feature f : {Feature::spec_ctrl, Feature::intel_stibp, Feature::amd_ibpb,
			  Feature::amd_ibrs, Feature::amd_stibp})
		EXPECT_TRUE(h->caps.has(f)) << unsigned(f);
	h->virt.spec_ctrl = 0;
	h->make_caps();
	for (Feature f : {Feature::spec_ctrl, Feature::intel_stibp, Feature::amd_ibpb,
			  Feature::amd_ibrs, Feature::amd_stibp})
		EXPECT_FALSE(h->caps.has(f)) << unsigned(f);
}

TEST(SupportedCpuid, GivesShadowPagedGuestsTheHostsOwnWidth)
{
	auto h = ryzen_host();
	h->phys_bits = 43; /* five bits taken by memory encryption */
	EXPECT_EQ(leaf(h->supported(), 0x80000008).eax & 0xff, 40u);
	h->virt.tdp = false;
	h->make_caps();
	EXPECT_EQ(leaf(h->supported(), 0x80000008).eax & 0xff, 43u);
}

TEST(SupportedCpuid, NamesTheHypervisorWithoutFeatures)
{
	const auto v = ryzen_host()->supported();
	char name[13] = {};
	std::memcpy(name, &leaf(v, 0x40000000).ebx, 4);
	std::memcpy(name + 4, &leaf(v, 0x40000000).ecx, 4);
	std::memcpy(name + 8, &leaf(v, 0x40000000).edx, 4);
	EXPECT_STREQ(name, "KVMKVMKVM");
	EXPECT_EQ(leaf(v, 0x40000001).eax, 0u);
}

TEST(SupportedCpuid, EferHasFastFxsaveOnAmdAlone)
{
	EXPECT_FALSE(ryzen_host()->caps.efer_reserved() & efer::ffxsr);
	EXPECT_TRUE(skylake_host()->caps.efer_reserved() & efer::ffxsr);
	EXPECT_FALSE(ryzen_host()->caps.efer_reserved() &
		     (efer::sce | efer::lme | efer::lma | efer::nx));
	EXPECT_TRUE(ryzen_host()->caps.efer_reserved() & efer::svme);
}
