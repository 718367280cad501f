/* SPDX-License-Identifier: GPL-2.0-only */
/* Shifts and rotates. APM vol. 3 SHL and ROL, SDM vol. 2 «SAL/SAR/SHL/SHR», «RCL/RCR/ROL/ROR». */
#include "arch/x86/emulate/shift.hpp"

namespace kx::emulate {
namespace {

using namespace alu;

constexpr unsigned masked(unsigned count, unsigned size) { return count & (size == 8 ? 63 : 31); }

/* OF is defined for counts of one alone; CPUs compute it in the same way for every count. */
constexpr u64 with_cf_of(u64 flags, u64 cf, u64 of)
{
	return (flags & ~(rflags::cf | rflags::of)) | cf | of << 11;
}

Sum rotate_left(u64 v, unsigned count, u64 flags, unsigned size)
{
	const unsigned n = count % width(size);
	const u64 r = n ? ((v << n) | (v >> (width(size) - n))) & mask(size) : v;
	return {r, with_cf_of(flags, r & 1, (r & 1) ^ carry_bit(r, size))};
}

Sum rotate_right(u64 v, unsigned count, u64 flags, unsigned size)
{
	const unsigned n = count % width(size);
	const u64 r = n ? ((v >> n) | (v << (width(size) - n))) & mask(size) : v;
	return {r, with_cf_of(flags, carry_bit(r, size), carry_bit(r ^ r << 1, size))};
}

/* Through the carry the ring has one bit more than the operand; one step at a time keeps it plain
 * and is at most 63 steps. */
Sum rotate_carry_left(u64 v, unsigned count, u64 flags, unsigned size)
{
	u64 cf = flags & 1;
	for (unsigned n = count % (width(size) + 1); n; n--) {
		const u64 out = carry_bit(v, size);
		v = (v << 1 | cf) & mask(size);
		cf = out;
	}
	return {v, with_cf_of(flags, cf, cf ^ carry_bit(v, size))};
}

Sum rotate_carry_right(u64 v, unsigned count, u64 flags, unsigned size)
{
	u64 cf = flags & 1;
	for (unsigned n = count % (width(size) + 1); n; n--) {
		const u64 out = v & 1;
		v = v >> 1 | cf << (width(size) - 1);
		cf = out;
	}
	return {v, with_cf_of(flags, cf, carry_bit(v ^ v << 1, size))};
}

/* AF is undefined: set, as AMD's do. */
constexpr u64 shifted_flags(u64 r, u64 flags, u64 cf, u64 of, unsigned size)
{
	return (flags & ~all) | zsp_of(r, size) | rflags::af | cf | of << 11;
}

Sum shift_left(u64 v, unsigned n, u64 flags, unsigned size)
{
	const u64 r = v << n & mask(size);
	const u64 cf = n <= width(size) ? v >> (width(size) - n) & 1 : 0;
	return {r, shifted_flags(r, flags, cf, cf ^ carry_bit(r, size), size)};
}

Sum shift_right(u64 v, unsigned n, u64 flags, unsigned size)
{
	const u64 r = v >> n;
	return {r, shifted_flags(r, flags, v >> (n - 1) & 1, carry_bit(r ^ r << 1, size), size)};
}

Sum shift_right_signed(u64 v, unsigned n, u64 flags, unsigned size)
{
	const s64 wide = s64(sign_extend(v, size));
	const u64 r = u64(wide >> n) & mask(size);
	return {r, shifted_flags(r, flags, u64(wide >> (n - 1)) & 1, 0, size)};
}

}

Sum shift(Op op, u64 value, unsigned count, u64 flags, unsigned size)
{
	const u64 v = value & mask(size);
	const unsigned n = masked(count, size);
	if (n == 0)
		return {v, flags};
	switch (op) {
	case Op::rol: return rotate_left(v, n, flags, size);
	case Op::ror: return rotate_right(v, n, flags, size);
	case Op::rcl: return rotate_carry_left(v, n, flags, size);
	case Op::rcr: return rotate_carry_right(v, n, flags, size);
	case Op::shr: return shift_right(v, n, flags, size);
	case Op::sar: return shift_right_signed(v, n, flags, size);
	default: return shift_left(v, n, flags, size);
	}
}

/* A count above 16 on a 16-bit operand is undefined: AMD's shift in the fill a second time, with
 * nothing in CF, nor for SHLD in OF. */
Sum shift_double(Op op, u64 value, u64 fill, unsigned count, u64 flags, unsigned size)
{
	const u64 f = fill & mask(size);
	u64 v = value & mask(size), cf = 0;
	unsigned n = masked(count, size);
	const unsigned bits = width(size);
	const bool left = op == Op::shld, all_out = n >= bits;
	if (n == 0)
		return {v, flags};
	if (n > bits) {
		n -= bits;
		v = f;
	} else {
		cf = (left ? v >> (bits - n) : v >> (n - 1)) & 1;
	}
	const u64 in = n == bits ? f : left ? f >> (bits - n) : f << (bits - n);
	const u64 r = ((left ? v << n : v >> n) | in) & mask(size);
	const u64 signs = left ? (all_out ? 0 : r ^ cf << (bits - 1)) : r ^ r << 1;
	return {r, shifted_flags(r, flags, cf, carry_bit(signs, size), size)};
}

}
