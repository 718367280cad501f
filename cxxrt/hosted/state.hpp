/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of the hosted seam share. */
#pragma once
#include <atomic>
#include "hosted.hpp"
#include "cxxrt/seam.h"

namespace kx::hosted {

/* A logical thread of a Stepper. */
struct Strand {
	virtual void step() = 0;
	virtual void give_way() = 0;
	virtual void wait(bool (*ready)(void *), void *arg) = 0;

protected:
	~Strand() = default;
};

/* Of one thread. */
struct Context {
	static constexpr unsigned max_held = 16;
	struct Held {
		void *lock;
		kx_lock_kind kind;
	} held[max_held];
	unsigned locks = 0, spinning = 0; /* held, and those among them that forbid sleeping */
	unsigned rcu_depth = 0, rcu_token = 0, in_callback = 0;
	unsigned preempt_off = 0; /* nested */
	bool irqs_off = false, in_guest = false;
	Strand *strand = nullptr;
};
extern thread_local Context context;

/* Read sections that can be waited for. Two counters, flipped twice: a reader that took the index just
 * before a flip and counts just after it is caught by the second. */
class Epochs {
	std::atomic<unsigned> phase_{0};
	std::atomic<long> readers_[2] = {0, 0};
	std::atomic<bool> waiting_{false};

public:
	unsigned enter()
	{
		const unsigned i = phase_.load() & 1;
		++readers_[i];
		return i;
	}
	void leave(unsigned i)
	{
		if (--readers_[i] < 0)
			fail("a read section ends that never began");
	}
	bool busy() const { return readers_[0].load() || readers_[1].load(); }
	void wait()
	{
		do
			wait_until([this] { return !waiting_.load(); });
		while (waiting_.exchange(true));
		for (int flip = 0; flip < 2; ++flip) {
			const unsigned i = phase_.fetch_add(1) & 1;
			wait_until([this, i] { return readers_[i].load() == 0; });
		}
		waiting_ = false;
	}
};

}
