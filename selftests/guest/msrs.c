// SPDX-License-Identifier: GPL-2.0-only
/* Model-specific registers: the lists, get and set from outside, and what the guest meets. */
#include "test.h"

#define MSR_TSC 0x10
#define MSR_APICBASE 0x1b
#define MSR_TSC_ADJUST 0x3b
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_PAT 0x277
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103
#define MSR_KVM_ASYNC_PF_INT 0x4b564d06
#define MSR_NONE 0x12345678	/* no such register */
#define NONCANONICAL 0x8000000000000000ul

VM_FIXTURE(msrs)

struct list {
	struct kvm_msr_list head;
	uint32_t index[1000];
};

struct values {
	struct kvm_msrs head;
	struct kvm_msr_entry e[300];
};

static void get_list(unsigned long request, struct list *l)
{
	l->head.nmsrs = 1000;
	CHECK(!ioctl(kvm_fd(), request, l), "index list");
}

static void list_protocol(struct __test_metadata *_metadata, unsigned long request)
{
	static struct list l;
	uint32_t n;

	l.head.nmsrs = 0;
	EXPECT_ERRNO(E2BIG, ioctl(kvm_fd(), request, &l));
	n = l.head.nmsrs;
	EXPECT_LT(0, n);
	EXPECT_LT(n, 1000);
	l.head.nmsrs = n - 1;
	EXPECT_ERRNO(E2BIG, ioctl(kvm_fd(), request, &l));
	EXPECT_EQ(n, l.head.nmsrs);
	memset(l.index, 0xee, sizeof(l.index));
	l.head.nmsrs = n + 5;
	EXPECT_OK(ioctl(kvm_fd(), request, &l));
	EXPECT_EQ(n, l.head.nmsrs);
	EXPECT_EQ(0xeeeeeeee, l.index[n]);
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < i; k++)
			ASSERT_NE(l.index[i], l.index[k]);
	EXPECT_ERRNO(EFAULT, ioctl(kvm_fd(), request, NULL));
	/* The count is writable, the list is not. */
	uint8_t *p = map_anon(2 * PAGE);
	struct kvm_msr_list *tail = (void *)(p + PAGE - sizeof(*tail));

	munmap(p + PAGE, PAGE);
	tail->nmsrs = n;
	EXPECT_ERRNO(EFAULT, ioctl(kvm_fd(), request, tail));
	EXPECT_EQ(n, tail->nmsrs);
}

TEST_F(msrs, the_index_list_tells_its_length_when_there_is_too_little_room)
{
	list_protocol(_metadata, KVM_GET_MSR_INDEX_LIST);
}

TEST_F(msrs, the_feature_index_list_tells_its_length_when_there_is_too_little_room)
{
	NEED_CAP(KVM_CAP_GET_MSR_FEATURES);
	list_protocol(_metadata, KVM_GET_MSR_FEATURE_INDEX_LIST);
}

TEST_F(msrs, every_listed_register_can_be_read_and_takes_back_what_was_read)
{
	static struct list l;

	get_list(KVM_GET_MSR_INDEX_LIST, &l);
	EXPECT_LE(10, l.head.nmsrs);
	for (uint32_t i = 0; i < l.head.nmsrs; i++) {
		uint64_t value;

		EXPECT_EQ(0, vcpu_try_get_msr(self->v, l.index[i], &value)) {
			TH_LOG("MSR %x cannot be read", l.index[i]);
		}
		if (l.index[i] == MSR_KVM_ASYNC_PF_INT && !kvm_is_kvmxx())
			continue;	/* 6.1 lists it without a local APIC, and refuses it */
		EXPECT_EQ(0, vcpu_try_set_msr(self->v, l.index[i], value)) {
			TH_LOG("MSR %x refuses its own value %lx", l.index[i], value);
		}
	}
}

TEST_F(msrs, the_registers_every_guest_needs_are_listed)
{
	static const uint32_t need[] = { MSR_TSC, MSR_SYSENTER_CS, MSR_SYSENTER_ESP,
		MSR_SYSENTER_EIP, MSR_PAT, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK,
		MSR_KERNEL_GS_BASE };
	static struct list l;

	get_list(KVM_GET_MSR_INDEX_LIST, &l);
	for (size_t k = 0; k < ARRAY_SIZE(need); k++) {
		bool found = false;

		for (uint32_t i = 0; i < l.head.nmsrs; i++)
			found |= l.index[i] == need[k];
		EXPECT_TRUE(found) {
			TH_LOG("MSR %x", need[k]);
		}
	}
}

TEST_F(msrs, feature_registers_are_read_on_the_system_fd)
{
	static struct list l;
	static struct values v;

	NEED_CAP(KVM_CAP_GET_MSR_FEATURES);
	get_list(KVM_GET_MSR_FEATURE_INDEX_LIST, &l);
	for (uint32_t i = 0; i < l.head.nmsrs; i++) {
		v.head.nmsrs = 1;
		v.e[0] = (struct kvm_msr_entry){ .index = l.index[i] };
		EXPECT_EQ(1, ioctl(kvm_fd(), KVM_GET_MSRS, &v)) {
			TH_LOG("MSR %x", l.index[i]);
		}
	}
	v.head.nmsrs = 2;
	v.e[0].index = MSR_NONE;
	v.e[1].index = l.index[0];
	EXPECT_EQ(0, ioctl(kvm_fd(), KVM_GET_MSRS, &v));
	v.head.nmsrs = 256;
	EXPECT_ERRNO(E2BIG, ioctl(kvm_fd(), KVM_GET_MSRS, &v));
	EXPECT_ERRNO(EFAULT, ioctl(kvm_fd(), KVM_GET_MSRS, NULL));
}

/* Bit 3 of IA32_ARCH_CAPABILITIES: «no need to flush L1D, it is done». */
TEST_F(msrs, a_guest_is_promised_a_flushed_cache_only_where_it_is_flushed)
{
	const char *l1tf = "/sys/devices/system/cpu/vulnerabilities/l1tf";
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry.index = 0x10a };

	if (!on_intel() || file_says(l1tf, "Not affected"))
		SKIP(return, "this processor is not subject to L1TF");
	EXPECT_EQ(1, ioctl(kvm_fd(), KVM_GET_MSRS, &m));
	EXPECT_EQ(file_says(l1tf, "cache flushes"), !!(m.entry.data & 8));
}

TEST_F(msrs, a_row_stops_at_the_first_unknown_register)
{
	static struct values v;

	v.head.nmsrs = 4;
	v.e[0] = (struct kvm_msr_entry){ .index = MSR_LSTAR, .data = 0x111000 };
	v.e[1] = (struct kvm_msr_entry){ .index = MSR_CSTAR, .data = 0x222000 };
	v.e[2] = (struct kvm_msr_entry){ .index = MSR_NONE, .data = 1 };
	v.e[3] = (struct kvm_msr_entry){ .index = MSR_STAR, .data = 0x3330000000000 };
	EXPECT_EQ(2, ioctl(self->v->fd, KVM_SET_MSRS, &v));
	EXPECT_EQ(0x111000, vcpu_msr(self->v, MSR_LSTAR));
	EXPECT_EQ(0x222000, vcpu_msr(self->v, MSR_CSTAR));
	EXPECT_EQ(0, vcpu_msr(self->v, MSR_STAR));
	for (int i = 0; i < 4; i++)
		v.e[i].data = 0xeeee;
	EXPECT_EQ(2, ioctl(self->v->fd, KVM_GET_MSRS, &v));
	EXPECT_EQ(0x111000, v.e[0].data);
	EXPECT_EQ(0x222000, v.e[1].data);
	EXPECT_EQ(0xeeee, v.e[3].data);
	v.head.nmsrs = 0;
	EXPECT_EQ(0, ioctl(self->v->fd, KVM_GET_MSRS, &v));
	EXPECT_EQ(0, ioctl(self->v->fd, KVM_SET_MSRS, &v));
}

TEST_F(msrs, rows_that_are_too_long_or_not_there_are_refused)
{
	static struct values v;
	uint8_t *p = map_anon(2 * PAGE);
	struct kvm_msrs *tail = (void *)(p + PAGE - sizeof(*tail));

	for (int i = 0; i < 300; i++)
		v.e[i].index = MSR_LSTAR;
	v.head.nmsrs = 255;
	EXPECT_EQ(255, ioctl(self->v->fd, KVM_GET_MSRS, &v));
	v.head.nmsrs = 256;
	EXPECT_ERRNO(E2BIG, ioctl(self->v->fd, KVM_GET_MSRS, &v));
	EXPECT_ERRNO(E2BIG, ioctl(self->v->fd, KVM_SET_MSRS, &v));
	v.head.nmsrs = 0xffffffff;
	EXPECT_ERRNO(E2BIG, ioctl(self->v->fd, KVM_GET_MSRS, &v));
	EXPECT_ERRNO(E2BIG, ioctl(self->v->fd, KVM_SET_MSRS, &v));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_GET_MSRS, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_MSRS, NULL));
	munmap(p + PAGE, PAGE);
	tail->nmsrs = 1;
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_GET_MSRS, tail));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_MSRS, tail));
}

TEST_F(msrs, impossible_values_are_refused_from_outside)
{
	static const struct { uint32_t index; uint64_t good, bad; } values[] = {
		{ MSR_LSTAR, 0xffffffff81000000, NONCANONICAL },
		{ MSR_CSTAR, 0xffffffff81000000, 0x0000800000000000 },
		{ MSR_FS_BASE, 0x7fff00000000, NONCANONICAL },
		{ MSR_GS_BASE, 0x7fff00000000, NONCANONICAL },
		{ MSR_KERNEL_GS_BASE, 0xffff888000000000, 0x0000800000000000 },
		{ MSR_PAT, 0x0007040600070406, 0x0007040600070402 },
		{ MSR_PAT, 0x0606060606060606, 0x0306060606060606 },
		{ MSR_PAT, 0, 0x0800000000000000 },
		{ MSR_EFER, EFER_SCE | EFER_NX, 1ul << 63 },
		{ MSR_EFER, EFER_LME, 1ul << 1 },
		{ MSR_APICBASE, 0xfee00900, 1ul << 63 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		EXPECT_EQ(0, vcpu_try_set_msr(self->v, values[i].index, values[i].good)) {
			TH_LOG("MSR %x = %lx", values[i].index, values[i].good);
		}
		EXPECT_EQ(-1, vcpu_try_set_msr(self->v, values[i].index, values[i].bad)) {
			TH_LOG("MSR %x = %lx", values[i].index, values[i].bad);
		}
		EXPECT_EQ(values[i].good, vcpu_msr(self->v, values[i].index));
	}
}

/* What passes through unchanged, in both directions. */
static const struct plain { uint32_t index; uint64_t one, two; } plain[] = {
	{ MSR_STAR, 0x0023001000000000, 0x1234567800000000 },
	{ MSR_LSTAR, 0xffffffff81234567, 0x00007fff12345678 },
	{ MSR_CSTAR, 0xffffffff87654321, 0 },
	{ MSR_SFMASK, 0x47700, 0x3ffff },
	{ MSR_KERNEL_GS_BASE, 0xffff888012345678, 0x1000 },
	{ MSR_SYSENTER_CS, 0x10, 0x33 },
	{ MSR_SYSENTER_ESP, 0x12345000, 0x2000 },	/* AMD keeps 32 bits */
	{ MSR_SYSENTER_EIP, 0x81234560, 0x3000 },
	{ MSR_PAT, 0x0407050600070106, 0x0007040600070406 },
	{ MSR_FS_BASE, 0x7f1234567890, 0xffff800000000000 },
};

static void guest_plain(void)
{
	for (uint64_t i = 0; i < ARRAY_SIZE(plain); i++) {
		GUEST_EQ(plain[i].one, rdmsr(plain[i].index));
		wrmsr(plain[i].index, plain[i].two);
		GUEST_EQ(plain[i].two, rdmsr(plain[i].index));
	}
	ucall_sync(1);
	for (uint64_t i = 0; i < ARRAY_SIZE(plain); i++)
		GUEST_EQ(plain[i].one, rdmsr(plain[i].index));
}

TEST_F(msrs, the_guest_and_user_space_see_the_same_values)
{
	vcpu_call(self->v, guest_plain);
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		ASSERT_EQ(0, vcpu_try_set_msr(self->v, plain[i].index, plain[i].one));
	EXPECT_EQ(1, vcpu_sync(self->v));
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		EXPECT_EQ(plain[i].two, vcpu_msr(self->v, plain[i].index)) {
			TH_LOG("MSR %x", plain[i].index);
		}
		ASSERT_EQ(0, vcpu_try_set_msr(self->v, plain[i].index, plain[i].one));
	}
	vcpu_finish(self->v);
}

static void guest_alternate(uint64_t seed)
{
	for (uint64_t i = 0; i < ARRAY_SIZE(plain); i++)
		wrmsr(plain[i].index, seed ? plain[i].one : plain[i].two);
	for (int k = 0; k < 10; k++) {
		ucall_sync(seed);
		for (uint64_t i = 0; i < ARRAY_SIZE(plain); i++)
			GUEST_EQ(seed ? plain[i].one : plain[i].two, rdmsr(plain[i].index));
	}
}

TEST_F(msrs, two_vcpus_on_one_processor_keep_their_own_registers)
{
	struct vcpu *w = vcpu_new(self->vm, 1);

	vcpu_call(self->v, guest_alternate, 0);
	vcpu_call(w, guest_alternate, 1);
	for (int k = 0; k < 10; k++) {
		EXPECT_EQ(0, vcpu_sync(self->v));
		EXPECT_EQ(1, vcpu_sync(w));
	}
	vcpu_finish(self->v);
	vcpu_finish(w);
}

#define RDMSR(index) ({ \
	uint32_t __lo = 0xdead, __hi = 0xbeef; \
	GUEST_TRY("rdmsr", : "+a"(__lo), "+d"(__hi) : "c"(index)); \
	__lo | (uint64_t)__hi << 32; })
#define WRMSR(index, value) \
	GUEST_TRY("wrmsr", : : "a"((uint32_t)(value)), "d"((uint32_t)((value) >> 32)), "c"(index))

static void guest_faults(void)
{
	uint64_t efer = rdmsr(MSR_EFER), pat = rdmsr(MSR_PAT);

	GUEST_EQ(0xbeef0000deadul, RDMSR(MSR_NONE));
	GUEST_EQ(VEC_GP, guest_vector());
	GUEST_EQ(0, guest_error());
	WRMSR(MSR_NONE, 0ul);
	GUEST_EQ(VEC_GP, guest_vector());
	RDMSR(0xffffffff);
	GUEST_EQ(VEC_GP, guest_vector());
	WRMSR(MSR_EFER, efer | 1ul << 1);
	GUEST_EQ(VEC_GP, guest_vector());
	WRMSR(MSR_EFER, efer | 1ul << 63);
	GUEST_EQ(VEC_GP, guest_vector());
	WRMSR(MSR_EFER, efer & ~EFER_LME);	/* while paging is on */
	GUEST_EQ(VEC_GP, guest_vector());
	GUEST_EQ(efer, rdmsr(MSR_EFER));
	WRMSR(MSR_EFER, efer & ~EFER_SCE);
	GUEST_EQ(NO_EXC, guest_vector());
	GUEST_EQ(efer & ~EFER_SCE, rdmsr(MSR_EFER));
	wrmsr(MSR_EFER, efer);
	WRMSR(MSR_PAT, 0x0007040600070402ul);
	GUEST_EQ(VEC_GP, guest_vector());
	WRMSR(MSR_PAT, 0x0007040600070403ul);
	GUEST_EQ(VEC_GP, guest_vector());
	GUEST_EQ(pat, rdmsr(MSR_PAT));
	ucall_sync(efer);
}

TEST_F(msrs, the_guest_gets_a_general_protection_fault_where_the_processor_gives_one)
{
	vcpu_call(self->v, guest_faults);
	EXPECT_EQ(EFER_LME | EFER_LMA | EFER_NX | EFER_SCE, vcpu_sync(self->v));
	vcpu_finish(self->v);
}

static void guest_noncanonical(void)
{
	static const uint32_t list[] = { MSR_LSTAR, MSR_CSTAR, MSR_KERNEL_GS_BASE };

	for (uint64_t i = 0; i < ARRAY_SIZE(list); i++) {
		WRMSR(list[i], NONCANONICAL);
		ucall_sync3(list[i], guest_vector(), 0);
		wrmsr(list[i], 0);
	}
}

TEST_F(msrs, a_non_canonical_address_in_a_system_call_register_faults)
{
	struct ucall u;

	vcpu_call(self->v, guest_noncanonical);
	for (int i = 0; i < 3; i++) {
		u = vcpu_ucall(self->v);
		if (u.arg[1] == NO_EXC && on_tcg())
			SKIP(return, "QEMU's TCG does not check these, and nobody intercepts them");
		EXPECT_EQ(VEC_GP, u.arg[1]);
	}
}

static void guest_apicbase(void)
{
	ucall_sync(rdmsr(MSR_APICBASE));
}

TEST_F(msrs, the_apic_base_is_the_same_everywhere)
{
	struct vcpu *w = vcpu_new(self->vm, 1);
	struct kvm_sregs s;

	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(0xfee00000 | 1 << 11 | 1 << 8, s.apic_base);
	EXPECT_EQ(s.apic_base, vcpu_msr(self->v, MSR_APICBASE));
	vcpu_call(self->v, guest_apicbase);
	EXPECT_EQ(s.apic_base, vcpu_sync(self->v));
	EXPECT_EQ(s.apic_base, self->v->run->apic_base);
	/* Only the first vCPU is the bootstrap processor. */
	EXPECT_EQ(0xfee00000 | 1 << 11, vcpu_msr(w, MSR_APICBASE));
	/* User space may move it. */
	s.apic_base = 0xfed00000 | 1 << 11 | 1 << 8;
	vcpu_call(self->v, guest_apicbase);
	vcpu_get_sregs(self->v, &s);
	s.apic_base = 0xfed00000 | 1 << 11 | 1 << 8;
	vcpu_set_sregs(self->v, &s);
	EXPECT_EQ(s.apic_base, vcpu_sync(self->v));
	EXPECT_EQ(s.apic_base, self->v->run->apic_base);
}

static void guest_swapgs(void)
{
	uint64_t gs = rdmsr(MSR_GS_BASE), other;

	wrmsr(MSR_KERNEL_GS_BASE, 0x123456789000);
	asm volatile("swapgs" : : : "memory");
	other = rdmsr(MSR_GS_BASE);
	asm volatile("swapgs" : : : "memory");
	GUEST_EQ(0x123456789000, other);
	GUEST_EQ(gs, rdmsr(MSR_GS_BASE));
	GUEST_EQ((uintptr_t)guest_self(), gs);
}

TEST_F(msrs, swapgs_exchanges_the_bases)
{
	struct kvm_sregs s;

	vcpu_call(self->v, guest_swapgs);
	vcpu_finish(self->v);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ((uintptr_t)&guest_cpus[0], s.gs.base);
	EXPECT_EQ(0x123456789000, vcpu_msr(self->v, MSR_KERNEL_GS_BASE));
}

/* SYSCALL from CPL 3, and SYSRET. */
static volatile uint64_t syscall_result __attribute__((used));

asm(".pushsection .text\n"
    "syscall_entry:\n"
    "	mov %rcx, syscall_result\n"
    "	add $1, %rdi\n"
    "	sysretq\n"
    ".popsection\n");
extern char syscall_entry[];

static void user_syscall(uint64_t a, uint64_t b)
{
	asm volatile("syscall" : "+D"(a) : : "rcx", "r11", "memory");
	wr64(b, a);
}

static uint64_t user_word;

static void guest_syscall(void)
{
	wrmsr(MSR_LSTAR, (uintptr_t)syscall_entry);
	/* SYSRET: CS = STAR[63:48] + 16, SS = + 8; SYSCALL: CS = STAR[47:32], SS = + 8. */
	wrmsr(MSR_STAR, (uint64_t)(SEL_UDATA - 8) << 48 | (uint64_t)SEL_CODE64 << 32);
	wrmsr(MSR_SFMASK, RFLAGS_IF | RFLAGS_DF);
	GUEST_EQ(NO_EXC, guest_user(user_syscall, 41, (uintptr_t)&user_word));
	GUEST_EQ(42, user_word);
	GUEST_TRUE(syscall_result);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SCE);
	GUEST_EQ(VEC_UD, guest_user(user_syscall, 41, (uintptr_t)&user_word));
}

TEST_F(msrs, system_calls_work_in_the_guest_and_go_on_working_in_the_host)
{
	vcpu_call(self->v, guest_syscall);
	vcpu_finish(self->v);
	EXPECT_LT(0, getpid());
}

static void guest_tsc_aux(void)
{
	uint32_t aux;

	wrmsr(MSR_TSC_AUX, 0x1234);
	asm volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
	GUEST_EQ(0x1234, aux);
	ucall_sync(0);
	asm volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
	GUEST_EQ(0x5678, aux);
}

TEST_F(msrs, rdtscp_shows_tsc_aux)
{
	if (!(kvm_cpuid_leaf(0x80000001, 0)->edx >> 27 & 1))
		SKIP(return, "no RDTSCP");
	vcpu_call(self->v, guest_tsc_aux);
	vcpu_sync(self->v);
	EXPECT_EQ(0x1234, vcpu_msr(self->v, MSR_TSC_AUX));
	EXPECT_EQ(0, vcpu_try_set_msr(self->v, MSR_TSC_AUX, 0x5678));
	vcpu_finish(self->v);
}

GUEST_TEST_MAIN
