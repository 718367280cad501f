/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "addr.hpp"

namespace kx {

/*
 * An index that a guest or a VMM chose, once the program has found it below n. A processor that guesses the
 * comparison's outcome may read on with one that is not, and what it read shows in its caches (CVE-2017-5753):
 * so the bound is a fact of the data too. It stands where no compiler can reason it away, as it would do with
 * index % n behind the comparison. Beyond n: 0.
 */
inline u64 index_nospec(u64 index, u64 n)
{
	u64 mask;
	asm("cmp %2, %1\n\tsbb %0, %0" : "=r"(mask) : "r"(index), "r"(n) : "cc");
	return index & mask;
}
/* Of a table whose size is a power of two, in one instruction. Beyond it: somewhere in it. */
template <u64 N> inline u64 index_nospec(u64 index)
{
	static_assert(N && !(N & (N - 1)));
	asm("" : "+r"(index));
	return index & (N - 1);
}

}
