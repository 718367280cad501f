/* SPDX-License-Identifier: GPL-2.0-only */
/* What the C files of the seam share. Only files in this folder may include <linux/...>. */
#ifndef KX_GLUE_H
#define KX_GLUE_H

#include <linux/preempt.h>
#include <linux/mmu_notifier.h>
#include <linux/workqueue.h>
#include <asm/fpu/api.h>
#include "../seam.h"

struct kx_notifier {
	struct mmu_notifier mn;
	void *owner;
};

struct kx_thread {
	struct preempt_notifier pn;
	void *owner;
};

struct kx_work {
	struct work_struct w;
	void (*fn)(void *work);
};

int kx_sync_init(void);		/* the work queue */
void kx_sync_exit(void);	/* waits for background work and for every pending RCU callback */
int kx_thread_module_init(void);
void kx_thread_module_exit(void);
void kx_user_return_cpu_here(void);	/* on that CPU: note the host's values */
void kx_user_return_cpu_gone(void);	/* on that CPU: host values back, notifier off */
int kx_files_init(const char *name);
void kx_files_exit(void);

#endif
