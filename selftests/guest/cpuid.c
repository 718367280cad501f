// SPDX-License-Identifier: GPL-2.0-only
/* CPUID: what is offered, what is set, what the guest reads; and time: TSC and clock. */
#include "test.h"

#include <time.h>

#define MSR_TSC 0x10
#define MSR_TSC_ADJUST 0x3b

VM_FIXTURE(cpuid)

struct table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 e[300];
};

static void get_supported(struct table *t)
{
	t->head.nent = 256;
	CHECK(!ioctl(kvm_fd(), KVM_GET_SUPPORTED_CPUID, t), "KVM_GET_SUPPORTED_CPUID");
}

static struct kvm_cpuid_entry2 *find(struct table *t, uint32_t leaf)
{
	for (uint32_t i = 0; i < t->head.nent; i++)
		if (t->e[i].function == leaf)
			return &t->e[i];
	return NULL;
}

TEST_F(cpuid, the_supported_table_tells_when_there_is_too_little_room)
{
	static struct table t;
	uint32_t n;

	t.head.nent = 256;
	ASSERT_OK(ioctl(kvm_fd(), KVM_GET_SUPPORTED_CPUID, &t));
	n = t.head.nent;
	EXPECT_LT(5, n);
	/* kvmtool gives room for 100 and does not ask twice. */
	EXPECT_LE(n, 100);
	t.head.nent = 0;
	EXPECT_ERRNO(E2BIG, ioctl(kvm_fd(), KVM_GET_SUPPORTED_CPUID, &t));
	t.head.nent = n - 1;
	EXPECT_ERRNO(E2BIG, ioctl(kvm_fd(), KVM_GET_SUPPORTED_CPUID, &t));
	memset(t.e, 0xee, sizeof(t.e));
	t.head.nent = n;
	EXPECT_OK(ioctl(kvm_fd(), KVM_GET_SUPPORTED_CPUID, &t));
	EXPECT_EQ(n, t.head.nent);
	EXPECT_EQ(0xeeeeeeee, t.e[n].function);
	for (uint32_t i = 0; i < n; i++)
		EXPECT_EQ(0, t.e[i].padding[0] | t.e[i].padding[1] | t.e[i].padding[2]);
	/* More room than there can be is no error. */
	t.head.nent = 0xffffffff;
	EXPECT_OK(ioctl(kvm_fd(), KVM_GET_SUPPORTED_CPUID, &t));
	EXPECT_EQ(n, t.head.nent);
	EXPECT_ERRNO(EFAULT, ioctl(kvm_fd(), KVM_GET_SUPPORTED_CPUID, NULL));
}

TEST_F(cpuid, what_is_offered_is_a_64_bit_processor)
{
	static struct table t;
	struct kvm_cpuid_entry2 *e;

	get_supported(&t);
	ASSERT_NE(NULL, find(&t, 0));
	ASSERT_NE(NULL, e = find(&t, 1));
	/* FPU, TSC, MSR, PAE, CX8, CMOV, FXSR, SSE, SSE2 */
	EXPECT_EQ(0x07008171u, e->edx & 0x07008171u);
	ASSERT_NE(NULL, e = find(&t, 0x80000001));
	EXPECT_EQ(0x20100800u, e->edx & 0x20100800u);	/* LM, NX, SYSCALL */
	ASSERT_NE(NULL, e = find(&t, 0x80000008));
	EXPECT_LE(36, e->eax & 0xff);
	/* KVM's own leaves. */
	ASSERT_NE(NULL, e = find(&t, 0x40000000));
	EXPECT_EQ(0, memcmp("KVMKVMKVM\0\0\0", &e->ebx, 12));
	EXPECT_NE(NULL, find(&t, 0x40000001));
}

TEST_F(cpuid, bad_tables_are_refused)
{
	static struct table t;
	uint8_t *p = map_anon(2 * PAGE);
	struct kvm_cpuid2 *tail = (void *)(p + PAGE - sizeof(*tail));

	get_supported(&t);
	t.head.nent = 257;
	EXPECT_ERRNO(E2BIG, ioctl(self->v->fd, KVM_SET_CPUID2, &t));
	t.head.nent = 0xffffffff;
	EXPECT_ERRNO(E2BIG, ioctl(self->v->fd, KVM_SET_CPUID2, &t));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_CPUID2, NULL));
	munmap(p + PAGE, PAGE);
	tail->nent = 3;
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_CPUID2, tail));
	get_supported(&t);
	/* 48 or 57 bits of virtual addresses, nothing else. */
	find(&t, 0x80000008)->eax = 0x2f28;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_CPUID2, &t));
	t.head.nent = 0;
	EXPECT_OK(ioctl(self->v->fd, KVM_SET_CPUID2, &t));
}

TEST_F(cpuid, the_table_set_is_the_table_got)
{
	static struct table t, u;
	struct vcpu *v = vcpu_new_raw(self->vm, 1);
	uint32_t n;

	u.head.nent = 256;
	EXPECT_OK(ioctl(v->fd, KVM_GET_CPUID2, &u));
	get_supported(&t);
	n = t.head.nent;
	ASSERT_OK(ioctl(v->fd, KVM_SET_CPUID2, &t));
	u.head.nent = n - 1;
	EXPECT_ERRNO(E2BIG, ioctl(v->fd, KVM_GET_CPUID2, &u));
	u.head.nent = 256;
	EXPECT_OK(ioctl(v->fd, KVM_GET_CPUID2, &u));
	for (uint32_t i = 0; i < n; i++) {
		EXPECT_EQ(t.e[i].function, u.e[i].function);
		EXPECT_EQ(t.e[i].index, u.e[i].index);
		EXPECT_EQ(t.e[i].eax, u.e[i].eax);
		EXPECT_EQ(t.e[i].edx, u.e[i].edx);
		/* OSXSAVE and OSPKE follow CR4, the sizes of leaf 0xd follow XCR0. */
		if (t.e[i].function != 1 && t.e[i].function != 7)
			EXPECT_EQ(t.e[i].ecx, u.e[i].ecx);
		if (t.e[i].function != 0xd)
			EXPECT_EQ(t.e[i].ebx, u.e[i].ebx);
	}
	EXPECT_ERRNO(EFAULT, ioctl(v->fd, KVM_GET_CPUID2, NULL));
}

static void guest_cpuid(uint64_t leaf, uint64_t subleaf)
{
	uint32_t a, b, c, d;

	asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"((uint32_t)leaf),
		     "c"((uint32_t)subleaf));
	ucall(UCALL_SYNC, a, b, c, d);
}

TEST_F(cpuid, the_guest_reads_the_table)
{
	static struct table t;
	struct vcpu *v = vcpu_new_raw(self->vm, 1);
	struct ucall u;

	t.head.nent = 6;
	t.e[0] = (struct kvm_cpuid_entry2){ .function = 0, .eax = 0xb, .ebx = 0x68747541,
					    .edx = 0x69746e65, .ecx = 0x444d4163 };
	t.e[1] = (struct kvm_cpuid_entry2){ .function = 1, .eax = 0x123456, .edx = 0x07008371,
					    .ecx = 1 << 26 };
	t.e[2] = (struct kvm_cpuid_entry2){ .function = 0xb, .index = 0, .eax = 1, .ebx = 2,
					    .ecx = 3, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX };
	t.e[3] = (struct kvm_cpuid_entry2){ .function = 0xb, .index = 1, .eax = 4, .ebx = 5,
					    .ecx = 6, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX };
	t.e[4] = (struct kvm_cpuid_entry2){ .function = 0x80000000, .eax = 0x80000001,
					    .ebx = 0x68747541, .edx = 0x69746e65,
					    .ecx = 0x444d4163 };
	t.e[5] = (struct kvm_cpuid_entry2){ .function = 0x80000001, .edx = 0x2c100800, .ecx = 1 };
	ASSERT_OK(ioctl(v->fd, KVM_SET_CPUID2, &t));
	for (uint32_t i = 0; i < t.head.nent; i++) {
		vcpu_call(v, guest_cpuid, t.e[i].function, t.e[i].index);
		u = vcpu_ucall(v);
		EXPECT_EQ(t.e[i].eax, u.arg[0]);
		EXPECT_EQ(t.e[i].ebx, u.arg[1]);
		if (t.e[i].function != 1)
			EXPECT_EQ(t.e[i].ecx, u.arg[2]);
		EXPECT_EQ(t.e[i].edx, u.arg[3]);
		EXPECT_EQ(0, (u.arg[0] | u.arg[1] | u.arg[2] | u.arg[3]) >> 32);
	}
	/* What is not in the table reads as zero (an AMD processor's manner). */
	vcpu_call(v, guest_cpuid, 0x12345, 0);
	u = vcpu_ucall(v);
	EXPECT_EQ(0, u.arg[0] | u.arg[1] | u.arg[2] | u.arg[3]);
	vcpu_call(v, guest_cpuid, 0x80000010, 0);
	u = vcpu_ucall(v);
	EXPECT_EQ(0, u.arg[0] | u.arg[1] | u.arg[2] | u.arg[3]);
}

static void guest_osxsave(void)
{
	uint32_t a = 1, b, c, d;

	write_cr4(read_cr4() | CR4_OSXSAVE);
	asm volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d) : "c"(0));
	GUEST_EQ(1, c >> 27 & 1);
	write_cr4(read_cr4() & ~CR4_OSXSAVE);
	a = 1;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d) : "c"(0));
	GUEST_EQ(0, c >> 27 & 1);
}

TEST_F(cpuid, osxsave_follows_cr4)
{
	if (!(kvm_cpuid_leaf(1, 0)->ecx >> 26 & 1))
		SKIP(return, "no XSAVE");
	vcpu_call(self->v, guest_osxsave);
	vcpu_finish(self->v);
}

TEST_F(cpuid, after_the_first_run_only_the_same_table_may_be_set)
{
	static struct table t;

	get_supported(&t);
	vcpu_call(self->v, guest_cpuid, 0, 0);
	vcpu_sync(self->v);
	EXPECT_OK(ioctl(self->v->fd, KVM_SET_CPUID2, &t));
	find(&t, 1)->edx ^= 1 << 25;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_CPUID2, &t));
	get_supported(&t);
	t.head.nent--;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_CPUID2, &t));
	get_supported(&t);
	EXPECT_OK(ioctl(self->v->fd, KVM_SET_CPUID2, &t));
}

/* Time. */
static void guest_tsc(uint64_t n)
{
	uint64_t last = rdtsc();

	for (uint64_t i = 0; i < n; i++) {
		uint64_t now = rdtsc();

		GUEST_TRUE(now >= last);
		last = now;
	}
	ucall_sync(last);
}

TEST_F(cpuid, the_tsc_counts_on_across_exits_and_from_what_user_space_set)
{
	uint64_t t, last = 0;

	EXPECT_LT(0, ioctl(self->v->fd, KVM_GET_TSC_KHZ, 0));
	vcpu_call(self->v, guest_tsc, 100);
	for (int i = 0; i < 20; i++) {
		vcpu_call(self->v, guest_tsc, 100);
		t = vcpu_sync(self->v);
		EXPECT_LT(last, t);
		last = t;
	}
	EXPECT_EQ(0, vcpu_try_set_msr(self->v, MSR_TSC, 1ul << 50));
	t = vcpu_msr(self->v, MSR_TSC);
	EXPECT_LE(1ul << 50, t);
	EXPECT_LT(t, (1ul << 50) + (1ul << 40));
	vcpu_call(self->v, guest_tsc, 10);
	last = vcpu_sync(self->v);
	EXPECT_LT(t, last);
	EXPECT_LT(last, (1ul << 50) + (1ul << 40));
	EXPECT_LE(last, vcpu_msr(self->v, MSR_TSC));
}

static void guest_write_tsc(uint64_t value)
{
	uint64_t now;

	wrmsr(MSR_TSC, value);
	now = rdtsc();
	GUEST_TRUE(now >= value && now - value < 1ul << 40);
	ucall_sync(now);
	now = rdmsr(MSR_TSC);
	GUEST_TRUE(now >= value && now - value < 1ul << 40);
}

TEST_F(cpuid, the_guest_may_set_its_tsc)
{
	vcpu_call(self->v, guest_write_tsc, 0x123456789000000);
	EXPECT_LE(0x123456789000000, vcpu_sync(self->v));
	vcpu_finish(self->v);
	EXPECT_LE(0x123456789000000, vcpu_msr(self->v, MSR_TSC));
}

static void guest_adjust(void)
{
	uint64_t before = rdtsc(), after;

	wrmsr(MSR_TSC_ADJUST, rdmsr(MSR_TSC_ADJUST) + (1ul << 45));
	after = rdtsc();
	GUEST_TRUE(after - before >= 1ul << 45 && after - before < (1ul << 45) + (1ul << 40));
	GUEST_EQ(1ul << 45, rdmsr(MSR_TSC_ADJUST));
}

TEST_F(cpuid, tsc_adjust_moves_the_tsc)
{
	if (!(kvm_cpuid_leaf(7, 0)->ebx >> 1 & 1))
		SKIP(return, "no TSC_ADJUST");
	vcpu_call(self->v, guest_adjust);
	vcpu_finish(self->v);
}

TEST_F(cpuid, the_clock_goes_on_from_what_it_was_set_to)
{
	struct kvm_clock_data c = { .clock = 1000000000000 }, d = {};

	NEED_CAP(KVM_CAP_ADJUST_CLOCK);
	ASSERT_OK(ioctl(self->vm->fd, KVM_SET_CLOCK, &c));
	ASSERT_OK(ioctl(self->vm->fd, KVM_GET_CLOCK, &d));
	EXPECT_LE(c.clock, d.clock);
	EXPECT_LT(d.clock, c.clock + 10000000000);
	usleep(10000);
	c = d;
	ASSERT_OK(ioctl(self->vm->fd, KVM_GET_CLOCK, &d));
	EXPECT_LE(c.clock + 5000000, d.clock);
	c = (struct kvm_clock_data){ .clock = 5, .flags = 1u << 31 };
	EXPECT_ERRNO(EINVAL, ioctl(self->vm->fd, KVM_SET_CLOCK, &c));
	EXPECT_ERRNO(EFAULT, ioctl(self->vm->fd, KVM_SET_CLOCK, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->vm->fd, KVM_GET_CLOCK, NULL));
}

TEST_F(cpuid, the_clock_and_the_hosts_tsc_are_of_one_moment)
{
	struct kvm_clock_data first = {}, d = {};
	uint64_t khz;

	NEED_CAP(KVM_CAP_ADJUST_CLOCK);
	ASSERT_OK(ioctl(self->vm->fd, KVM_GET_CLOCK, &first));
	if (!(first.flags & KVM_CLOCK_HOST_TSC))
		SKIP(return, "the host's clock is not its TSC");
	EXPECT_EQ(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC, first.flags);
	khz = ioctl(self->v->fd, KVM_GET_TSC_KHZ, 0);
	for (int i = 0; i < 2000; i++) {
		uint64_t ns, passed;

		ASSERT_OK(ioctl(self->vm->fd, KVM_GET_CLOCK, &d));
		ns = (d.host_tsc - first.host_tsc) * 1000000 / khz;
		passed = d.clock - first.clock;
		/* The rate in kHz is rounded, by less than a millionth; interrupts take longer than this. */
		ASSERT_LE(passed, ns + 500 + ns / 1000000);
		ASSERT_LE(ns, passed + 500 + ns / 1000000);
	}
}

GUEST_TEST_MAIN
