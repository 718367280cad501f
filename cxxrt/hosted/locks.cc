/* SPDX-License-Identifier: GPL-2.0-only */
#include <cstdio>
#include <new>
#include <thread>
#include "sizes.h"
#include "state.hpp"

namespace kx::hosted {

namespace {

std::atomic<bool> always_yield;

/* 0 free, -1 held exclusively, n held by n readers. */
struct Lock {
	std::atomic<int> state;
	std::atomic<int> writers_waiting;
	kx_lock_kind kind;
	std::uint64_t magic;
	static constexpr std::uint64_t alive = 0x6b786c6f636b7321;
};
static_assert(sizeof(Lock) <= KX_SIZEOF_MUTEX && sizeof(Lock) <= KX_SIZEOF_RWLOCK);
static_assert(sizeof(Lock) <= KX_SIZEOF_SPINLOCK);

Lock &of(void *os)
{
	auto *l = static_cast<Lock *>(os);
	if (l->magic != Lock::alive)
		fail("a lock that was not initialised");
	return *l;
}

void init(void *os, kx_lock_kind kind)
{
	auto *l = ::new (os) Lock;
	l->state = 0;
	l->writers_waiting = 0;
	l->kind = kind;
	l->magic = Lock::alive;
}

enum class Kind { sleeping, spinning };

void note_taking(Lock &l, Kind k)
{
	Context &c = context;
	if (k == Kind::sleeping)
		may_sleep("taking a mutex");
	for (unsigned i = 0; i < c.locks; ++i)
		if (c.held[i].kind >= l.kind) {
			std::fprintf(stderr, "taking lock of kind %d while holding one of kind %d\n", int(l.kind),
				     int(c.held[i].kind));
			fail("locks taken out of order");
		}
	if (c.locks == Context::max_held)
		fail("too many locks");
}
void note_taken(Lock &l, Kind k)
{
	Context &c = context;
	c.held[c.locks++] = {&l, l.kind};
	c.spinning += k == Kind::spinning;
}
void note_released(Lock &l, Kind k)
{
	Context &c = context;
	for (unsigned i = c.locks; i-- > 0;)
		if (c.held[i].lock == &l) {
			for (; i + 1 < c.locks; ++i)
				c.held[i] = c.held[i + 1];
			--c.locks;
			c.spinning -= k == Kind::spinning;
			return;
		}
	fail("a lock is released by somebody who does not hold it");
}

void lock(Lock &l, Kind k)
{
	note_taking(l, k);
	++l.writers_waiting;
	int free;
	do {
		wait_until([&l] { return l.state.load() == 0; });
		free = 0;
	} while (!l.state.compare_exchange_strong(free, -1));
	--l.writers_waiting;
	note_taken(l, k);
	point();
}
void unlock(Lock &l, Kind k)
{
	note_released(l, k);
	int held = -1;
	if (!l.state.compare_exchange_strong(held, 0))
		fail("exclusive unlock of a lock that is not held so");
	point();
}

}

void make_lock_holders_yield(bool always) { always_yield = always; }
unsigned locks_held() { return context.locks; }

}

using namespace kx::hosted;

extern "C" {

void kx_mutex_init(void *m, enum kx_lock_kind kind) { init(m, kind); }
void kx_mutex_lock(void *m) { lock(of(m), Kind::sleeping); }
int kx_mutex_lock_killable(void *m)
{
	lock(of(m), Kind::sleeping);
	return 0;
}
void kx_mutex_unlock(void *m) { unlock(of(m), Kind::sleeping); }

void kx_spin_init(void *l, enum kx_lock_kind kind) { init(l, kind); }
void kx_spin_lock(void *l) { lock(of(l), Kind::spinning); }
void kx_spin_unlock(void *l) { unlock(of(l), Kind::spinning); }

void kx_rwlock_init(void *l, enum kx_lock_kind kind) { init(l, kind); }
void kx_write_lock(void *l) { lock(of(l), Kind::spinning); }
void kx_write_unlock(void *l) { unlock(of(l), Kind::spinning); }
void kx_read_lock(void *os)
{
	Lock &l = of(os);
	note_taking(l, Kind::spinning);
	int n;
	do {
		/* Waiting writers go first, as with the kernel's queued lock. */
		wait_until([&l] { return l.state.load() >= 0 && !l.writers_waiting.load(); });
		n = l.state.load();
	} while (n < 0 || !l.state.compare_exchange_strong(n, n + 1));
	note_taken(l, Kind::spinning);
	kx_rcu_read_lock();
	point();
}
void kx_read_unlock(void *os)
{
	Lock &l = of(os);
	kx_rcu_read_unlock();
	note_released(l, Kind::spinning);
	if (--l.state < 0)
		fail("shared unlock of a lock that is not held so");
	point();
}
int kx_write_should_yield(void *os) { return always_yield || of(os).writers_waiting > 0; }

void kx_cond_resched(void)
{
	may_sleep("kx_cond_resched");
	point();
}

}
