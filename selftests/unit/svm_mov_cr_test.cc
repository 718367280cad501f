// SPDX-License-Identifier: GPL-2.0-only
#include <gtest/gtest.h>
#include <Zydis/Zydis.h>
#include <random>
#include <vector>
#include "arch/x86/svm/mov_cr.hpp"

using namespace kx;
using namespace kx::svm;

namespace {
MovCr decode(std::vector<u8> b, Width w) { return decode_mov_cr({b.data(), b.size()}, w); }

TEST(MovCr, OnlyWhatExitedIsDoneAndOnlyByTheKernel)
{
	using enum MovCr::Form;
	const MovCr write = decode({0x0f, 0x22, 0xd8}, Width::long64), read = decode({0x0f, 0x20, 0xd8}, Width::long64),
		    debug = decode({0x0f, 0x23, 0xf8}, Width::long64);
	EXPECT_TRUE(explains(write, to_cr, 0));
	EXPECT_TRUE(explains(read, from_cr, 0));
	EXPECT_TRUE(explains(debug, to_dr, 0));
	EXPECT_FALSE(explains(write, from_cr, 0));
	EXPECT_FALSE(explains(debug, to_cr, 0));
	EXPECT_FALSE(explains(write, to_dr, 0));
	EXPECT_FALSE(explains(read, from_cr, 3)) << "it was an SMSW";
}
}

TEST(SvmMovCr, NamesBothRegisters)
{
	const MovCr m = decode({0x0f, 0x22, 0xd8}, Width::long64); /* mov %rax, %cr3 */
	EXPECT_EQ(m.form, MovCr::Form::to_cr);
	EXPECT_EQ(m.reg, 3);
	EXPECT_EQ(m.gpr, Gpr::rax);
	EXPECT_EQ(m.length, 3);
	const MovCr r = decode({0x45, 0x0f, 0x20, 0xc1}, Width::long64); /* mov %cr8, %r9 */
	EXPECT_EQ(r.form, MovCr::Form::from_cr);
	EXPECT_EQ(r.reg, 8);
	EXPECT_EQ(r.gpr, Gpr::r9);
	EXPECT_EQ(r.length, 4);
}

TEST(SvmMovCr, ReadsALockPrefixAsCr8)
{
	const MovCr m = decode({0xf0, 0x0f, 0x22, 0xc1}, Width::legacy);
	EXPECT_EQ(m.reg, 8);
	EXPECT_EQ(m.gpr, Gpr::rcx);
	EXPECT_EQ(m.length, 4);
}

TEST(SvmMovCr, RefusesWhatItIsNot)
{
	EXPECT_EQ(decode({0x0f, 0x01, 0xf0}, Width::legacy).form, MovCr::Form::other); /* lmsw */
	EXPECT_EQ(decode({0x0f, 0x22}, Width::legacy).form, MovCr::Form::other);
	EXPECT_EQ(decode({}, Width::long64).form, MovCr::Form::other);
	EXPECT_EQ(decode(std::vector<u8>(15, 0x66), Width::long64).form, MovCr::Form::other);
	EXPECT_EQ(decode({0x41, 0x0f, 0x22, 0xc0}, Width::legacy).form, MovCr::Form::other) << "41 is INC outside long mode";
}

/* Differential against a full decoder: any prefixes, all four opcodes, all ModRM bytes. */
TEST(SvmMovCr, AgreesWithZydisOnLengthAndRegisters)
{
	std::mt19937 rng{1};
	const u8 prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65};
	ZydisDecoder d;
	ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	int agreed = 0;
	for (int i = 0; i < 20000; ++i) {
		std::vector<u8> b;
		for (unsigned n = rng() % 4; n; --n)
			b.push_back(prefixes[rng() % sizeof prefixes]);
		if (rng() % 2)
			b.push_back(u8(0x40 | rng() % 16));
		b.insert(b.end(), {0x0f, u8(0x20 + rng() % 4), u8(0xc0 | rng() % 64)});
		ZydisDecodedInstruction insn;
		ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, b.data(), b.size(), &insn, ops)))
			continue; /* registers that do not exist */
		const MovCr m = decode(b, Width::long64);
		const bool to = m.form == MovCr::Form::to_cr || m.form == MovCr::Form::to_dr;
		ASSERT_EQ(m.length, insn.length);
		ASSERT_EQ(unsigned(m.gpr), unsigned(ZydisRegisterGetId(ops[to ? 1 : 0].reg.value)));
		ASSERT_EQ(unsigned(m.reg), unsigned(ZydisRegisterGetId(ops[to ? 0 : 1].reg.value)));
		++agreed;
	}
	EXPECT_GT(agreed, 5000);
}
