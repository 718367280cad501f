// SPDX-License-Identifier: GPL-2.0-only
/* Writes that signal an eventfd instead of exiting. */
#include "test.h"

#include <sys/eventfd.h>

#define DEV MMIO_GPA
#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define DEASSIGN KVM_IOEVENTFD_FLAG_DEASSIGN
#define PIO KVM_IOEVENTFD_FLAG_PIO

FIXTURE(ioeventfd) { struct vm *vm; struct vcpu *v; int fd; };
FIXTURE_SETUP(ioeventfd)
{
	NEED_CAP(KVM_CAP_IOEVENTFD);
	self->vm = vm_new();
	self->v = vcpu_new(self->vm, 0);
	self->fd = eventfd(0, EFD_NONBLOCK);
}
FIXTURE_TEARDOWN(ioeventfd)
{
	vcpu_free(self->v);
	vm_free(self->vm);
	close(self->fd);
}

static int assign(struct vm *vm, int fd, uint64_t addr, uint32_t len, uint32_t flags,
		  uint64_t match)
{
	struct kvm_ioeventfd e = {
		.addr = addr, .len = len, .flags = flags, .datamatch = match, .fd = fd,
	};

	return ioctl(vm->fd, KVM_IOEVENTFD, &e);
}

/* How often it was signalled since the last look. */
static uint64_t signals(int fd)
{
	uint64_t n;

	return read(fd, &n, 8) == 8 ? n : 0;
}

static void guest_write32(uint64_t a, uint64_t value, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		wr32(a, (uint32_t)value);
	ucall_sync(n);
}

static void guest_write16(uint64_t a, uint64_t value)
{
	wr16(a, (uint16_t)value);
	ucall_sync(1);
}

static void guest_out(uint64_t port, uint64_t value, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		asm volatile("outw %%ax, %%dx" : : "a"((uint16_t)value), "d"((uint16_t)port));
	ucall_sync(n);
}

TEST_F(ioeventfd, a_matching_write_signals_and_does_not_exit)
{
	ASSERT_OK(assign(self->vm, self->fd, DEV + 0x10, 4, 0, 0));
	vcpu_call(self->v, guest_write32, DEV + 0x10, 1, 5);
	EXPECT_EQ(5, vcpu_sync(self->v));
	EXPECT_EQ(5, signals(self->fd));
	/* Another place, another size. */
	vcpu_call(self->v, guest_write32, DEV + 0x14, 1, 1);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	vcpu_sync(self->v);
	vcpu_call(self->v, guest_write16, DEV + 0x10, 1);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(2, self->v->run->mmio.len);
	vcpu_sync(self->v);
	EXPECT_EQ(0, signals(self->fd));
}

TEST_F(ioeventfd, a_data_match_lets_other_values_through)
{
	int other = eventfd(0, EFD_NONBLOCK);

	ASSERT_OK(assign(self->vm, self->fd, DEV, 4, MATCH, 7));
	ASSERT_OK(assign(self->vm, other, DEV, 4, MATCH, 8));
	vcpu_call(self->v, guest_write32, DEV, 7, 2);
	EXPECT_EQ(2, vcpu_sync(self->v));
	vcpu_call(self->v, guest_write32, DEV, 8, 3);
	EXPECT_EQ(3, vcpu_sync(self->v));
	EXPECT_EQ(2, signals(self->fd));
	EXPECT_EQ(3, signals(other));
	vcpu_call(self->v, guest_write32, DEV, 9, 1);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	vcpu_sync(self->v);
	EXPECT_ERRNO(EEXIST, assign(self->vm, other, DEV, 4, MATCH, 7));
	EXPECT_ERRNO(EEXIST, assign(self->vm, other, DEV, 4, 0, 0));
}

TEST_F(ioeventfd, port_writes_signal_too)
{
	ASSERT_OK(assign(self->vm, self->fd, 0x510, 2, PIO, 0));
	vcpu_call(self->v, guest_out, 0x510, 1, 4);
	EXPECT_EQ(4, vcpu_sync(self->v));
	EXPECT_EQ(4, signals(self->fd));
	/* Memory at the same number is another place. */
	vcpu_call(self->v, guest_out, 0x512, 1, 1);
	vcpu_expect(self->v, KVM_EXIT_IO);
	vcpu_sync(self->v);
}

TEST_F(ioeventfd, length_zero_matches_every_size)
{
	NEED_CAP(KVM_CAP_IOEVENTFD_ANY_LENGTH);
	ASSERT_OK(assign(self->vm, self->fd, DEV, 0, 0, 0));
	vcpu_call(self->v, guest_write32, DEV, 1, 1);
	vcpu_sync(self->v);
	vcpu_call(self->v, guest_write16, DEV, 1);
	vcpu_sync(self->v);
	EXPECT_EQ(2, signals(self->fd));
	EXPECT_ERRNO(EINVAL, assign(self->vm, self->fd, DEV + 8, 0, MATCH, 1));
}

TEST_F(ioeventfd, what_is_taken_back_exits_again)
{
	ASSERT_OK(assign(self->vm, self->fd, DEV, 4, 0, 0));
	EXPECT_ERRNO(ENOENT, assign(self->vm, self->fd, DEV + 4, 4, DEASSIGN, 0));
	EXPECT_OK(assign(self->vm, self->fd, DEV, 4, DEASSIGN, 0));
	EXPECT_ERRNO(ENOENT, assign(self->vm, self->fd, DEV, 4, DEASSIGN, 0));
	vcpu_call(self->v, guest_write32, DEV, 1, 1);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	vcpu_sync(self->v);
	EXPECT_EQ(0, signals(self->fd));
	EXPECT_OK(assign(self->vm, self->fd, DEV, 4, 0, 0));
}

TEST_F(ioeventfd, nonsense_is_refused)
{
	EXPECT_ERRNO(EINVAL, assign(self->vm, self->fd, DEV, 3, 0, 0));
	EXPECT_ERRNO(EINVAL, assign(self->vm, self->fd, DEV, 16, 0, 0));
	EXPECT_ERRNO(EINVAL, assign(self->vm, self->fd, -2ul, 4, 0, 0));
	EXPECT_ERRNO(EINVAL, assign(self->vm, self->fd, DEV, 4, 1u << 31, 0));
	EXPECT_ERRNO(EBADF, assign(self->vm, -1, DEV, 4, 0, 0));
	EXPECT_ERRNO(EINVAL, assign(self->vm, kvm_fd(), DEV, 4, 0, 0));
	EXPECT_ERRNO(EFAULT, ioctl(self->vm->fd, KVM_IOEVENTFD, NULL));
}

TEST_F(ioeventfd, the_eventfd_may_be_closed_first)
{
	int fd = eventfd(0, EFD_NONBLOCK), twin = dup(fd);

	ASSERT_OK(assign(self->vm, fd, DEV, 4, 0, 0));
	close(fd);
	vcpu_call(self->v, guest_write32, DEV, 1, 3);
	EXPECT_EQ(3, vcpu_sync(self->v));
	EXPECT_EQ(3, signals(twin));
	close(twin);
	vcpu_call(self->v, guest_write32, DEV, 1, 3);
	EXPECT_EQ(3, vcpu_sync(self->v));
}

static void guest_write_for_ever(uint64_t a)
{
	for (;;)
		wr32(a, 1);
}

static void run_on(struct runner *r)
{
	while (!r->stop)
		vcpu_try_run(r->vcpu);
}

TEST_F(ioeventfd, nothing_is_signalled_any_more_when_it_is_taken_back)
{
	struct runner r;
	int signalled = 0;

	vcpu_call(self->v, guest_write_for_ever, DEV);
	runner_start(&r, self->v, run_on);
	for (int i = 0; i < 50; i++) {
		ASSERT_OK(assign(self->vm, self->fd, DEV, 4, 0, 0));
		usleep(1000);
		ASSERT_OK(assign(self->vm, self->fd, DEV, 4, DEASSIGN, 0));
		signalled += !!signals(self->fd);
		usleep(500);
		ASSERT_EQ(0, signals(self->fd));
	}
	runner_stop(&r);
	EXPECT_LT(0, signalled);
}

TEST_F(ioeventfd, string_writes_signal_once_for_each_element)
{
	ASSERT_OK(assign(self->vm, self->fd, 0x510, 1, PIO, 0));
	/* outb four times by REP OUTSB at 0x510: code at REAL_GPA in real mode. */
	vm_copy(self->vm, REAL_GPA, "\xba\x10\x05\xb9\x04\x00\xbe\x00\x50\xf3\x6e\xf4", 12);
	vcpu_real(self->v, 0, REAL_GPA);
	vcpu_expect(self->v, KVM_EXIT_HLT);
	EXPECT_EQ(4, signals(self->fd));
}

GUEST_TEST_MAIN
