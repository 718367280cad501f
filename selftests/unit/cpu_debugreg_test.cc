/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/debugreg.hpp"
#include "cpu_record_ryzen.hpp"

using namespace kx;
using namespace kx::test;

namespace {

struct Debug : testing::Test {
	std::unique_ptr<Host> host = host_of(ryzen::raw);
	std::unique_ptr<CpuidTable> cpuid;
	DebugRegs d;
	Debug()
	{
		host->make_caps();
		cpuid = table_of(*host, host->supported());
	}
};

}

TEST_F(Debug, StartAsAfterReset)
{
	EXPECT_EQ(d.dr6(), 0xffff0ff0u);
	EXPECT_EQ(d.dr7(), 0x400u);
	EXPECT_EQ(d.wanted(), DrSwitch::nothing);
	ASSERT_TRUE(d.write(0, 0x1234, *cpuid).ok());
	d.reset();
	EXPECT_EQ(d.read(0), 0u);
}

TEST_F(Debug, HoldFourAddressesOfAnyKind)
{
	for (unsigned i = 0; i < 4; ++i)
		ASSERT_TRUE(d.write(i, 0x8000'0000'0000'0000 + i, *cpuid).ok());
	for (unsigned i = 0; i < 4; ++i)
		EXPECT_EQ(d.read(i), 0x8000'0000'0000'0000 + i);
}

TEST_F(Debug, FourAndFiveAreSixAndSeven)
{
	ASSERT_TRUE(d.write(4, 0xf, *cpuid).ok());
	ASSERT_TRUE(d.write(5, 0x55, *cpuid).ok());
	EXPECT_EQ(d.read(6), d.read(4));
	EXPECT_EQ(d.read(7), d.read(5));
	EXPECT_EQ(d.access(4, 0, 0).value(), 6u);
	EXPECT_EQ(d.access(5, 0, 0).value(), 7u);
	for (unsigned n : {4u, 5u})
		EXPECT_EQ(d.access(n, cr4::de, 0).fault().vector, Vector::ud);
	for (unsigned n : {0u, 3u, 6u, 7u})
		EXPECT_EQ(d.access(n, cr4::de, 0).value(), n);
}

TEST_F(Debug, BelongToTheKernel)
{
	EXPECT_EQ(d.access(0, 0, 3).fault().vector, Vector::gp);
	EXPECT_TRUE(d.access(0, 0, 3).fault().has_error);
	EXPECT_EQ(d.access(4, cr4::de, 3).fault().vector, Vector::ud); /* first of all */
}

TEST_F(Debug, GeneralDetectStopsTheNextAccess)
{
	ASSERT_TRUE(d.write(7, dr7::gd | 1, *cpuid).ok());
	const Exception e = d.access(6, 0, 0).fault();
	EXPECT_EQ(e.vector, Vector::db);
	EXPECT_EQ(d.access(6, 0, 3).fault().vector, Vector::gp);
	EXPECT_FALSE(d.dr6() & dr6::bd);
	EXPECT_TRUE(d.dr7() & dr7::gd) << "nothing is done before somebody takes the exception";
	d.record(e.payload);
	EXPECT_TRUE(d.dr6() & dr6::bd);
	EXPECT_EQ(d.dr7(), dr7::fixed1 | 1);
	EXPECT_TRUE(d.access(6, 0, 0).ok());
}

TEST_F(Debug, ATaskSwitchTurnsLocalBreakpointsOff)
{
	ASSERT_TRUE(d.write(7, 0xffff23ff, *cpuid).ok());
	d.task_switched();
	EXPECT_EQ(d.dr7(), 0xffff26aau) << "GE, G0 to G3, GD, the conditions and the fixed bit stay";
}

TEST_F(Debug, ReservedBitsReadAsWired)
{
	ASSERT_TRUE(d.write(6, 0, *cpuid).ok());
	EXPECT_EQ(d.dr6(), 0xffff0ff0u); /* with RTM and bus lock wired to one, too */
	ASSERT_TRUE(d.write(6, 0xffffffff, *cpuid).ok());
	EXPECT_EQ(d.dr6(), 0xffffefffu);
	ASSERT_TRUE(d.write(7, 0, *cpuid).ok());
	EXPECT_EQ(d.dr7(), 0x400u);
	ASSERT_TRUE(d.write(7, 0xffffffff, *cpuid).ok());
	EXPECT_EQ(d.dr7(), 0xffff2fffu);
}

TEST_F(Debug, TransactionalGuestsMayClearTheRtmBit)
{
	const auto tsx = table_of(
		*host,
		{entry(7, 0, {0, mask_of(Feature::rtm), mask_of(Feature::bus_lock_detect), 0})});
	ASSERT_TRUE(d.write(6, 0, *tsx).ok());
	EXPECT_EQ(d.dr6(), 0xffff0ff0u & ~(dr6::rtm | dr6::bus_lock));
}

TEST_F(Debug, UpperHalvesFault)
{
	for (unsigned n : {4u, 5u, 6u, 7u}) {
		EXPECT_EQ(d.write(n, bit(32), *cpuid).fault().vector, Vector::gp);
		EXPECT_EQ(d.write(n, bit(63), *cpuid).fault().vector, Vector::gp);
	}
	EXPECT_EQ(d.dr7(), 0x400u);
}

TEST_F(Debug, AreOpenToEveryHandlerOfTheirException)
{
	ASSERT_TRUE(d.write(7, dr7::gd | 1, *cpuid).ok());
	d.record(dr6::bs);
	EXPECT_EQ(d.dr7(), dr7::fixed1 | 1);
	EXPECT_TRUE(d.access(7, 0, 0).ok());
}

TEST_F(Debug, RecordWhatHappened)
{
	d.record(0x1);
	EXPECT_EQ(d.dr6(), 0xffff0ff1u);
	d.record(dr6::bs | bit(12)); /* traps are replaced; bit 12 is only in the payload */
	EXPECT_EQ(d.dr6(), 0xffff0ff0u | dr6::bs);
	d.record(2);
	EXPECT_EQ(d.dr6(), 0xffff0ff2u | dr6::bs); /* the rest accumulates */
	d.record(dr6::rtm); /* active low: one in the payload clears it */
	EXPECT_EQ(d.dr6(), (0xffff0ff0u | dr6::bs) & ~dr6::rtm);
}

TEST_F(Debug, AreSwitchedOnlyWhenTheyMatter)
{
	ASSERT_TRUE(d.write(7, 0x100, *cpuid).ok());
	EXPECT_EQ(d.wanted(), DrSwitch::nothing);
	ASSERT_TRUE(d.write(7, 2, *cpuid).ok());
	EXPECT_EQ(d.wanted(), DrSwitch::load);
	ASSERT_TRUE(d.write(7, 0, *cpuid).ok());
	EXPECT_TRUE(d.intercepting());
	d.stop_intercepting();
	EXPECT_EQ(d.wanted(), DrSwitch::load);
	EXPECT_FALSE(d.intercepting());
	d.take({1, 2, 3, 4}, 0xffff0ff1, 0x400);
	d.intercept_again();
	EXPECT_EQ(d.wanted(), DrSwitch::nothing);
	EXPECT_EQ(d.address(2), 3u);
	EXPECT_EQ(d.dr6(), 0xffff0ff1u);
}

TEST_F(Debug, GoOutAndComeBack)
{
	ASSERT_TRUE(d.write(1, 77, *cpuid).ok());
	ASSERT_TRUE(d.write(7, 0xf, *cpuid).ok());
	kvm_debugregs k;
	std::memset(&k, 0xff, sizeof(k));
	d.get(k);
	EXPECT_EQ(k.flags, 0u);
	for (u64 r : k.reserved)
		EXPECT_EQ(r, 0u);
	DebugRegs e;
	EXPECT_EQ(e.set(k), Errc::ok);
	EXPECT_EQ(e.read(1), 77u);
	EXPECT_EQ(e.dr7(), 0x40fu);
}

TEST_F(Debug, AVmmMaySetOddBitsButNoUpperHalvesAndNoFlags)
{
	kvm_debugregs k = {};
	k.flags = 1;
	EXPECT_EQ(d.set(k), Errc::inval);
	k.flags = 0;
	k.dr6 = bit(32);
	EXPECT_EQ(d.set(k), Errc::inval);
	k.dr6 = 0, k.dr7 = bit(32);
	EXPECT_EQ(d.set(k), Errc::inval);
	EXPECT_EQ(d.dr6(), 0xffff0ff0u);
	k.dr7 = 0;
	EXPECT_EQ(d.set(k), Errc::ok);
	EXPECT_EQ(d.dr6(), 0u);
}
