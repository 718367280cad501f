/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/emulate/muldiv.hpp"

namespace kx::emulate {
namespace {

using u128 = unsigned __int128;
using s128 = __int128;
using namespace alu;

/* 128 by 64 bits without the compiler's library. The caller has seen that high < by, so that the
 * CPU cannot fault. */
Quotient divide_unsigned(u64 high, u64 low, u64 by)
{
	u64 q, r;
	asm("divq %4" : "=a"(q), "=d"(r) : "a"(low), "d"(high), "rm"(by) : "cc");
	return {q, r, true};
}

struct Wide {
	u64 high, low;
};

constexpr Wide negated(Wide w) { return {~w.high + (w.low == 0), u64{0} - w.low}; }

/* The dividend is two operands side by side; AX for bytes. */
constexpr Wide join(u64 high, u64 low, unsigned size)
{
	if (size == 8)
		return {high, low};
	return {0, (high & mask(size)) << width(size) | (low & mask(size))};
}

constexpr Wide widen_signed(Wide w, unsigned size)
{
	if (size == 8)
		return w;
	const u64 v = sign_extend(w.low, 2 * size);
	return {u64(s64(v) >> 63), v};
}

}

/* SF, ZF, AF and PF are undefined: kept, as AMD's do. */
Product multiply(u64 a, u64 b, u64 flags, unsigned size, Signed s)
{
	u64 low, high, sign;
	if (s == Signed::yes) {
		const s128 p = s128(s64(sign_extend(a, size))) * s64(sign_extend(b, size));
		low = u64(p) & mask(size);
		high = u64(p >> width(size)) & mask(size);
		sign = carry_bit(low, size) ? mask(size) : 0;
	} else {
		const u128 p = u128(a & mask(size)) * (b & mask(size));
		low = u64(p) & mask(size);
		high = u64(p >> width(size)) & mask(size);
		sign = 0;
	}
	constexpr u64 both = rflags::cf | rflags::of;
	return {low, high, (flags & ~both) | (high != sign ? both : 0)};
}

Quotient divide(u64 high, u64 low, u64 by, unsigned size, Signed s)
{
	const Wide joined = join(high, low, size);
	if (s == Signed::no) {
		const u64 d = by & mask(size);
		if (joined.high >= d)
			return {0, 0, false};
		const Quotient q = divide_unsigned(joined.high, joined.low, d);
		return {q.quotient & mask(size), q.remainder, q.quotient <= mask(size)};
	}
	const Wide n = widen_signed(joined, size);
	const u64 d = sign_extend(by, size);
	const bool n_negative = n.high >> 63, d_negative = d >> 63;
	const Wide magnitude = n_negative ? negated(n) : n;
	const u64 divisor = d_negative ? u64{0} - d : d;
	if (magnitude.high >= divisor)
		return {0, 0, false};
	const Quotient q = divide_unsigned(magnitude.high, magnitude.low, divisor);
	const bool negative = n_negative != d_negative;
	const u64 limit = top(size) - (negative ? 0 : 1);
	return {(negative ? u64{0} - q.quotient : q.quotient) & mask(size),
		(n_negative ? u64{0} - q.remainder : q.remainder) & mask(size), q.quotient <= limit};
}

}
