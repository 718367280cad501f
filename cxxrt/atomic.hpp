/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "addr.hpp"

namespace kx {

/* A word that other threads or other CPUs' table walkers change under us. Each operation names
 * its order; there is no implicit load. */
template <class T> class Atomic {
	T v_{};

public:
	constexpr Atomic() = default;
	explicit constexpr Atomic(T v) : v_{v} {}
	Atomic(const Atomic &) = delete;
	Atomic &operator=(const Atomic &) = delete;

	/* (the forms without _n take enumerations too) */
	T relaxed() const
	{
		T v;
		__atomic_load(&v_, &v, __ATOMIC_RELAXED);
		return v;
	}
	T acquire() const
	{
		T v;
		__atomic_load(&v_, &v, __ATOMIC_ACQUIRE);
		return v;
	}
	void set_relaxed(T v) { __atomic_store(&v_, &v, __ATOMIC_RELAXED); }
	void release(T v) { __atomic_store(&v_, &v, __ATOMIC_RELEASE); }
	T exchange(T v)
	{
		__atomic_exchange(&v_, &v, &v, __ATOMIC_ACQ_REL);
		return v;
	}
	/* Full barrier when it succeeds (a locked instruction on x86). */
	bool compare_exchange(T old, T now)
	{
		return __atomic_compare_exchange_n(&v_, &old, now, false, __ATOMIC_ACQ_REL,
						   __ATOMIC_ACQUIRE);
	}
	T add(T n) { return __atomic_add_fetch(&v_, n, __ATOMIC_ACQ_REL); }
	T sub(T n) { return __atomic_sub_fetch(&v_, n, __ATOMIC_ACQ_REL); }
	void or_with(T bits) { __atomic_fetch_or(&v_, bits, __ATOMIC_ACQ_REL); }
	T fetch_or(T bits) { return __atomic_fetch_or(&v_, bits, __ATOMIC_ACQ_REL); }
	void and_with(T bits) { __atomic_fetch_and(&v_, bits, __ATOMIC_ACQ_REL); }
	/* Statistics: one writer at a time is not guaranteed, order does not matter. */
	void count(T n = 1) { __atomic_fetch_add(&v_, n, __ATOMIC_RELAXED); }
};

inline void full_barrier() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}
