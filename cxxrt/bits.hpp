/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "addr.hpp"

namespace kx {

template <unsigned Hi, unsigned Lo = Hi> struct Bits {
	static_assert(Lo <= Hi && Hi < 64);
	static constexpr u64 mask = (~u64{0} >> (63 - Hi)) & (~u64{0} << Lo);
	static constexpr u64 get(u64 w) { return (w & mask) >> Lo; }
	static constexpr u64 put(u64 v) { return (v << Lo) & mask; }
	static constexpr bool test(u64 w) { return w & mask; }
};

/* Every format lists its fields once; overlap is then a compile error, not a review comment. */
template <class... F> consteval bool disjoint()
{
	u64 seen = 0;
	bool fine = true;
	((fine = fine && !(seen & F::mask), seen |= F::mask), ...);
	return fine;
}

constexpr u64 bit(unsigned n) { return u64{1} << n; }
/* Bits hi..lo set, lo <= hi < 64. */
constexpr u64 ones(unsigned hi, unsigned lo) { return (~u64{0} >> (63 - hi)) & (~u64{0} << lo); }

}
