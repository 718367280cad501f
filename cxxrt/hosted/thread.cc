/* SPDX-License-Identifier: GPL-2.0-only */
/* The thread of a vCPU. Whoever links this offers kxc_sched_in and kxc_sched_out. */
#include "sizes.h"
#include "state.hpp"
#include "thread.hpp"

using namespace kx::hosted;

namespace {

struct VcpuThread {
	void *owner;
};
static_assert(sizeof(VcpuThread) <= KX_SIZEOF_THREAD);

void switched_in(void *t)
{
	const unsigned cpu = kx_preempt_off();
	kxc_sched_in(static_cast<VcpuThread *>(t)->owner, cpu);
	kx_preempt_on();
}
void switched_out(void *t)
{
	kx_preempt_off();
	kxc_sched_out(static_cast<VcpuThread *>(t)->owner);
	kx_preempt_on();
}

}

extern "C" {

void kx_thread_init(void *t, void *owner) { static_cast<VcpuThread *>(t)->owner = owner; }
void kx_thread_load(void *t)
{
	may_sleep("kx_thread_load");
	if (this_thread().loaded)
		fail("a thread loads a vCPU while it has one");
	this_thread().loaded = t;
	switched_in(t);
}
void kx_thread_put(void *t)
{
	may_sleep("kx_thread_put");
	if (this_thread().loaded != t)
		fail("a thread puts a vCPU that it has not loaded");
	switched_out(t);
	this_thread().loaded = nullptr;
}

const unsigned long *kx_thread_flags(void) { return &this_thread().flags; }

/* The scheduler takes the opportunity: another thread runs here, this one elsewhere. */
int kx_thread_handle_work(void)
{
	may_sleep("kx_thread_handle_work");
	Thread &t = this_thread();
	++t.worked;
	if (t.signal)
		return -4;
	t.flags &= ~static_cast<unsigned long>(KX_THREAD_WORK);
	if (t.loaded)
		switched_out(t.loaded);
	t.cpu = t.next_cpu;
	if (t.loaded)
		switched_in(t.loaded);
	return 0;
}

void kx_sigmask_enter(const kx_u64 *set)
{
	Thread &t = this_thread();
	t.really_blocked = t.blocked;
	t.blocked = *set;
}
void kx_sigmask_leave(void)
{
	Thread &t = this_thread();
	t.blocked = t.really_blocked;
	t.really_blocked = 0;
}

}
