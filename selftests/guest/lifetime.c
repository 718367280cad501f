// SPDX-License-Identifier: GPL-2.0-only
/* Birth and death: descriptors closed in any order, processes killed, processors unplugged. */
#include "test.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

static volatile uint64_t counter;

static void guest_spin(void)
{
	for (;;)
		counter++;
}

static void guest_count(uint64_t n)
{
	for (uint64_t i = 1; i <= n; i++)
		ucall_sync(i);
}

static const char *module_name(void)
{
	return kvm_is_kvmxx() ? "kvmxx" : "kvm_amd";
}

static int references(void)
{
	char path[80];
	FILE *f;
	int n = -1;

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module_name());
	f = fopen(path, "r");
	if (!f)
		return -1;
	if (fscanf(f, "%d", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

/* Some of the end of a VM happens later: waits for it. */
static int references_settled(int want)
{
	int n = references();

	for (int i = 0; i < 300 && n != want; i++) {
		usleep(10000);
		n = references();
	}
	return n;
}

static void wait_counter(struct vm *vm)
{
	uint64_t from = G(vm, counter);

	for (int i = 0; i < 50000; i++) {
		if (G(vm, counter) != from)
			return;
		usleep(100);
	}
	FAIL("the guest makes no progress");
}

/* Every case must leave the module with as many users as it found. */
FIXTURE(lifetime) { int users; };
FIXTURE_SETUP(lifetime)
{
	kvm_fd();
	self->users = references();
}
FIXTURE_TEARDOWN(lifetime)
{
	EXPECT_EQ(self->users, references_settled(self->users));
}

TEST_F(lifetime, descriptors_may_be_closed_in_any_order)
{
	for (int order = 0; order < 24; order++) {
		int left[4] = { 0, 1, 2, 3 }, n = 4, seed = order;
		int dev = kvm_open(), vcpu, vm_fd;
		struct vm *vm = vm_new();
		struct vcpu *v = vcpu_new(vm, 0);
		bool vcpu_open = true;

		vm_fd = vm->fd;
		vcpu = v->fd;
		vcpu_call(v, guest_count, 10);
		EXPECT_EQ(1, vcpu_sync(v));
		while (n) {
			int k = seed % n, what = left[k];

			seed /= n;
			left[k] = left[--n];
			switch (what) {
			case 0:
				ASSERT_OK(close(dev));
				break;
			case 1:
				ASSERT_OK(close(vm_fd));
				break;
			case 2:
				ASSERT_OK(close(vcpu));
				vcpu_open = false;
				break;
			case 3:
				break;
			}
			/* The vCPU works as long as its descriptor is open. */
			if (vcpu_open) {
				EXPECT_LT(1, vcpu_sync(v));
			} else {
				EXPECT_EQ(KVM_EXIT_IO, v->run->exit_reason);
			}
		}
		munmap(v->run, v->run_size);
		munmap(vm->ram, RAM_SIZE);
	}
}

TEST_F(lifetime, the_mapping_of_a_vcpu_outlives_all_descriptors)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 0);

	vcpu_call(v, guest_count, 10);
	EXPECT_EQ(1, vcpu_sync(v));
	close(v->fd);
	close(vm->fd);
	for (int i = 0; i < 100; i++) {
		EXPECT_EQ(KVM_EXIT_IO, v->run->exit_reason);
		memset((uint8_t *)v->run + PAGE, i, PAGE);
		usleep(100);
	}
	munmap(v->run, v->run_size);
	munmap(vm->ram, RAM_SIZE);
}

TEST_F(lifetime, the_vm_descriptor_may_be_closed_while_the_guest_runs)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 0);
	struct runner r;

	vcpu_call(v, guest_spin);
	runner_start(&r, v, runner_spin);
	wait_counter(vm);
	ASSERT_OK(close(vm->fd));
	wait_counter(vm);
	wait_counter(vm);
	runner_stop(&r);
	vcpu_free(v);
	munmap(vm->ram, RAM_SIZE);
}

TEST_F(lifetime, sixty_four_vms_come_and_go_and_live_together)
{
	static struct vm *vms[64];
	static struct vcpu *v[64];

	/* Every eighth has memory and runs. */
	for (int i = 0; i < 64; i++) {
		vms[i] = i % 8 ? vm_new_bare() : vm_new();
		v[i] = vcpu_new(vms[i], i % 3);
		if (i % 8 == 0)
			vcpu_call(v[i], guest_count, 10);
	}
	for (uint64_t k = 1; k <= 3; k++)
		for (int i = 0; i < 64; i += 8)
			ASSERT_EQ(k, vcpu_sync(v[i]));
	for (int i = 0; i < 64; i++) {
		if (i % 16 == 0)
			continue;
		vcpu_free(v[i]);
		vm_free(vms[i]);
	}
	for (int i = 0; i < 64; i += 16) {
		ASSERT_EQ(4, vcpu_sync(v[i]));
		vcpu_free(v[i]);
		vm_free(vms[i]);
	}
}

static void fn_spin_forever(struct runner *r)
{
	for (;;)
		vcpu_try_run(r->vcpu);
}

TEST_F(lifetime, a_client_killed_with_running_vcpus_leaves_nothing_behind)
{
	for (int round = 0; round < 5; round++) {
		int ready[2], status;
		pid_t child;
		char c;

		ASSERT_OK(pipe(ready));
		child = fork();
		if (!child) {
			struct vm *vm = vm_new();
			struct runner r[3];

			for (int i = 0; i < 3; i++) {
				struct vcpu *v = vcpu_new(vm, i);

				vcpu_call(v, guest_spin);
				runner_start(&r[i], v, fn_spin_forever);
			}
			wait_counter(vm);
			if (write(ready[1], "x", 1) == 1)
				pause();
			_exit(1);
		}
		close(ready[1]);
		ASSERT_EQ(1, read(ready[0], &c, 1));
		close(ready[0]);
		usleep(1000 * (unsigned int)round);
		ASSERT_OK(kill(child, SIGKILL));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
	}
}

TEST_F(lifetime, a_client_that_blocks_every_signal_in_the_guest_can_be_killed)
{
	struct {
		uint32_t len;
		uint64_t set;
	} __attribute__((packed)) all = { sizeof(all.set), ~0ul };
	int ready[2], status;
	pid_t child, gone = 0;
	char c;

	ASSERT_OK(pipe(ready));
	child = fork();
	if (!child) {
		struct vcpu *v = vcpu_new(vm_new(), 0);

		vcpu_call(v, guest_spin);
		if (!ioctl(v->fd, KVM_SET_SIGNAL_MASK, &all) && write(ready[1], "x", 1) == 1)
			vcpu_try_run(v);
		_exit(1);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	close(ready[0]);
	usleep(200000);
	ASSERT_OK(kill(child, SIGKILL));
	for (int i = 0; i < 500 && !gone; i++) {
		gone = waitpid(child, &status, WNOHANG);
		usleep(10000);
	}
	ASSERT_EQ(child, gone);
	EXPECT_TRUE(WIFSIGNALED(status));
}

TEST_F(lifetime, another_process_may_hold_the_descriptors_but_not_use_them)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 0);
	struct kvm_regs regs;
	int status;
	pid_t child;

	vcpu_call(v, guest_count, 10);
	EXPECT_EQ(1, vcpu_sync(v));
	child = fork();
	if (!child) {
		int bad = 0;

		bad |= OUTCOME(ioctl(v->fd, KVM_RUN, 0)) != -EIO;
		bad |= (OUTCOME(ioctl(v->fd, KVM_GET_REGS, &regs)) != -EIO) << 1;
		bad |= (OUTCOME(ioctl(vm->fd, KVM_CREATE_VCPU, 5)) != -EIO) << 2;
		bad |= (OUTCOME(vm_try_slot(vm, 5, 0, GiB, PAGE, vm->ram)) != -EIO) << 3;
		bad |= (OUTCOME(ioctl(vm->fd, KVM_CHECK_EXTENSION, 0)) != -EIO) << 4;
		/* The system descriptor belongs to nobody. */
		bad |= (ioctl(kvm_fd(), KVM_GET_API_VERSION, 0) != 12) << 5;
		_exit(bad);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(2, vcpu_sync(v));
	vcpu_free(v);
	vm_free(vm);
}

TEST_F(lifetime, descriptors_that_outlive_their_process_only_remain_to_be_closed)
{
	int done[2];
	char result = 0;
	pid_t child;

	ASSERT_OK(pipe(done));
	child = fork();
	if (!child) {
		struct vm *vm = vm_new();
		struct vcpu *v = vcpu_new(vm, 0);
		pid_t owner = getpid();

		vcpu_call(v, guest_count, 10);
		vcpu_sync(v);
		if (!fork()) {
			/* The owner goes away; its memory too. */
			while (getppid() == owner)
				usleep(1000);
			usleep(10000);
			result = OUTCOME(ioctl(v->fd, KVM_RUN, 0)) == -EIO ? 'k' : 'x';
			close(vm->fd);
			if (OUTCOME(ioctl(v->fd, KVM_RUN, 0)) != -EIO)
				result = 'y';
			close(v->fd);
			_exit(write(done[1], &result, 1) != 1);
		}
		_exit(0);
	}
	close(done[1]);
	ASSERT_EQ(child, waitpid(child, NULL, 0));
	ASSERT_EQ(1, read(done[0], &result, 1));
	EXPECT_EQ('k', result);
}

TEST_F(lifetime, descriptors_are_gone_after_exec)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 0);
	int status;
	pid_t child;

	child = fork();
	if (!child) {
		char test[200];

		snprintf(test, sizeof(test), "cd /proc/self/fd && [ ! -e %d ] && [ ! -e %d ]",
			 vm->fd, v->fd);
		execl("/bin/sh", "sh", "-c", test, NULL);
		_exit(99);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	vcpu_call(v, guest_count, 1);
	EXPECT_EQ(1, vcpu_sync(v));
	vcpu_free(v);
	vm_free(vm);
}

TEST_F(lifetime, running_out_of_descriptors_leaves_no_half_made_objects)
{
	struct vm *vm = vm_new();
	struct rlimit old, low;
	int first = dup(vm->fd), fd;

	close(first);
	ASSERT_OK(getrlimit(RLIMIT_NOFILE, &old));
	low = old;
	low.rlim_cur = (rlim_t)first;
	ASSERT_OK(setrlimit(RLIMIT_NOFILE, &low));
	for (int i = 0; i < 3; i++) {
		EXPECT_ERRNO(EMFILE, ioctl(vm->fd, KVM_CREATE_VCPU, 3));
		EXPECT_ERRNO(EMFILE, ioctl(kvm_fd(), KVM_CREATE_VM, 0));
	}
	ASSERT_OK(setrlimit(RLIMIT_NOFILE, &old));
	fd = ioctl(vm->fd, KVM_CREATE_VCPU, 3);
	EXPECT_LT(0, fd);
	close(fd);
	vm_free(vm);
}

/* Several threads at one vCPU. */
static volatile bool stop;
static volatile uint64_t other_ioctls;

static void *get_state(void *arg)
{
	struct vcpu *v = arg;
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	while (!stop) {
		CHECK(!ioctl(v->fd, KVM_GET_REGS, &regs), "KVM_GET_REGS");
		CHECK(regs.rip > 0x400000 && regs.rip < 0x600000, "rip %llx", regs.rip);
		CHECK(!ioctl(v->fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
		CHECK(sregs.cr3 == v->vm->cr3, "cr3 %llx", sregs.cr3);
		other_ioctls++;
	}
	return NULL;
}

static void *interrupt(void *arg)
{
	pthread_t *target = arg;
	struct timespec pause = { .tv_nsec = 300000 };

	while (!stop) {
		pthread_kill(*target, SIGUSR1);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

TEST_F(lifetime, ioctls_of_other_threads_wait_for_kvm_run_to_end)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 0);
	pthread_t getter, kicker;
	struct runner r;

	vcpu_call(v, guest_spin);
	runner_start(&r, v, runner_spin);
	ASSERT_OK(pthread_create(&getter, NULL, get_state, v));
	ASSERT_OK(pthread_create(&kicker, NULL, interrupt, &r.thread));
	for (int i = 0; i < 5000 && other_ioctls < 50; i++)
		usleep(1000);
	EXPECT_LE(50, other_ioctls);
	stop = true;
	/* The getter may be waiting for the vCPU: end the run first. */
	ASSERT_OK(pthread_join(kicker, NULL));
	runner_stop(&r);
	ASSERT_OK(pthread_join(getter, NULL));
	vcpu_free(v);
	vm_free(vm);
}

static volatile uint64_t last_seen, total;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static void *run_some(void *arg)
{
	struct vcpu *v = arg;

	for (int i = 0; i < 100; i++) {
		pthread_mutex_lock(&order);
		CHECK(vcpu_sync(v) == last_seen + 1, "out of order");
		last_seen++;
		pthread_mutex_unlock(&order);
	}
	return NULL;
}

static void *run_spinning(void *arg)
{
	struct vcpu *v = arg;

	while (!stop) {
		int r = vcpu_try_run(v);

		CHECK(r == 0 || r == -EINTR, "KVM_RUN gave %d", r);
		__atomic_fetch_add(&total, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void guest_outs(void)
{
	for (;;) {
		counter++;
		outb(0x80, 0);
	}
}

TEST_F(lifetime, two_threads_may_run_one_vcpu_in_turns_and_against_each_other)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 0);
	pthread_t t[2];

	vcpu_call(v, guest_count, 1000);
	for (int i = 0; i < 2; i++)
		ASSERT_OK(pthread_create(&t[i], NULL, run_some, v));
	for (int i = 0; i < 2; i++)
		ASSERT_OK(pthread_join(t[i], NULL));
	EXPECT_EQ(200, last_seen);
	vcpu_complete(v);
	vcpu_call(v, guest_outs);
	for (int i = 0; i < 2; i++)
		ASSERT_OK(pthread_create(&t[i], NULL, run_spinning, v));
	usleep(100000);
	stop = true;
	for (int i = 0; i < 2; i++)
		ASSERT_OK(pthread_join(t[i], NULL));
	/* Each run is one exit: none is lost, none is doubled. */
	EXPECT_EQ(total, G(vm, counter));
	vcpu_free(v);
	vm_free(vm);
}

static void guest_sequence(void)
{
	for (uint64_t i = 1;; i++) {
		uint64_t v;

		ucall_sync(i);
		v = rd64(MMIO_GPA);
		GUEST_EQ(i * 3, v);
	}
}

TEST_F(lifetime, a_storm_of_signals_disturbs_no_exit)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 0);
	pthread_t me = pthread_self(), kicker;
	uint64_t interrupted = 0;
	struct ucall u;

	kick_setup();
	vcpu_call(v, guest_sequence);
	ASSERT_OK(pthread_create(&kicker, NULL, interrupt, &me));
	for (uint64_t i = 1; i <= 1000 || !interrupted;) {
		int r = vcpu_try_run(v);

		if (r == -EINTR) {
			interrupted++;
			continue;
		}
		ASSERT_EQ(0, r);
		if (v->run->exit_reason == KVM_EXIT_MMIO) {
			*(uint64_t *)v->run->mmio.data = i * 3;
			i++;
			continue;
		}
		ASSERT_TRUE(vcpu_is_ucall(v, &u));
		ASSERT_EQ(UCALL_SYNC, u.kind);
		ASSERT_EQ(i, u.arg[0]);
	}
	stop = true;
	ASSERT_OK(pthread_join(kicker, NULL));
	EXPECT_LT(0, interrupted);
	vcpu_free(v);
	vm_free(vm);
}

/* Processors that come and go. */
#define CPU1 "/sys/devices/system/cpu/cpu1/online"

static bool set_cpu1(bool on)
{
	int fd = open(CPU1, O_WRONLY);
	bool ok = fd >= 0 && write(fd, on ? "1" : "0", 1) == 1;

	if (fd >= 0)
		close(fd);
	return ok;
}

TEST_F(lifetime, processors_are_unplugged_and_plugged_under_running_guests)
{
	struct vm *vm;
	struct vcpu *v[2];
	struct runner r[2];

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || access(CPU1, W_OK))
		SKIP(return, "no second processor that could be unplugged");
	vm = vm_new();
	v[0] = vcpu_new(vm, 0);
	v[1] = vcpu_new(vm, 1);
	for (int i = 0; i < 2; i++) {
		vcpu_call(v[i], guest_spin);
		runner_start(&r[i], v[i], runner_spin);
	}
	for (int round = 0; round < 3; round++) {
		struct vm *young;
		struct vcpu *w;

		wait_counter(vm);
		ASSERT_TRUE(set_cpu1(false));
		wait_counter(vm);
		/* A VM born while a processor is away works when it is back. */
		young = vm_new();
		w = vcpu_new(young, 0);
		vcpu_call(w, guest_count, 100);
		EXPECT_EQ(1, vcpu_sync(w));
		ASSERT_TRUE(set_cpu1(true));
		wait_counter(vm);
		for (uint64_t i = 2; i < 20; i++) {
			cpu_set_t set;

			CPU_ZERO(&set);
			CPU_SET(i & 1, &set);
			ASSERT_OK(sched_setaffinity(0, sizeof(set), &set));
			EXPECT_EQ(i, vcpu_sync(w));
		}
		vcpu_free(w);
		vm_free(young);
	}
	for (int i = 0; i < 2; i++) {
		runner_stop(&r[i]);
		vcpu_free(v[i]);
	}
	vm_free(vm);
}

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* The kernel goes all the way down but for the firmware's last step, and comes back. */
TEST_F_TIMEOUT(lifetime, guests_go_on_after_suspend, 60)
{
	struct vm *vm, *young;
	struct vcpu *v[2], *w;
	struct runner r[2];

	if (!write_text("/sys/power/pm_test", "core"))
		SKIP(return, "this kernel cannot test suspend (CONFIG_PM_SLEEP_DEBUG)");
	vm = vm_new();
	v[0] = vcpu_new(vm, 0);
	v[1] = vcpu_new(vm, 1);
	write_text("/sys/module/suspend/parameters/pm_test_delay", "1");
	for (int i = 0; i < 2; i++) {
		vcpu_call(v[i], guest_spin);
		runner_start(&r[i], v[i], runner_spin);
	}
	wait_counter(vm);
	EXPECT_TRUE(write_text("/sys/power/state", "mem"));
	wait_counter(vm);
	young = vm_new();
	w = vcpu_new(young, 0);
	vcpu_call(w, guest_count, 100);
	EXPECT_EQ(1, vcpu_sync(w));
	vcpu_free(w);
	vm_free(young);
	for (int i = 0; i < 2; i++) {
		runner_stop(&r[i]);
		vcpu_free(v[i]);
	}
	vm_free(vm);
	EXPECT_TRUE(write_text("/sys/power/pm_test", "none"));
}

TEST_F(lifetime, the_module_cannot_be_unloaded_while_it_is_used)
{
	struct vm *vm;
	struct vcpu *v;
	int r;

	if (!kvm_is_kvmxx())
		SKIP(return, "about kvmxx: the in-tree module need not be one");
	vm = vm_new();
	v = vcpu_new(vm, 0);
	EXPECT_LT(0, references());
	r = OUTCOME(syscall(SYS_delete_module, "kvmxx", O_NONBLOCK));
	EXPECT_TRUE(r == -EAGAIN || r == -EBUSY);
	/* Not even with only a vCPU left. */
	close(vm->fd);
	r = OUTCOME(syscall(SYS_delete_module, "kvmxx", O_NONBLOCK));
	EXPECT_TRUE(r == -EAGAIN || r == -EBUSY);
	vcpu_call(v, guest_count, 1);
	EXPECT_EQ(1, vcpu_sync(v));
	vcpu_free(v);
	munmap(vm->ram, RAM_SIZE);
}

GUEST_TEST_MAIN
