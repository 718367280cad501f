/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Integer arithmetic with the flags it leaves. Pure: every function maps values to a value and a
 * new RFLAGS. Sizes are in bytes; operands may have bits set above their size, results have none.
 *
 * Flags the manuals leave undefined follow what AMD Zen CPUs do wherever that is stable (the
 * differential tests compare them); each place says so.
 */
#pragma once
#include "arch/x86/cpu/regs.hpp"

namespace kx::emulate {

struct Sum {
	u64 value, flags;
};

namespace alu {

inline constexpr u64 zsp = rflags::zf | rflags::sf | rflags::pf;
inline constexpr u64 all = zsp | rflags::cf | rflags::of | rflags::af;

constexpr unsigned width(unsigned size) { return size * 8; }
inline constexpr u64 masks[9] = {0, 0xff, 0xffff, 0, 0xffffffff, 0, 0, 0, ~u64{0}};
constexpr u64 mask(unsigned size) { return masks[size]; }
constexpr u64 top(unsigned size) { return u64{1} << (width(size) - 1); }
constexpr u64 sign_extend(u64 v, unsigned size) { return u64(s64(v << (64 - width(size))) >> (64 - width(size))); }

/* ZF, SF, PF of a result that has no bits above its size. */
constexpr u64 zsp_of(u64 r, unsigned size)
{
	u64 f = r ? 0 : rflags::zf;
	f |= (r >> (width(size) - 1)) << 7;
	return f | (__builtin_parity(unsigned(r) & 0xff) ? 0 : rflags::pf);
}

constexpr u64 carry_bit(u64 carries, unsigned size) { return carries >> (width(size) - 1) & 1; }
constexpr u64 overflow_bit(u64 signs, unsigned size) { return carry_bit(signs, size) << 11; }

enum class CarryIn : u8 { ignored, used };

constexpr Sum add(u64 a, u64 b, u64 flags, unsigned size, CarryIn c = CarryIn::ignored)
{
	const u64 r = (a + b + (c == CarryIn::used ? flags & 1 : 0)) & mask(size);
	const u64 carries = (a & b) | ((a | b) & ~r);
	return {r, (flags & ~all) | zsp_of(r, size) | carry_bit(carries, size) | ((a ^ b ^ r) & rflags::af) |
			   overflow_bit((a ^ r) & (b ^ r), size)};
}

constexpr Sum sub(u64 a, u64 b, u64 flags, unsigned size, CarryIn c = CarryIn::ignored)
{
	const u64 r = (a - b - (c == CarryIn::used ? flags & 1 : 0)) & mask(size);
	const u64 borrows = (~a & b) | (~(a ^ b) & r);
	return {r, (flags & ~all) | zsp_of(r, size) | carry_bit(borrows, size) | ((a ^ b ^ r) & rflags::af) |
			   overflow_bit((a ^ b) & (a ^ r), size)};
}

/* AND, OR, XOR, TEST, ANDN. AF is undefined: cleared. */
constexpr Sum logic(u64 value, u64 flags, unsigned size)
{
	const u64 r = value & mask(size);
	return {r, (flags & ~all) | zsp_of(r, size)};
}

constexpr Sum inc(u64 a, u64 flags, unsigned size)
{
	const Sum s = add(a, 1, flags, size);
	return {s.value, (s.flags & ~rflags::cf) | (flags & rflags::cf)};
}

constexpr Sum dec(u64 a, u64 flags, unsigned size)
{
	const Sum s = sub(a, 1, flags, size);
	return {s.value, (s.flags & ~rflags::cf) | (flags & rflags::cf)};
}

constexpr Sum neg(u64 a, u64 flags, unsigned size) { return sub(0, a, flags, size); }

/* The condition of Jcc, SETcc, CMOVcc: low four opcode bits. */
constexpr bool condition(unsigned cc, u64 flags)
{
	const bool cf = flags & rflags::cf, zf = flags & rflags::zf;
	const bool less = !(flags & rflags::sf) != !(flags & rflags::of);
	bool yes = false;
	switch (cc >> 1) {
	case 0: yes = flags & rflags::of; break;
	case 1: yes = cf; break;
	case 2: yes = zf; break;
	case 3: yes = cf || zf; break;
	case 4: yes = flags & rflags::sf; break;
	case 5: yes = flags & rflags::pf; break;
	case 6: yes = less; break;
	case 7: yes = zf || less; break;
	}
	return yes != bool(cc & 1);
}

static_assert(add(0xff, 1, 0, 1).flags == (rflags::cf | rflags::zf | rflags::pf | rflags::af));
static_assert(sub(0x8000, 1, 0, 2).flags == (rflags::of | rflags::af | rflags::pf));
static_assert(inc(~u64{0}, rflags::cf, 8).flags == (rflags::cf | rflags::zf | rflags::pf | rflags::af));

}
}
