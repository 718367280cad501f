/* SPDX-License-Identifier: GPL-2.0-only */
#include <deque>
#include <mutex>
#include <new>
#include "sizes.h"
#include "state.hpp"

namespace kx::hosted {

namespace {

struct Callback {
	Epochs *srcu; /* nullptr: RCU */
	void *head;
	void (*fn)(void *);
};
struct Queue {
	std::mutex lock;
	std::deque<Callback> callbacks;
	std::deque<void *> works;
	unsigned running = 0;
};
Queue &queue()
{
	static auto *q = new Queue;
	return *q;
}
Epochs &rcu()
{
	static auto *e = new Epochs;
	return *e;
}

struct Work {
	void (*fn)(void *);
	std::atomic<bool> queued;
};
static_assert(sizeof(Work) <= KX_SIZEOF_WORK);

struct Srcu {
	Epochs *epochs;
	std::uint64_t magic;
	static constexpr std::uint64_t alive = 0x6b7873726375;
};
static_assert(sizeof(Srcu) <= KX_SIZEOF_SRCU);
Srcu &srcu_of(void *os)
{
	auto *s = static_cast<Srcu *>(os);
	if (s->magic != Srcu::alive)
		fail("an SRCU domain that was not initialised");
	return *s;
}

void run(const Callback &c)
{
	if (context.rcu_depth)
		fail("waits for a grace period inside an RCU section");
	(c.srcu ? *c.srcu : rcu()).wait();
	++context.in_callback;
	c.fn(c.head);
	--context.in_callback;
}

void defer(const Callback &c)
{
	Queue &q = queue();
	std::lock_guard g{q.lock};
	q.callbacks.push_back(c);
}

/* The next callback of that domain, or of any. */
bool take_callback(Epochs *only, Callback &to)
{
	Queue &q = queue();
	std::lock_guard g{q.lock};
	for (auto it = q.callbacks.begin(); it != q.callbacks.end(); ++it)
		if (!only || it->srcu == only) {
			to = *it;
			q.callbacks.erase(it);
			++q.running;
			return true;
		}
	return false;
}
void *take_work()
{
	Queue &q = queue();
	std::lock_guard g{q.lock};
	if (q.works.empty())
		return nullptr;
	void *w = q.works.front();
	q.works.pop_front();
	++q.running;
	return w;
}
void done()
{
	Queue &q = queue();
	std::lock_guard g{q.lock};
	--q.running;
}

}

bool run_one_deferred()
{
	may_sleep("run_one_deferred");
	if (Callback c; take_callback(nullptr, c)) {
		run(c);
	} else if (void *w = take_work()) {
		auto *work = static_cast<Work *>(w);
		work->queued = false;
		work->fn(w); /* may free w */
	} else {
		return false;
	}
	done();
	return true;
}

unsigned run_deferred()
{
	unsigned n = 0;
	while (run_one_deferred())
		++n;
	return n;
}

unsigned deferred_pending()
{
	Queue &q = queue();
	std::lock_guard g{q.lock};
	return unsigned(q.callbacks.size() + q.works.size()) + q.running;
}

bool in_read_section() { return context.rcu_depth; }
RcuSection::RcuSection() { kx_rcu_read_lock(); }
RcuSection::~RcuSection() { kx_rcu_read_unlock(); }

}

using namespace kx::hosted;

extern "C" {

void kx_rcu_read_lock(void)
{
	if (!context.rcu_depth++)
		context.rcu_token = rcu().enter();
}
void kx_rcu_read_unlock(void)
{
	if (!context.rcu_depth)
		fail("an RCU section ends that never began");
	if (!--context.rcu_depth)
		rcu().leave(context.rcu_token);
}
void kx_call_rcu(void *head, void (*fn)(void *)) { defer({nullptr, head, fn}); }

int kx_srcu_init(void *s)
{
	may_sleep("kx_srcu_init");
	void *p = kx_zalloc(sizeof(Epochs)); /* it can fail in the kernel */
	if (!p)
		return -12;
	::new (s) Srcu{::new (p) Epochs, Srcu::alive};
	return 0;
}
void kx_srcu_destroy(void *os)
{
	may_sleep("kx_srcu_destroy");
	Srcu &s = srcu_of(os);
	for (Callback c; take_callback(s.epochs, c); done())
		run(c);
	if (s.epochs->busy())
		fail("an SRCU domain is destroyed with a reader inside");
	kx_free(s.epochs);
	s.magic = 0;
}
int kx_srcu_read_lock(void *s) { return int(srcu_of(s).epochs->enter()); }
void kx_srcu_read_unlock(void *s, int token)
{
	srcu_of(s).epochs->leave(unsigned(token));
	point();
}
void kx_srcu_synchronize(void *s)
{
	may_sleep("kx_srcu_synchronize");
	srcu_of(s).epochs->wait();
}
void kx_call_srcu(void *s, void *head, void (*fn)(void *)) { defer({srcu_of(s).epochs, head, fn}); }

void kx_work_init(void *w, void (*fn)(void *)) { ::new (w) Work{fn, false}; }
void kx_work_queue(void *w)
{
	auto *work = static_cast<Work *>(w);
	if (work->queued.exchange(true))
		return;
	Queue &q = queue();
	std::lock_guard g{q.lock};
	q.works.push_back(w);
}

}
