/* SPDX-License-Identifier: GPL-2.0-only */
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include "state.hpp"

namespace kx::hosted {

thread_local Context context;

void fail(const char *what)
{
	std::fprintf(stderr, "hosted seam: %s\n", what);
	std::abort();
}

void may_sleep(const char *who)
{
	if (context.spinning || context.rcu_depth || context.in_callback || context.preempt_off || context.irqs_off) {
		std::fprintf(stderr,
			     "%s may sleep: %u spinning locks, %u RCU sections, %u callbacks, preemption %s, interrupts %s\n",
			     who, context.spinning, context.rcu_depth, context.in_callback,
			     context.preempt_off ? "off" : "on", context.irqs_off ? "off" : "on");
		fail("sleeps in atomic context");
	}
}

void wait_until(bool (*ready)(void *), void *arg)
{
	if (context.strand) {
		context.strand->wait(ready, arg);
		return;
	}
	while (!ready(arg))
		std::this_thread::yield();
}

void point()
{
	if (context.strand)
		context.strand->step();
}
void give_way()
{
	if (context.strand)
		context.strand->give_way();
	else /* not only yield: on a busy machine whoever has to move may wait long among those who do not */
		std::this_thread::sleep_for(std::chrono::microseconds(20));
}

}
