// SPDX-License-Identifier: GPL-2.0-only
/* Memory slots: what user space may ask for, and what the guest then sees. */
#include "test.h"

#include <stdlib.h>
#include <sys/syscall.h>

#define SLOT_GPA 0x10000000ul

VM_FIXTURE(slots)

TEST_F(slots, malformed_slots_are_refused)
{
	uint8_t *p = map_aligned(4 * MiB, 2 * MiB);
	struct vm *vm = self->vm;
	unsigned int max = (unsigned int)kvm_has(KVM_CAP_NR_MEMSLOTS);

	EXPECT_LE(32, max);
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA + 1, PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA + 0x800, PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, PAGE + 1, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, PAGE / 2, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, PAGE, p + 1));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, PAGE, p + 0x200));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 1 << 15, SLOT_GPA, PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, ~0u, SLOT_GPA, PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, max, 0, SLOT_GPA, PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 0xffff, 0, SLOT_GPA, PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 2 << 16 | 1, 0, SLOT_GPA, PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 0xffff0001, 0, SLOT_GPA, PAGE, p));
	/* Not there, so nothing to delete. */
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, 0, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, 0, 0, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, ~0ul));
}

TEST_F(slots, ranges_that_wrap_or_leave_an_address_space_are_refused)
{
	uint8_t *p = map_aligned(4 * MiB, 2 * MiB);
	struct vm *vm = self->vm;

	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, -PAGE, 2 * PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, -2 * PAGE, PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, 1ul << 52, PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, (1ul << 52) - PAGE, 2 * PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, -PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, 1ul << 43, p));
	/* Not user space's addresses. */
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, PAGE, (void *)0xffff888000000000));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, PAGE, (void *)-PAGE));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, 2 * PAGE, (void *)-PAGE));
	/* Nor is one that differs from a page of ours in bits the page tables do not look at. */
	for (int bit = 56; bit < 63; bit++)
		EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, PAGE,
						 (void *)((uintptr_t)p | 1ul << bit)));
	/* After so much refusal nothing is there, and all of it may be taken. */
	EXPECT_OK(vm_try_slot(vm, 1, 0, SLOT_GPA, PAGE, p));
}

static void set_key_rights(int key, uint32_t rights)
{
	uint32_t a, d;

	asm volatile(".byte 0x0f, 0x01, 0xee" : "=a"(a), "=d"(d) : "c"(0));
	a = (a & ~(3u << 2 * key)) | rights << 2 * key;
	asm volatile(".byte 0x0f, 0x01, 0xef" : : "a"(a), "c"(0), "d"(0) : "memory");
}

static void guest_read_then_write(volatile uint32_t *p)
{
	ucall_sync(*p);
	*p = 9;
	ucall_sync(*p);
}

/* What the VMM's thread may not touch its guest does not get either. */
TEST_F(slots, a_closed_protection_key_closes_the_page_to_the_guest)
{
	int key = (int)syscall(SYS_pkey_alloc, 0, 0);
	uint32_t *p = map_anon(PAGE);

	if (key < 0)
		SKIP(return, "this host has no protection keys");
	*p = 7;
	vm_slot(self->vm, 1, 0, SLOT_GPA, PAGE, p);
	ASSERT_OK(syscall(SYS_pkey_mprotect, p, PAGE, PROT_READ | PROT_WRITE, key));
	set_key_rights(key, 1);
	vcpu_call(self->v, guest_read_then_write, SLOT_GPA);
	EXPECT_EQ(-EFAULT, vcpu_try_run(self->v));
	set_key_rights(key, 2);		/* to be read, not written */
	EXPECT_EQ(7, vcpu_sync(self->v));
	EXPECT_EQ(-EFAULT, vcpu_try_run(self->v));
	set_key_rights(key, 0);
	EXPECT_EQ(9, vcpu_sync(self->v));
	EXPECT_EQ(9, *p);
}

TEST_F(slots, overlapping_slots_are_refused_with_eexist)
{
	static const struct { uint64_t gpa, pages; } bad[] = {
		{ SLOT_GPA, 4 }, { SLOT_GPA, 1 }, { SLOT_GPA + 3 * PAGE, 1 },
		{ SLOT_GPA + 3 * PAGE, 10 }, { SLOT_GPA - PAGE, 2 }, { SLOT_GPA - PAGE, 100 },
		{ SLOT_GPA + PAGE, 2 },
	};
	uint8_t *p = map_aligned(4 * MiB, 2 * MiB);
	struct vm *vm = self->vm;

	vm_slot(vm, 5, 0, SLOT_GPA, 4 * PAGE, p);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_ERRNO(EEXIST, vm_try_slot(vm, 1, 0, bad[i].gpa, bad[i].pages * PAGE, p));
	EXPECT_ERRNO(EEXIST, vm_try_slot(vm, 6, 0, 0, PAGE, p));
	/* Neighbours are no overlap. */
	EXPECT_OK(vm_try_slot(vm, 1, 0, SLOT_GPA - PAGE, PAGE, p));
	EXPECT_OK(vm_try_slot(vm, 2, 0, SLOT_GPA + 4 * PAGE, PAGE, p));
	/* Moving onto another is. */
	EXPECT_ERRNO(EEXIST, vm_try_slot(vm, 1, 0, SLOT_GPA, PAGE, p));
	EXPECT_ERRNO(EEXIST, vm_try_slot(vm, 5, 0, SLOT_GPA + PAGE, 4 * PAGE, p));
	/* But not onto its own old place. */
	vm_slot(vm, 2, 0, 0, 0, NULL);
	EXPECT_OK(vm_try_slot(vm, 5, 0, SLOT_GPA + PAGE, 4 * PAGE, p));
}

TEST_F(slots, of_an_existing_slot_only_place_and_dirty_logging_may_change)
{
	uint8_t *p = map_aligned(4 * MiB, 2 * MiB);
	struct vm *vm = self->vm;

	vm_slot(vm, 1, 0, SLOT_GPA, 4 * PAGE, p);
	EXPECT_OK(vm_try_slot(vm, 1, 0, SLOT_GPA, 4 * PAGE, p));	/* no change */
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, 8 * PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, 2 * PAGE, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, 4 * PAGE, p + PAGE));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA + PAGE, 4 * PAGE, p + PAGE));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, KVM_MEM_READONLY, SLOT_GPA, 4 * PAGE, p));
	EXPECT_OK(vm_try_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, SLOT_GPA, 4 * PAGE, p));
	EXPECT_OK(vm_try_slot(vm, 1, 0, SLOT_GPA, 4 * PAGE, p));
	EXPECT_OK(vm_try_slot(vm, 1, 0, SLOT_GPA + 0x100000, 4 * PAGE, p));
	EXPECT_OK(vm_try_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, SLOT_GPA, 4 * PAGE, p));
	EXPECT_OK(vm_try_slot(vm, 1, 0, SLOT_GPA, 0, p));
	EXPECT_ERRNO(EINVAL, vm_try_slot(vm, 1, 0, SLOT_GPA, 0, p));
	/* A new slot of the same number may be anything. */
	EXPECT_OK(vm_try_slot(vm, 1, KVM_MEM_READONLY, SLOT_GPA, 8 * PAGE, p + PAGE));
	EXPECT_OK(vm_try_slot(vm, 1, 0, 0, 0, NULL));
}

static void guest_read(uint64_t a)
{
	ucall_sync(rd64(a));
}

static void guest_write(uint64_t a, uint64_t v)
{
	wr64(a, v);
	ucall_sync(0);
}

/* What the guest reads at a: a number, or MMIO. */
#define MMIO_SEEN 0x6d6d696f6d6d696ful

static uint64_t read_at(struct vcpu *v, uint64_t a)
{
	struct ucall u;

	vcpu_call(v, guest_read, a);
	vcpu_run(v);
	if (v->run->exit_reason == KVM_EXIT_MMIO) {
		CHECK(v->run->mmio.phys_addr == a && !v->run->mmio.is_write, "%s", exit_text(v));
		vcpu_complete(v);
		return MMIO_SEEN;
	}
	CHECK(vcpu_is_ucall(v, &u) && u.kind == UCALL_SYNC, "%s", exit_text(v));
	return u.arg[0];
}

static bool write_at(struct vcpu *v, uint64_t a, uint64_t value)
{
	struct ucall u;

	vcpu_call(v, guest_write, a, value);
	vcpu_run(v);
	if (v->run->exit_reason == KVM_EXIT_MMIO) {
		CHECK(v->run->mmio.phys_addr == a && v->run->mmio.is_write, "%s", exit_text(v));
		vcpu_complete(v);
		return false;
	}
	CHECK(vcpu_is_ucall(v, &u) && u.kind == UCALL_SYNC, "%s", exit_text(v));
	return true;
}

TEST_F(slots, creating_a_slot_turns_mmio_into_memory_and_deleting_turns_it_back)
{
	uint64_t *p = map_anon(4 * PAGE);

	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(MMIO_SEEN, read_at(self->v, SLOT_GPA + 8));
		EXPECT_FALSE(write_at(self->v, SLOT_GPA + 8, 1));
		p[1] = 0x1000 + (uint64_t)i;
		vm_slot(self->vm, 1, 0, SLOT_GPA, 4 * PAGE, p);
		EXPECT_EQ(0x1000 + i, read_at(self->v, SLOT_GPA + 8));
		EXPECT_TRUE(write_at(self->v, SLOT_GPA + 8, 0x2000));
		EXPECT_EQ(0x2000, p[1]);
		EXPECT_EQ(MMIO_SEEN, read_at(self->v, SLOT_GPA + 4 * PAGE));
		EXPECT_EQ(MMIO_SEEN, read_at(self->v, SLOT_GPA - 8));
		vm_slot(self->vm, 1, 0, SLOT_GPA, 0, NULL);
	}
}

TEST_F(slots, a_moved_slot_is_at_the_new_place_only)
{
	uint64_t *p = map_anon(4 * PAGE);

	vm_slot(self->vm, 1, 0, SLOT_GPA, 4 * PAGE, p);
	for (uint64_t i = 0; i < 6; i++) {
		uint64_t here = SLOT_GPA + i * 2 * PAGE, there = here + 2 * PAGE;

		p[0] = i;
		p[3 * 512] = i + 100;
		EXPECT_EQ(i, read_at(self->v, here));
		EXPECT_EQ(i + 100, read_at(self->v, here + 3 * PAGE));
		vm_slot(self->vm, 1, 0, there, 4 * PAGE, p);
		EXPECT_EQ(MMIO_SEEN, read_at(self->v, here));
		EXPECT_EQ(i, read_at(self->v, there));
		EXPECT_EQ(i + 100, read_at(self->v, there + 3 * PAGE));
	}
}

TEST_F(slots, a_slot_may_be_replaced_by_one_with_other_memory_and_rights)
{
	uint64_t *p = map_anon(PAGE), *q = map_anon(PAGE);

	*p = 1;
	*q = 2;
	vm_slot(self->vm, 1, 0, SLOT_GPA, PAGE, p);
	EXPECT_EQ(1, read_at(self->v, SLOT_GPA));
	EXPECT_TRUE(write_at(self->v, SLOT_GPA + 8, 5));
	vm_slot(self->vm, 1, 0, SLOT_GPA, 0, NULL);
	vm_slot(self->vm, 7, KVM_MEM_READONLY, SLOT_GPA, PAGE, q);
	EXPECT_EQ(2, read_at(self->v, SLOT_GPA));
	EXPECT_FALSE(write_at(self->v, SLOT_GPA + 8, 5));
	EXPECT_EQ(0, q[1]);
	vm_slot(self->vm, 7, 0, SLOT_GPA, 0, NULL);
	vm_slot(self->vm, 3, 0, SLOT_GPA, PAGE, p);
	EXPECT_TRUE(write_at(self->v, SLOT_GPA, 9));
	EXPECT_EQ(9, *p);
	EXPECT_EQ(2, *q);
}

TEST_F(slots, two_slots_may_show_the_same_memory)
{
	uint64_t *p = map_anon(2 * PAGE);

	vm_slot(self->vm, 1, 0, SLOT_GPA, 2 * PAGE, p);
	vm_slot(self->vm, 2, 0, SLOT_GPA + 0x100000, PAGE, (uint8_t *)p + PAGE);
	vm_slot(self->vm, 3, KVM_MEM_READONLY, SLOT_GPA + 0x200000, 2 * PAGE, p);
	EXPECT_TRUE(write_at(self->v, SLOT_GPA + PAGE + 8, 0x77));
	EXPECT_EQ(0x77, read_at(self->v, SLOT_GPA + 0x100008));
	EXPECT_EQ(0x77, read_at(self->v, SLOT_GPA + 0x201008));
	EXPECT_TRUE(write_at(self->v, SLOT_GPA + 0x100010, 0x88));
	EXPECT_EQ(0x88, read_at(self->v, SLOT_GPA + PAGE + 16));
	EXPECT_FALSE(write_at(self->v, SLOT_GPA + 0x201008, 1));
	EXPECT_EQ(0x77, p[513]);
	/* One goes, the others stay. */
	vm_slot(self->vm, 1, 0, 0, 0, NULL);
	EXPECT_EQ(MMIO_SEEN, read_at(self->v, SLOT_GPA + PAGE + 8));
	EXPECT_EQ(0x77, read_at(self->v, SLOT_GPA + 0x100008));
	EXPECT_EQ(0x88, read_at(self->v, SLOT_GPA + 0x201010));
}

/* Reads one word of each page: expects base + page number. */
static void guest_check_pages(uint64_t a, uint64_t pages, uint64_t base)
{
	for (uint64_t i = 0; i < pages; i++)
		GUEST_EQ(base + i, rd64(a + i * PAGE));
	for (uint64_t i = 0; i < pages; i++)
		wr64(a + i * PAGE + 8, ~(base + i));
	ucall_sync(pages);
}

static void check_pages(struct __test_metadata *_metadata, struct vcpu *v, uint64_t gpa,
			uint8_t *hva, uint64_t pages)
{
	uint64_t base = gpa ^ 0x5555000000000000;

	for (uint64_t i = 0; i < pages; i++)
		*(uint64_t *)(hva + i * PAGE) = base + i;
	vcpu_call(v, guest_check_pages, gpa, pages, base);
	EXPECT_EQ(pages, vcpu_sync(v));
	for (uint64_t i = 0; i < pages; i++)
		ASSERT_EQ(~(base + i), *(uint64_t *)(hva + i * PAGE + 8));
}

TEST_F(slots, memory_that_cannot_be_mapped_large_is_right_all_the_same)
{
	static const uint64_t shifts[] = { 0, 1, 16, 255, 256, 511 };
	uint8_t *p = map_aligned(8 * MiB, 2 * MiB);

	madvise(p, 8 * MiB, MADV_HUGEPAGE);
	memset(p, 1, 8 * MiB);
	for (size_t i = 0; i < ARRAY_SIZE(shifts); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(shifts); k += 2) {
			uint64_t gpa = SLOT_GPA + shifts[i] * PAGE;
			uint8_t *hva = p + 2 * MiB + shifts[k] * PAGE;

			memset(p, 0, 8 * MiB);
			vm_slot(self->vm, 1, 0, gpa, 2 * MiB + 3 * PAGE, hva);
			check_pages(_metadata, self->v, gpa, hva, 515);
			/* What lies around the slot in host memory is not the guest's. */
			EXPECT_EQ(MMIO_SEEN, read_at(self->v, gpa - 8));
			EXPECT_EQ(MMIO_SEEN, read_at(self->v, gpa + 2 * MiB + 3 * PAGE));
			EXPECT_FALSE(write_at(self->v, gpa - PAGE, 1));
			EXPECT_FALSE(write_at(self->v, gpa + 2 * MiB + 4 * PAGE - 8, 1));
			EXPECT_EQ(0, *(uint64_t *)(hva - PAGE));
			EXPECT_EQ(0, *(uint64_t *)(hva + 2 * MiB + 4 * PAGE - 8));
			vm_slot(self->vm, 1, 0, 0, 0, NULL);
		}
	}
}

TEST_F(slots, neighbouring_slots_do_not_leak_into_each_other_through_large_pages)
{
	uint8_t *p = map_aligned(4 * MiB, 2 * MiB), *q = map_aligned(4 * MiB, 2 * MiB);

	/* One 2 MiB range of the guest: the lower half of p, the upper half of q. */
	memset(p, 0x11, 4 * MiB);
	memset(q, 0x22, 4 * MiB);
	vm_slot(self->vm, 1, 0, SLOT_GPA, MiB, p);
	vm_slot(self->vm, 2, 0, SLOT_GPA + MiB, MiB, q + MiB);
	check_pages(_metadata, self->v, SLOT_GPA, p, 256);
	check_pages(_metadata, self->v, SLOT_GPA + MiB, q + MiB, 256);
	EXPECT_EQ(0x1111111111111111, *(uint64_t *)(p + MiB));
	EXPECT_EQ(0x2222222222222222, *(uint64_t *)(q + MiB - 8));
}

/* Maps the guest-physical range where the guest can reach it: GPAs above 4 GiB. */
TEST_F(slots, slots_reach_from_4_gib_up_to_the_highest_physical_address)
{
	uint8_t *p = map_aligned(2 * MiB, 2 * MiB);
	unsigned int bits = kvm_maxphyaddr();

	for (unsigned int bit = 32; bit <= bits; bit++) {
		uint64_t gpa = 1ull << bit;
		uint64_t va = 0x200000000000 + bit * 2 * MiB;

		if (bit == bits)
			gpa -= 2 * MiB;
		vm_slot(self->vm, 1, 0, gpa, 2 * MiB, p);
		pt_map_large(self->vm, va, gpa, PTE_URW);
		*(uint64_t *)(p + MiB) = bit;
		*(uint64_t *)(p + 2 * MiB - 8) = bit + 100;
		EXPECT_EQ(bit, read_at(self->v, va + MiB));
		EXPECT_EQ(bit + 100, read_at(self->v, va + 2 * MiB - 8));
		vm_slot(self->vm, 1, 0, 0, 0, NULL);
	}
}

TEST_F(slots, a_thousand_slots_work_side_by_side)
{
	uint64_t *p = map_anon(2000 * PAGE);
	unsigned int max = (unsigned int)kvm_has(KVM_CAP_NR_MEMSLOTS);
	unsigned int n = max - 1 < 1000 ? max - 1 : 1000;

	/* Every other page, in an order that is neither up nor down. */
	for (unsigned int i = 0; i < n; i++) {
		unsigned int k = i * 617 % n;

		if (n == 1000)
			vm_slot(self->vm, 1 + k, 0, SLOT_GPA + k * 2 * PAGE, PAGE, p + k * 512);
		else
			vm_slot(self->vm, 1 + i, 0, SLOT_GPA + i * 2 * PAGE, PAGE, p + i * 512);
	}
	for (unsigned int k = 0; k < n; k += 7) {
		p[k * 512] = k + 5;
		EXPECT_EQ(k + 5, read_at(self->v, SLOT_GPA + k * 2 * PAGE));
	}
	EXPECT_EQ(MMIO_SEEN, read_at(self->v, SLOT_GPA + PAGE));
	/* The last number there is. */
	EXPECT_OK(vm_try_slot(self->vm, max - 1, 0, 0x40000000, PAGE, p));
	EXPECT_EQ(5, read_at(self->v, 0x40000000));
}

TEST_F(slots, memory_that_user_space_has_not_mapped_fails_kvm_run_with_efault)
{
	uint8_t *p = map_anon(4 * PAGE);

	vm_slot(self->vm, 1, 0, SLOT_GPA, 4 * PAGE, p);
	munmap(p + PAGE, PAGE);
	vcpu_call(self->v, guest_read, SLOT_GPA + PAGE);
	EXPECT_EQ(-EFAULT, vcpu_try_run(self->v));
	EXPECT_EQ(-EFAULT, vcpu_try_run(self->v));
	EXPECT_NE(MAP_FAILED, mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	*(uint64_t *)(p + PAGE) = 0x99;
	EXPECT_EQ(0x99, vcpu_sync(self->v));
	ASSERT_OK(mprotect(p + 2 * PAGE, PAGE, PROT_NONE));
	vcpu_call(self->v, guest_read, SLOT_GPA + 2 * PAGE);
	EXPECT_EQ(-EFAULT, vcpu_try_run(self->v));
	ASSERT_OK(mprotect(p + 2 * PAGE, PAGE, PROT_READ));
	EXPECT_EQ(0, vcpu_sync(self->v));
	vcpu_call(self->v, guest_write, SLOT_GPA + 2 * PAGE, 3);
	EXPECT_EQ(-EFAULT, vcpu_try_run(self->v));
	ASSERT_OK(mprotect(p + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, vcpu_sync(self->v));
	EXPECT_EQ(3, *(uint64_t *)(p + 2 * PAGE));
}

TEST_F(slots, a_slot_may_be_shared_file_memory_that_another_mapping_sees)
{
	int fd = memfd_create("slot", 0);
	uint64_t *one, *two;

	ASSERT_OK(ftruncate(fd, 4 * PAGE));
	one = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	two = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	vm_slot(self->vm, 1, 0, SLOT_GPA, 4 * PAGE, one);
	EXPECT_TRUE(write_at(self->v, SLOT_GPA + PAGE, 0x42));
	EXPECT_EQ(0x42, two[512]);
	two[1024] = 0x43;
	EXPECT_EQ(0x43, read_at(self->v, SLOT_GPA + 2 * PAGE));
	/* A page behind the end of the file is no memory. */
	ASSERT_OK(ftruncate(fd, 2 * PAGE));
	vcpu_call(self->v, guest_read, SLOT_GPA + 2 * PAGE);
	EXPECT_EQ(-EFAULT, vcpu_try_run(self->v));
	ASSERT_OK(ftruncate(fd, 4 * PAGE));
	EXPECT_EQ(0, read_at(self->v, SLOT_GPA + 2 * PAGE));
}

TEST_F(slots, a_slot_may_be_private_file_memory_copied_on_write)
{
	int fd = memfd_create("slot", 0);
	uint64_t *file, *mine;

	ASSERT_OK(ftruncate(fd, 2 * PAGE));
	file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	mine = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	file[0] = 0x11;
	vm_slot(self->vm, 1, 0, SLOT_GPA, 2 * PAGE, mine);
	EXPECT_EQ(0x11, read_at(self->v, SLOT_GPA));
	file[0] = 0x12;		/* not yet copied */
	EXPECT_EQ(0x12, read_at(self->v, SLOT_GPA));
	EXPECT_TRUE(write_at(self->v, SLOT_GPA + 8, 0x22));
	EXPECT_EQ(0, file[1]);
	EXPECT_EQ(0x22, mine[1]);
	file[0] = 0x13;
	EXPECT_EQ(0x12, read_at(self->v, SLOT_GPA));
}

TEST_F(slots, a_slot_may_be_device_memory_without_page_structures)
{
	int fd = open("/dev/mem", O_RDONLY);
	uint64_t *rom;

	if (fd < 0)
		SKIP(return, "no /dev/mem");
	rom = mmap(NULL, 0x10000, PROT_READ, MAP_SHARED, fd, 0xf0000);
	if (rom == MAP_FAILED)
		SKIP(return, "the BIOS cannot be mapped from /dev/mem");
	vm_slot(self->vm, 1, KVM_MEM_READONLY, SLOT_GPA, 0x10000, rom);
	for (uint64_t o = 0; o < 0x10000; o += 0x1ff8)
		EXPECT_EQ(rom[o / 8], read_at(self->v, SLOT_GPA + o));
}

/* Its pages are mapped still, and nobody may read them. */
TEST_F(slots, device_memory_that_the_vmm_may_not_read_its_guest_may_not_either)
{
	int fd = open("/dev/mem", O_RDONLY);
	volatile uint64_t *rom;

	if (fd < 0)
		SKIP(return, "no /dev/mem");
	rom = mmap(NULL, 0x10000, PROT_READ, MAP_SHARED, fd, 0xf0000);
	if (rom == MAP_FAILED)
		SKIP(return, "the BIOS cannot be mapped from /dev/mem");
	(void)rom[0];
	ASSERT_OK(mprotect((void *)rom, 0x10000, PROT_NONE));
	vm_slot(self->vm, 1, KVM_MEM_READONLY, SLOT_GPA, 0x10000, (void *)rom);
	vcpu_call(self->v, guest_read, SLOT_GPA);
	ASSERT_EQ(-EFAULT, vcpu_try_run(self->v));
	ASSERT_OK(mprotect((void *)rom, 0x10000, PROT_READ));
	EXPECT_EQ(rom[0], read_at(self->v, SLOT_GPA));
}

/* Changes under a running vCPU. */
static void guest_count(uint64_t a, uint64_t b)
{
	for (uint64_t i = 1;; i++) {
		wr64(a, i);
		wr64(b, i);
	}
}

static volatile uint64_t mmio_exits[2];

static void fn_count_mmio(struct runner *r)
{
	while (!r->stop) {
		int err = vcpu_try_run(r->vcpu);

		if (err == -EINTR)
			continue;
		CHECK(!err && r->vcpu->run->exit_reason == KVM_EXIT_MMIO, "%d, %s", err,
		      exit_text(r->vcpu));
		CHECK(r->vcpu->run->mmio.is_write, "%s", exit_text(r->vcpu));
		__atomic_fetch_add(&mmio_exits[r->vcpu->run->mmio.phys_addr >= SLOT_GPA + MiB], 1,
				   __ATOMIC_RELAXED);
	}
}

static void wait_change(volatile uint64_t *p, uint64_t from)
{
	for (int i = 0; i < 20000; i++) {
		if (*p != from)
			return;
		usleep(100);
	}
	FAIL("no progress");
}

TEST_F(slots, a_slot_deleted_under_a_running_guest_is_never_written_again)
{
	volatile uint64_t *p = map_anon(PAGE);
	struct runner r;

	vm_slot(self->vm, 1, 0, SLOT_GPA, PAGE, (void *)p);
	vcpu_call(self->v, guest_count, SLOT_GPA + 0x18, SLOT_GPA + MiB);
	runner_start(&r, self->v, fn_count_mmio);
	for (int i = 0; i < 40; i++) {
		uint64_t last, exits;

		wait_change(&p[3], p[3]);
		vm_slot(self->vm, 1, 0, SLOT_GPA, 0, NULL);
		last = p[3];
		exits = mmio_exits[0];
		wait_change(&mmio_exits[0], exits);
		EXPECT_EQ(last, p[3]);
		vm_slot(self->vm, 1, 0, SLOT_GPA, PAGE, (void *)p);
	}
	runner_stop(&r);
}

TEST_F(slots, a_slot_moved_under_a_running_guest_is_written_at_the_new_place_only)
{
	volatile uint64_t *p = map_anon(PAGE), *q = map_anon(PAGE);
	struct runner r;

	/* The guest counts at both places; p is at one of them, q in neither at first. */
	vm_slot(self->vm, 1, 0, SLOT_GPA, PAGE, (void *)p);
	vcpu_call(self->v, guest_count, SLOT_GPA + 0x18, SLOT_GPA + MiB + 0x20);
	runner_start(&r, self->v, fn_count_mmio);
	for (int i = 0; i < 30; i++) {
		uint64_t old;

		wait_change(&p[3], p[3]);
		vm_slot(self->vm, 1, 0, SLOT_GPA + MiB, PAGE, (void *)p);
		old = p[3];
		wait_change(&p[4], p[4]);
		wait_change(&mmio_exits[0], mmio_exits[0]);
		EXPECT_EQ(old, p[3]);
		vm_slot(self->vm, 1, 0, SLOT_GPA, PAGE, (void *)p);
		old = p[4];
		wait_change(&p[3], p[3]);
		wait_change(&mmio_exits[1], mmio_exits[1]);
		EXPECT_EQ(old, p[4]);
	}
	runner_stop(&r);
	EXPECT_EQ(0, q[0]);
}

TEST_F(slots, slots_of_a_vm_whose_guest_runs_come_and_go_without_disturbing_it)
{
	volatile uint64_t *p = map_anon(PAGE);
	uint8_t *other = map_anon(64 * PAGE);
	struct runner r;

	vm_slot(self->vm, 1, 0, SLOT_GPA, PAGE, (void *)p);
	vcpu_call(self->v, guest_count, SLOT_GPA + 0x18, SLOT_GPA + 0x20);
	runner_start(&r, self->v, runner_spin);
	for (uint32_t i = 0; i < 200; i++) {
		vm_slot(self->vm, 2 + i % 8, 0, 0x40000000 + i % 8 * 0x100000, 64 * PAGE, other);
		if (i >= 4)
			vm_slot(self->vm, 2 + (i - 4) % 8, 0, 0, 0, NULL);
	}
	wait_change(&p[3], p[3]);
	runner_stop(&r);
}

GUEST_TEST_MAIN
