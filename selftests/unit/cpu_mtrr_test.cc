/* SPDX-License-Identifier: GPL-2.0-only */
#include <gtest/gtest.h>
#include "arch/x86/cpu/mtrr.hpp"
#include "cxxrt/bits.hpp"

using namespace kx;

namespace {

constexpr u64 reserved = ones(63, 40);
constexpr u32 fixed[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
			 0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
}

TEST(Pat, HasTypesButTwoAndThree)
{
	EXPECT_TRUE(valid_pat(reset_pat));
	for (unsigned i = 0; i < 8; ++i)
		for (u64 t = 0; t < 256; ++t)
			EXPECT_EQ(valid_pat(t << (8 * i)), t < 8 && t != 2 && t != 3)
				<< i << ' ' << t;
}

TEST(Mtrrs, AreTheRegistersTheManualLists)
{
	unsigned n = 0;
	for (u32 i = 0; i < 0x1000; ++i)
		n += Mtrrs::is_mtrr(i);
	EXPECT_EQ(n, 2 * variable_mtrrs + 11 + 1);
	Mtrrs m;
	for (u32 i = 0x200; i < 0x300; ++i)
		if (!Mtrrs::is_mtrr(i)) {
			EXPECT_EQ(m.read(i, reserved).error(), Errc::inval) << std::hex << i;
			EXPECT_EQ(m.write(i, 0, reserved), Errc::inval) << std::hex << i;
		}
}

TEST(Mtrrs, CapabilitiesAreReadOnly)
{
	Mtrrs m;
	EXPECT_EQ(m.read(msr::IA32_MTRRCAP, reserved).peek(), 0x508u);
	EXPECT_EQ(m.write(msr::IA32_MTRRCAP, 0x508, reserved), Errc::inval);
}

TEST(Mtrrs, FixedOnesHoldEightTypesEach)
{
	Mtrrs m;
	u64 v = 0x0606050504040100;
	for (u32 i : fixed) {
		EXPECT_EQ(m.write(i, v, reserved), Errc::ok);
		EXPECT_EQ(m.read(i, reserved).peek(), v);
		v = v << 8 | v >> 56;
	}
	v = 0x0606050504040100;
	for (u32 i : fixed) { /* none overlaps another */
		EXPECT_EQ(m.read(i, reserved).peek(), v);
		v = v << 8 | v >> 56;
	}
	for (u64 bad : {2, 3, 7, 8, 255})
		for (unsigned byte = 0; byte < 8; ++byte)
			EXPECT_EQ(m.write(0x250, bad << (8 * byte), reserved), Errc::inval);
}

TEST(Mtrrs, DefaultTypeHasTwoEnableBits)
{
	Mtrrs m;
	EXPECT_EQ(m.write(0x2ff, 0xc06, reserved), Errc::ok);
	EXPECT_EQ(m.read(0x2ff, reserved).peek(), 0xc06u);
	for (u64 bad : {u64{0xc02}, u64{0xc07}, u64{0x106}, u64{0x206}, u64{0x1006}, bit(63)})
		EXPECT_EQ(m.write(0x2ff, bad, reserved), Errc::inval) << std::hex << bad;
	EXPECT_EQ(m.read(0x2ff, reserved).peek(), 0xc06u);
}

TEST(Mtrrs, VariableOnesKeepToTheGuestsWidth)
{
	Mtrrs m;
	for (unsigned i = 0; i < variable_mtrrs; ++i) {
		EXPECT_EQ(m.write(0x200 + 2 * i, 0x80000000 + (u64{i} << 12) + 6, reserved),
			  Errc::ok);
		EXPECT_EQ(m.write(0x201 + 2 * i, 0xff80000800, reserved), Errc::ok);
	}
	for (unsigned i = 0; i < variable_mtrrs; ++i) {
		EXPECT_EQ(m.read(0x200 + 2 * i, reserved).peek(), 0x80000000 + (u64{i} << 12) + 6);
		EXPECT_EQ(m.read(0x201 + 2 * i, reserved).peek(), 0xff80000800u);
	}
	EXPECT_EQ(m.write(0x200, bit(40) | 6, reserved), Errc::inval);
	EXPECT_EQ(m.write(0x201, bit(40), reserved), Errc::inval);
	EXPECT_EQ(m.write(0x200, 0x106, reserved), Errc::inval);
	EXPECT_EQ(m.write(0x200, 0x002, reserved), Errc::inval);
	EXPECT_EQ(m.write(0x201, 0x400, reserved), Errc::inval);
	EXPECT_EQ(m.write(0x201, 0x001, reserved), Errc::inval);
}
