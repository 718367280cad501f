/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The seam in userspace, for unit tests and fuzzers. What the kernel checks by lockdep, might_sleep() and
 * sparse is checked here on every call and ends the process with a message:
 *  - locks are taken in the order of kx_lock_kind, released by their holder, none is held at a sleep;
 *  - nothing sleeps inside an RCU section or an RCU callback; no waiting for readers from inside a
 *    section; every section ends.
 * What the kernel does when it likes happens here when a test says so: callbacks and work wait until
 * run_deferred(), allocations fail when told.
 */
#pragma once
#include <cstddef>
#include <cstdint>

namespace kx::hosted {

[[noreturn]] void fail(const char *what);
/* Checks that the caller may sleep now. */
void may_sleep(const char *who);
/* Waits for ready(), which only looks; other threads run meanwhile, in a Stepper the other strands. By the
 * time this returns it may be over again, except in a Stepper. */
void wait_until(bool (*ready)(void *), void *arg);
template <class F> void wait_until(F ready)
{
	wait_until([](void *f) -> bool { return (*static_cast<F *>(f))(); }, &ready);
}

/* --- memory: every allocation of the seam is counted from 1 */
void fail_allocation(std::uint64_t nth); /* from now on; 0: none */
void fail_allocations_from(std::uint64_t nth);
std::uint64_t allocations_tried();	  /* since the last of these calls, or the start */
std::int64_t live_allocations();	  /* pages included */
std::int64_t live_pages();

/* --- eventfds */
struct EventFd {
	std::uint64_t signals = 0;
	int references = 0; /* the core's */
};
EventFd &make_eventfd(int *fd); /* the VMM's file is never closed */

/* --- the host's clocks: two cycles of its TSC a nanosecond, since a boot at that time */
inline constexpr std::uint64_t booted_at = 1'700'000'000'000'000'000;
void keep_time_by_tsc(bool does); /* false: by another counter */

/* --- what was put off */
bool run_one_deferred(); /* false: nothing waits. In order: RCU, SRCU, work */
unsigned run_deferred();
unsigned deferred_pending();

/* --- locks */
void make_lock_holders_yield(bool always); /* what kx_write_should_yield() says; else: is a writer waiting */
unsigned locks_held();			   /* by this thread */
bool in_read_section();			   /* RCU, of this thread */

/* An RCU section that the test itself holds, e.g. as a CPU that walks tables. */
struct RcuSection {
	RcuSection();
	~RcuSection();
};

/* --- scheduling points: nothing unless a Stepper runs this thread */
void point();
/* Nothing to do before somebody else has moved. */
void give_way();

}
