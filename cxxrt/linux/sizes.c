// SPDX-License-Identifier: GPL-2.0-only
/* Becomes sizes.h: what the C++ core must know of the kernel's objects. */
#include <linux/kbuild.h>
#include <linux/mutex.h>
#include <linux/rwlock_types.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/thread_info.h>
#include <asm/segment.h>
#include "glue.h"

#define WORK (_TIF_NEED_RESCHED | _TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL | _TIF_NOTIFY_RESUME)

int main(void)
{
	DEFINE(KX_SIZEOF_MUTEX, sizeof(struct mutex));
	DEFINE(KX_SIZEOF_RWLOCK, sizeof(rwlock_t));
	DEFINE(KX_SIZEOF_SPINLOCK, sizeof(spinlock_t));
	DEFINE(KX_SIZEOF_RCU_HEAD, sizeof(struct rcu_head));
	DEFINE(KX_SIZEOF_SRCU, sizeof(struct srcu_struct));
	DEFINE(KX_SIZEOF_WORK, sizeof(struct kx_work));
	DEFINE(KX_SIZEOF_THREAD, sizeof(struct kx_thread));
	DEFINE(KX_SIZEOF_NOTIFIER, sizeof(struct kx_notifier));
	DEFINE(KX_SIZEOF_FPU, sizeof(struct fpu_guest));
	DEFINE(KX_KERNEL_CS, __KERNEL_CS);
	DEFINE(KX_KERNEL_DS, __KERNEL_DS);
	DEFINE(KX_THREAD_WORK, WORK);
	DEFINE(KX_THREAD_NEED_FPU, _TIF_NEED_FPU_LOAD);
	return 0;
}
