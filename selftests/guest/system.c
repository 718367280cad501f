// SPDX-License-Identifier: GPL-2.0-only
/* The three kinds of file descriptors: what every ioctl says to arguments that make no sense. */
#include "test.h"

#include <setjmp.h>

#define KERNEL_ADDRESS 0xffff888000000000ul
#define NONCANONICAL 0x8000000000000000ul

VM_FIXTURE(system)

TEST_F(system, the_api_version_is_12)
{
	EXPECT_EQ(12, ioctl(kvm_fd(), KVM_GET_API_VERSION, 0));
	EXPECT_ERRNO(EINVAL, ioctl(kvm_fd(), KVM_GET_API_VERSION, 1));
}

TEST_F(system, the_mapping_of_a_vcpu_has_whole_pages_enough_for_its_parts)
{
	int size = ioctl(kvm_fd(), KVM_GET_VCPU_MMAP_SIZE, 0);

	EXPECT_EQ(0, size % PAGE);
	EXPECT_LE(2 * PAGE, size);	/* kvm_run and the data of port I/O */
	if (kvm_has(KVM_CAP_COALESCED_MMIO))
		EXPECT_LE((kvm_has(KVM_CAP_COALESCED_MMIO) + 1) * PAGE, size);
	EXPECT_ERRNO(EINVAL, ioctl(kvm_fd(), KVM_GET_VCPU_MMAP_SIZE, 1));
}

TEST_F(system, capabilities_that_nobody_knows_are_zero)
{
	static const long unknown[] = { 999, 5000, 0x7fffffff, 0x80000000, 0xffffffff, -1 };

	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		EXPECT_EQ(0, ioctl(kvm_fd(), KVM_CHECK_EXTENSION, unknown[i]));
		EXPECT_EQ(0, ioctl(self->vm->fd, KVM_CHECK_EXTENSION, unknown[i]));
	}
}

TEST_F(system, no_capability_is_an_error_and_the_vm_fd_says_the_same)
{
	for (long cap = 0; cap < 260; cap++) {
		int sys = ioctl(kvm_fd(), KVM_CHECK_EXTENSION, cap);
		int vm = ioctl(self->vm->fd, KVM_CHECK_EXTENSION, cap);

		EXPECT_LE(0, sys) {
			TH_LOG("capability %ld", cap);
		}
		EXPECT_EQ(sys, vm) {
			TH_LOG("capability %ld", cap);
		}
	}
}

TEST_F(system, what_every_client_needs_is_there)
{
	static const int need[] = { KVM_CAP_USER_MEMORY, KVM_CAP_EXT_CPUID, KVM_CAP_SET_TSS_ADDR,
		KVM_CAP_NR_VCPUS, KVM_CAP_NR_MEMSLOTS, KVM_CAP_MP_STATE, KVM_CAP_SYNC_MMU,
		KVM_CAP_DESTROY_MEMORY_REGION_WORKS, KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
		KVM_CAP_MAX_VCPUS, KVM_CAP_MAX_VCPU_ID, KVM_CAP_CHECK_EXTENSION_VM,
		KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_IRQ_ROUTING, KVM_CAP_READONLY_MEM,
		KVM_CAP_VCPU_EVENTS, KVM_CAP_DEBUGREGS, KVM_CAP_XSAVE, KVM_CAP_XCRS,
		KVM_CAP_GET_TSC_KHZ, KVM_CAP_GET_MSR_FEATURES };

	for (size_t i = 0; i < ARRAY_SIZE(need); i++) {
		EXPECT_LT(0, kvm_has(need[i])) {
			TH_LOG("capability number %d", need[i]);
		}
	}
	EXPECT_EQ(1, kvm_has(KVM_CAP_IMMEDIATE_EXIT));
	EXPECT_LE(kvm_has(KVM_CAP_NR_VCPUS), kvm_has(KVM_CAP_MAX_VCPUS));
	EXPECT_LE(kvm_has(KVM_CAP_MAX_VCPUS), kvm_has(KVM_CAP_MAX_VCPU_ID));
}

TEST_F(system, a_vm_of_an_unknown_type_is_not_made)
{
	EXPECT_ERRNO(EINVAL, ioctl(kvm_fd(), KVM_CREATE_VM, 77));
	EXPECT_ERRNO(EINVAL, ioctl(kvm_fd(), KVM_CREATE_VM, -1ul));
	EXPECT_ERRNO(EINVAL, ioctl(kvm_fd(), KVM_CREATE_VM, 1ul << 32));
}

TEST_F(system, unknown_ioctls_are_refused_on_all_three_fds)
{
	static const unsigned long unknown[] = {
		_IO(KVMIO, 0xfe), _IOW(KVMIO, 0xfe, int), _IOR(KVMIO, 0x3f, long),
		_IO('x', 1), _IO(KVMIO, 0x20), _IOW(KVMIO, 0xff, char[4096]),
		KVM_SET_REGS + 1, 0, 0xffffffff,
	};
	int fds[] = { kvm_fd(), self->vm->fd, self->v->fd };

	for (size_t f = 0; f < ARRAY_SIZE(fds); f++) {
		for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
			int r = OUTCOME(ioctl(fds[f], unknown[i], 0));

			EXPECT_TRUE(r == -ENOTTY || r == -EINVAL) {
				TH_LOG("fd %zu, ioctl %lx: %d", f, unknown[i], r);
			}
		}
	}
	EXPECT_ERRNO(ENOTTY, ioctl(self->vm->fd, _IO(KVMIO, 0xfe), 0));
}

TEST_F(system, ioctls_of_one_kind_of_fd_do_not_work_on_another)
{
	struct kvm_regs regs;
	int r;

	r = OUTCOME(ioctl(kvm_fd(), KVM_RUN, 0));
	EXPECT_TRUE(r == -ENOTTY || r == -EINVAL);
	r = OUTCOME(ioctl(kvm_fd(), KVM_CREATE_VCPU, 5));
	EXPECT_TRUE(r == -ENOTTY || r == -EINVAL);
	r = OUTCOME(ioctl(self->vm->fd, KVM_GET_REGS, &regs));
	EXPECT_TRUE(r == -ENOTTY || r == -EINVAL);
	r = OUTCOME(ioctl(self->vm->fd, KVM_CREATE_VM, 0));
	EXPECT_TRUE(r == -ENOTTY || r == -EINVAL);
	r = OUTCOME(ioctl(self->v->fd, KVM_CREATE_VCPU, 5));
	EXPECT_TRUE(r == -ENOTTY || r == -EINVAL);
	r = OUTCOME(ioctl(self->v->fd, KVM_GET_API_VERSION, 0));
	EXPECT_TRUE(r == -ENOTTY || r == -EINVAL);
}

TEST_F(system, the_fds_close_on_exec_and_are_named)
{
	char path[64], name[64];
	int fds[] = { self->vm->fd, self->v->fd };
	static const char *const names[] = { "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0" };

	for (size_t i = 0; i < 2; i++) {
		ssize_t n;

		EXPECT_EQ(FD_CLOEXEC, fcntl(fds[i], F_GETFD));
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[i]);
		n = readlink(path, name, sizeof(name) - 1);
		ASSERT_LT(0, n);
		name[n] = 0;
		EXPECT_STREQ(names[i], name);
	}
}

TEST_F(system, reading_writing_and_mapping_the_wrong_fd_fails)
{
	char c = 0;

	EXPECT_ERRNO(EINVAL, read(kvm_fd(), &c, 1));
	EXPECT_ERRNO(EINVAL, read(self->vm->fd, &c, 1));
	EXPECT_ERRNO(EINVAL, write(self->v->fd, &c, 1));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->vm->fd, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, kvm_fd(), 0));
}

static sigjmp_buf bus;

static void on_sigbus(int sig)
{
	siglongjmp(bus, 1);
}

TEST_F(system, pages_behind_the_mapping_of_a_vcpu_are_a_bus_error)
{
	struct sigaction sa = { .sa_handler = on_sigbus };
	volatile uint8_t *p;

	sigaction(SIGBUS, &sa, NULL);
	p = mmap(NULL, self->v->run_size + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		 self->v->fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	/* The same page twice. */
	self->v->run->request_interrupt_window = 1;
	EXPECT_EQ(1, p[0]);
	self->v->run->request_interrupt_window = 0;
	if (!sigsetjmp(bus, 1)) {
		p[self->v->run_size] = 1;
		EXPECT_TRUE(false);
	}
}

TEST_F(system, vcpu_numbers_are_unique_and_bounded)
{
	long max = kvm_has(KVM_CAP_MAX_VCPU_ID);
	int fd;

	EXPECT_ERRNO(EEXIST, ioctl(self->vm->fd, KVM_CREATE_VCPU, 0));
	EXPECT_ERRNO(EINVAL, ioctl(self->vm->fd, KVM_CREATE_VCPU, max));
	EXPECT_ERRNO(EINVAL, ioctl(self->vm->fd, KVM_CREATE_VCPU, 0xffffffff));
	EXPECT_ERRNO(EINVAL, ioctl(self->vm->fd, KVM_CREATE_VCPU, -1ul));
	fd = ioctl(self->vm->fd, KVM_CREATE_VCPU, max - 1);
	EXPECT_LT(0, fd);
	EXPECT_ERRNO(EEXIST, ioctl(self->vm->fd, KVM_CREATE_VCPU, max - 1));
	close(fd);
	/* Closing the fd does not take the vCPU away. */
	EXPECT_ERRNO(EEXIST, ioctl(self->vm->fd, KVM_CREATE_VCPU, max - 1));
}

TEST_F(system, kvm_run_takes_no_argument)
{
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_RUN, 1));
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_RUN, -1ul));
}

TEST_F(system, the_tss_and_identity_map_addresses_are_checked)
{
	struct vm *vm = vm_new_bare();
	uint64_t addr = 0xfffbc000;

	EXPECT_OK(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	EXPECT_OK(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &addr));
	addr = 0;
	EXPECT_OK(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &addr));
	EXPECT_ERRNO(EINVAL, ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xffffe000));
	EXPECT_ERRNO(EINVAL, ioctl(vm->fd, KVM_SET_TSS_ADDR, 1ul << 40));
	/* Too late once there is a vCPU. */
	addr = 0xfffbc000;
	EXPECT_ERRNO(EINVAL, ioctl(self->vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &addr));
	EXPECT_OK(ioctl(self->vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
}

TEST_F(system, capabilities_that_cannot_be_enabled_are_refused)
{
	static const struct kvm_enable_cap bad[] = {
		{ .cap = 5000 }, { .cap = KVM_CAP_USER_MEMORY }, { .cap = 0xffffffff },
		{ .cap = KVM_CAP_READONLY_MEM },
	};
	int fds[] = { self->vm->fd, self->v->fd };

	for (size_t f = 0; f < 2; f++) {
		for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
			struct kvm_enable_cap cap = bad[i];
			int r = OUTCOME(ioctl(fds[f], KVM_ENABLE_CAP, &cap));

			EXPECT_TRUE(r == -EINVAL || r == -ENOTTY);
			cap.flags = 1;
			r = OUTCOME(ioctl(fds[f], KVM_ENABLE_CAP, &cap));
			EXPECT_TRUE(r == -EINVAL || r == -ENOTTY);
		}
	}
}

TEST_F(system, machine_check_banks_are_set_up_once_they_are_plausible)
{
	uint64_t cap, x;

	NEED_CAP(KVM_CAP_MCE);
	ASSERT_OK(ioctl(kvm_fd(), KVM_X86_GET_MCE_CAP_SUPPORTED, &cap));
	x = (cap & ~0xfful) | 10;
	EXPECT_OK(ioctl(self->v->fd, KVM_X86_SETUP_MCE, &x));
	EXPECT_EQ(x & 0x1ff, vcpu_msr(self->v, 0x179) & 0x1ff);	/* AMD has no more */
	x = (cap & ~0xfful) | 0xff;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_X86_SETUP_MCE, &x));
	x = cap & ~0xfful;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_X86_SETUP_MCE, &x));
	x = 1ul << 60 | 10;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_X86_SETUP_MCE, &x));
}

TEST_F(system, without_its_interrupt_controller_the_kernel_refuses_to_speak_of_it)
{
	static struct kvm_lapic_state lapic;
	struct kvm_irq_level level = { .irq = 1, .level = 1 };
	static struct kvm_irqchip chip;
	static struct kvm_pit_state2 pit;

	EXPECT_GT(0, OUTCOME(ioctl(self->v->fd, KVM_GET_LAPIC, &lapic)));
	EXPECT_GT(0, OUTCOME(ioctl(self->v->fd, KVM_SET_LAPIC, &lapic)));
	EXPECT_GT(0, OUTCOME(ioctl(self->vm->fd, KVM_IRQ_LINE, &level)));
	EXPECT_GT(0, OUTCOME(ioctl(self->vm->fd, KVM_GET_IRQCHIP, &chip)));
	EXPECT_GT(0, OUTCOME(ioctl(self->vm->fd, KVM_SET_IRQCHIP, &chip)));
	EXPECT_GT(0, OUTCOME(ioctl(self->vm->fd, KVM_GET_PIT2, &pit)));
	/* Too late, with a vCPU. */
	EXPECT_GT(0, OUTCOME(ioctl(self->vm->fd, KVM_CREATE_IRQCHIP, 0)));
}

/* Bad pointers, for every ioctl that has one. */
enum kind { SYSTEM, VM, VCPU };

#define E(kind, request) { kind, request, #request }
static const struct { enum kind kind; unsigned long request; const char *name; } pointers[] = {
	E(SYSTEM, KVM_GET_MSR_INDEX_LIST),
	E(SYSTEM, KVM_GET_SUPPORTED_CPUID),
	E(SYSTEM, KVM_GET_MSR_FEATURE_INDEX_LIST),
	E(SYSTEM, KVM_GET_MSRS),
	E(SYSTEM, KVM_X86_GET_MCE_CAP_SUPPORTED),
	E(SYSTEM, KVM_GET_EMULATED_CPUID),
	E(VM, KVM_SET_USER_MEMORY_REGION),
	E(VM, KVM_GET_DIRTY_LOG),
	E(VM, KVM_CLEAR_DIRTY_LOG),
	E(VM, KVM_SET_IDENTITY_MAP_ADDR),
	E(VM, KVM_REGISTER_COALESCED_MMIO),
	E(VM, KVM_UNREGISTER_COALESCED_MMIO),
	E(VM, KVM_IOEVENTFD),
	E(VM, KVM_SET_CLOCK),
	E(VM, KVM_GET_CLOCK),
	E(VM, KVM_ENABLE_CAP),
	E(VCPU, KVM_GET_REGS),
	E(VCPU, KVM_SET_REGS),
	E(VCPU, KVM_GET_SREGS),
	E(VCPU, KVM_SET_SREGS),
	E(VCPU, KVM_GET_FPU),
	E(VCPU, KVM_SET_FPU),
	E(VCPU, KVM_GET_MSRS),
	E(VCPU, KVM_SET_MSRS),
	E(VCPU, KVM_GET_CPUID2),
	E(VCPU, KVM_SET_CPUID2),
	E(VCPU, KVM_GET_MP_STATE),
	E(VCPU, KVM_SET_MP_STATE),
	E(VCPU, KVM_GET_VCPU_EVENTS),
	E(VCPU, KVM_SET_VCPU_EVENTS),
	E(VCPU, KVM_GET_DEBUGREGS),
	E(VCPU, KVM_SET_DEBUGREGS),
	E(VCPU, KVM_GET_XSAVE),
	E(VCPU, KVM_SET_XSAVE),
	E(VCPU, KVM_GET_XCRS),
	E(VCPU, KVM_SET_XCRS),
	E(VCPU, KVM_GET_SREGS2),
	E(VCPU, KVM_SET_SREGS2),
	E(VCPU, KVM_INTERRUPT),
	E(VCPU, KVM_X86_SETUP_MCE),
	E(VCPU, KVM_X86_SET_MCE),
	E(VCPU, KVM_ENABLE_CAP),
	E(VCPU, KVM_TRANSLATE),
	E(VCPU, KVM_SET_GUEST_DEBUG),
};

TEST_F(system, every_bad_pointer_is_efault)
{
	struct vm *bare = vm_new_bare();
	uint8_t *p = map_anon(3 * PAGE);
	size_t checked = 0;

	munmap(p + 2 * PAGE, PAGE);
	for (size_t i = 0; i < ARRAY_SIZE(pointers); i++) {
		int fd = pointers[i].kind == SYSTEM ? kvm_fd() :
			 pointers[i].kind == VM ? bare->fd : self->v->fd;
		size_t size = _IOC_SIZE(pointers[i].request);
		uint64_t bad[] = { 0, 8, KERNEL_ADDRESS, NONCANONICAL, -1ul, -8ul,
				   (uintptr_t)p + 2 * PAGE, (uintptr_t)p + 2 * PAGE - size + 1 };

		for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
			int r = OUTCOME(ioctl(fd, pointers[i].request, bad[k]));

			if (r == -ENOTTY)
				break;	/* not there, and says so */
			checked++;
			EXPECT_EQ(-EFAULT, r) {
				TH_LOG("%s with pointer %lx", pointers[i].name, bad[k]);
			}
		}
	}
	EXPECT_LT(100, checked);
}

TEST_F(system, what_is_copied_out_has_no_bytes_left_over_from_elsewhere)
{
	static const unsigned long gets[] = { KVM_GET_REGS, KVM_GET_SREGS, KVM_GET_FPU,
		KVM_GET_MP_STATE, KVM_GET_VCPU_EVENTS, KVM_GET_DEBUGREGS, KVM_GET_XSAVE,
		KVM_GET_XCRS, KVM_GET_SREGS2 };
	static uint8_t a[8192], b[8192];

	for (size_t i = 0; i < ARRAY_SIZE(gets); i++) {
		size_t size = _IOC_SIZE(gets[i]);

		memset(a, 0x5a, sizeof(a));
		memset(b, 0xa5, sizeof(b));
		if (OUTCOME(ioctl(self->v->fd, gets[i], a)) == -ENOTTY)
			continue;
		ASSERT_OK(ioctl(self->v->fd, gets[i], b));
		EXPECT_EQ(0, memcmp(a, b, size)) {
			TH_LOG("ioctl %lx", gets[i]);
		}
		EXPECT_EQ(0x5a, a[size]);
	}
}

/* Hostile contents of the shared page. */
static void guest_io(void)
{
	for (;;) {
		asm volatile("outl %%eax, %%dx" : : "a"(1), "d"(0x5a0));
		asm volatile("inl %%dx, %%eax" : : "d"(0x5a0) : "eax");
		wr32(MMIO_GPA, 1);
		rd32(MMIO_GPA + 8);
	}
}

TEST_F(system, rubbish_in_the_shared_page_harms_only_the_guest)
{
	uint64_t x = 88172645463325252;
	size_t ok = 0;

	vcpu_call(self->v, guest_io);
	for (int round = 0; round < 2000; round++) {
		uint32_t *words = (uint32_t *)self->v->run;
		int r;

		/* Everything but immediate_exit and the request for a window; sync_regs off. */
		for (size_t i = 1; i < self->v->run_size / 4; i += 1 + round % 37) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			words[i] = round % 3 ? (uint32_t)x : 0xffffffff;
		}
		self->v->run->kvm_valid_regs = 0;
		self->v->run->kvm_dirty_regs = 0;
		self->v->run->cr8 = 0;
		self->v->run->immediate_exit = 0;
		self->v->run->request_interrupt_window = 0;
		r = vcpu_try_run(self->v);
		ok += !r;
		if (r || (self->v->run->exit_reason != KVM_EXIT_IO &&
			  self->v->run->exit_reason != KVM_EXIT_MMIO))
			vcpu_call(self->v, guest_io);
	}
	EXPECT_LT(0, ok);
	memset((uint8_t *)self->v->run + PAGE, 0, self->v->run_size - PAGE);
	self->v->run->cr8 = 0;
	vcpu_complete(self->v);
	vcpu_call(self->v, guest_io);
	vcpu_expect(self->v, KVM_EXIT_IO);
}

GUEST_TEST_MAIN
