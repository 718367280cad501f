// SPDX-License-Identifier: GPL-2.0-only
/* The dirty log: exactly the pages that were written, by whomever on the guest's behalf. */
#include "test.h"

#include <stdlib.h>

#define SLOT_GPA 0x10000000ul
#define PAGES 2048u		/* 8 MiB */
#define WINDOW 0x7000000000ull

#define LOG KVM_MEM_LOG_DIRTY_PAGES

static uint64_t bitmap[PAGES / 64 + 2];

static int try_get_log(struct vm *vm, uint32_t slot, void *map)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = map };

	return ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
}

static void leave(int signal)
{
	_exit(signal);
}

/* The system call of a 32-bit program; false: this kernel has none. arg is below 4 GiB. */
static bool call32(int nr, int fd, unsigned int cmd, void *arg, int *result)
{
	int status;
	pid_t child = fork();

	if (!child) {
		signal(SIGSEGV, leave);	/* handled, or the kernel tells its log */
		asm volatile("int $0x80" : : "a"(1), "b"(0) : "memory"); /* exit(0) */
		_exit(1);
	}
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status))
		return false;
	asm volatile("int $0x80" : "=a"(*result) : "0"(nr), "b"(fd), "c"(cmd), "d"(arg)
		     : "r8", "r9", "r10", "r11", "memory");
	return true;
}

static void get_log(struct vm *vm)
{
	memset(bitmap, 0xa5, sizeof(bitmap));
	CHECK(!try_get_log(vm, 1, bitmap), "KVM_GET_DIRTY_LOG");
	CHECK(bitmap[PAGES / 64] == 0xa5a5a5a5a5a5a5a5, "written behind the bitmap");
}

static bool dirty(unsigned int page)
{
	return bitmap[page / 64] >> (page % 64) & 1;
}

static unsigned int count_dirty(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < PAGES; i++)
		n += dirty(i);
	return n;
}

FIXTURE(dirty) {
	struct vm *vm;
	struct vcpu *v;
	uint8_t *mem;
};
FIXTURE_VARIANT(dirty) { int advice; bool hugetlb; };
FIXTURE_VARIANT_ADD(dirty, small_pages) { .advice = MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(dirty, transparent_huge_pages) { .advice = MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(dirty, hugetlb) { .hugetlb = true };
FIXTURE_SETUP(dirty)
{
	self->vm = vm_new();
	self->v = vcpu_new(self->vm, 0);
	if (variant->hugetlb) {
		int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY);

		if (fd < 0 || write(fd, "8", 1) != 1)
			SKIP_CASE("no hugetlbfs here");
		close(fd);
		self->mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		if (self->mem == MAP_FAILED)
			SKIP_CASE("no huge pages to be had");
	} else {
		self->mem = map_aligned(PAGES * PAGE, 2 * MiB);
		madvise(self->mem, PAGES * PAGE, variant->advice);
	}
	memset(self->mem, 1, PAGES * PAGE);
	vm_slot(self->vm, 1, LOG, SLOT_GPA, PAGES * PAGE, self->mem);
}
FIXTURE_TEARDOWN(dirty)
{
	vcpu_free(self->v);
	vm_free(self->vm);
	munmap(self->mem, PAGES * PAGE);
	if (variant->hugetlb) {
		int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY);

		EXPECT_EQ(1, write(fd, "0", 1));
		close(fd);
	}
}

/* Touches every step-th page from first on, n of them. */
static void guest_touch(uint64_t first, uint64_t step, uint64_t n, uint64_t write)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t a = SLOT_GPA + (first + i * step) * PAGE + i * 8 % PAGE;

		if (write)
			wr64(a, i);
		else
			sum += rd64(a);
	}
	ucall_sync(sum);
}

static void touch(struct vcpu *v, uint64_t first, uint64_t step, uint64_t n, bool write)
{
	vcpu_call(v, guest_touch, first, step, n, write);
	vcpu_sync(v);
}

static void expect_pages(struct __test_metadata *_metadata, struct vm *vm, unsigned int first,
			 unsigned int step, unsigned int n)
{
	get_log(vm);
	EXPECT_EQ(n, count_dirty());
	for (unsigned int i = 0; i < n; i++) {
		ASSERT_TRUE(dirty(first + i * step)) {
			TH_LOG("page %u", first + i * step);
		}
	}
}

TEST_F(dirty, names_the_written_pages_and_no_other)
{
	touch(self->v, 3, 7, 200, true);
	expect_pages(_metadata, self->vm, 3, 7, 200);
	touch(self->v, 0, 1, 1, true);
	touch(self->v, PAGES - 1, 1, 1, true);
	expect_pages(_metadata, self->vm, 0, PAGES - 1, 2);
	touch(self->v, 0, 1, PAGES, true);
	expect_pages(_metadata, self->vm, 0, 1, PAGES);
}

/* A processor that logs by itself has room for 512. */
TEST_F(dirty, sees_more_writes_than_a_processor_logs_at_once)
{
	for (int round = 0; round < 3; round++) {
		touch(self->v, 0, 1, PAGES, true);
		expect_pages(_metadata, self->vm, 0, 1, PAGES);
	}
	/* Just full, one less, one more. */
	for (int n = 511; n <= 513; n++) {
		touch(self->v, 1, 1, n, true);
		expect_pages(_metadata, self->vm, 1, 1, n);
	}
}

TEST_F(dirty, is_cleared_by_reading_it)
{
	touch(self->v, 5, 3, 100, true);
	get_log(self->vm);
	EXPECT_EQ(100, count_dirty());
	get_log(self->vm);
	EXPECT_EQ(0, count_dirty());
	/* The same pages again, and again. */
	for (int i = 0; i < 3; i++) {
		touch(self->v, 5, 3, 100, true);
		touch(self->v, 5, 3, 100, true);
		expect_pages(_metadata, self->vm, 5, 3, 100);
	}
}

TEST_F(dirty, is_not_set_by_reads_nor_by_user_space)
{
	/* The first read of a page may count: it may be mapped writable at once. */
	touch(self->v, 0, 1, PAGES, true);
	get_log(self->vm);
	for (int i = 0; i < 2; i++) {
		touch(self->v, 0, 1, PAGES, false);
		get_log(self->vm);
		EXPECT_EQ(0, count_dirty());
	}
	memset(self->mem, 2, PAGES * PAGE);
	get_log(self->vm);
	EXPECT_EQ(0, count_dirty());
	touch(self->v, 0, 1, PAGES, false);
	touch(self->v, 77, 1, 1, true);
	touch(self->v, 0, 1, PAGES, false);
	expect_pages(_metadata, self->vm, 77, 1, 1);
}

TEST_F(dirty, starts_clean_and_sees_pages_that_were_writable_before)
{
	vm_slot(self->vm, 1, 0, SLOT_GPA, PAGES * PAGE, self->mem);
	for (int i = 0; i < 3; i++) {
		touch(self->v, 0, 1, PAGES, true);
		vm_slot(self->vm, 1, LOG, SLOT_GPA, PAGES * PAGE, self->mem);
		get_log(self->vm);
		EXPECT_EQ(0, count_dirty());
		touch(self->v, 100, 11, 50, true);
		expect_pages(_metadata, self->vm, 100, 11, 50);
		touch(self->v, 1, 1, 1, true);
		vm_slot(self->vm, 1, 0, SLOT_GPA, PAGES * PAGE, self->mem);
		EXPECT_ERRNO(ENOENT, try_get_log(self->vm, 1, bitmap));
	}
}

static void guest_store(uint64_t a, uint64_t value)
{
	wr64(a, value);
	ucall_sync(0);
}

TEST_F(dirty, sees_writes_that_straddle_pages)
{
	pt_map(self->vm, WINDOW, SLOT_GPA + 9 * PAGE, PAGE, PTE_URW);
	pt_map(self->vm, WINDOW + PAGE, SLOT_GPA + 4 * PAGE, PAGE, PTE_URW);
	vcpu_call(self->v, guest_store, WINDOW + PAGE - 3, 5);
	vcpu_sync(self->v);
	expect_pages(_metadata, self->vm, 4, 5, 2);
}

static void guest_emulated(uint64_t page)
{
	uint64_t a = SLOT_GPA + page * PAGE, n, d, s;

	d = a + PAGE - 6;
	n = 3;
	asm volatile("rep insl" : "+D"(d), "+c"(n) : "d"(0x5a0) : "memory");
	d = a + 2 * PAGE;
	s = MMIO_GPA;
	n = 4;
	asm volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	/* A push whose source is MMIO writes the stack, here in page + 5. */
	d = a + 5 * PAGE + 0x100;
	asm volatile("xchg %%rsp, %0; pushq (%1); mov %0, %%rsp" : "+r"(d) : "r"(s) : "memory");
	ucall_sync(0);
}

TEST_F(dirty, sees_what_the_hypervisor_writes_for_the_guest)
{
	static const unsigned int want[] = { 40, 41, 42, 45 };
	struct ucall u;

	vcpu_call(self->v, guest_emulated, 40);
	do
		vcpu_run(self->v);
	while (!vcpu_is_ucall(self->v, &u));
	ASSERT_EQ(UCALL_SYNC, u.kind);
	get_log(self->vm);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		EXPECT_TRUE(dirty(want[i]));
	EXPECT_EQ(ARRAY_SIZE(want), count_dirty());
}

TEST_F(dirty, sees_the_accessed_bits_of_page_tables_in_logged_memory)
{
	uint64_t *pt = (uint64_t *)(self->mem + 33 * PAGE);

	if (on_bochs() && on_intel() && vmx_without("eptad"))
		SKIP(return, "Bochs sets accessed bits without asking the nested tables when these have none");

	memset(pt, 0, PAGE);
	pt[0] = SCRATCH_GPA | PTE_URW;
	pt_map(self->vm, WINDOW, SCRATCH_GPA, PAGE, PTE_URW);
	*pt_entry(self->vm, WINDOW, 2) = (SLOT_GPA + 33 * PAGE) | PTE_URW;
	touch(self->v, (WINDOW - SLOT_GPA) / PAGE, 1, 1, false);
	EXPECT_EQ(PTE_A, pt[0] & (PTE_A | PTE_D));
	expect_pages(_metadata, self->vm, 33, 1, 1);
	touch(self->v, (WINDOW - SLOT_GPA) / PAGE, 1, 1, true);
	EXPECT_EQ(PTE_A | PTE_D, pt[0] & (PTE_A | PTE_D));
	get_log(self->vm);
	EXPECT_TRUE(dirty(33));
}

TEST_F(dirty, has_no_bits_beyond_the_end_of_the_slot)
{
	static const unsigned int sizes[] = { 1, 63, 64, 65, 127, 513, 1025 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned int n = sizes[i], words = (n + 63) / 64;

		vm_slot(self->vm, 1, 0, SLOT_GPA, 0, NULL);
		vm_slot(self->vm, 1, LOG, SLOT_GPA, n * PAGE, self->mem);
		touch(self->v, 0, 1, n, true);
		memset(bitmap, 0xa5, sizeof(bitmap));
		ASSERT_OK(try_get_log(self->vm, 1, bitmap));
		for (unsigned int k = 0; k < n; k++)
			ASSERT_TRUE(dirty(k));
		for (unsigned int k = n; k < words * 64; k++)
			ASSERT_FALSE(dirty(k));
		EXPECT_EQ(0xa5a5a5a5a5a5a5a5, bitmap[words]);
	}
}

TEST_F(dirty, is_kept_for_each_slot_even_where_they_share_memory)
{
	uint64_t other[PAGES / 64];

	vm_slot(self->vm, 2, LOG, SLOT_GPA + PAGES * PAGE, PAGES * PAGE, self->mem);
	touch(self->v, 10, 1, 3, true);
	touch(self->v, PAGES + 20, 1, 4, true);
	expect_pages(_metadata, self->vm, 10, 1, 3);
	ASSERT_OK(try_get_log(self->vm, 2, other));
	EXPECT_EQ(0xful << 20, other[0]);
	for (unsigned int i = 1; i < PAGES / 64; i++)
		EXPECT_EQ(0, other[i]);
}

static void guest_writer(uint64_t seed)
{
	uint64_t x = seed;

	for (uint64_t i = 1;; i++) {
		x = x * 6364136223846793005 + 1442695040888963407;
		wr64(SLOT_GPA + (x >> 40) % PAGES * PAGE + (x >> 20) % 512 * 8, i);
	}
}

TEST_F(dirty, loses_no_write_of_a_running_guest)
{
	uint8_t *copy = map_anon(PAGES * PAGE);
	struct vcpu *w = vcpu_new(self->vm, 1);
	struct runner r[2];
	unsigned int total = 0;

	memcpy(copy, self->mem, PAGES * PAGE);
	vcpu_call(self->v, guest_writer, 1);
	vcpu_call(w, guest_writer, 2);
	runner_start(&r[0], self->v, runner_spin);
	runner_start(&r[1], w, runner_spin);
	for (int round = 0; round < 25; round++) {
		if (round == 24) {
			runner_stop(&r[0]);
			runner_stop(&r[1]);
		} else {
			usleep(4000);
		}
		get_log(self->vm);
		total += count_dirty();
		for (unsigned int i = 0; i < PAGES; i++)
			if (dirty(i))
				memcpy(copy + i * PAGE, self->mem + i * PAGE, PAGE);
	}
	EXPECT_LT(0, total);
	EXPECT_EQ(0, memcmp(copy, self->mem, PAGES * PAGE));
	get_log(self->vm);
	EXPECT_EQ(0, count_dirty());
}

TEST_F(dirty, may_be_switched_on_and_off_under_a_running_guest)
{
	uint8_t *copy = map_anon(PAGES * PAGE);
	struct runner r;

	vcpu_call(self->v, guest_writer, 3);
	runner_start(&r, self->v, runner_spin);
	for (int round = 0; round < 15; round++) {
		vm_slot(self->vm, 1, 0, SLOT_GPA, PAGES * PAGE, self->mem);
		usleep(1000);
		vm_slot(self->vm, 1, LOG, SLOT_GPA, PAGES * PAGE, self->mem);
		memcpy(copy, self->mem, PAGES * PAGE);
		usleep(1000);
	}
	runner_stop(&r);
	get_log(self->vm);
	for (unsigned int i = 0; i < PAGES; i++) {
		if (dirty(i))
			continue;
		ASSERT_EQ(0, memcmp(copy + i * PAGE, self->mem + i * PAGE, PAGE)) {
			TH_LOG("page %u changed without a bit", i);
		}
	}
}

/* Cases that do not depend on the kind of memory. */
VM_FIXTURE(log)

TEST_F(log, bad_requests_are_refused)
{
	uint8_t *p = map_anon(4 * PAGE);

	vm_slot(self->vm, 1, LOG, SLOT_GPA, 4 * PAGE, p);
	vm_slot(self->vm, 2, 0, SLOT_GPA + MiB, 4 * PAGE, p);
	EXPECT_OK(try_get_log(self->vm, 1, bitmap));
	EXPECT_ERRNO(ENOENT, try_get_log(self->vm, 2, bitmap));
	EXPECT_ERRNO(ENOENT, try_get_log(self->vm, 3, bitmap));
	EXPECT_ERRNO(EINVAL, try_get_log(self->vm, 0xffff, bitmap));
	EXPECT_ERRNO(EINVAL, try_get_log(self->vm, 0xffff0001, bitmap));
	EXPECT_ERRNO(EFAULT, try_get_log(self->vm, 1, NULL));
	EXPECT_ERRNO(EFAULT, try_get_log(self->vm, 1, (void *)0xffff888000000000));
	EXPECT_ERRNO(EFAULT, ioctl(self->vm->fd, KVM_GET_DIRTY_LOG, NULL));
}

TEST_F(log, a_read_only_slot_may_be_logged_and_stays_clean)
{
	uint8_t *p = map_anon(4 * PAGE);

	vm_slot(self->vm, 1, LOG | KVM_MEM_READONLY, SLOT_GPA, 4 * PAGE, p);
	vcpu_call(self->v, guest_touch, 0, 1, 4, 0);
	vcpu_sync(self->v);
	vcpu_call(self->v, guest_touch, 0, 1, 4, 1);
	for (int i = 0; i < 4; i++)
		vcpu_expect(self->v, KVM_EXIT_MMIO);
	vcpu_sync(self->v);
	ASSERT_OK(try_get_log(self->vm, 1, bitmap));
	EXPECT_EQ(0, bitmap[0]);
}

TEST_F(log, a_slot_logged_from_its_creation_starts_clean)
{
	uint8_t *p = map_anon(64 * PAGE);

	for (int i = 0; i < 3; i++) {
		vm_slot(self->vm, 1, LOG, SLOT_GPA, 64 * PAGE, p);
		ASSERT_OK(try_get_log(self->vm, 1, bitmap));
		EXPECT_EQ(0, bitmap[0]);
		vcpu_call(self->v, guest_touch, 3, 1, 1, 1);
		vcpu_sync(self->v);
		vm_slot(self->vm, 1, 0, 0, 0, NULL);
		EXPECT_ERRNO(ENOENT, try_get_log(self->vm, 1, bitmap));
	}
}

static int clear_log(struct vm *vm, uint32_t slot, uint64_t first, uint32_t n, void *map)
{
	struct kvm_clear_dirty_log c = {
		.slot = slot, .first_page = first, .num_pages = n, .dirty_bitmap = map,
	};

	return ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &c);
}

TEST_F(log, with_manual_protection_only_clearing_clears)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 1 } };
	uint8_t *p = map_anon(PAGES * PAGE);
	uint64_t mask[2] = { 0xf0, 0 };

	NEED_CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	ASSERT_OK(ioctl(self->vm->fd, KVM_ENABLE_CAP, &cap));
	vm_slot(self->vm, 1, LOG, SLOT_GPA, PAGES * PAGE, p);
	touch(self->v, 0, 1, 128, true);
	for (int i = 0; i < 2; i++) {
		get_log(self->vm);
		EXPECT_EQ(128, count_dirty());
	}
	ASSERT_OK(clear_log(self->vm, 1, 64, 64, mask));
	get_log(self->vm);
	EXPECT_EQ(124, count_dirty());
	EXPECT_EQ(~0xf0ul, bitmap[1]);
	touch(self->v, 69, 1, 1, true);
	get_log(self->vm);
	EXPECT_EQ(125, count_dirty());
	EXPECT_TRUE(dirty(69));
	EXPECT_ERRNO(EINVAL, clear_log(self->vm, 1, 1, 64, mask));
	EXPECT_ERRNO(EINVAL, clear_log(self->vm, 1, 0, 1, mask));
	EXPECT_ERRNO(EINVAL, clear_log(self->vm, 1, PAGES, 64, mask));
	EXPECT_ERRNO(EINVAL, clear_log(self->vm, 1, PAGES - 64, 128, mask));
	EXPECT_ERRNO(ENOENT, clear_log(self->vm, 2, 0, 64, mask));
	EXPECT_ERRNO(EFAULT, clear_log(self->vm, 1, 0, 64, NULL));
}

TEST_F(log, of_a_32_bit_pointer_the_other_half_is_nothing)
{
	static struct kvm_dirty_log request;
	uint8_t *p = map_anon(PAGES * PAGE);
	int r;

	vm_slot(self->vm, 1, LOG, SLOT_GPA, PAGES * PAGE, p);
	get_log(self->vm);
	touch(self->v, 5, 100, 20, true);
	request.slot = 1;
	request.padding2 = (uintptr_t)bitmap | 0xdeadul << 32;
	if (!call32(54, self->vm->fd, KVM_GET_DIRTY_LOG, &request, &r))
		SKIP(return, "this kernel runs no 32-bit programs");
	EXPECT_EQ(0, r);
	EXPECT_EQ(20, count_dirty());
	munmap(p, PAGES * PAGE);
}

TEST_F(log, with_initially_set_a_log_starts_full)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 3 } };
	uint8_t *p = map_anon(PAGES * PAGE);

	if (!(kvm_has(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & 2))
		SKIP(return, "KVM_DIRTY_LOG_INITIALLY_SET is not offered");
	ASSERT_OK(ioctl(self->vm->fd, KVM_ENABLE_CAP, &cap));
	vm_slot(self->vm, 1, LOG, SLOT_GPA, PAGES * PAGE, p);
	get_log(self->vm);
	EXPECT_EQ(PAGES, count_dirty());
	touch(self->v, 0, 1, PAGES, true);
	ASSERT_OK(clear_log(self->vm, 1, 0, PAGES, bitmap));
	get_log(self->vm);
	EXPECT_EQ(0, count_dirty());
	touch(self->v, 5, 100, 20, true);
	expect_pages(_metadata, self->vm, 5, 100, 20);
}

GUEST_TEST_MAIN
