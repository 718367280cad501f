// SPDX-License-Identifier: GPL-2.0-only
/* Host memory that changes under the guest: what user space does to its mappings holds at once. */
#include "test.h"

#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#define SLOT_GPA 0x10000000ul
#define PAGES 512ul	/* 2 MiB */
#define SIZE (PAGES * PAGE)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

VM_FIXTURE(notifier)

/* The guest's side of the conversation. */
static volatile uint64_t loops, seen[PAGES];

/* Reads the first word of n pages, over and over. */
static void guest_reader(uint64_t n)
{
	for (;;) {
		for (uint64_t i = 0; i < n; i++)
			seen[i] = rd64(SLOT_GPA + i * PAGE);
		loops++;
	}
}

/* Counts in the first word of n pages. */
static void guest_writer(uint64_t n)
{
	for (;;) {
		for (uint64_t i = 0; i < n; i++)
			wr64(SLOT_GPA + i * PAGE, loops);
		loops++;
	}
}

static volatile uint64_t faults;

/* As runner_spin, but host memory that is not there is counted and tried again. */
static void fn_faults(struct runner *r)
{
	while (!r->stop) {
		int err = vcpu_try_run(r->vcpu);

		if (err == -EFAULT) {
			faults++;
			usleep(200);
			continue;
		}
		CHECK(err == -EINTR, "%d, %s", err, exit_text(r->vcpu));
	}
}

static void wait_for(bool (*what)(void *), void *arg)
{
	for (int i = 0; i < 50000; i++) {
		if (what(arg))
			return;
		usleep(100);
	}
	FAIL("the guest makes no progress");
}

struct progress { volatile uint64_t *counter; uint64_t from; };

static bool has_passed(void *arg)
{
	struct progress *p = arg;

	return *p->counter > p->from;
}

/* Waits until the guest has begun and ended a whole round. */
static void wait_rounds(struct vm *vm, uint64_t n)
{
	struct progress p = { &G(vm, loops), G(vm, loops) + n };

	wait_for(has_passed, &p);
}

static void wait_faults(void)
{
	struct progress p = { &faults, faults };

	wait_for(has_passed, &p);
}

static uint8_t *memory(struct vm *vm, int advice)
{
	uint8_t *p = map_aligned(SIZE, 2 * MiB);

	madvise(p, SIZE, advice);
	vm_slot(vm, 1, 0, SLOT_GPA, SIZE, p);
	return p;
}

#define N 16ul

static void discard(struct __test_metadata *_metadata, struct vm *vm, struct vcpu *v, int advice)
{
	uint8_t *p = memory(vm, advice);
	struct runner r;

	vcpu_call(v, guest_reader, N);
	runner_start(&r, v, runner_spin);
	for (uint64_t round = 1; round <= 10; round++) {
		uint64_t odd = round & 1;

		for (uint64_t i = 0; i < N; i++)
			*(volatile uint64_t *)(p + i * PAGE) = round * 1000 + i;
		wait_rounds(vm, 2);
		for (uint64_t i = 0; i < N; i++)
			ASSERT_EQ(round * 1000 + i, G(vm, seen)[i]);
		/* Every other page, or all at once. */
		for (uint64_t i = 0; odd && i < N; i += 2)
			ASSERT_OK(madvise(p + i * PAGE, PAGE, MADV_DONTNEED));
		if (!odd)
			ASSERT_OK(madvise(p, N * PAGE, MADV_DONTNEED));
		wait_rounds(vm, 2);
		for (uint64_t i = 0; i < N; i++)
			ASSERT_EQ(odd && (i & 1) ? round * 1000 + i : 0, G(vm, seen)[i]);
	}
	runner_stop(&r);
}

TEST_F(notifier, discarded_small_pages_read_as_zero_at_once)
{
	discard(_metadata, self->vm, self->v, MADV_NOHUGEPAGE);
}

TEST_F(notifier, discarded_parts_of_a_huge_page_read_as_zero_and_the_rest_stays)
{
	discard(_metadata, self->vm, self->v, MADV_HUGEPAGE);
}

TEST_F(notifier, the_guest_writes_into_the_memory_that_is_there_now)
{
	uint8_t *p = memory(self->vm, MADV_NOHUGEPAGE);
	struct runner r;

	vcpu_call(self->v, guest_writer, 16);
	runner_start(&r, self->v, runner_spin);
	for (int round = 0; round < 20; round++) {
		struct progress w = { (volatile uint64_t *)(p + round % 16 * PAGE), 0 };

		w.from = *w.counter;
		wait_for(has_passed, &w);
		ASSERT_OK(madvise(p, 16 * PAGE, MADV_DONTNEED));
		wait_for(has_passed, &w);
	}
	runner_stop(&r);
}

/* Touches one page as fast as it can, and shows what it finds there. */
static void guest_hammer(uint64_t me)
{
	for (;;) {
		seen[me] = rd64(SLOT_GPA);
		wr64(SLOT_GPA + 64 + me * 64, ++loops);
	}
}

struct marker { volatile uint64_t *seen; uint64_t value; };

static bool has_seen(void *arg)
{
	struct marker *m = arg;

	return *m->seen == m->value;
}

/* A fault that has asked for its page before the page was discarded must not map it afterwards. */
TEST_F_TIMEOUT(notifier, a_page_discarded_in_the_midst_of_a_fault_is_not_mapped, 60)
{
	volatile uint64_t *p = (volatile uint64_t *)memory(self->vm, MADV_NOHUGEPAGE);
	struct vcpu *v[2] = { self->v, vcpu_new(self->vm, 1) };
	struct runner r[2];

	for (uint64_t i = 0; i < 2; i++) {
		vcpu_call(v[i], guest_hammer, i);
		runner_start(&r[i], v[i], runner_spin);
	}
	for (uint64_t round = 1; round <= 60; round++) {
		for (uint64_t k = 0; k < 1 + round % 4; k++)
			ASSERT_OK(madvise((void *)p, PAGE, MADV_DONTNEED));
		*p = round;
		for (int i = 0; i < 2; i++) {
			struct marker m = { &G(self->vm, seen)[i], round };

			wait_for(has_seen, &m);
		}
	}
	for (int i = 0; i < 2; i++)
		runner_stop(&r[i]);
	vcpu_free(v[1]);
}

/* A file shows what the guest can reach of it and what it cannot. */
struct shared {
	int fd;
	uint8_t *guest, *view;
};

static struct shared share(struct vm *vm)
{
	struct shared s = { .fd = memfd_create("shared", 0) };

	CHECK(!ftruncate(s.fd, (long)SIZE), "ftruncate");
	s.guest = map_aligned(SIZE, 2 * MiB);
	CHECK(mmap(s.guest, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s.fd, 0) ==
	      s.guest, "mmap");
	s.view = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	CHECK(s.view != MAP_FAILED, "mmap");
	vm_slot(vm, 1, 0, SLOT_GPA, SIZE, s.guest);
	return s;
}

static bool still(volatile uint64_t *p)
{
	uint64_t before = *p;

	usleep(2000);
	return *p == before;
}

static void wait_counts(volatile uint64_t *p)
{
	struct progress c = { p, *p };

	wait_for(has_passed, &c);
}

TEST_F(notifier, memory_made_inaccessible_is_not_touched_any_more)
{
	struct shared s = share(self->vm);
	volatile uint64_t *word = (volatile uint64_t *)s.view;
	struct runner r;

	vcpu_call(self->v, guest_writer, 1);
	runner_start(&r, self->v, fn_faults);
	for (int round = 0; round < 10; round++) {
		wait_rounds(self->vm, 2);
		ASSERT_OK(mprotect(s.guest, PAGE, PROT_NONE));
		EXPECT_TRUE(still(word));
		wait_faults();
		EXPECT_TRUE(still(word));
		ASSERT_OK(mprotect(s.guest, PAGE, PROT_READ | PROT_WRITE));
	}
	wait_rounds(self->vm, 2);
	runner_stop(&r);
}

static void guest_read_then_write(void)
{
	for (;;) {
		seen[0] = rd64(SLOT_GPA);
		loops++;
		if (seen[1])
			wr64(SLOT_GPA, loops);
	}
}

TEST_F(notifier, memory_made_read_only_is_read_but_not_written)
{
	struct shared s = share(self->vm);
	volatile uint64_t *word = (volatile uint64_t *)s.view;
	struct runner r;

	vcpu_call(self->v, guest_read_then_write);
	runner_start(&r, self->v, fn_faults);
	for (int round = 0; round < 8; round++) {
		G(self->vm, seen)[1] = 1;
		wait_rounds(self->vm, 5);
		ASSERT_OK(mprotect(s.guest, PAGE, PROT_READ));
		EXPECT_TRUE(still(word));
		wait_faults();
		ASSERT_OK(mprotect(s.guest, PAGE, PROT_READ | PROT_WRITE));
		wait_rounds(self->vm, 5);
		/* Reads alone go on. */
		G(self->vm, seen)[1] = 0;
		wait_rounds(self->vm, 5);
		ASSERT_OK(mprotect(s.guest, PAGE, PROT_READ));
		*word = 0x600d0000 + (uint64_t)round;
		wait_rounds(self->vm, 2);
		EXPECT_EQ(0x600d0000 + round, G(self->vm, seen)[0]);
		ASSERT_OK(mprotect(s.guest, PAGE, PROT_READ | PROT_WRITE));
	}
	runner_stop(&r);
}

TEST_F(notifier, a_mapping_replaced_by_another_is_replaced_for_the_guest)
{
	struct shared s = share(self->vm);
	int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS;
	volatile uint64_t *old = (volatile uint64_t *)s.view;
	volatile uint64_t *now = (volatile uint64_t *)s.guest;
	struct runner r;

	vcpu_call(self->v, guest_writer, 4);
	runner_start(&r, self->v, fn_faults);
	for (int round = 0; round < 10; round++) {
		wait_rounds(self->vm, 2);
		/* In one step, or with a hole for some time. */
		if (round & 1) {
			ASSERT_OK(munmap(s.guest, SIZE));
			EXPECT_TRUE(still(old));
			wait_faults();
		}
		ASSERT_EQ(s.guest, mmap(s.guest, SIZE, PROT_READ | PROT_WRITE, flags, -1, 0));
		EXPECT_TRUE(still(old));
		wait_rounds(self->vm, 2);
		EXPECT_LT(0, *now);
		EXPECT_TRUE(still(old));
		ASSERT_EQ(s.guest, mmap(s.guest, SIZE, PROT_READ | PROT_WRITE,
					MAP_FIXED | MAP_SHARED, s.fd, 0));
		wait_rounds(self->vm, 2);
		wait_counts(old);
	}
	runner_stop(&r);
}

TEST_F(notifier, a_mapping_moved_away_takes_its_memory_with_it)
{
	int move = MREMAP_MAYMOVE | MREMAP_FIXED;
	uint8_t *p = memory(self->vm, MADV_NOHUGEPAGE);
	struct runner r;

	vcpu_call(self->v, guest_writer, 4);
	runner_start(&r, self->v, fn_faults);
	for (int round = 0; round < 10; round++) {
		uint8_t *elsewhere = map_anon(SIZE);

		wait_rounds(self->vm, 2);
		ASSERT_EQ(elsewhere, mremap(p, SIZE, SIZE, move, elsewhere));
		EXPECT_TRUE(still((volatile uint64_t *)elsewhere));
		wait_faults();
		EXPECT_TRUE(still((volatile uint64_t *)elsewhere));
		ASSERT_EQ(p, mremap(elsewhere, SIZE, SIZE, move, p));
		wait_rounds(self->vm, 2);
		wait_counts((volatile uint64_t *)p);
	}
	runner_stop(&r);
}

TEST_F(notifier, a_file_cut_short_and_grown_again_reads_as_zero)
{
	struct shared s = share(self->vm);
	struct runner r;

	vcpu_call(self->v, guest_reader, 8);
	runner_start(&r, self->v, fn_faults);
	for (uint64_t round = 1; round < 10; round++) {
		for (uint64_t i = 0; i < 8; i++)
			*(volatile uint64_t *)(s.view + i * PAGE) = round;
		wait_rounds(self->vm, 2);
		EXPECT_EQ(round, G(self->vm, seen)[7]);
		ASSERT_OK(ftruncate(s.fd, 0));
		wait_faults();
		ASSERT_OK(ftruncate(s.fd, (long)SIZE));
		wait_rounds(self->vm, 2);
		for (uint64_t i = 0; i < 8; i++)
			EXPECT_EQ(0, G(self->vm, seen)[i]);
	}
	/* A hole punched into it. */
	for (uint64_t i = 0; i < 8; i++)
		*(volatile uint64_t *)(s.view + i * PAGE) = 7;
	wait_rounds(self->vm, 2);
	ASSERT_OK(fallocate(s.fd, 1 | 2, PAGE, 3 * PAGE));	/* keep size, punch hole */
	wait_rounds(self->vm, 2);
	for (uint64_t i = 0; i < 8; i++)
		EXPECT_EQ(i >= 1 && i < 4 ? 0 : 7, G(self->vm, seen)[i]);
	runner_stop(&r);
}

/* Copy on write. */
static void fork_case(struct __test_metadata *_metadata, struct vm *vm, struct vcpu *v, int advice)
{
	uint8_t *p = memory(vm, advice);
	struct runner r;

	vcpu_call(v, guest_writer, 32);
	runner_start(&r, v, runner_spin);
	for (int round = 0; round < 4; round++) {
		int status;
		pid_t child;

		wait_rounds(vm, 2);
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			/* A snapshot: the guest of the parent must not write into it. */
			static uint64_t first[32];

			for (int i = 0; i < 32; i++)
				first[i] = *(volatile uint64_t *)(p + (size_t)i * PAGE);
			usleep(5000);
			for (int i = 0; i < 32; i++)
				if (first[i] != *(volatile uint64_t *)(p + (size_t)i * PAGE))
					_exit(1);
			for (int i = 0; i < 32; i++)
				*(volatile uint64_t *)(p + (size_t)i * PAGE) = ~0ul;
			usleep(2000);
			for (int i = 0; i < 32; i++)
				if (~*(volatile uint64_t *)(p + (size_t)i * PAGE))
					_exit(2);
			_exit(0);
		}
		for (int i = 0; i < 3; i++) {
			wait_rounds(vm, 2);
			wait_counts((volatile uint64_t *)p);
			EXPECT_NE(~0ul, *(volatile uint64_t *)(p + 31 * PAGE));
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(0, status);
	}
	runner_stop(&r);
}

TEST_F(notifier, after_fork_small_pages_are_copied_before_the_guest_writes)
{
	fork_case(_metadata, self->vm, self->v, MADV_NOHUGEPAGE);
}

TEST_F(notifier, after_fork_huge_pages_are_copied_before_the_guest_writes)
{
	fork_case(_metadata, self->vm, self->v, MADV_HUGEPAGE);
}

/* Memory that nobody has touched. */
static void guest_zero(uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		GUEST_EQ(0, rd64(SLOT_GPA + (first + i) * PAGE));
	ucall_sync(1);
	for (uint64_t i = 0; i < n; i++)
		GUEST_EQ(i, rd64(SLOT_GPA + (first + i) * PAGE + 8));
	for (uint64_t i = 0; i < n; i++)
		wr64(SLOT_GPA + (first + i) * PAGE, i + 1);
	ucall_sync(2);
}

TEST_F(notifier, the_zero_page_is_never_written_and_gives_way_to_real_memory)
{
	uint8_t *p = memory(self->vm, MADV_NOHUGEPAGE);
	uint64_t *other = map_anon(PAGE);
	uint64_t sum = 0;

	for (uint64_t i = 0; i < 64; i++)
		sum += *(volatile uint64_t *)(p + i * PAGE);	/* half are the zero page now */
	EXPECT_EQ(0, sum);
	EXPECT_EQ(0, *(volatile uint64_t *)other);
	vcpu_call(self->v, guest_zero, 0, 128);
	EXPECT_EQ(1, vcpu_sync(self->v));
	for (uint64_t i = 0; i < 128; i++)
		*(volatile uint64_t *)(p + i * PAGE + 8) = i;
	EXPECT_EQ(2, vcpu_sync(self->v));
	for (uint64_t i = 0; i < 128; i++)
		EXPECT_EQ(i + 1, *(uint64_t *)(p + i * PAGE));
	EXPECT_EQ(0, *(volatile uint64_t *)other);
	vcpu_finish(self->v);
}

static void guest_fill(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		wr64(SLOT_GPA + i * PAGE + 16, i ^ 0x5555);
	ucall_sync(n);
	for (uint64_t i = 0; i < n; i++)
		GUEST_EQ(i ^ 0x5555, rd64(SLOT_GPA + i * PAGE + 16));
}

TEST_F(notifier, memory_that_only_the_guest_has_touched_is_there_for_the_host)
{
	uint8_t *p = memory(self->vm, MADV_HUGEPAGE);

	vcpu_call(self->v, guest_fill, PAGES);
	EXPECT_EQ(PAGES, vcpu_sync(self->v));
	for (uint64_t i = 0; i < PAGES; i++)
		ASSERT_EQ(i ^ 0x5555, *(uint64_t *)(p + i * PAGE + 16));
	vcpu_finish(self->v);
}

/* Every page has a counter that only the guest advances: moving pages about may not lose a step. */
static void guest_increment(uint64_t n)
{
	for (;;) {
		loops++;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t v = rd64(SLOT_GPA + i * PAGE) + 1;

			GUEST_EQ(loops, v);
			wr64(SLOT_GPA + i * PAGE, v);
		}
	}
}

TEST_F(notifier, pages_that_are_split_collapsed_and_compacted_keep_their_contents)
{
	uint8_t *p = memory(self->vm, MADV_NOHUGEPAGE);
	int compact = open("/proc/sys/vm/compact_memory", O_WRONLY);
	struct runner r;

	vcpu_call(self->v, guest_increment, 256);
	runner_start(&r, self->v, runner_spin);
	for (int round = 0; round < 6; round++) {
		wait_rounds(self->vm, 3);
		madvise(p, SIZE, MADV_HUGEPAGE);
		madvise(p, SIZE, MADV_COLLAPSE);
		wait_rounds(self->vm, 3);
		/* Other protections for one page split the huge one. */
		ASSERT_OK(mprotect(p + 300 * PAGE, PAGE, PROT_READ));
		wait_rounds(self->vm, 3);
		ASSERT_OK(mprotect(p + 300 * PAGE, PAGE, PROT_READ | PROT_WRITE));
		ASSERT_OK(madvise(p + 301 * PAGE, PAGE, MADV_DONTNEED));
		if (compact >= 0 && round == 2)
			EXPECT_EQ(1, write(compact, "1", 1));
	}
	runner_stop(&r);
	for (uint64_t i = 1; i < 256; i++)
		EXPECT_LE(*(uint64_t *)p - *(uint64_t *)(p + i * PAGE), 1);
}

TEST_F(notifier, discarded_hugetlb_pages_read_as_zero)
{
	int nr = open("/proc/sys/vm/nr_hugepages", O_WRONLY);
	struct runner r;
	uint8_t *p;

	if (nr < 0 || write(nr, "4", 1) != 1)
		SKIP(return, "no hugetlbfs here");
	p = mmap(NULL, 4 * MiB, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (p == MAP_FAILED)
		SKIP(return, "no huge pages to be had");
	vm_slot(self->vm, 1, 0, SLOT_GPA, 4 * MiB, p);
	vcpu_call(self->v, guest_reader, PAGES);
	runner_start(&r, self->v, runner_spin);
	for (uint64_t round = 1; round < 6; round++) {
		for (uint64_t i = 0; i < PAGES; i++)
			*(volatile uint64_t *)(p + i * PAGE) = round;
		wait_rounds(self->vm, 2);
		EXPECT_EQ(round, G(self->vm, seen)[PAGES - 1]);
		ASSERT_OK(madvise(p, 2 * MiB, MADV_DONTNEED));
		wait_rounds(self->vm, 2);
		for (uint64_t i = 0; i < PAGES; i++)
			ASSERT_EQ(0, G(self->vm, seen)[i]);
	}
	runner_stop(&r);
	munmap(p, 4 * MiB);
	EXPECT_EQ(1, write(nr, "0", 1));
}

TEST_F(notifier, the_memory_behind_a_vm_may_be_unmapped_while_nothing_runs)
{
	uint8_t *p = memory(self->vm, MADV_HUGEPAGE);

	vcpu_call(self->v, guest_fill, PAGES);
	EXPECT_EQ(PAGES, vcpu_sync(self->v));
	vcpu_finish(self->v);
	munmap(p, SIZE);
	vcpu_call(self->v, guest_fill, PAGES);
	EXPECT_EQ(-EFAULT, vcpu_try_run(self->v));
	/* What comes to that address now is the guest's too: that is what the slot says. */
	ASSERT_EQ(p, mmap(p, SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(PAGES, vcpu_sync(self->v));
	vcpu_finish(self->v);
}

/* One KVM_RUN, and what it returned. */
static volatile int returned;
static void fn_once(struct runner *r)
{
	returned = vcpu_try_run(r->vcpu);
	r->loops++;
}

TEST_F(notifier, a_signal_ends_the_wait_for_a_page_that_user_space_withholds)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register all = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage first = {};
	struct uffd_msg msg;
	struct utsname host;
	struct runner r;
	int fd, major = 0, minor = 0;

	uname(&host);
	sscanf(host.release, "%d.%d", &major, &minor);
	if (major < 6 || (major == 6 && minor < 2))
		SKIP_CASE("before 6.2 the kernel lets nobody out of it");
	fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0 && errno == ENOSYS)
		SKIP_CASE("the kernel has no userfaultfd");
	ASSERT_LE(0, fd);
	ASSERT_OK(ioctl(fd, UFFDIO_API, &api));
	all.range.start = (uintptr_t)memory(self->vm, MADV_NOHUGEPAGE);
	all.range.len = SIZE;
	ASSERT_OK(ioctl(fd, UFFDIO_REGISTER, &all));
	first.range.start = all.range.start;
	first.range.len = PAGE;

	kick_setup();
	vcpu_call(self->v, guest_reader, 1);
	runner_start(&r, self->v, fn_once);
	ASSERT_EQ(sizeof(msg), read(fd, &msg, sizeof(msg)));
	EXPECT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);
	self->v->run->immediate_exit = 1;
	for (int i = 0; i < 20000 && !r.loops; i++) {
		pthread_kill(r.thread, SIGUSR1);
		usleep(100);
	}
	EXPECT_EQ(1, r.loops);
	EXPECT_OK(ioctl(fd, UFFDIO_ZEROPAGE, &first));
	runner_join(&r);
	EXPECT_EQ(-EINTR, returned);
	EXPECT_EQ(KVM_EXIT_INTR, self->v->run->exit_reason);

	self->v->run->immediate_exit = 0;
	runner_start(&r, self->v, runner_spin);
	wait_rounds(self->vm, 2);
	runner_stop(&r);
	close(fd);
}

GUEST_TEST_MAIN
