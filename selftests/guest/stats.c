// SPDX-License-Identifier: GPL-2.0-only
/* The files of statistics: KVM_GET_STATS_FD, and who may have them from outside. */
#include "test.h"

#include <fcntl.h>
#include <sys/wait.h>
#include "uapi/kvmxx.h"

FIXTURE(stats) { struct vm *vm; struct vcpu *v; };
FIXTURE_SETUP(stats)
{
	NEED_CAP(KVM_CAP_BINARY_STATS_FD);
	self->vm = vm_new();
	self->v = vcpu_new(self->vm, 0);
}
FIXTURE_TEARDOWN(stats)
{
	vcpu_free(self->v);
	vm_free(self->vm);
}

static struct kvm_stats_header header_of(int fd)
{
	struct kvm_stats_header h;

	CHECK(pread(fd, &h, sizeof(h), 0) == sizeof(h), "%m");
	CHECK(h.flags == 0 && h.num_desc > 0 && h.name_size >= 16 && h.name_size <= 256, "%u %u", h.num_desc, h.name_size);
	return h;
}

/* The value of that name; ~0: there is none. */
static uint64_t stat_of(int fd, const char *name)
{
	struct kvm_stats_header h = header_of(fd);
	size_t each = sizeof(struct kvm_stats_desc) + h.name_size;
	struct kvm_stats_desc *d = malloc(each);
	uint64_t value = ~0ul;

	for (uint32_t i = 0; i < h.num_desc; i++) {
		CHECK(pread(fd, d, each, (off_t)(h.desc_offset + i * each)) == (ssize_t)each, "%m");
		if (!strcmp(d->name, name))
			CHECK(pread(fd, &value, 8, h.data_offset + d->offset) == 8, "%m");
	}
	free(d);
	return value;
}

static int stats_fd(int fd)
{
	int s = ioctl(fd, KVM_GET_STATS_FD, 0);

	CHECK(s >= 0, "%m");
	return s;
}

TEST_F(stats, are_told_of_the_vm_and_of_each_vcpu)
{
	char id[64], want[64];
	int of[2] = { stats_fd(self->vm->fd), stats_fd(self->v->fd) };

	for (int i = 0; i < 2; i++) {
		struct kvm_stats_header h = header_of(of[i]);

		ASSERT_LE(h.name_size, sizeof(id));
		EXPECT_EQ(h.name_size, pread(of[i], id, h.name_size, h.id_offset));
		snprintf(want, sizeof(want), i ? "kvm-%d/vcpu-0" : "kvm-%d", getpid());
		EXPECT_STREQ(want, id);
		EXPECT_EQ(O_RDONLY, fcntl(of[i], F_GETFL) & O_ACCMODE);
		EXPECT_EQ(FD_CLOEXEC, fcntl(of[i], F_GETFD));
	}
}

TEST_F(stats, are_read_in_pieces_from_any_position)
{
	int fd = stats_fd(self->v->fd);
	struct kvm_stats_header h = header_of(fd);
	size_t size = h.data_offset + 8 * h.num_desc;
	uint8_t *whole = malloc(size + 1), *pieces = malloc(size + 16);
	void *volatile nowhere = NULL;

	EXPECT_EQ((ssize_t)size, pread(fd, whole, size + 1, 0));
	for (size_t at = 0; at < size;) {
		ssize_t n = read(fd, pieces + at, 13);

		ASSERT_LT(0, n);
		at += (size_t)n;
	}
	EXPECT_EQ(0, read(fd, pieces, 13));
	EXPECT_EQ(0, memcmp(whole, pieces, size));
	EXPECT_EQ(3, pread(fd, pieces, 16, (off_t)size - 3));
	EXPECT_EQ(0, memcmp(whole + size - 3, pieces, 3));
	EXPECT_ERRNO(EFAULT, pread(fd, nowhere, 8, 0));
	EXPECT_ERRNO(EBADF, write(fd, whole, 8));
	free(whole);
	free(pieces);
}

static void guest_out(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		asm volatile("outb %%al, %%dx" : : "a"(0), "d"(0x5a0));
	ucall_sync(n);
}

TEST_F(stats, count_what_the_guest_does)
{
	int fd = stats_fd(self->v->fd);
	uint64_t before = stat_of(fd, "io_exits");

	vcpu_call(self->v, guest_out, 10);
	for (int i = 0; i < 10; i++)
		vcpu_expect(self->v, KVM_EXIT_IO);
	EXPECT_EQ(10, vcpu_sync(self->v));
	EXPECT_LE(before + 10, stat_of(fd, "io_exits"));
	EXPECT_LT(0, stat_of(fd, "pf_fixed"));
	EXPECT_LE(stat_of(fd, "pf_fixed"), stat_of(fd, "pf_taken"));
}

TEST_F(stats, outlive_the_files_of_the_vm)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 3);
	int of_vm = stats_fd(vm->fd), of_vcpu = stats_fd(v->fd);
	uint64_t exits;

	vcpu_call(v, guest_out, 1);
	vcpu_expect(v, KVM_EXIT_IO);
	exits = stat_of(of_vcpu, "io_exits");
	vcpu_free(v);
	vm_free(vm);
	EXPECT_EQ(exits, stat_of(of_vcpu, "io_exits"));
	EXPECT_LT(0, header_of(of_vm).num_desc);
	close(of_vm);
	close(of_vcpu);
}

/* Laws 1, 2 and 4: what the vCPUs' creation cost once, nothing later costs again. */
TEST_F(stats, say_that_a_vcpu_is_set_up_once)
{
	struct kvm_sregs s;
	int of_vm, of_vcpu;
	uint64_t loads, built;

	if (!kvm_is_kvmxx())
		SKIP(return, "laws of kvmxx");
	of_vm = stats_fd(self->vm->fd);
	of_vcpu = stats_fd(self->v->fd);
	loads = stat_of(of_vcpu, "root_loads");
	built = stat_of(of_vm, "roots_built");
	EXPECT_EQ(1, stat_of(of_vm, "mmu_constant_inits"));
	for (int i = 0; i < 20; i++) {
		vcpu_real(self->v, 0, REAL_GPA);
		vcpu_long_mode(self->v);
		vcpu_get_sregs(self->v, &s);
		s.cr0 ^= CR0_WP;
		s.cr4 ^= CR4_PGE;
		vcpu_set_sregs(self->v, &s);
		vcpu_call(self->v, guest_out, 0);
		EXPECT_EQ(0, vcpu_sync(self->v));
	}
	EXPECT_EQ(1, stat_of(of_vm, "mmu_constant_inits"));
	EXPECT_EQ(0, stat_of(of_vm, "page_hash_lookups"));
	EXPECT_EQ(built, stat_of(of_vm, "roots_built"));
	EXPECT_EQ(loads, stat_of(of_vcpu, "root_loads"));
}

/* A child has the file of the VM, and another address space. */
TEST_F(stats, are_there_for_who_looks_from_outside)
{
	int status;
	pid_t child;

	if (!kvm_is_kvmxx())
		SKIP(return, "an ioctl of kvmxx");
	EXPECT_ERRNO(ENOENT, ioctl(self->vm->fd, KVMXX_GET_STATS_FD, 1));
	child = fork();
	if (!child) {
		int fd;

		if (ioctl(self->vm->fd, KVM_GET_STATS_FD, 0) != -1 || errno != EIO)
			_exit(1);
		fd = ioctl(self->vm->fd, KVMXX_GET_STATS_FD, KVMXX_STATS_OF_VM);
		if (fd < 0 || stat_of(fd, "mmu_constant_inits") != 1)
			_exit(2);
		fd = ioctl(self->vm->fd, KVMXX_GET_STATS_FD, 0);
		if (fd < 0 || stat_of(fd, "pf_taken") == ~0ul)
			_exit(3);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

GUEST_TEST_MAIN
