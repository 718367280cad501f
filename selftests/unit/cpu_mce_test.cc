/* SPDX-License-Identifier: GPL-2.0-only */
#include <gtest/gtest.h>
#include "arch/x86/cpu/mce.hpp"

using namespace kx;

namespace {

constexpr u64 all = ~u64{0};
constexpr u32 ctl(unsigned bank) { return 0x400 + 4 * bank; }

struct Mce : testing::Test {
	MceBanks m;
	Result<u64> rd(u32 i, MsrBy by = MsrBy::guest) const { return m.read(i, by); }
	Errc wr(u32 i, u64 v, MsrBy by = MsrBy::guest, MciStatus s = MciStatus::only_zero)
	{
		return m.write(i, v, by, s);
	}
};

}

TEST_F(Mce, StartWithAllBanksAndNoControl)
{
	EXPECT_EQ(rd(msr::IA32_MCG_CAP).peek(), 32u);
	EXPECT_EQ(rd(msr::IA32_MCG_STATUS).peek(), 0u);
	EXPECT_EQ(rd(msr::IA32_MCG_CTL).error(), Errc::inval);
	EXPECT_EQ(rd(msr::IA32_MCG_CTL, MsrBy::host).peek(), 0u);
	EXPECT_EQ(rd(ctl(31) + 3).peek(), 0u);
	EXPECT_FALSE(MceBanks::is_mce(ctl(32)));
}

TEST_F(Mce, SetupTakesWhatIsSupported)
{
	for (u64 bad : {u64{0}, u64{33}, u64{255}, 10 | bit(10), 10 | bit(27), 10 | bit(63)})
		EXPECT_EQ(m.setup(bad, CpuVendor::intel), Errc::inval) << bad;
	EXPECT_EQ(m.cap(), 32u);
	const u64 qemu = 10 | mcg::ctl_p | mcg::ser_p;
	EXPECT_EQ(m.setup(qemu, CpuVendor::intel), Errc::ok);
	EXPECT_EQ(m.cap(), qemu);
	EXPECT_EQ(rd(msr::IA32_MCG_CTL).peek(), all);
	EXPECT_EQ(rd(ctl(0)).peek(), all);
	EXPECT_EQ(rd(ctl(9)).peek(), all);
	EXPECT_EQ(rd(ctl(10)).error(), Errc::inval);
	EXPECT_EQ(wr(ctl(10), 0), Errc::inval);
}

TEST_F(Mce, AmdHasNothingAboveControl)
{
	EXPECT_EQ(m.setup(10 | mcg::ctl_p | mcg::ser_p | 0x10000, CpuVendor::amd), Errc::ok);
	EXPECT_EQ(m.cap(), 10 | mcg::ctl_p);
	EXPECT_EQ(rd(msr::IA32_MCG_CAP).peek(), 10 | mcg::ctl_p);
}

TEST_F(Mce, GlobalControlIsAllOrNothing)
{
	EXPECT_EQ(wr(msr::IA32_MCG_CTL, 0, MsrBy::host),
		  Errc::ok); /* a VMM that restores everything */
	EXPECT_EQ(wr(msr::IA32_MCG_CTL, all, MsrBy::host), Errc::inval);
	EXPECT_EQ(wr(msr::IA32_MCG_CTL, 0), Errc::inval);
	ASSERT_EQ(m.setup(4 | mcg::ctl_p, CpuVendor::amd), Errc::ok);
	EXPECT_EQ(wr(msr::IA32_MCG_CTL, 0), Errc::ok);
	EXPECT_EQ(wr(msr::IA32_MCG_CTL, all), Errc::ok);
	EXPECT_EQ(wr(msr::IA32_MCG_CTL, 1), Errc::inval);
	EXPECT_EQ(wr(msr::IA32_MCG_CTL, 1, MsrBy::host), Errc::inval);
}

TEST_F(Mce, BankControlToleratesTwoOldWorkarounds)
{
	for (u64 fine : {u64{0}, all, all & ~bit(10), all & ~bit(0), all & ~bit(10) & ~bit(0)})
		EXPECT_EQ(wr(ctl(4), fine), Errc::ok) << std::hex << fine;
	for (u64 bad : {u64{1}, all & ~bit(11), all >> 1})
		EXPECT_EQ(wr(ctl(4), bad), Errc::inval) << std::hex << bad;
}

TEST_F(Mce, GuestsClearStatusButSetItOnlyIfAllowed)
{
	EXPECT_EQ(wr(ctl(3) + 1, 0), Errc::ok);
	EXPECT_EQ(wr(ctl(3) + 1, 5), Errc::inval);
	EXPECT_EQ(wr(ctl(3) + 1, 5, MsrBy::guest, MciStatus::any), Errc::ok);
	EXPECT_EQ(wr(ctl(3) + 1, 6, MsrBy::host), Errc::ok);
	EXPECT_EQ(rd(ctl(3) + 1).peek(), 6u);
	EXPECT_EQ(wr(ctl(3) + 2, 7), Errc::ok); /* ADDR and MISC hold anything */
	EXPECT_EQ(wr(ctl(3) + 3, 8), Errc::ok);
	EXPECT_EQ(rd(ctl(3) + 2).peek(), 7u);
	EXPECT_EQ(rd(ctl(3) + 3).peek(), 8u);
	EXPECT_EQ(rd(ctl(2) + 3).peek(), 0u);
}

TEST_F(Mce, CorrectedErrorInterruptsAreNotThere)
{
	EXPECT_EQ(rd(0x280).error(), Errc::inval);
	EXPECT_EQ(rd(0x280, MsrBy::host).peek(), 0u);
	EXPECT_EQ(wr(0x280, 0), Errc::inval);
	EXPECT_EQ(wr(0x280, 0, MsrBy::host), Errc::ok);
	EXPECT_EQ(wr(0x280, 1, MsrBy::host), Errc::inval);
	ASSERT_EQ(m.setup(3, CpuVendor::amd), Errc::ok);
	EXPECT_EQ(rd(0x283, MsrBy::host).error(), Errc::inval);
}

TEST_F(Mce, PentiumRegistersReadZero)
{
	EXPECT_EQ(rd(0).peek(), 0u);
	EXPECT_EQ(rd(1).peek(), 0u);
	EXPECT_EQ(wr(msr::IA32_MCG_STATUS, 5), Errc::ok);
	EXPECT_EQ(rd(msr::IA32_MCG_STATUS).peek(), 5u);
}

/* --- KVM_X86_SET_MCE */

namespace {

constexpr u64 valid = bit(63), over = bit(62), uc = bit(61), pcc = bit(57), mcip = bit(2);

struct MceReport : Mce {
	Result<MceEvent> report(u64 status, MceEnabled on = MceEnabled::yes, u64 mcg_status = mcip, u8 bank = 3)
	{
		kvm_x86_mce e{};
		e.status = status, e.addr = 0x1000, e.misc = 0x8c, e.mcg_status = mcg_status, e.bank = bank;
		return m.report(e, on);
	}
	/* In bank 3, and MCG_STATUS. */
	void expect(u64 status, u64 mcg_status)
	{
		EXPECT_EQ(rd(ctl(3) + 1).peek(), status);
		EXPECT_EQ(rd(ctl(3) + 2).peek(), status ? 0x1000u : 0u);
		EXPECT_EQ(rd(ctl(3) + 3).peek(), status ? 0x8cu : 0u);
		EXPECT_EQ(rd(msr::IA32_MCG_STATUS).peek(), mcg_status);
	}
	MceReport() { EXPECT_EQ(m.setup(10 | mcg::ctl_p | mcg::ser_p, CpuVendor::intel), Errc::ok); }
};

}

TEST_F(MceReport, IsOfABankThatIsThereAndValid)
{
	EXPECT_EQ(report(valid | uc | pcc, MceEnabled::yes, mcip, 10).error(), Errc::inval);
	EXPECT_EQ(report(valid | uc | pcc, MceEnabled::yes, mcip, 255).error(), Errc::inval);
	EXPECT_EQ(report(uc | pcc).error(), Errc::inval);
	expect(0, 0);
}

TEST_F(MceReport, OfAnUncorrectedErrorIsAMachineCheck)
{
	EXPECT_EQ(report(valid | uc | pcc).peek(), MceEvent::machine_check);
	expect(valid | uc | pcc, mcip);
	EXPECT_EQ(wr(msr::IA32_MCG_STATUS, 0), Errc::ok);
	EXPECT_EQ(report(valid | uc).peek(), MceEvent::machine_check);
	expect(valid | uc | over, mcip);
}

TEST_F(MceReport, OfASecondOneOrToAGuestWithoutThemIsAShutdown)
{
	EXPECT_EQ(report(valid | uc | pcc, MceEnabled::no).peek(), MceEvent::shutdown);
	expect(0, 0);
	EXPECT_EQ(report(valid | uc | pcc).peek(), MceEvent::machine_check);
	EXPECT_EQ(report(valid | uc).peek(), MceEvent::shutdown);
	expect(valid | uc | pcc, mcip);
}

TEST_F(MceReport, IsSwitchedOffByEitherControl)
{
	EXPECT_EQ(wr(msr::IA32_MCG_CTL, 0), Errc::ok);
	EXPECT_EQ(report(valid | uc | pcc).peek(), MceEvent::none);
	EXPECT_EQ(wr(msr::IA32_MCG_CTL, all), Errc::ok);
	EXPECT_EQ(wr(ctl(3), 0), Errc::ok);
	EXPECT_EQ(report(valid | uc | pcc).peek(), MceEvent::none);
	expect(0, 0);
	EXPECT_EQ(report(valid).peek(), MceEvent::none) << "corrected ones are logged all the same";
	expect(valid, 0);
}

TEST_F(MceReport, OfACorrectedErrorDisplacesOnlyItsLike)
{
	EXPECT_EQ(report(valid | 1).peek(), MceEvent::none);
	expect(valid | 1, 0);
	EXPECT_EQ(report(valid | 2).peek(), MceEvent::none);
	expect(valid | over | 2, 0);
	EXPECT_EQ(report(valid | uc | pcc).peek(), MceEvent::machine_check);
	EXPECT_EQ(report(valid | 3).peek(), MceEvent::none);
	expect(valid | over | uc | pcc, mcip);
}

/* Uncorrected, no action required: logged, and that is all. */
TEST_F(MceReport, OfAnErrorThatNobodyHasMetIsLogged)
{
	EXPECT_EQ(report(valid | uc, MceEnabled::no, 0).peek(), MceEvent::none);
	expect(valid | uc, 0);
}
