/* SPDX-License-Identifier: GPL-2.0-only */
#include <array>
#include <map>
#include "arch/x86/cpu/msr.hpp"
#include "cpu_record_qemu_max.hpp"
#include "cpu_record_ryzen.hpp"
#include "cpu_record_skylake.hpp"

using namespace kx;
using namespace kx::test;

namespace {

struct FakeHardware {
	std::map<MsrSlot, u64> values;
	std::vector<std::pair<MsrSlot, MsrBy>> writes;
	u64 read(MsrSlot s) const
	{
		const auto it = values.find(s);
		return it == values.end() ? 0 : it->second;
	}
	void write(MsrSlot s, u64 v, MsrBy by)
	{
		values[s] = v;
		writes.push_back({s, by});
	}
};
static_assert(MsrBackend<FakeHardware>);

struct Msr : testing::Test {
	std::unique_ptr<Host> host;
	std::unique_ptr<CpuidTable> cpuid;
	MsrLimits limits;
	ControlRegs regs = {cr0::pe | cr0::pg | cr0::et, 0x1000, cr4::pae, efer::lme | efer::lma};
	std::unique_ptr<MsrFile> file;
	FakeHardware hw;

	Msr() { on(ryzen::raw); }
	template <size_t N> void on(const RawCpuid (&raw)[N])
	{
		host = host_of(raw);
		for (unsigned b : {7 * 32 + 25u, 7 * 32 + 26u, 7 * 32 + 27u})
			host->kernel_bit(b);
		host->make_caps();
		limits = msr_limits(host->caps, host->view(), host->virt, 0);
		cpuid = table_of(*host, host->supported());
		file = std::make_unique<MsrFile>(limits, MsrFile::Boot::bootstrap);
		hw = {};
	}
	void guest_without_anything() { cpuid = table_of(*host, {}); }
	MsrContext context() const { return {*cpuid, host->caps, limits, regs}; }
	Result<u64> rd(u32 i, MsrBy by = MsrBy::guest) const
	{
		return file->read(i, by, context(), hw);
	}
	Result<MsrEffect> wr(u32 i, u64 v, MsrBy by = MsrBy::guest)
	{
		return file->write(i, v, by, context(), hw);
	}
	Errc wr_error(u32 i, u64 v, MsrBy by = MsrBy::guest) { return wr(i, v, by).error(); }
	void expect_holds(u32 i, u64 v, MsrBy by = MsrBy::guest)
	{
		EXPECT_EQ(wr_error(i, v, by), Errc::ok) << std::hex << i;
		EXPECT_EQ(rd(i, by).peek(), v) << std::hex << i;
	}
	void expect_unknown(u32 i, MsrBy by = MsrBy::guest)
	{
		EXPECT_EQ(rd(i, by).error(), Errc::noent) << std::hex << i;
		EXPECT_EQ(wr_error(i, 0, by), Errc::noent) << std::hex << i;
	}
};

constexpr u64 noncanonical = u64{1} << 47, canonical5 = u64{1} << 55;

}

TEST_F(Msr, PlainOnesGoToTheHardware)
{
	for (u32 i : {msr::STAR, msr::SFMASK, msr::IA32_SYSENTER_CS})
		expect_holds(i, 0xfedcba9876543210);
	limits.vendor = CpuVendor::intel; /* whose register has no upper half: the host could not load it */
	EXPECT_EQ(wr_error(msr::SFMASK, bit(32)), Errc::inval);
	EXPECT_EQ(wr_error(msr::SFMASK, bit(40), MsrBy::host), Errc::inval);
	expect_holds(msr::SFMASK, 0xffffffff);
	for (u32 i : {msr::FS_BASE, msr::GS_BASE, msr::KERNEL_GS_BASE, msr::LSTAR, msr::CSTAR}) {
		expect_holds(i, 0xffff800012345678);
		expect_holds(i, 0x7fff12345678, MsrBy::host);
	}
	EXPECT_EQ(hw.values[MsrSlot::lstar], 0x7fff12345678u);
	EXPECT_NE(hw.values.find(MsrSlot::star), hw.values.end());
}

TEST_F(Msr, AddressesAreCanonicalForTheGuestsWidth)
{
	for (MsrBy by : {MsrBy::guest, MsrBy::host})
		for (u32 i :
		     {msr::FS_BASE, msr::GS_BASE, msr::KERNEL_GS_BASE, msr::LSTAR, msr::CSTAR}) {
			EXPECT_EQ(wr_error(i, noncanonical, by), Errc::inval);
			EXPECT_EQ(wr_error(i, canonical5, by), Errc::inval);
		}
	EXPECT_TRUE(hw.writes.empty());
	regs.cr4 |= cr4::la57;
	expect_holds(msr::LSTAR, canonical5);
	EXPECT_EQ(wr_error(msr::LSTAR, u64{1} << 56), Errc::inval);
}

TEST_F(Msr, SysenterTargetsAreMadeCanonical)
{
	for (u32 i : {msr::IA32_SYSENTER_ESP, msr::IA32_SYSENTER_EIP}) {
		EXPECT_TRUE(wr(i, noncanonical).ok());
		EXPECT_EQ(rd(i).peek(), 0xffff800000000000u);
		expect_holds(i, 0x1234);
	}
}

TEST_F(Msr, TimeIsTheBackends)
{
	EXPECT_EQ(wr(msr::IA32_TSC, 55, MsrBy::host).peek(), MsrEffect::none);
	EXPECT_EQ(wr(msr::IA32_TSC, 66, MsrBy::guest).peek(), MsrEffect::none);
	EXPECT_TRUE(wr(msr::IA32_TSC_ADJUST, 77).ok());
	const std::vector<std::pair<MsrSlot, MsrBy>> want = {{MsrSlot::tsc, MsrBy::host},
							     {MsrSlot::tsc, MsrBy::guest},
							     {MsrSlot::tsc_adjust, MsrBy::guest}};
	EXPECT_EQ(hw.writes, want);
	EXPECT_EQ(rd(msr::IA32_TSC).peek(), 66u);
	EXPECT_EQ(rd(msr::IA32_TSC_ADJUST).peek(), 77u);
	guest_without_anything();
	EXPECT_TRUE(wr(msr::IA32_TSC_ADJUST, 88).ok()); /* dropped */
	EXPECT_EQ(rd(msr::IA32_TSC_ADJUST).peek(), 77u);
}

TEST_F(Msr, EferObeysTheGuestsRules)
{
	hw.values[MsrSlot::efer] = regs.efer;
	EXPECT_EQ(wr(msr::EFER, efer::lme | efer::sce | efer::nx).peek(), MsrEffect::efer);
	EXPECT_EQ(rd(msr::EFER).peek(), efer::lme | efer::lma | efer::sce | efer::nx);
	EXPECT_EQ(wr_error(msr::EFER, efer::sce), Errc::inval); /* LME under paging */
	EXPECT_EQ(wr_error(msr::EFER, efer::lme | efer::svme), Errc::inval);
	EXPECT_EQ(wr(msr::EFER, efer::sce, MsrBy::host).peek(), MsrEffect::efer);
	EXPECT_EQ(rd(msr::EFER).peek(), efer::lma | efer::sce);
	EXPECT_EQ(wr_error(msr::EFER, efer::svme, MsrBy::host), Errc::inval);
}

TEST_F(Msr, TscAuxHas32BitsAndNeedsAnInstruction)
{
	EXPECT_TRUE(wr(msr::TSC_AUX, 0x1234567890).ok());
	EXPECT_EQ(rd(msr::TSC_AUX).peek(), 0x34567890u); /* AMD ignores the rest */
	guest_without_anything();
	EXPECT_EQ(rd(msr::TSC_AUX).error(), Errc::inval);
	EXPECT_EQ(wr_error(msr::TSC_AUX, 1), Errc::inval);
	expect_holds(msr::TSC_AUX, 9, MsrBy::host);
	on(skylake::raw);
	cpuid = table_of(*host, {entry(0, host->cpuid.at(0)),
				 entry(0x80000001, {0, 0, 0, mask_of(Feature::rdtscp)})});
	EXPECT_EQ(wr_error(msr::TSC_AUX, bit(32)), Errc::inval); /* reserved on Intel */
	expect_holds(msr::TSC_AUX, 7);
	limits.tsc_aux = false;
	EXPECT_EQ(rd(msr::TSC_AUX, MsrBy::host).error(), Errc::inval);
}

TEST_F(Msr, SpecCtrlTakesWhatTheHostTakes)
{
	EXPECT_EQ(wr(msr::IA32_SPEC_CTRL, 0).peek(), MsrEffect::none);
	EXPECT_EQ(wr(msr::IA32_SPEC_CTRL, 1).peek(), MsrEffect::spec_ctrl);
	EXPECT_EQ(rd(msr::IA32_SPEC_CTRL).peek(), 1u);
	EXPECT_EQ(wr_error(msr::IA32_SPEC_CTRL, 8), Errc::inval);
	guest_without_anything();
	EXPECT_EQ(rd(msr::IA32_SPEC_CTRL).error(), Errc::inval);
	EXPECT_EQ(wr_error(msr::IA32_SPEC_CTRL, 0), Errc::inval);
	expect_holds(msr::IA32_SPEC_CTRL, 2, MsrBy::host);
	limits.spec_ctrl = 0;
	EXPECT_EQ(rd(msr::IA32_SPEC_CTRL, MsrBy::host).error(), Errc::inval);
}

TEST_F(Msr, PredCmdIsACommand)
{
	EXPECT_EQ(wr(msr::IA32_PRED_CMD, 0).peek(), MsrEffect::none);
	EXPECT_TRUE(hw.writes.empty());
	EXPECT_EQ(wr(msr::IA32_PRED_CMD, 1).peek(), MsrEffect::pred_cmd);
	EXPECT_EQ(hw.writes.size(), 1u);
	EXPECT_EQ(wr_error(msr::IA32_PRED_CMD, 2), Errc::inval);
	EXPECT_EQ(rd(msr::IA32_PRED_CMD).error(), Errc::noent);
	guest_without_anything();
	EXPECT_EQ(wr_error(msr::IA32_PRED_CMD, 1), Errc::inval);
	EXPECT_TRUE(wr(msr::IA32_PRED_CMD, 1, MsrBy::host).ok());
	limits.ibpb = false;
	EXPECT_EQ(wr_error(msr::IA32_PRED_CMD, 1, MsrBy::host), Errc::inval);
}

TEST_F(Msr, VirtSpecCtrlHasOneBit)
{
	EXPECT_EQ(wr_error(msr::VIRT_SPEC_CTRL, 4), Errc::inval); /* not in this guest's CPUID */
	expect_holds(msr::VIRT_SPEC_CTRL, 4, MsrBy::host);
	EXPECT_EQ(wr_error(msr::VIRT_SPEC_CTRL, 1, MsrBy::host), Errc::inval);
	limits.virt_ssbd = false;
	EXPECT_EQ(rd(msr::VIRT_SPEC_CTRL, MsrBy::host).error(), Errc::inval);
}

TEST_F(Msr, WithoutBranchRecordsDebugctlIsInert)
{
	EXPECT_TRUE(wr(msr::IA32_DEBUGCTL, ~u64{0}).ok());
	for (u32 i : {msr::IA32_DEBUGCTL, msr::LASTBRANCHFROMIP, msr::LASTBRANCHTOIP,
		      msr::LASTINTFROMIP, msr::LASTINTTOIP})
		EXPECT_EQ(rd(i).peek(), 0u);
	limits.lbr = true;
	expect_holds(msr::IA32_DEBUGCTL, 3);
	EXPECT_TRUE(wr(msr::IA32_DEBUGCTL, 0x3d).ok());
	EXPECT_EQ(rd(msr::IA32_DEBUGCTL).peek(), 1u);
	EXPECT_EQ(wr_error(msr::IA32_DEBUGCTL, 0x40), Errc::inval);
	hw.values[MsrSlot::br_to] = 5;
	EXPECT_EQ(rd(msr::LASTBRANCHTOIP).peek(), 5u);
}

TEST_F(Msr, ApicBaseStartsEnabledAndSaysWhoBoots)
{
	EXPECT_EQ(rd(msr::IA32_APIC_BASE).peek(), 0xfee00900u);
	EXPECT_EQ(MsrFile(limits, MsrFile::Boot::application).apic_base(), 0xfee00800u);
	EXPECT_EQ(wr(msr::IA32_APIC_BASE, 0xfee00100).peek(), MsrEffect::apic_base);
	EXPECT_EQ(file->apic_base(), 0xfee00100u);
	EXPECT_EQ(wr_error(msr::IA32_APIC_BASE, 0xfee00d00), Errc::inval);
	EXPECT_EQ(file->set_apic_base(0xfee00900, *cpuid), Errc::ok);
	EXPECT_EQ(file->set_apic_base(bit(9), *cpuid), Errc::inval);
	EXPECT_EQ(file->apic_base(), 0xfee00900u);
}

TEST_F(Msr, PatTellsTheVcpu)
{
	EXPECT_EQ(rd(msr::IA32_PAT).peek(), reset_pat);
	EXPECT_EQ(wr(msr::IA32_PAT, 0x0606060606060606).peek(), MsrEffect::pat);
	EXPECT_EQ(file->pat(), 0x0606060606060606u);
	EXPECT_EQ(wr_error(msr::IA32_PAT, 2), Errc::inval);
	EXPECT_EQ(wr_error(msr::IA32_PAT, 2, MsrBy::host), Errc::inval);
}

TEST_F(Msr, MtrrsAreHeld)
{
	EXPECT_EQ(rd(msr::IA32_MTRRCAP).peek(), 0x508u);
	EXPECT_EQ(wr_error(msr::IA32_MTRRCAP, 0x508), Errc::noent);
	EXPECT_EQ(wr(msr::IA32_MTRR_DEF_TYPE, 0xc06).peek(), MsrEffect::mtrr);
	expect_holds(0x200, 0x80000006);
	expect_holds(0x250, 0x0606060606060606);
	EXPECT_EQ(wr_error(0x200, bit(40)), Errc::inval);
	EXPECT_EQ(wr_error(0x210, 0), Errc::inval); /* the ninth */
	EXPECT_EQ(rd(0x210).error(), Errc::inval);
	expect_holds(0x201, 0xffc0000800, MsrBy::host);
}

TEST_F(Msr, XssHasNoBits)
{
	EXPECT_EQ(wr(msr::IA32_XSS, 0).peek(), MsrEffect::xss);
	EXPECT_EQ(wr_error(msr::IA32_XSS, 1), Errc::inval);
	EXPECT_EQ(wr_error(msr::IA32_XSS, bit(8), MsrBy::host), Errc::inval);
	guest_without_anything();
	EXPECT_EQ(rd(msr::IA32_XSS).error(), Errc::inval);
	EXPECT_EQ(rd(msr::IA32_XSS, MsrBy::host).peek(), 0u);
}

TEST_F(Msr, MiscEnableHasReadOnlyBits)
{
	EXPECT_EQ(rd(msr::IA32_MISC_ENABLE).peek(), 0x1800u);
	EXPECT_TRUE(wr(msr::IA32_MISC_ENABLE, 0x1801 | bit(7)).ok());
	EXPECT_EQ(rd(msr::IA32_MISC_ENABLE).peek(), 0x1801u); /* bit 7 did not take */
	EXPECT_EQ(wr_error(msr::IA32_MISC_ENABLE, 1), Errc::inval);
	expect_holds(msr::IA32_MISC_ENABLE, 1 | bit(7), MsrBy::host);
	EXPECT_TRUE(wr(msr::IA32_MISC_ENABLE, 2).ok());
	EXPECT_EQ(rd(msr::IA32_MISC_ENABLE).peek(), 2 | bit(7));
}

TEST_F(Msr, MicrocodeIsTheVmms)
{
	EXPECT_EQ(rd(msr::IA32_BIOS_SIGN_ID).peek(), 0x01000065u);
	EXPECT_TRUE(wr(msr::IA32_BIOS_SIGN_ID, 0).ok());
	EXPECT_TRUE(wr(msr::IA32_BIOS_UPDT_TRIG, 0x1234).ok());
	EXPECT_TRUE(wr(msr::PATCH_LOADER, 0x1234).ok());
	EXPECT_EQ(rd(msr::IA32_BIOS_SIGN_ID).peek(), 0x01000065u);
	expect_holds(msr::IA32_BIOS_SIGN_ID, 42, MsrBy::host);
	EXPECT_EQ(rd(msr::IA32_BIOS_UPDT_TRIG).error(), Errc::noent);
	on(skylake::raw);
	EXPECT_EQ(rd(msr::IA32_BIOS_SIGN_ID).peek(), 0x100000000u);
}

TEST_F(Msr, ArchCapabilitiesAreReadOnlyToGuests)
{
	EXPECT_EQ(rd(msr::IA32_ARCH_CAPABILITIES).peek(), limits.arch_capabilities);
	EXPECT_EQ(wr_error(msr::IA32_ARCH_CAPABILITIES, 0), Errc::inval);
	expect_holds(msr::IA32_ARCH_CAPABILITIES, 5, MsrBy::host);
	guest_without_anything();
	EXPECT_EQ(rd(msr::IA32_ARCH_CAPABILITIES).error(), Errc::inval);
	EXPECT_EQ(rd(msr::IA32_ARCH_CAPABILITIES, MsrBy::host).peek(), 5u);
}

TEST_F(Msr, CpuidFaultingNeedsThePlatform)
{
	EXPECT_EQ(rd(msr::PLATFORM_INFO).peek(), bit(31));
	EXPECT_EQ(wr_error(msr::PLATFORM_INFO, 0), Errc::inval);
	EXPECT_EQ(wr(msr::MISC_FEATURES_ENABLES, 1).peek(), MsrEffect::misc_features);
	EXPECT_TRUE(file->cpuid_faults());
	EXPECT_EQ(wr_error(msr::PLATFORM_INFO, 0, MsrBy::host), Errc::inval); /* in use */
	EXPECT_EQ(wr_error(msr::MISC_FEATURES_ENABLES, 2), Errc::inval);
	EXPECT_TRUE(wr(msr::MISC_FEATURES_ENABLES, 0).ok());
	EXPECT_TRUE(wr(msr::PLATFORM_INFO, 0, MsrBy::host).ok());
	EXPECT_EQ(wr_error(msr::MISC_FEATURES_ENABLES, 1), Errc::inval);
}

TEST_F(Msr, MachineChecksFollowHwcr)
{
	ASSERT_EQ(file->mce().setup(10 | mcg::ctl_p | mcg::ser_p, limits.vendor), Errc::ok);
	EXPECT_EQ(rd(msr::IA32_MCG_CAP).peek(), 10 | mcg::ctl_p);
	EXPECT_EQ(wr_error(msr::IA32_MCG_CAP, 0), Errc::noent);
	EXPECT_EQ(wr_error(0x401, 5), Errc::inval);
	expect_holds(msr::HWCR, bit(18));
	expect_holds(0x401, 5);
	EXPECT_EQ(rd(0x428).error(), Errc::inval);
	expect_holds(msr::IA32_MCG_STATUS, 4);
	expect_holds(msr::IA32_MCG_CTL, 0);
	on(skylake::raw);
	expect_holds(msr::HWCR, bit(18));
	EXPECT_EQ(wr_error(0x401, 5), Errc::inval); /* not on Intel */
}

TEST_F(Msr, HwcrTakesLinuxsWorkarounds)
{
	EXPECT_TRUE(wr(msr::HWCR, bit(3) | bit(6) | bit(8)).ok());
	EXPECT_EQ(rd(msr::HWCR).peek(), 0u);
	EXPECT_EQ(wr_error(msr::HWCR, bit(24)), Errc::inval);
	EXPECT_EQ(wr_error(msr::HWCR, bit(24), MsrBy::host), Errc::inval);
}

TEST_F(Msr, DeCfgIsTheHosts)
{
	EXPECT_EQ(limits.de_cfg, 2u);
	EXPECT_EQ(rd(msr::DE_CFG).peek(), 0u);
	EXPECT_EQ(wr_error(msr::DE_CFG, 0), Errc::inval);
	expect_holds(msr::DE_CFG, 2); /* Linux sets the bit it finds clear */
	expect_holds(msr::DE_CFG, 0, MsrBy::host);
	EXPECT_EQ(wr_error(msr::DE_CFG, 1, MsrBy::host), Errc::inval);
}

TEST_F(Msr, OsvwNeedsTheFeature)
{
	expect_holds(msr::OSVW_ID_LENGTH, 4, MsrBy::host);
	EXPECT_EQ(rd(msr::OSVW_STATUS).error(), Errc::ok);
	guest_without_anything();
	EXPECT_EQ(rd(msr::OSVW_STATUS).error(), Errc::inval);
	EXPECT_EQ(wr_error(msr::OSVW_STATUS, 0, MsrBy::host), Errc::inval);
}

TEST_F(Msr, SvmRegistersExistWithoutSvm)
{
	EXPECT_EQ(rd(msr::VM_CR).peek(), 0u);
	EXPECT_EQ(wr_error(msr::VM_CR, 0x20), Errc::inval);
	expect_holds(msr::VM_CR, 0x18);
	EXPECT_TRUE(wr(msr::VM_CR, 0).ok());
	EXPECT_EQ(rd(msr::VM_CR).peek(), 0x18u); /* disabled and locked */
	expect_holds(msr::VM_HSAVE_PA, 0x1000);
	EXPECT_EQ(wr_error(msr::VM_HSAVE_PA, 0x1001), Errc::inval);
	EXPECT_EQ(wr_error(msr::VM_HSAVE_PA, bit(40)), Errc::inval);
	EXPECT_TRUE(wr(msr::VM_IGNNE, 1).ok());
	EXPECT_EQ(rd(msr::TSC_RATIO).error(), Errc::inval);
	EXPECT_EQ(rd(msr::TSC_RATIO, MsrBy::host).peek(), bit(32));
	EXPECT_TRUE(wr(msr::TSC_RATIO, 0, MsrBy::host).ok());
	EXPECT_EQ(wr_error(msr::TSC_RATIO, 1, MsrBy::host), Errc::inval);
}

TEST_F(Msr, TheOldKvmClockIsTheVmmsToSaveAsZero)
{
	for (u32 i : {msr::KVM_WALL_CLOCK_OLD, msr::KVM_SYSTEM_TIME_OLD}) {
		EXPECT_EQ(rd(i, MsrBy::host).peek(), 0u);
		EXPECT_TRUE(wr(i, 0, MsrBy::host).ok());
		EXPECT_EQ(wr_error(i, 0x1001, MsrBy::host), Errc::inval);
		expect_unknown(i);
	}
	expect_unknown(msr::KVM_WALL_CLOCK);
	expect_unknown(msr::KVM_SYSTEM_TIME);
}

TEST_F(Msr, OldCountersAreInert)
{
	for (u32 i :
	     {0xc0010000u, 0xc0010003u, 0xc0010004u, 0xc0010007u, 0xc1u, 0xc2u, 0x186u, 0x187u}) {
		EXPECT_EQ(rd(i).peek(), 0u) << std::hex << i;
		EXPECT_TRUE(wr(i, 0x530076).ok()) << std::hex << i;
		EXPECT_EQ(rd(i).peek(), 0u) << std::hex << i;
	}
	for (u32 i : {0xc3u, 0x188u, 0xc0010200u, 0xc001020bu, 0x309u, 0x38du, 0x38fu}) {
		expect_unknown(i);
		EXPECT_EQ(rd(i, MsrBy::host).peek(), 0u) << std::hex << i;
		EXPECT_TRUE(wr(i, 0, MsrBy::host).ok()) << std::hex << i;
		EXPECT_EQ(wr_error(i, 1, MsrBy::host), Errc::noent) << std::hex << i;
	}
}

TEST_F(Msr, WhatGuestsReadBlindlyReads)
{
	for (u32 i : {0x17u,	   0x2au,	0xc0010010u, 0xc0010112u, 0xc0010113u,
		      0xc0010055u, 0xc001001fu, 0xc0010058u, 0xc001102au, 0x199u,
		      0xc0011022u, 0xc0011023u, 0xc001102cu, 0x606u,	  0x639u,
		      0x641u,	   0x611u,	0x619u,	     0x6e0u,	  0xc0011021u})
		EXPECT_EQ(rd(i).peek(), 0u) << std::hex << i;
	EXPECT_EQ(rd(0xcd).peek(), 3u);
	EXPECT_EQ(rd(0x2c).peek(), bit(24));
	EXPECT_EQ(rd(0x198).peek(), 1000 | u64{4} << 40);
	EXPECT_EQ(rd(0x11e).peek(), 0xbe702111u);
	EXPECT_EQ(rd(0xc001001b).peek(), 0x20000000u);
	for (u32 i : {0xc001001fu, 0xc001102au, 0xc0011022u, 0xc0011023u, 0xc001102cu, 0xc001001bu,
		      0x11eu, 0x6e0u})
		EXPECT_TRUE(wr(i, 0x1234).ok()) << std::hex << i;
	for (u32 i : {0xc0010010u, 0x17u, 0xcdu, 0x198u, 0xc0011021u})
		EXPECT_EQ(wr_error(i, 0), Errc::noent) << std::hex << i;
	EXPECT_TRUE(wr(0xc0010058, 0).ok());
	EXPECT_EQ(wr_error(0xc0010058, 1), Errc::inval);
	EXPECT_EQ(rd(0x1).peek(), 0u);
}

TEST_F(Msr, UnknownOnesFaultOrNotByParameter)
{
	for (u32 i : {0x2u, 0x3au, 0x480u, 0x140000u, 0x40000000u, 0xc0000105u, 0xc0010116u, ~0u}) {
		expect_unknown(i);
		expect_unknown(i, MsrBy::host);
	}
	limits.unknown = UnknownMsr::ignore;
	for (u32 i : {0x2u, 0x3au, 0x480u, ~0u}) {
		EXPECT_EQ(rd(i).peek(), 0u);
		EXPECT_TRUE(wr(i, 77).ok());
		EXPECT_EQ(rd(i).peek(), 0u);
	}
	/* Known ones with a bad value still fault. */
	EXPECT_EQ(wr_error(msr::IA32_PAT, 2), Errc::inval);
	EXPECT_EQ(rd(0x800).error(), Errc::inval);
}

TEST_F(Msr, X2apicRegistersFaultWithoutOne)
{
	for (u32 i : {0x800u, 0x830u, 0x8ffu}) {
		EXPECT_EQ(rd(i).error(), Errc::inval);
		EXPECT_EQ(wr_error(i, 0), Errc::inval);
	}
}

TEST_F(Msr, AmdsRegistersAreUnknownOnIntel)
{
	on(skylake::raw);
	for (u32 i : {msr::VM_CR, msr::DE_CFG, msr::TSC_RATIO, msr::IC_CFG})
		expect_unknown(i);
	EXPECT_EQ(wr_error(msr::VM_IGNNE, 0), Errc::noent);
}

TEST_F(Msr, NothingMakesTheFileMisbehave)
{
	/* Every index near a known one, with values that have bits everywhere: no crash, and what
	 * was accepted from the VMM and is not a command reads back without an error. */
	for (u32 base : {0u, 0xc0000000u, 0xc0010000u, 0xc0011000u, 0x4b564d00u, 0x40000000u})
		for (u32 i = base; i < base + 0x1000; ++i)
			for (u64 v : {u64{0}, u64{1}, ~u64{0}, u64{0x0606060606060606}, bit(63)})
				for (MsrBy by : {MsrBy::guest, MsrBy::host}) {
					const bool wrote = wr(i, v, by).ok();
					const auto r = rd(i, by);
					const bool command = i == msr::IA32_PRED_CMD ||
							     i == msr::IA32_BIOS_UPDT_TRIG ||
							     i == msr::PATCH_LOADER ||
							     i == msr::VM_IGNNE;
					EXPECT_TRUE(!wrote || command || r.ok())
						<< std::hex << i << ' ' << v;
				}
}
