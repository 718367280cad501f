/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/apic_base.hpp"
#include "cpu_record_qemu_max.hpp"
#include "cpu_record_ryzen.hpp"
#include "cpu_record_skylake.hpp"

using namespace kx;
using namespace kx::test;

namespace {

const CpuidRegs amd_name = {0x10, cpuid_text("Auth"), cpuid_text("cAMD"), cpuid_text("enti")};
const CpuidRegs intel_name = {0xd, cpuid_text("Genu"), cpuid_text("ntel"), cpuid_text("ineI")};

std::unique_ptr<Host> ryzen_host()
{
	auto h = host_of(ryzen::raw);
	h->make_caps();
	return h;
}

CpuidRegs regs(const kvm_cpuid_entry2 &e) { return {e.eax, e.ebx, e.ecx, e.edx}; }

/* As the ABI defines it: the first entry that matches. */
const kvm_cpuid_entry2 *naive(const std::vector<kvm_cpuid_entry2> &v, u32 leaf, u32 subleaf)
{
	for (const auto &e : v)
		if (e.function == leaf &&
		    (!(e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e.index == subleaf))
			return &e;
	return nullptr;
}

}

TEST(CpuidTable, AnswersEveryEntryOfEveryRecordedProcessor)
{
	const auto check = [](std::unique_ptr<Host> h) {
		h->make_caps();
		const auto t = table_of(*h, h->supported());
		const Span<const kvm_cpuid_entry2> all = t->entries();
		for (const auto &e : all) {
			EXPECT_EQ(t->query(e.function, e.index), regs(e))
				<< std::hex << e.function << '.' << e.index;
			EXPECT_EQ(t->find(e.function, e.index), &e);
		}
	};
	check(host_of(qemu_max::raw));
	check(host_of(ryzen::raw));
	check(host_of(skylake::raw));
}

TEST(CpuidTable, FindsWhatALinearSearchFinds)
{
	auto h = ryzen_host();
	u64 seed = 12345;
	const auto random = [&seed](u32 below) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		return u32(seed >> 33) % below;
	};
	for (int round = 0; round < 200; ++round) {
		std::vector<kvm_cpuid_entry2> v = {entry(0, amd_name)};
		for (unsigned n = random(60); n--;) {
			static constexpr u32 classes[] = {0,	0x40000000, 0x80000000, 0xc0000000,
							  0x20, 0x40000100, 0x80000100};
			/* None that is patched at run time, to compare with v itself. */
			const u32 leaf = classes[random(7)] + 0x10 + random(6);
			v.push_back(random(2)
					    ? entry(leaf, random(4), {random(99), random(99), 1, 1})
					    : entry(leaf, {random(99), random(99), 0, 1}));
		}
		const auto t = table_of(*h, v);
		for (u32 base :
		     {0u, 0x20u, 0x40000000u, 0x40000100u, 0x80000000u, 0x80000100u, 0xc0000000u})
			for (u32 low = 0x10; low < 0x16; ++low)
				for (u32 sub = 0; sub < 5; ++sub) {
					const auto *e = naive(v, base + low, sub);
					EXPECT_EQ(t->query(base + low, sub),
						  e ? regs(*e) : CpuidRegs{});
				}
	}
}

TEST(CpuidTable, IsEmptyAndPermissiveBeforeTheFirstSet)
{
	CpuidTable t;
	EXPECT_EQ(t.query(0, 0), CpuidRegs{});
	EXPECT_EQ(t.query(0x80000008, 7), CpuidRegs{});
	EXPECT_EQ(t.query(0xffffffff, ~0u), CpuidRegs{});
	EXPECT_EQ(t.max_phys_bits(), 36u);
	EXPECT_FALSE(t.legal_gpa(u64{1} << 36));
	EXPECT_EQ(t.cr4_reserved(), 0u); /* any CR4 bit the host has may be set */
	EXPECT_EQ(t.supported_xcr0(), 0u);
}

TEST(CpuidTable, AcceptsOnlyTheSameOnceTheVcpuHasRun)
{
	auto h = ryzen_host();
	auto v = h->supported();
	const auto t = table_of(*h, v);
	EXPECT_EQ(t->set(array_of(v), {}, h->caps, HasRun::yes), Errc::ok);
	v[3].padding[1] = 7; /* nobody reads it */
	EXPECT_EQ(t->set(array_of(v), {}, h->caps, HasRun::yes), Errc::ok);
	for (u32 kvm_cpuid_entry2::*f :
	     {&kvm_cpuid_entry2::function, &kvm_cpuid_entry2::index, &kvm_cpuid_entry2::flags,
	      &kvm_cpuid_entry2::eax, &kvm_cpuid_entry2::ebx, &kvm_cpuid_entry2::ecx,
	      &kvm_cpuid_entry2::edx}) {
		auto other = v;
		other[5].*f ^= 1;
		EXPECT_EQ(t->set(array_of(other), {}, h->caps, HasRun::yes), Errc::inval);
	}
	auto shorter = v;
	shorter.pop_back();
	EXPECT_EQ(t->set(array_of(shorter), {}, h->caps, HasRun::yes), Errc::inval);
	EXPECT_EQ(t->entries().size(), v.size());
	EXPECT_EQ(t->query(0, 0), regs(v[0]));
}

TEST(CpuidTable, ComparesAfterRunTimeBitsAreInPlace)
{
	auto h = ryzen_host();
	const auto v = h->supported();
	const auto t = table_of(*h, v);
	const CpuidRuntime now{.cr4 = cr4::osxsave, .apic_base = apic_base::enable, .xcr0 = 7};
	t->refresh(now, h->caps);
	EXPECT_EQ(t->set(array_of(v), now, h->caps, HasRun::yes), Errc::ok);
}

TEST(CpuidTable, TakesAtMostTwoHundredAndFiftySixEntries)
{
	auto h = ryzen_host();
	std::vector<kvm_cpuid_entry2> v(max_cpuid_entries, entry(0x12345, {1, 2, 3, 4}));
	CpuidTable t;
	EXPECT_EQ(t.set(array_of(v), {}, h->caps, HasRun::no), Errc::ok);
	EXPECT_EQ(t.query(0x12345, 0), (CpuidRegs{1, 2, 3, 4}));
	v.push_back(v[0]);
	EXPECT_EQ(t.set(array_of(v), {}, h->caps, HasRun::no), Errc::toobig);
	EXPECT_EQ(t.entries().size(), max_cpuid_entries);
	EXPECT_EQ(t.set(array_of({}), {}, h->caps, HasRun::no), Errc::ok);
	EXPECT_TRUE(t.entries().empty());
	EXPECT_EQ(t.query(0x12345, 0), CpuidRegs{});
}

TEST(CpuidTable, TakesEveryEntryOfOneLeaf)
{
	auto h = ryzen_host();
	std::vector<kvm_cpuid_entry2> v;
	for (u32 i = 0; i < max_cpuid_entries; ++i)
		v.push_back(entry(4, i, {i, 0, 0, 1}));
	const auto t = table_of(*h, v);
	for (u32 i = 0; i < max_cpuid_entries; ++i)
		EXPECT_EQ(t->query(4, i).eax, i);
	EXPECT_EQ(t->query(4, max_cpuid_entries), CpuidRegs{});
}

TEST(CpuidTable, RefusesLinearWidthsThatAreNone)
{
	auto h = ryzen_host();
	CpuidTable t;
	for (u32 bits : {0u, 48u, 57u})
		EXPECT_EQ(t.set(array_of({entry(0x80000008, {bits << 8 | 40, 0, 0, 0})}), {},
				h->caps, HasRun::no),
			  Errc::ok);
	for (u32 bits : {1u, 47u, 49u, 56u, 64u, 255u})
		EXPECT_EQ(t.set(array_of({entry(0x80000008, {bits << 8 | 40, 0, 0, 0})}), {},
				h->caps, HasRun::no),
			  Errc::inval);
}

TEST(CpuidTable, RefusesStateThatNeedsAPermissionNobodyAsksFor)
{
	auto h = ryzen_host();
	CpuidTable t;
	EXPECT_EQ(t.set(array_of({entry(0xd, 0, {u32(xcr0::xtiledata), 0, 0, 0})}), {}, h->caps,
			HasRun::no),
		  Errc::perm);
}

TEST(CpuidTable, PatchesOsxsaveByCr4)
{
	auto h = ryzen_host();
	const auto t = table_of(*h, h->supported());
	EXPECT_FALSE(t->query(1, 0).ecx & mask_of(Feature::osxsave));
	t->refresh({.cr4 = cr4::osxsave}, h->caps);
	EXPECT_TRUE(t->query(1, 0).ecx & mask_of(Feature::osxsave));
	t->refresh({}, h->caps);
	EXPECT_FALSE(t->query(1, 0).ecx & mask_of(Feature::osxsave));
}

TEST(CpuidTable, PatchesTheApicBitByApicBase)
{
	auto h = ryzen_host();
	const auto t = table_of(*h, h->supported());
	EXPECT_FALSE(t->query(1, 0).edx & mask_of(Feature::apic));
	t->refresh({.apic_base = apic_base::enable}, h->caps);
	EXPECT_TRUE(t->query(1, 0).edx & mask_of(Feature::apic));
}

TEST(CpuidTable, PatchesOspkeByCr4WhereThereAreKeys)
{
	auto h = host_of(qemu_max::raw);
	h->make_caps();
	const auto t = table_of(*h, h->supported());
	t->refresh({.cr4 = cr4::pke}, h->caps);
	EXPECT_TRUE(t->query(7, 0).ecx & mask_of(Feature::ospke));

	auto none = ryzen_host();
	const auto u = table_of(*none, none->supported());
	u->refresh({.cr4 = cr4::pke}, none->caps);
	EXPECT_FALSE(u->query(7, 0).ecx & mask_of(Feature::ospke));
}

TEST(CpuidTable, SizesFollowXcr0)
{
	auto h = ryzen_host();
	const auto t = table_of(*h, h->supported());
	EXPECT_EQ(t->query(0xd, 0).ebx, 0x240u);
	EXPECT_EQ(t->query(0xd, 1).ebx, 0x240u);
	t->refresh({.xcr0 = 7}, h->caps);
	EXPECT_EQ(t->query(0xd, 0).ebx, 0x340u);
	EXPECT_EQ(t->query(0xd, 0).ecx, 0x340u);
	EXPECT_EQ(t->query(0xd, 1).ebx, 0x340u);
}

TEST(CpuidTable, AmdAnswersZerosBeyondItsLastLeaf)
{
	auto h = ryzen_host();
	const auto t = table_of(*h, {entry(0, amd_name), entry(0x10, {1, 2, 3, 4}),
				     entry(0x80000000, {0x80000001, 0, 0, 0}),
				     entry(0x80000001, {5, 0, 0, 0})});
	for (u32 leaf :
	     {0x11u, 0x3fffffffu, 0x40000000u, 0x80000002u, 0x8fffffffu, 0xc0000000u, ~0u})
		EXPECT_EQ(t->query(leaf, 0), CpuidRegs{}) << std::hex << leaf;
}

TEST(CpuidTable, IntelAnswersItsLastBasicLeafBeyond)
{
	auto h = ryzen_host();
	const CpuidRegs last = {1, 2, 3, 4}, second = {5, 6, 7, 8};
	CpuidRegs name = intel_name;
	name.eax = 0x10;
	const auto t = table_of(*h, {entry(0, name), entry(0x10, 0, last), entry(0x10, 1, second),
				     entry(0x80000000, {0x80000003, 0, 0, 0}),
				     entry(0x80000001, {9, 0, 0, 0}),
				     entry(0x40000100, {0x40000101, 0, 0, 0})});
	for (u32 leaf : {0x11u, 0x3fffffffu, 0x40000000u, 0x40000102u, 0x50000000u, 0x80000004u,
			 0x8fffffffu, 0xc0000000u, ~0u}) {
		EXPECT_EQ(t->query(leaf, 0), last) << std::hex << leaf;
		EXPECT_EQ(t->query(leaf, 1), second)
			<< std::hex << leaf; /* the index asked for counts */
		EXPECT_EQ(t->query(leaf, 2), CpuidRegs{}) << std::hex << leaf;
	}
	/* In range but not there. */
	for (u32 leaf : {0xfu, 0x80000002u, 0x40000101u})
		EXPECT_EQ(t->query(leaf, 0), CpuidRegs{}) << std::hex << leaf;
	EXPECT_EQ(t->query(0x80000001, 0).eax, 9u);
}

TEST(CpuidTable, TopologyLeavesPassTheLevelThrough)
{
	auto h = ryzen_host();
	const auto t = table_of(*h, {entry(0, amd_name), entry(0xb, 0, {1, 2, 0x100, 42}),
				     entry(0xb, 1, {3, 4, 0x201, 42})});
	EXPECT_EQ(t->query(0xb, 5), (CpuidRegs{0, 0, 5, 42}));
	EXPECT_EQ(t->query(0xb, 0x1234), (CpuidRegs{0, 0, 0x34, 42}));
	EXPECT_EQ(t->query(0x1f, 5), CpuidRegs{});

	CpuidRegs name = intel_name;
	name.eax = 0xb;
	const auto i = table_of(*h, {entry(0, name), entry(0xb, 0, {1, 2, 0x100, 42}),
				     entry(0xb, 1, {3, 4, 0x201, 42})});
	EXPECT_EQ(i->query(0x77, 5),
		  (CpuidRegs{0, 0, 5, 42})); /* also when it answers for another */
}

TEST(CpuidTable, DerivesWidthAndReservedBits)
{
	auto h = ryzen_host();
	const auto width = [&h](std::vector<kvm_cpuid_entry2> v) {
		return table_of(*h, v)->max_phys_bits();
	};
	EXPECT_EQ(width({entry(0x80000000, {0x80000008, 0, 0, 0}),
			 entry(0x80000008, {0x3034, 0, 0, 0})}),
		  52u);
	EXPECT_EQ(width({entry(0x80000000, {0x80000007, 0, 0, 0}),
			 entry(0x80000008, {0x3034, 0, 0, 0})}),
		  36u);
	EXPECT_EQ(width({entry(0x80000008, {0x3034, 0, 0, 0})}), 36u);
	EXPECT_EQ(width({}), 36u);
	const auto t = table_of(*h, h->supported());
	EXPECT_EQ(t->reserved_gpa(), ones(63, 40));
	EXPECT_TRUE(t->legal_gpa(ones(39, 0)));
	EXPECT_FALSE(t->legal_gpa(bit(40)));
	for (u32 huge : {64u, 255u})
		EXPECT_EQ(table_of(*h, {entry(0x80000000, {0x80000008, 0, 0, 0}),
					entry(0x80000008, {huge, 0, 0, 0})})
				  ->reserved_gpa(),
			  0u);
}

TEST(CpuidTable, DerivesControlRegisterBits)
{
	auto h = ryzen_host();
	const auto all = table_of(*h, h->supported());
	EXPECT_FALSE(all->cr4_reserved() & (cr4::smep | cr4::smap | cr4::fsgsbase | cr4::osxsave));
	EXPECT_TRUE(all->cr4_reserved() & cr4::la57);
	const auto bare = table_of(*h, {entry(1, {0, 0, 0, ~0u})});
	for (u64 b :
	     {cr4::osxsave, cr4::smep, cr4::smap, cr4::fsgsbase, cr4::pke, cr4::la57, cr4::umip,
	      cr4::vmxe, cr4::pcide, cr4::smxe, cr4::cet, bit(15), bit(19), bit(40)})
		EXPECT_TRUE(bare->cr4_reserved() & b) << std::hex << b;
	EXPECT_FALSE(bare->cr4_reserved() &
		     (cr4::vme | cr4::pae | cr4::pge | cr4::mce | cr4::osfxsr));
}

TEST(CpuidTable, Xcr0IsWhatBothHostAndTableHave)
{
	auto h = ryzen_host();
	EXPECT_EQ(table_of(*h, h->supported())->supported_xcr0(), 7u);
	EXPECT_EQ(table_of(*h, {entry(0xd, 0, {3, 0, 0, 0})})->supported_xcr0(), 3u);
	EXPECT_EQ(table_of(*h, {entry(0xd, 0, {0xff, 0, 0, ~0u})})->supported_xcr0(), 7u);
	EXPECT_EQ(table_of(*h, {})->supported_xcr0(), 0u);
}

TEST(CpuidTable, KnowsItsVendorAndModel)
{
	auto h = ryzen_host();
	const auto t = table_of(*h, h->supported());
	EXPECT_EQ(t->vendor(), CpuVendor::amd);
	EXPECT_TRUE(t->is_amd_like());
	EXPECT_EQ(t->family(), 0x17u);
	EXPECT_EQ(t->model(), 1u);
	auto s = host_of(skylake::raw);
	s->make_caps();
	const auto i = table_of(*s, s->supported());
	EXPECT_EQ(i->vendor(), CpuVendor::intel);
	EXPECT_EQ(i->family(), 6u);
	EXPECT_EQ(i->model(), 0x55u);
	EXPECT_EQ(cpu_stepping(i->signature()), 4u);
	EXPECT_EQ(table_of(*h, {entry(0, {0, 1, 2, 3})})->vendor(), CpuVendor::other);
}

TEST(CpuidTable, FindsSpeculationMsrsUnderEitherName)
{
	auto h = ryzen_host();
	const auto ext8 = [&h](Feature f) {
		return table_of(*h, {entry(0x80000008, {0x3028, mask_of(f), 0, 0})});
	};
	EXPECT_TRUE(ext8(Feature::amd_ssbd)->has_spec_ctrl());
	EXPECT_FALSE(ext8(Feature::amd_ssbd)->has_pred_cmd());
	EXPECT_TRUE(ext8(Feature::amd_ibpb)->has_pred_cmd());
	EXPECT_FALSE(ext8(Feature::amd_ibpb)->has_spec_ctrl());
	const auto intel = table_of(*h, {entry(7, 0, {0, 0, 0, mask_of(Feature::spec_ctrl)})});
	EXPECT_TRUE(intel->has_spec_ctrl() && intel->has_pred_cmd());
	EXPECT_FALSE(table_of(*h, {})->has_spec_ctrl());
}

TEST(CpuidTable, ForgetsTheOldTableOnAReset)
{
	auto h = ryzen_host();
	const auto t = table_of(*h, h->supported());
	EXPECT_TRUE(t->has(Feature::smap));
	ASSERT_EQ(t->set(array_of({entry(0, intel_name)}), {}, h->caps, HasRun::no), Errc::ok);
	EXPECT_FALSE(t->has(Feature::smap));
	EXPECT_EQ(t->query(1, 0), CpuidRegs{});
	EXPECT_EQ(t->vendor(), CpuVendor::intel);
	EXPECT_EQ(t->signature(), 0u);
	EXPECT_EQ(t->max_phys_bits(), 36u);
}
