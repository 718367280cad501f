// SPDX-License-Identifier: GPL-2.0-only
#include <gtest/gtest.h>
#include "arch/x86/cpu/cpuid_regs.hpp"
#include "arch/x86/svm/caps.hpp"
#include "arch/x86/svm/msrpm.hpp"

using namespace kx;
using namespace kx::svm;

namespace {
/* QEMU TCG's -cpu max: nested paging, little else. */
CpuidRegs tcg(u32 leaf, u32)
{
	switch (leaf) {
	case 1: return {0, 0, bit(26), 0};
	case 0x80000000: return {0x8000000a, 0, 0, 0};
	case 0x80000001: return {0, 0, bit(2), bit(27)};
	case 0x8000000a: return {1, 16, 0, bit(0) | bit(16)};
	default: return {};
	}
}
}

TEST(SvmCaps, ReadsWhatTheProcessorSays)
{
	const Caps c = detect(tcg);
	EXPECT_TRUE(c.svm);
	EXPECT_TRUE(c.npt);
	EXPECT_EQ(c.asids, 16u);
	EXPECT_FALSE(c.nrips);
	EXPECT_FALSE(c.flush_by_asid);
	EXPECT_TRUE(c.rdtscp);
	EXPECT_TRUE(c.xsave);
}

TEST(SvmCaps, FindsNoneWithoutTheLeaf)
{
	EXPECT_FALSE(detect([](u32 leaf, u32 s) {
			     return leaf == 0x80000000 ? CpuidRegs{0x80000008, 0, 0, 0} : tcg(leaf, s);
		     }).svm);
	EXPECT_FALSE(detect([](u32 leaf, u32 s) { return leaf == 0x80000001 ? CpuidRegs{} : tcg(leaf, s); }).svm);
}

/* Two bits an MSR, three ranges, nothing else. APM vol. 2 §15.11 */
TEST(SvmMsrPm, MapsEachMsrToBitsOfItsOwn)
{
	EXPECT_EQ(MsrPm::bit_of(0x1fff), 0x3ffeu);
	EXPECT_EQ(MsrPm::bit_of(0xc0000000), 0x4000u);
	EXPECT_EQ(MsrPm::bit_of(0xc0001fff), 0x7ffeu);
	EXPECT_EQ(MsrPm::bit_of(0xc0011fff), 0xbffeu);
	EXPECT_EQ(MsrPm::bit_of(0xbfffffff), MsrPm::none);
	EXPECT_EQ(MsrPm::bit_of(0xc0002000), MsrPm::none);
	EXPECT_EQ(MsrPm::bit_of(0xffffffff), MsrPm::none);
}
