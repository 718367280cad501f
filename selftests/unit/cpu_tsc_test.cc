/* SPDX-License-Identifier: GPL-2.0-only */
#include <gtest/gtest.h>
#include "arch/x86/cpu/tsc.hpp"

using namespace kx;

namespace {

constexpr u32 khz = 2000000;
constexpr u64 second = u64{khz} * 1000, ns_second = 1000000000;

/* A host whose TSC started at 5 * second when boot time was zero. */
TscNow at(u64 ns, bool stable = true) { return {5 * second + cycles_in(ns, khz), ns, stable}; }

}

TEST(Cycles, AreExactAndDoNotOverflowSoon)
{
	EXPECT_EQ(cycles_in(0, khz), 0u);
	EXPECT_EQ(cycles_in(1, 2000000), 2u);
	EXPECT_EQ(cycles_in(ns_second, khz), second);
	EXPECT_EQ(cycles_in(999999, 1), 0u);
	EXPECT_EQ(cycles_in(1000000, 1), 1u);
	const u64 year = u64{365} * 24 * 3600 * ns_second;
	EXPECT_EQ(cycles_in(30 * year, 5000000), 30 * year * 5);
}

TEST(VcpuTsc, IsTheHostsPlusAnOffset)
{
	VcpuTsc t{khz};
	EXPECT_EQ(t.read(1234), 1234u);
	t.guest_write(100, 5000);
	EXPECT_EQ(t.read(5000), 100u);
	EXPECT_EQ(t.read(5010), 110u);
	EXPECT_EQ(t.offset(), u64(100) - 5000);
}

TEST(VcpuTsc, AGuestsWriteMovesTscAdjust)
{
	VcpuTsc t{khz};
	t.guest_write(7000, 5000);
	EXPECT_EQ(t.adjust(), 2000u);
	t.guest_write(0, 6000);
	EXPECT_EQ(t.adjust(), u64(0) - 6000);
}

TEST(VcpuTsc, AGuestsTscAdjustMovesTheTsc)
{
	VcpuTsc t{khz};
	t.guest_adjust(300);
	EXPECT_EQ(t.read(1000), 1300u);
	t.guest_adjust(u64(0) - 100);
	EXPECT_EQ(t.read(1000), 900u);
	EXPECT_EQ(t.adjust(), u64(0) - 100);
}

TEST(VcpuTsc, TheVmmsTscAdjustMovesNothing)
{
	VcpuTsc t{khz};
	t.host_adjust(300);
	EXPECT_EQ(t.read(1000), 1000u);
	EXPECT_EQ(t.adjust(), 300u);
	t.guest_adjust(300); /* what it reads already: no step */
	EXPECT_EQ(t.read(1000), 1000u);
}

TEST(VcpuTsc, AHostThatLostCyclesDoesNotTakeThemFromTheGuest)
{
	VcpuTsc t{khz};
	t.guest_write(7000, 5000);
	t.make_up(4900);
	EXPECT_EQ(t.read(100), 7000u);
	EXPECT_EQ(t.adjust(), 2000u);
	t.make_up(4900); /* not twice */
	EXPECT_EQ(t.read(100), 7000u);
	t.make_up(5000);
	EXPECT_EQ(t.read(0), 7000u);
}

TEST(VcpuTsc, RatesWithinToleranceNeedNoScaling)
{
	VcpuTsc t{khz};
	EXPECT_EQ(t.set_khz(khz + 500, khz), Errc::ok);
	EXPECT_EQ(t.khz(), khz + 500);
	EXPECT_EQ(t.set_khz(khz - 500, khz), Errc::ok);
	EXPECT_EQ(t.set_khz(khz + 501, khz), Errc::inval);
	EXPECT_EQ(t.set_khz(khz - 501, khz), Errc::inval);
	EXPECT_EQ(t.set_khz(~0u, khz), Errc::inval);
	EXPECT_EQ(t.khz(), khz - 500);
	EXPECT_EQ(t.set_khz(0, khz), Errc::ok);
	EXPECT_EQ(t.khz(), khz);
	EXPECT_EQ(t.set_khz(0, 0), Errc::inval);
	EXPECT_EQ(t.set_khz(1000, 0), Errc::inval);
}

TEST(VmTsc, NewVcpusStartTogetherAtZero)
{
	VmTsc vm;
	VcpuTsc a{khz}, b{khz}, c{khz};
	vm.host_write(a, 0, at(10 * ns_second));
	EXPECT_EQ(a.read(at(10 * ns_second).host_tsc), 0u);
	EXPECT_TRUE(vm.all_match(1));
	vm.host_write(b, 0, at(11 * ns_second));
	vm.host_write(c, 0, at(500 * ns_second)); /* plugged in much later */
	EXPECT_EQ(a.offset(), b.offset());
	EXPECT_EQ(a.offset(), c.offset());
	EXPECT_TRUE(vm.all_match(3));
	EXPECT_FALSE(vm.all_match(4));
}

TEST(VmTsc, WritesThatAgreeWithinASecondGetOneOffset)
{
	VmTsc vm;
	VcpuTsc a{khz}, b{khz}, c{khz};
	vm.host_write(a, 1000 * second, at(0));
	/* The same value a little later: the VMM sets vCPU after vCPU. */
	vm.host_write(b, 1000 * second, at(ns_second / 2));
	EXPECT_EQ(a.offset(), b.offset());
	/* Or a value that counts the time that passed. */
	vm.host_write(c, 1001 * second, at(ns_second));
	EXPECT_EQ(a.offset(), c.offset());
	EXPECT_TRUE(vm.all_match(3));
}

TEST(VmTsc, WritesThatDoNotAgreeStartAnew)
{
	VmTsc vm;
	VcpuTsc a{khz}, b{khz};
	vm.host_write(a, 1000 * second, at(0));
	vm.host_write(b, 1002 * second, at(0));
	EXPECT_NE(a.offset(), b.offset());
	EXPECT_FALSE(vm.all_match(2));
	EXPECT_EQ(b.read(at(0).host_tsc), 1002 * second);
	vm.host_write(a, 1002 * second, at(0)); /* and a follows */
	EXPECT_EQ(a.offset(), b.offset());
	EXPECT_TRUE(vm.all_match(2));
}

TEST(VmTsc, TheWindowIsOneSecondEachWay)
{
	for (s64 off : {-1, 0, 1})
		for (s64 side : {-1, 1}) {
			VmTsc vm;
			VcpuTsc a{khz}, b{khz};
			vm.host_write(a, 1000 * second, at(0));
			vm.host_write(b, u64(s64(1000 * second) + side * (s64(second) + off)),
				      at(0));
			EXPECT_EQ(a.offset() == b.offset(), off < 0) << off << ' ' << side;
		}
}

TEST(VmTsc, MatchingStretchesAlongWithTheWrites)
{
	VmTsc vm;
	VcpuTsc v[5] = {VcpuTsc{khz}, VcpuTsc{khz}, VcpuTsc{khz}, VcpuTsc{khz}, VcpuTsc{khz}};
	/* Each write drifts by 0.8 s against the one before; all are one act. */
	for (unsigned i = 0; i < 5; ++i)
		vm.host_write(v[i], 1000 * second, at(i * (ns_second / 10 * 8)));
	for (const VcpuTsc &t : v)
		EXPECT_EQ(t.offset(), v[0].offset());
}

TEST(VmTsc, OtherRatesDoNotMatch)
{
	VmTsc vm;
	VcpuTsc a{khz}, b{khz};
	ASSERT_EQ(b.set_khz(khz + 100, khz), Errc::ok);
	vm.host_write(a, 1000 * second, at(0));
	vm.host_write(b, 1000 * second, at(ns_second / 2));
	EXPECT_NE(a.offset(), b.offset());
}

TEST(VmTsc, UncalibratedRatesNeverMatch)
{
	VmTsc vm;
	VcpuTsc a{0}, b{0};
	vm.host_write(a, 0, at(0));
	vm.host_write(b, 0, at(1));
	EXPECT_EQ(a.read(at(0).host_tsc), 0u);
	EXPECT_EQ(b.read(at(1).host_tsc), 0u);
	EXPECT_FALSE(vm.all_match(2));
}

TEST(VmTsc, OnAnUnstableHostTheElapsedTimeCounts)
{
	VmTsc vm;
	VcpuTsc a{khz}, b{khz};
	vm.host_write(a, 1000 * second, at(0, false));
	/* b's CPU has a TSC of its own. */
	const TscNow other{77, ns_second / 2, false};
	vm.host_write(b, 1000 * second, other);
	EXPECT_EQ(b.read(77), 1000 * second + second / 2);
	EXPECT_TRUE(vm.all_match(2));
}

TEST(VmTsc, AWriteBehindASuspendAgreesWithOnesBefore)
{
	VmTsc vm;
	VcpuTsc a{khz}, b{khz};
	vm.host_write(a, 0, at(0));
	/* Its TSC started anew: another vCPU is plugged in, then the first one comes to run. */
	const TscNow resumed{77, ns_second, true, 6 * second - 77};
	vm.host_write(b, 0, resumed);
	EXPECT_EQ(b.read(77), second);
	a.make_up(resumed.lost);
	b.make_up(resumed.lost);
	EXPECT_EQ(a.offset(), b.offset());
	EXPECT_EQ(a.read(77), second);
	EXPECT_TRUE(vm.all_match(2));
}

TEST(VmTsc, WritingAgainDoesNotCountTwice)
{
	VmTsc vm;
	VcpuTsc a{khz}, b{khz};
	vm.host_write(a, 0, at(0));
	for (int i = 0; i < 5; ++i)
		vm.host_write(a, 0, at(u64(i)));
	EXPECT_TRUE(vm.all_match(1));
	EXPECT_FALSE(vm.all_match(2));
	vm.host_write(b, 0, at(9));
	EXPECT_TRUE(vm.all_match(2));
}
