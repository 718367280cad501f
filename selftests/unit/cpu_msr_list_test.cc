/* SPDX-License-Identifier: GPL-2.0-only */
#include <set>
#include "arch/x86/cpu/msr.hpp"
#include "cpu_record_qemu_max.hpp"
#include "cpu_record_ryzen.hpp"
#include "cpu_record_skylake.hpp"

using namespace kx;
using namespace kx::test;

namespace {

struct Hw {
	std::vector<u64> v = std::vector<u64>(32);
	u64 read(MsrSlot s) const { return v[unsigned(s)]; }
	void write(MsrSlot s, u64 x, MsrBy) { v[unsigned(s)] = x; }
};

template <size_t N> std::unique_ptr<Host> made(const RawCpuid (&raw)[N])
{
	auto h = host_of(raw);
	h->make_caps();
	return h;
}
MsrLimits limits_of(const Host &h, u64 arch_cap = 0)
{
	return msr_limits(h.caps, h.view(), h.virt, arch_cap);
}
std::set<u32> set_of(Span<const u32> s) { return {s.begin(), s.end()}; }

}

TEST(MsrList, IsAPromiseThatWhatIsReadCanBeWrittenBack)
{
	for (const auto &h : {made(qemu_max::raw), made(ryzen::raw), made(skylake::raw)}) {
		const MsrLimits limits = limits_of(*h);
		const MsrLists lists{h->caps, limits};
		const ControlRegs regs = {cr0::et, 0, 0, 0};
		/* Before the VMM said anything, and with all it may say. */
		for (const auto &t :
		     {std::make_unique<CpuidTable>(), table_of(*h, h->supported())}) {
			MsrFile f{limits, MsrFile::Boot::application};
			Hw hw;
			const MsrContext c{*t, h->caps, limits, regs};
			for (u32 i : lists.all()) {
				const auto r = f.read(i, MsrBy::host, c, hw);
				ASSERT_TRUE(r.ok()) << std::hex << i;
				EXPECT_TRUE(f.write(i, r.peek(), MsrBy::host, c, hw).ok())
					<< std::hex << i;
			}
		}
	}
}

TEST(MsrList, NamesNothingTwice)
{
	const auto h = made(ryzen::raw);
	const MsrLists lists{h->caps, limits_of(*h)};
	EXPECT_EQ(set_of(lists.all()).size(), lists.all().size());
	EXPECT_EQ(set_of(lists.features()).size(), lists.features().size());
}

TEST(MsrList, LeavesOutWhatIsNotOffered)
{
	for (const auto &h : {made(qemu_max::raw), made(ryzen::raw), made(skylake::raw)}) {
		const MsrLists lists{h->caps, limits_of(*h)};
		const auto all = set_of(lists.all());
		for (u32 i : std::initializer_list<u32>{
			     msr::VM_HSAVE_PA, msr::IA32_FEATURE_CONTROL, msr::IA32_TSC_DEADLINE,
			     msr::TSC_RATIO, msr::KVM_SYSTEM_TIME, msr::KVM_WALL_CLOCK,
			     msr::KVM_SYSTEM_TIME_OLD, 0x9e, 0x34, 0x345, 0x38f})
			EXPECT_FALSE(all.count(i)) << std::hex << i;
	}
}

TEST(MsrList, DropsWhatTheHardwareLacksButNotWhatIsEmulated)
{
	const auto h = made(ryzen::raw);
	MsrLists lists{h->caps, limits_of(*h)};
	const auto before = set_of(lists.all());
	ASSERT_TRUE(before.count(msr::TSC_AUX));
	lists.probe([](u32 i) { return i != msr::TSC_AUX && i != msr::IA32_MISC_ENABLE; });
	auto want = before;
	want.erase(msr::TSC_AUX);
	EXPECT_EQ(set_of(lists.all()), want);
	lists.probe([](u32) { return false; });
	EXPECT_FALSE(set_of(lists.all()).count(msr::STAR));
	EXPECT_TRUE(set_of(lists.all()).count(msr::IA32_MISC_ENABLE));
	EXPECT_TRUE(set_of(lists.all()).count(msr::HWCR));
}

TEST(MsrList, FollowsVendorSupport)
{
	auto h = host_of(ryzen::raw);
	h->virt.tsc_aux = h->virt.virt_ssbd = false;
	h->virt.spec_ctrl = 0;
	h->make_caps();
	const MsrLists lists{h->caps, limits_of(*h)};
	for (u32 i : {msr::TSC_AUX, msr::IA32_SPEC_CTRL, msr::VIRT_SPEC_CTRL})
		EXPECT_FALSE(set_of(lists.all()).count(i)) << std::hex << i;
}

TEST(MsrFeatures, CanBeReadFromTheSystem)
{
	for (const auto &h : {made(ryzen::raw), made(skylake::raw)}) {
		MsrLimits limits = limits_of(*h);
		limits.host_ucode = 0x42;
		const MsrLists lists{h->caps, limits};
		for (u32 i : lists.features())
			EXPECT_TRUE(feature_msr(i, limits).ok()) << std::hex << i;
		EXPECT_EQ(feature_msr(msr::IA32_BIOS_SIGN_ID, limits).peek(), 0x42u);
		EXPECT_EQ(set_of(lists.features()).count(0x345), 1u) << "IA32_PERF_CAPABILITIES";
		EXPECT_EQ(feature_msr(0x345, limits).peek(), 0u) << "no counters";
		EXPECT_EQ(feature_msr(0x480, limits).error(), Errc::noent);
		EXPECT_EQ(set_of(lists.features()).count(msr::DE_CFG), is_amd_like(limits.vendor));
		EXPECT_EQ(feature_msr(msr::DE_CFG, limits).ok(), is_amd_like(limits.vendor));
		limits.unknown = UnknownMsr::ignore;
		EXPECT_EQ(feature_msr(0x480, limits).peek(), 0u);
	}
}

TEST(MsrFeatures, ArchCapabilitiesPromiseWhatTheKernelKnows)
{
	/* What in-tree KVM reports for the same kernels. */
	auto ryzen = host_of(ryzen::raw);
	ryzen->bugs = {.spec_store_bypass = true,
		       .null_seg = false,
		       .meltdown = false,
		       .mds = false,
		       .taa = false,
		       .gds = false,
		       .rfds = false,
		       .its = false,
		       .tsa = false,
		       .l1d_unflushed = false};
	ryzen->make_caps();
	EXPECT_EQ(limits_of(*ryzen).arch_capabilities, 0x400000000c000069u);
	auto skylake = host_of(skylake::raw);
	skylake->bugs = {.spec_store_bypass = true,
			 .null_seg = false,
			 .meltdown = true,
			 .mds = true,
			 .taa = true,
			 .gds = true,
			 .rfds = false,
			 .its = false,
			 .tsa = false,
			 .l1d_unflushed = true};
	skylake->make_caps();
	EXPECT_EQ(limits_of(*skylake).arch_capabilities, 0x4000000008000040u);
}

TEST(MsrFeatures, ArchCapabilitiesPassOnOnlyPromises)
{
	const auto h = made(ryzen::raw);
	const u64 v = limits_of(*h, ~u64{0}).arch_capabilities;
	EXPECT_FALSE(v & bit(7)); /* TSX_CTRL */
	EXPECT_FALSE(v & bit(8)); /* TAA_NO of a processor without TSX */
	EXPECT_FALSE(v & (bit(10) | bit(11) | bit(12) | bit(18) | bit(21) | bit(23)));
	EXPECT_TRUE(v & bit(0));
	EXPECT_EQ(limits_of(*h).arch_capabilities, bit(6)); /* knowing nothing, promise nothing */
}
