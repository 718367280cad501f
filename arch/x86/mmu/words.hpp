/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "level.hpp"

namespace kx {

/* How words of tables are touched. Other CPUs, and the page walkers of CPUs in the guest, change them
 * under us: no plain access to a linked table. The hosted tests put a stepping point into each of these
 * and remember every state. */
template <class W>
concept TableWords = requires(u64 *e, const u64 *c, u64 w) {
	{ W::load(c) } -> std::same_as<u64>;
	{ W::compare_exchange(e, w, w) } -> std::same_as<bool>; /* a full barrier when it succeeds */
	{ W::exchange(e, w) } -> std::same_as<u64>;
	W::store_unlinked(e, w); /* in a table nobody else can reach yet */
};

struct PlainWords {
	static u64 load(const u64 *e) { return __atomic_load_n(e, __ATOMIC_ACQUIRE); }
	static bool compare_exchange(u64 *e, u64 old, u64 now)
	{
		return __atomic_compare_exchange_n(e, &old, now, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	}
	static u64 exchange(u64 *e, u64 now) { return __atomic_exchange_n(e, now, __ATOMIC_SEQ_CST); }
	static void store_unlinked(u64 *e, u64 w) { __atomic_store_n(e, w, __ATOMIC_RELAXED); }
};

}
