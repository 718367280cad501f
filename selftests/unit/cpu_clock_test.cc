/* SPDX-License-Identifier: GPL-2.0-only */
#include <gtest/gtest.h>
#include <cstring>
#include "arch/x86/cpu/clock.hpp"

using namespace kx;

namespace {

kvm_clock_data taken(const VmClock &c, const ClockNow &now)
{
	kvm_clock_data d;
	std::memset(&d, 0xff, sizeof(d));
	c.get(d, now);
	return d;
}

}

TEST(VmClock, StartsWithTheVm)
{
	const VmClock c{5000};
	EXPECT_EQ(c.ns(5000), 0u);
	EXPECT_EQ(c.ns(7500), 2500u);
}

TEST(VmClock, GivesATripleWhereTheTscIsStable)
{
	const VmClock c{5000};
	const kvm_clock_data d = taken(c, {6000, 111, 222, true});
	EXPECT_EQ(d.clock, 1000u);
	EXPECT_EQ(d.flags, clock_flags);
	EXPECT_EQ(d.realtime, 111u);
	EXPECT_EQ(d.host_tsc, 222u);
	EXPECT_EQ(d.pad0 | d.pad[0] | d.pad[3], 0u);
}

TEST(VmClock, GivesTheTimeAloneElsewhere)
{
	const VmClock c{5000};
	const kvm_clock_data d = taken(c, {6000, 111, 222, false});
	EXPECT_EQ(d.clock, 1000u);
	EXPECT_EQ(d.flags | d.realtime | d.host_tsc, 0u);
}

TEST(VmClock, CanBeSet)
{
	VmClock c{0};
	kvm_clock_data d = {};
	d.clock = 123456;
	EXPECT_EQ(c.set(d, {1000, 0, 0, true}), Errc::ok);
	EXPECT_EQ(c.ns(1000), 123456u);
	EXPECT_EQ(c.ns(1001), 123457u);
	d.clock = 0;
	EXPECT_EQ(c.set(d, {9000, 0, 0, true}), Errc::ok);
	EXPECT_EQ(c.ns(9000), 0u);
}

TEST(VmClock, AddsTheTimeSpentOnTheWay)
{
	VmClock c{0};
	kvm_clock_data d = {};
	d.flags = KVM_CLOCK_REALTIME;
	d.clock = 1000;
	d.realtime = 50000;
	EXPECT_EQ(c.set(d, {77, 50300, 0, true}), Errc::ok);
	EXPECT_EQ(c.ns(77), 1300u);
	/* Never backwards. */
	EXPECT_EQ(c.set(d, {77, 40000, 0, true}), Errc::ok);
	EXPECT_EQ(c.ns(77), 1000u);
}

TEST(VmClock, TakesBackWhatItGave)
{
	const VmClock a{5000};
	const kvm_clock_data d = taken(a, {6000, 111, 222, true});
	VmClock b{0};
	EXPECT_EQ(b.set(d, {700, 111, 999, true}), Errc::ok);
	EXPECT_EQ(b.ns(700), 1000u);
}

TEST(VmClock, RefusesUnknownFlags)
{
	VmClock c{5000};
	kvm_clock_data d = {};
	for (unsigned b = 0; b < 32; ++b) {
		d.flags = 1u << b;
		EXPECT_EQ(c.set(d, {0, 0, 0, true}), d.flags & clock_flags ? Errc::ok : Errc::inval)
			<< b;
	}
}
