/* SPDX-License-Identifier: GPL-2.0-only */
/* What every test program includes: the kselftest harness and the client library. */
#ifndef TEST_H
#define TEST_H

#include <kselftest_harness.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "pgtable.h"
#include "vcpu.h"
#include "vm.h"

/* Leaves the test case as skipped, from setup too (where SKIP() does not stop the case). */
#define SKIP_CASE(...) SKIP(_exit(255), __VA_ARGS__)
#define NEED_CAP(cap) do { \
	if (!kvm_has(cap)) \
		SKIP_CASE(#cap " is not offered"); \
} while (0)

/* An ioctl that must fail with that errno, or succeed. */
#define OUTCOME(call) ({ long __r; errno = 0; __r = (call); __r == -1 ? -errno : (int)__r; })
#define EXPECT_ERRNO(err, call) EXPECT_EQ(-(err), OUTCOME(call))
#define ASSERT_OK(call) ASSERT_EQ(0, call)
#define EXPECT_OK(call) EXPECT_EQ(0, call)

/* A fixture with one VM and one vCPU in long mode. */
#define VM_FIXTURE(name) \
FIXTURE(name) { struct vm *vm; struct vcpu *v; }; \
FIXTURE_SETUP(name) { self->vm = vm_new(); self->v = vcpu_new(self->vm, 0); } \
FIXTURE_TEARDOWN(name) { vcpu_free(self->v); vm_free(self->vm); }

/* With arguments, runs only the cases whose name contains one of them. */
static inline void choose_cases(int argc, char **argv)
{
	for (struct __fixture_metadata *f = __fixture_list; argc > 1 && f; f = f->next) {
		struct __test_metadata *chosen = NULL, *last = NULL;

		for (struct __test_metadata *t = f->tests, *next; t; t = next) {
			bool wanted = false;

			next = t->next;
			for (int i = 1; i < argc; i++)
				wanted |= !!strstr(t->name, argv[i]);
			if (!wanted)
				continue;
			t->next = NULL;
			if (last)
				last->next = t;
			else
				chosen = t;
			last = t;
		}
		f->tests = chosen;
	}
}

#define GUEST_TEST_MAIN \
int main(int argc, char **argv) \
{ \
	setvbuf(stdout, NULL, _IOLBF, 0); \
	choose_cases(argc, argv); \
	return test_harness_run(argc, argv); \
}

#endif
