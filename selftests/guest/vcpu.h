/* SPDX-License-Identifier: GPL-2.0-only */
/* One virtual CPU: its start states, its run loop, what it tells the test. */
#ifndef VCPU_H
#define VCPU_H

#include <pthread.h>
#include "vm.h"

#define CR0_PE (1ul << 0)
#define CR0_MP (1ul << 1)
#define CR0_EM (1ul << 2)
#define CR0_TS (1ul << 3)
#define CR0_ET (1ul << 4)
#define CR0_NE (1ul << 5)
#define CR0_WP (1ul << 16)
#define CR0_AM (1ul << 18)
#define CR0_NW (1ul << 29)
#define CR0_CD (1ul << 30)
#define CR0_PG (1ul << 31)
#define CR4_PSE (1ul << 4)
#define CR4_PAE (1ul << 5)
#define CR4_PGE (1ul << 7)
#define CR4_OSFXSR (1ul << 9)
#define CR4_OSXMMEXCPT (1ul << 10)
#define CR4_UMIP (1ul << 11)
#define CR4_LA57 (1ul << 12)
#define CR4_OSXSAVE (1ul << 18)
#define CR4_SMEP (1ul << 20)
#define CR4_SMAP (1ul << 21)
#define EFER_SCE (1ul << 0)
#define EFER_LME (1ul << 8)
#define EFER_LMA (1ul << 10)
#define EFER_NX (1ul << 11)
#define EFER_SVME (1ul << 12)

#define RFLAGS_CF (1ul << 0)
#define RFLAGS_FIXED (1ul << 1)
#define RFLAGS_PF (1ul << 2)
#define RFLAGS_AF (1ul << 4)
#define RFLAGS_ZF (1ul << 6)
#define RFLAGS_SF (1ul << 7)
#define RFLAGS_TF (1ul << 8)
#define RFLAGS_IF (1ul << 9)
#define RFLAGS_DF (1ul << 10)
#define RFLAGS_OF (1ul << 11)
#define RFLAGS_RF (1ul << 16)
#define RFLAGS_VM (1ul << 17)
#define RFLAGS_AC (1ul << 18)

/* Selectors of the common GDT. */
#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18
#define SEL_CODE16 0x20
#define SEL_DATA16 0x28
#define SEL_UDATA (0x30 | 3)
#define SEL_UCODE64 (0x38 | 3)
#define SEL_UCODE32 (0x40 | 3)
#define SEL_FREE 0x48		/* three entries for tests */
#define SEL_TSS 0x60		/* 16 bytes for each vCPU */

struct vcpu {
	int fd;
	int id;
	struct vm *vm;
	struct kvm_run *run;
	size_t run_size;
};

struct vcpu *vcpu_new(struct vm *vm, int id);	/* with the supported CPUID */
struct vcpu *vcpu_new_raw(struct vm *vm, int id);	/* as the kernel made it */
void vcpu_free(struct vcpu *v);

void vcpu_get(struct vcpu *v, struct kvm_regs *regs);
void vcpu_set(struct vcpu *v, const struct kvm_regs *regs);
void vcpu_get_sregs(struct vcpu *v, struct kvm_sregs *sregs);
void vcpu_set_sregs(struct vcpu *v, const struct kvm_sregs *sregs);
uint64_t vcpu_rip(struct vcpu *v);
struct kvm_segment segment(uint16_t selector, uint8_t type, uint8_t dpl, uint64_t base,
			   uint32_t limit, int db, int l);

/* The state to start from. The 64-bit one calls a C function with up to six numbers. */
#define vcpu_call(v, fn, ...) vcpu_call_((v), (uint64_t)(uintptr_t)(fn), \
					 (const uint64_t[6]){ __VA_ARGS__ })
void vcpu_call_(struct vcpu *v, uint64_t rip, const uint64_t args[6]);
void vcpu_long_mode(struct vcpu *v);
enum paging { PAGING_NONE, PAGING_32, PAGING_PAE };
void vcpu_prot32(struct vcpu *v, const void *entry, enum paging paging);
void vcpu_real(struct vcpu *v, uint16_t cs, uint16_t ip);

int vcpu_try_run(struct vcpu *v);	/* the bare ioctl: 0 or -errno */
void vcpu_run(struct vcpu *v);		/* fails the test on an error */
void vcpu_expect(struct vcpu *v, uint32_t exit_reason);	/* runs once, expects that exit */
void vcpu_complete(struct vcpu *v);	/* the pending I/O, without running on: before SET_REGS */
const char *exit_text(struct vcpu *v);
void *vcpu_io_data(struct vcpu *v);

/* Runs to the next message of the guest (guest.h); any other exit fails the test. */
struct ucall {
	uint32_t kind;
	uint64_t arg[4];
};
struct ucall vcpu_ucall(struct vcpu *v);
bool vcpu_is_ucall(struct vcpu *v, struct ucall *u);	/* looks at the present exit */
uint64_t vcpu_sync(struct vcpu *v);	/* expects ucall_sync(x), returns x */
void vcpu_finish(struct vcpu *v);	/* expects the guest function to return */

/* Sets or reads one MSR; -1 when refused. */
int vcpu_try_set_msr(struct vcpu *v, uint32_t index, uint64_t value);
int vcpu_try_get_msr(struct vcpu *v, uint32_t index, uint64_t *value);
uint64_t vcpu_msr(struct vcpu *v, uint32_t index);

/* A thread that runs fn(r); fn ends when it sees r->stop. */
struct runner {
	pthread_t thread;
	struct vcpu *vcpu;
	void (*fn)(struct runner *r);
	volatile bool stop;
	volatile uint64_t loops;	/* fn may count here */
};
void runner_start(struct runner *r, struct vcpu *v, void (*fn)(struct runner *r));
void runner_join(struct runner *r);
void runner_stop(struct runner *r);	/* sets stop, makes KVM_RUN return, joins */
void runner_spin(struct runner *r);	/* a fn: runs a guest that never exits, till stop */
void kick_setup(void);			/* SIGUSR1 interrupts, and does nothing */

#endif
