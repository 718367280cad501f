// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two vCPUs touch memory at random while user space discards it, logs it, and moves slots about.
 * What the guest reads is either what it last wrote, or what user space has put in its place.
 */
#include "test.h"

#include <stdlib.h>
#include <time.h>

#define VCPUS 2
#define SECONDS 3	/* or $STRESS_SECONDS */

/* Slot 1 is discarded under the guest, 2 is logged, 3 is moved, 4 comes and goes. */
#define DISCARD_GPA 0x10000000ul
#define LOG_GPA 0x20000000ul
#define MOVE_GPA 0x30000000ul
#define MOVE_STEP 0x1000000ul	/* between four places */
#define GONE_GPA 0x40000000ul
#define PAGES 512ul
#define SIZE (PAGES * PAGE)
#define ABSENT 0xabababababababab	/* what a read of nothing gives */

FIXTURE(stress) {
	struct vm *vm;
	struct vcpu *v[VCPUS];
	uint8_t *discard, *log, *move, *gone, *copy;
};
FIXTURE_VARIANT(stress) { int advice; };
FIXTURE_VARIANT_ADD(stress, small_pages) { .advice = MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(stress, huge_pages) { .advice = MADV_HUGEPAGE };

static uint8_t *region(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, int advice)
{
	uint8_t *p = map_aligned(SIZE, 2 * MiB);

	madvise(p, SIZE, advice);
	vm_slot(vm, slot, flags, gpa, SIZE, p);
	return p;
}

FIXTURE_SETUP(stress)
{
	self->vm = vm_new();
	for (int i = 0; i < VCPUS; i++)
		self->v[i] = vcpu_new(self->vm, i);
	self->discard = region(self->vm, 1, 0, DISCARD_GPA, variant->advice);
	self->log = region(self->vm, 2, KVM_MEM_LOG_DIRTY_PAGES, LOG_GPA, variant->advice);
	self->move = region(self->vm, 3, 0, MOVE_GPA, variant->advice);
	self->gone = region(self->vm, 4, 0, GONE_GPA, variant->advice);
	self->copy = map_anon(SIZE);
	for (uint64_t i = 0; i < PAGES; i++) {
		*(uint64_t *)(self->move + i * PAGE) = i * 3 + 1;
		*(uint64_t *)(self->gone + i * PAGE) = i * 5 + 2;
	}
}
FIXTURE_TEARDOWN(stress)
{
	for (int i = 0; i < VCPUS; i++)
		vcpu_free(self->v[i]);
	vm_free(self->vm);
}

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* The last word each vCPU wrote into its half of the pages. */
static volatile uint64_t last[VCPUS][PAGES], steps[VCPUS];

static void guest_stress(uint64_t me, uint64_t seed)
{
	uint64_t x = seed;

	for (uint64_t n = 1;; n++) {
		uint64_t r = next_random(&x), page = (r >> 8) % PAGES, v, a;

		switch (r % 8) {
		case 0:
		case 1:
		case 2:
			/* Its own word of the page: what it wrote, or nothing. */
			a = DISCARD_GPA + page * PAGE + me * 64;
			v = rd64(a);
			if (v != last[me][page])
				GUEST_EQ(0, v);
			last[me][page] = n;
			wr64(a, n);
			break;
		case 3:
		case 4:
			a = LOG_GPA + page * PAGE + me * 64 + (r >> 40) % 8 * 8;
			wr64(a, n);
			break;
		case 5:
			a = MOVE_GPA + (r >> 40) % 4 * MOVE_STEP + page * PAGE;
			v = rd64(a);
			if (v != ABSENT)
				GUEST_EQ(page * 3 + 1, v);
			break;
		case 6:
			a = GONE_GPA + page * PAGE;
			v = rd64(a);
			if (v != ABSENT)
				GUEST_EQ(page * 5 + 2, v);
			break;
		case 7:
			/* Atomic, in pages that both use. */
			a = DISCARD_GPA + page * PAGE + 1024;
			asm volatile("lock incq (%0)" : : "r"(a) : "memory", "cc");
			break;
		}
		steps[me] = n;
	}
}

static void fn_stress(struct runner *r)
{
	while (!r->stop) {
		int err = vcpu_try_run(r->vcpu);
		struct kvm_run *run = r->vcpu->run;
		struct ucall u;

		if (err == -EINTR)
			continue;
		CHECK(!err, "KVM_RUN gave %d, %s", err, exit_text(r->vcpu));
		if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write) {
			memset(run->mmio.data, 0xab, 8);
			r->loops++;
			continue;
		}
		if (vcpu_is_ucall(r->vcpu, &u))
			FAIL("guest message %u: line %lu expected 0x%lx seen 0x%lx", u.kind,
			     u.arg[0], u.arg[1], u.arg[2]);
		FAIL("%s", exit_text(r->vcpu));
	}
}

static uint64_t milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void collect(struct vm *vm, uint8_t *from, uint8_t *to)
{
	uint64_t bitmap[PAGES / 64];
	struct kvm_dirty_log log = { .slot = 2, .dirty_bitmap = bitmap };

	CHECK(!ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), "KVM_GET_DIRTY_LOG");
	for (uint64_t i = 0; i < PAGES; i++)
		if (bitmap[i / 64] >> (i % 64) & 1)
			memcpy(to + i * PAGE, from + i * PAGE, PAGE);
}

TEST_F_TIMEOUT(stress, memory_stays_consistent_whatever_user_space_does_with_it, 60)
{
	const char *seconds = getenv("STRESS_SECONDS"), *seed = getenv("STRESS_SEED");
	uint64_t end = milliseconds() + (seconds ? (uint64_t)atoi(seconds) : SECONDS) * 1000;
	uint64_t x = 0x9e3779b97f4a7c15 ^ (seed ? strtoull(seed, NULL, 0) : 0), place = 0, absent = 0, rounds = 0;
	struct runner r[VCPUS];
	bool there = true;

	for (int i = 0; i < VCPUS; i++) {
		vcpu_call(self->v[i], guest_stress, (uint64_t)i, 1234567 + (uint64_t)i);
		runner_start(&r[i], self->v[i], fn_stress);
	}
	/* Some rounds there must be, on a slow machine too. */
	while (milliseconds() < end || rounds < 20) {
		uint64_t k = next_random(&x), page = (k >> 8) % PAGES;

		rounds++;
		switch (k % 8) {
		case 0:
		case 1:
			ASSERT_OK(madvise(self->discard + page * PAGE, PAGE, MADV_DONTNEED));
			break;
		case 2:
			ASSERT_OK(madvise(self->discard, SIZE, MADV_DONTNEED));
			break;
		case 3:
			collect(self->vm, self->log, self->copy);
			break;
		case 4:
			/* Off and on: what was dirty in between must be found by copying it all. */
			vm_slot(self->vm, 2, 0, LOG_GPA, SIZE, self->log);
			usleep(500);
			vm_slot(self->vm, 2, KVM_MEM_LOG_DIRTY_PAGES, LOG_GPA, SIZE, self->log);
			memcpy(self->copy, self->log, SIZE);
			break;
		case 5:
			place = (place + 1 + (k >> 8) % 3) % 4;
			vm_slot(self->vm, 3, 0, MOVE_GPA + place * MOVE_STEP, SIZE, self->move);
			break;
		case 6:
			vm_slot(self->vm, 4, 0, GONE_GPA, there ? 0 : SIZE, self->gone);
			there = !there;
			break;
		case 7:
			usleep((unsigned int)(k >> 16) % 2000);
			break;
		}
	}
	for (int i = 0; i < VCPUS; i++) {
		runner_stop(&r[i]);
		absent += r[i].loops;
		EXPECT_LT(100, G(self->vm, steps)[i]);
	}
	EXPECT_LT(0, absent);
	collect(self->vm, self->log, self->copy);
	EXPECT_EQ(0, memcmp(self->log, self->copy, SIZE));
	for (uint64_t i = 0; i < PAGES; i++) {
		ASSERT_EQ(i * 3 + 1, *(uint64_t *)(self->move + i * PAGE));
		ASSERT_EQ(i * 5 + 2, *(uint64_t *)(self->gone + i * PAGE));
		for (uint64_t k = 0; k < VCPUS; k++) {
			uint64_t v = *(uint64_t *)(self->discard + i * PAGE + k * 64);

			/* The step that was interrupted may not have written yet. */
			if (G(self->vm, last)[k][i] == G(self->vm, steps)[k] + 1)
				continue;
			ASSERT_TRUE(v == 0 || v == G(self->vm, last)[k][i]);
		}
	}
}

GUEST_TEST_MAIN
