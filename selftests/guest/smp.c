// SPDX-License-Identifier: GPL-2.0-only
/* Several virtual CPUs at once, and virtual CPUs that wander between threads and processors. */
#include "test.h"

#include <sched.h>

#define SLOT_GPA 0x10000000ul
#define VCPUS 4

FIXTURE(smp) { struct vm *vm; struct vcpu *v[VCPUS]; };
FIXTURE_SETUP(smp)
{
	self->vm = vm_new();
	for (int i = 0; i < VCPUS; i++)
		self->v[i] = vcpu_new(self->vm, i);
}
FIXTURE_TEARDOWN(smp)
{
	for (int i = 0; i < VCPUS; i++)
		vcpu_free(self->v[i]);
	vm_free(self->vm);
}

static volatile uint64_t counter, lock, arrived, flag, turn;
static volatile uint64_t plain;

/* Runs to the end of the guest function. */
static void fn_finish(struct runner *r)
{
	vcpu_finish(r->vcpu);
}

static void run_all(struct vcpu **v, int n)
{
	struct runner r[MAX_VCPUS];

	for (int i = 0; i < n; i++)
		runner_start(&r[i], v[i], fn_finish);
	for (int i = 0; i < n; i++)
		runner_join(&r[i]);
}

static void meet(uint64_t n)
{
	__atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
	while (arrived < n)
		cpu_relax();
}

static void guest_locked(uint64_t n, uint64_t vcpus)
{
	meet(vcpus);
	for (uint64_t i = 0; i < n; i++)
		asm volatile("lock incq %0" : "+m"(counter));
	for (uint64_t i = 0; i < n / 4; i++) {
		while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
			cpu_relax();
		plain++;
		__atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
	}
}

TEST_F(smp, locked_increments_of_two_vcpus_add_up)
{
	for (int i = 0; i < 2; i++)
		vcpu_call(self->v[i], guest_locked, 40000, 2);
	run_all(self->v, 2);
	EXPECT_EQ(80000, G(self->vm, counter));
	EXPECT_EQ(20000, G(self->vm, plain));
}

TEST_F(smp, more_vcpus_than_processors_make_progress)
{
	for (int i = 0; i < VCPUS; i++)
		vcpu_call(self->v[i], guest_locked, 2000, VCPUS);
	run_all(self->v, VCPUS);
	EXPECT_EQ(8000, G(self->vm, counter));
	EXPECT_EQ(2000, G(self->vm, plain));
}

static void guest_ping(uint64_t me, uint64_t n)
{
	meet(2);
	for (uint64_t i = 0; i < n; i++) {
		while (turn != me)
			cpu_relax();
		plain += me + 1;
		turn = !me;
	}
}

TEST_F(smp, two_vcpus_take_turns_through_memory)
{
	for (uint64_t i = 0; i < 2; i++)
		vcpu_call(self->v[i], guest_ping, i, 300);
	run_all(self->v, 2);
	EXPECT_EQ(900, G(self->vm, plain));
}

/* Each vCPU writes a word of its own in every page, half of them from the far end. */
static void guest_touch(uint64_t me, uint64_t pages, uint64_t vcpus)
{
	meet(vcpus);
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t page = me & 1 ? pages - 1 - i : i;

		wr64(SLOT_GPA + page * PAGE + me * 8, page * 10 + me + 1);
	}
	for (uint64_t i = 0; i < pages; i++)
		GUEST_EQ(i * 10 + me + 1, rd64(SLOT_GPA + i * PAGE + me * 8));
}

static void touch(struct __test_metadata *_metadata, struct vm *vm, struct vcpu **v, int advice,
		  int vcpus)
{
	uint64_t pages = 1024;
	uint8_t *p = map_aligned(pages * PAGE, 2 * MiB);

	madvise(p, pages * PAGE, advice);
	vm_slot(vm, 1, 0, SLOT_GPA, pages * PAGE, p);
	for (int i = 0; i < vcpus; i++)
		vcpu_call(v[i], guest_touch, (uint64_t)i, pages, (uint64_t)vcpus);
	run_all(v, vcpus);
	for (uint64_t k = 0; k < pages; k++)
		for (int i = 0; i < vcpus; i++)
			ASSERT_EQ(k * 10 + (uint64_t)i + 1, ((uint64_t *)(p + k * PAGE))[i]);
}

TEST_F(smp, vcpus_fault_on_the_same_small_pages_at_once)
{
	touch(_metadata, self->vm, self->v, MADV_NOHUGEPAGE, 2);
}

TEST_F(smp, vcpus_fault_on_the_same_huge_pages_at_once)
{
	touch(_metadata, self->vm, self->v, MADV_HUGEPAGE, 2);
}

TEST_F(smp, four_vcpus_on_two_processors_fault_at_once)
{
	touch(_metadata, self->vm, self->v, MADV_NOHUGEPAGE, 4);
}

/* One vCPU rewrites a function that another calls: mov $n, %eax; ret */
static void guest_patch(uint64_t code, uint64_t n)
{
	meet(2);
	for (uint64_t i = 1; i <= n; i++) {
		uint64_t waited = 0;

		wr32(code + 1, (uint32_t)i);
		flag = i;
		while (plain != i && waited++ < 200000000)
			cpu_relax();
		GUEST_EQ(i, plain);
	}
}

static void guest_patched(uint64_t code, uint64_t n)
{
	meet(2);
	for (uint64_t i = 1; i <= n; i++) {
		uint32_t r, a = 0, c = 0;

		while (flag != i)
			cpu_relax();
		asm volatile("cpuid" : "+a"(a), "+c"(c) : : "rbx", "rdx");
		asm volatile("call *%1" : "=a"(r) : "r"(code) : "memory");
		GUEST_EQ(i, r);
		plain = i;
	}
}

TEST_F(smp, code_changed_by_one_vcpu_is_executed_by_the_other)
{
	vm_copy(self->vm, SCRATCH_GPA, "\xb8\x00\x00\x00\x00\xc3", 6);
	vcpu_call(self->v[0], guest_patch, SCRATCH_GPA, 100);
	vcpu_call(self->v[1], guest_patched, SCRATCH_GPA, 100);
	run_all(self->v, 2);
	EXPECT_EQ(100, G(self->vm, plain));
}

/* One changes a page table, the other invalidates and looks. */
#define WINDOW 0x7000000000ul

static void guest_remap(uint64_t pte, uint64_t n)
{
	meet(2);
	for (uint64_t i = 1; i <= n; i++) {
		wr64(pte, (SCRATCH_GPA + (i % 8) * PAGE) | PTE_URW);
		flag = i;
		while (plain != i)
			cpu_relax();
	}
}

static void guest_remapped(uint64_t n)
{
	meet(2);
	for (uint64_t i = 1; i <= n; i++) {
		while (flag != i)
			cpu_relax();
		invlpg(WINDOW);
		GUEST_EQ(i % 8, rd64(WINDOW));
		plain = i;
	}
}

TEST_F(smp, page_tables_changed_by_one_vcpu_are_used_by_the_other)
{
	uint64_t *pte;

	for (uint64_t i = 0; i < 8; i++)
		*(uint64_t *)vm_hva(self->vm, SCRATCH_GPA + i * PAGE) = i;
	pt_map(self->vm, WINDOW, SCRATCH_GPA, PAGE, PTE_URW);
	pte = pt_entry(self->vm, WINDOW, 1);
	vcpu_call(self->v[0], guest_remap, (uint64_t)((uint8_t *)pte - self->vm->ram), 300);
	vcpu_call(self->v[1], guest_remapped, 300);
	run_all(self->v, 2);
	EXPECT_EQ(300, G(self->vm, plain));
}

/* Threads and processors. */
static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	CHECK(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity %d", cpu);
}

static bool two_processors(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) >= 2;
}

static void guest_steps(uint64_t seed)
{
	uint64_t r, last = rdtsc(), x = seed;

	asm volatile("movq %0, %%xmm5" : : "r"(seed));
	wrmsr(0xc0000102, seed << 12);
	for (uint64_t i = 0;; i++) {
		uint64_t now;

		x = x * 3 + i;
		ucall_sync(x);
		now = rdtsc();
		GUEST_TRUE(now >= last);
		last = now;
		asm volatile("movq %%xmm5, %0" : "=r"(r));
		GUEST_EQ(seed, r);
		GUEST_EQ(seed << 12, rdmsr(0xc0000102));
	}
}

TEST_F(smp, a_vcpu_goes_on_after_moving_to_another_processor)
{
	uint64_t x = 7;

	if (!two_processors())
		SKIP(return, "one processor");
	vcpu_call(self->v[0], guest_steps, 7);
	for (uint64_t i = 0; i < 60; i++) {
		pin((int)(i & 1));
		x = x * 3 + i;
		ASSERT_EQ(x, vcpu_sync(self->v[0]));
	}
}

TEST_F(smp, two_vcpus_share_one_processor_and_change_to_another_together)
{
	uint64_t x[2] = { 1, 2 };

	vcpu_call(self->v[0], guest_steps, 1);
	vcpu_call(self->v[1], guest_steps, 2);
	for (uint64_t i = 0; i < 60; i++) {
		if (two_processors())
			pin((int)(i / 7 & 1));
		for (int k = 0; k < 2; k++) {
			x[k] = x[k] * 3 + i;
			ASSERT_EQ(x[k], vcpu_sync(self->v[k]));
		}
	}
}

static void fn_one_sync(struct runner *r)
{
	r->loops = vcpu_sync(r->vcpu);
}

TEST_F(smp, every_run_may_come_from_a_new_thread)
{
	uint64_t x = 3;

	vcpu_call(self->v[0], guest_steps, 3);
	for (uint64_t i = 0; i < 30; i++) {
		struct runner r;

		x = x * 3 + i;
		runner_start(&r, self->v[0], fn_one_sync);
		runner_join(&r);
		ASSERT_EQ(x, r.loops);
	}
}

static void guest_spin(void)
{
	for (;;)
		counter++;
}

TEST_F(smp, a_running_vcpu_is_moved_between_processors)
{
	struct runner r;

	if (!two_processors())
		SKIP(return, "one processor");
	vcpu_call(self->v[0], guest_spin);
	runner_start(&r, self->v[0], runner_spin);
	for (int i = 0; i < 20; i++) {
		uint64_t before = G(self->vm, counter);
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(i & 1, &set);
		ASSERT_OK(pthread_setaffinity_np(r.thread, sizeof(set), &set));
		for (int k = 0; k < 20000 && G(self->vm, counter) == before; k++)
			usleep(100);
		EXPECT_LT(before, G(self->vm, counter));
	}
	runner_stop(&r);
}

TEST_F(smp, sixteen_vcpus_meet)
{
	struct vcpu *v[MAX_VCPUS];

	for (int i = 0; i < MAX_VCPUS; i++)
		v[i] = i < VCPUS ? self->v[i] : vcpu_new(self->vm, i);
	for (int i = 0; i < MAX_VCPUS; i++)
		vcpu_call(v[i], guest_locked, 40, 1);
	run_all(v, MAX_VCPUS);
	EXPECT_EQ(640, G(self->vm, counter));
	EXPECT_EQ(160, G(self->vm, plain));
	for (int i = VCPUS; i < MAX_VCPUS; i++)
		vcpu_free(v[i]);
}

TEST_F(smp, vcpus_that_never_run_cost_nothing_but_their_place)
{
	for (int i = 100; i < 140; i++)
		vcpu_free(vcpu_new_raw(self->vm, i));
	vcpu_call(self->v[1], guest_locked, 10, 1);
	vcpu_finish(self->v[1]);
	EXPECT_EQ(10, G(self->vm, counter));
}

TEST_F(smp, two_vms_run_side_by_side)
{
	struct vm *other = vm_new();
	struct vcpu *w[2] = { self->v[0], vcpu_new(other, 0) };

	vcpu_call(w[0], guest_locked, 20000, 1);
	vcpu_call(w[1], guest_locked, 30000, 1);
	run_all(w, 2);
	EXPECT_EQ(20000, G(self->vm, counter));
	EXPECT_EQ(30000, G(other, counter));
	vcpu_free(w[1]);
	vm_free(other);
}

GUEST_TEST_MAIN
