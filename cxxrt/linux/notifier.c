// SPDX-License-Identifier: GPL-2.0-only
/* What the VMM's address space loses, the guest loses first. */
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include "glue.h"

static void *owner_of(struct mmu_notifier *mn)
{
	return container_of(mn, struct kx_notifier, mn)->owner;
}

static int start(struct mmu_notifier *mn, const struct mmu_notifier_range *r)
{
	return kxc_notifier_start(owner_of(mn), r->start, r->end);
}

static void end(struct mmu_notifier *mn, const struct mmu_notifier_range *r)
{
	kxc_notifier_end(owner_of(mn), r->start, r->end);
}

static int clear_flush_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long from, unsigned long to)
{
	return kxc_notifier_age(owner_of(mn), from, to, 1);
}

static int clear_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long from, unsigned long to)
{
	return kxc_notifier_age(owner_of(mn), from, to, 1);
}

static int test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long at)
{
	return kxc_notifier_age(owner_of(mn), at, at + PAGE_SIZE, 0);
}

static void release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	kxc_notifier_gone(owner_of(mn));
}

static const struct mmu_notifier_ops ops = {
	.invalidate_range_start = start,
	.invalidate_range_end = end,
	.clear_flush_young = clear_flush_young,
	.clear_young = clear_young,
	.test_young = test_young,
	.release = release,
};

const void *kx_current_mm(void)
{
	return current->mm;
}

unsigned int kx_current_pid(void)
{
	return task_pid_nr(current);
}

int kx_notifier_register(void *n, void *owner)
{
	struct kx_notifier *notifier = n;

	notifier->mn.ops = &ops;
	notifier->owner = owner;
	return mmu_notifier_register(&notifier->mn, current->mm);
}

void kx_notifier_unregister(void *n)
{
	struct kx_notifier *notifier = n;

	mmu_notifier_unregister(&notifier->mn, notifier->mn.mm);
}
