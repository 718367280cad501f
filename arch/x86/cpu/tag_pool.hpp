/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/bits.hpp"

namespace kx {

/*
 * The tags that tell guests apart in the TLB of one CPU: SVM's ASIDs, VMX's VPIDs. Handed out upwards;
 * when they run out a new generation begins with one flush of everything, and each tag of an older
 * generation is void. A vCPU's tag is good on one CPU and in one generation only; tag 0 is the host's.
 * APM vol. 2 §15.16, SDM vol. 3 §29.1
 */
class TagPool {
	u64 generation_ = 1;
	u32 next_ = 1, end_ = 2;

public:
	struct Grant {
		u32 tag;
		u64 generation;
		bool flush_all; /* before the next entry everything must go */
	};
	constexpr TagPool() = default;
	/* How many there are, the host's included; at least 2. */
	explicit constexpr TagPool(u32 tags) : end_{tags < 2 ? 2 : tags} {}
	/* The CPU was off or is new: nothing handed out before counts. Its TLB may hold anything. */
	constexpr void restart()
	{
		++generation_;
		next_ = end_;
	}
	constexpr bool current(u64 generation) const { return generation == generation_; }
	constexpr Grant take()
	{
		if (next_ < end_)
			return {next_++, generation_, false};
		++generation_;
		next_ = 2;
		return {1, generation_, true};
	}
};

}
