// SPDX-License-Identifier: GPL-2.0-only
/* Locks, RCU, background work. */
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>
#include "glue.h"

static struct lock_class_key keys[KX_LOCK_COUNT];
static const char *const names[KX_LOCK_COUNT] = {
	[KX_LOCK_VM] = "kvmxx:vm", [KX_LOCK_VCPU] = "kvmxx:vcpu", [KX_LOCK_SLOTS] = "kvmxx:slots",
	[KX_LOCK_MMU] = "kvmxx:mmu", [KX_LOCK_MMU_LIST] = "kvmxx:mmu-list", [KX_LOCK_RING] = "kvmxx:ring",
};

static struct workqueue_struct *queue;

void kx_mutex_init(void *m, enum kx_lock_kind kind)
{
	__mutex_init(m, names[kind], &keys[kind]);
}

void kx_mutex_lock(void *m)
{
	mutex_lock(m);
}

int kx_mutex_lock_killable(void *m)
{
	return mutex_lock_killable(m);
}

void kx_mutex_unlock(void *m)
{
	mutex_unlock(m);
}

void kx_rwlock_init(void *l, enum kx_lock_kind kind)
{
	rwlock_init((rwlock_t *)l);
	lockdep_set_class_and_name((rwlock_t *)l, &keys[kind], names[kind]);
}

void kx_read_lock(void *l)
{
	read_lock((rwlock_t *)l);
}

void kx_read_unlock(void *l)
{
	read_unlock((rwlock_t *)l);
}

void kx_write_lock(void *l)
{
	write_lock((rwlock_t *)l);
}

void kx_write_unlock(void *l)
{
	write_unlock((rwlock_t *)l);
}

int kx_write_should_yield(void *l)
{
	return need_resched() || rwlock_needbreak((rwlock_t *)l);
}

void kx_spin_init(void *l, enum kx_lock_kind kind)
{
	spin_lock_init((spinlock_t *)l);
	lockdep_set_class_and_name((spinlock_t *)l, &keys[kind], names[kind]);
}

void kx_spin_lock(void *l)
{
	spin_lock((spinlock_t *)l);
}

void kx_spin_unlock(void *l)
{
	spin_unlock((spinlock_t *)l);
}

void kx_cond_resched(void)
{
	cond_resched();
}

void kx_rcu_read_lock(void)
{
	rcu_read_lock();
}

void kx_rcu_read_unlock(void)
{
	rcu_read_unlock();
}

void kx_call_rcu(void *head, void (*fn)(void *head))
{
	call_rcu(head, (rcu_callback_t)fn);
}

int kx_srcu_init(void *s)
{
	return init_srcu_struct(s);
}

/* Callbacks queued by kx_call_srcu run first; needs no reader. */
void kx_srcu_destroy(void *s)
{
	srcu_barrier(s);
	cleanup_srcu_struct(s);
}

int kx_srcu_read_lock(void *s)
{
	return srcu_read_lock(s);
}

void kx_srcu_read_unlock(void *s, int token)
{
	srcu_read_unlock(s, token);
}

void kx_srcu_synchronize(void *s)
{
	synchronize_srcu_expedited(s);
}

void kx_call_srcu(void *s, void *head, void (*fn)(void *head))
{
	call_srcu(s, head, (rcu_callback_t)fn);
}

static void run_work(struct work_struct *w)
{
	struct kx_work *work = container_of(w, struct kx_work, w);

	work->fn(work);		/* may free work */
}

void kx_work_init(void *w, void (*fn)(void *work))
{
	struct kx_work *work = w;

	INIT_WORK(&work->w, run_work);
	work->fn = fn;
}

void kx_work_queue(void *w)
{
	queue_work(queue, &((struct kx_work *)w)->w);
}

int kx_sync_init(void)
{
	queue = alloc_workqueue("kvmxx", WQ_UNBOUND, 0);
	return queue ? 0 : -ENOMEM;
}

/* An RCU callback may queue work and work may queue an RCU callback; a VM's teardown does two rounds
 * at most (graveyard, then the VM). */
void kx_sync_exit(void)
{
	int round;

	for (round = 0; round < 3; round++) {
		rcu_barrier();
		flush_workqueue(queue);
	}
	rcu_barrier();
	destroy_workqueue(queue);
}
