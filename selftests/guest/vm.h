/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A small client of the KVM ABI, for tests.
 *
 * A virtual machine made by vm_new() has RAM_SIZE bytes of memory at guest-physical 0, and a copy
 * of this very program at its own link address: a guest function is an ordinary function of the
 * test, and a guest variable an ordinary global, of which every VM has a copy (see G()).
 * Guest-virtual equals guest-physical for the first 4 GiB unless a test maps something else.
 */
#ifndef VM_H
#define VM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KiB 1024ul
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)
#define PAGE 4096ul

/* Guest-physical layout of the low memory. */
#define GDT_GPA 0x1000ul
#define IDT_GPA 0x2000ul
#define IDT32_GPA 0x3000ul
#define TSS_GPA 0x4000ul	/* one of TSS_SIZE for each vCPU */
#define TSS_SIZE 0x80ul
#define FREE_GPA 0x5000ul	/* five pages that tests may use, below the real-mode code */
#define REAL_GPA 0xa000ul	/* 16-bit code is copied here; up to 0xffff */
#define POOL_GPA 0x10000ul	/* page tables */
#define POOL_END 0xa0000ul
#define STACK_GPA 0x100000ul	/* one of STACK_SIZE for each vCPU */
#define STACK_SIZE 0x10000ul
#define SCRATCH_GPA 0x200000ul	/* SCRATCH_SIZE bytes that nothing else uses */
#define SCRATCH_SIZE 0x200000ul
#define RAM_SIZE (8 * MiB)	/* 0x400000: this program; 0x600000: two more free MiB */
#define HIGH_SCRATCH_GPA 0x600000ul
#define MMIO_GPA 0xd0000000ul	/* never backed, mapped */
#define MAX_VCPUS 16

/* Ends the test with a message, from any thread. */
#define FAIL(...) vm_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond, ...) do { if (!(cond)) FAIL("not (" #cond "): " __VA_ARGS__); } while (0)
void vm_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

const char *kvm_path(void);	/* $KVM_DEV or /dev/kvmxx */
bool kvm_is_kvmxx(void);	/* not the in-tree module */
bool file_says(const char *path, const char *text);	/* in its first 4 KiB */
bool on_intel(void);		/* the host's processor is Intel's: VMX */
bool vmx_without(const char *parameter);	/* of the module: it is off */
bool on_bochs(void);
bool on_tcg(void);		/* the host is QEMU's TCG, which checks less than a processor */
bool on_old_tcg(void);		/* ... of 7.2: no interrupt shadow on VMRUN, no XSETBV exit, ... */
int kvm_open(void);		/* a new fd of the device */
int kvm_fd(void);		/* one kept for the process */
int kvm_has(int cap);		/* KVM_CHECK_EXTENSION on it */
const struct kvm_cpuid2 *kvm_cpuid(void);	/* KVM_GET_SUPPORTED_CPUID */
const struct kvm_cpuid_entry2 *kvm_cpuid_leaf(uint32_t leaf, uint32_t subleaf);
unsigned int kvm_maxphyaddr(void);

struct vm {
	int fd;
	uint8_t *ram;
	uint64_t pool;		/* next free page of the page-table pool */
	uint64_t cr3;
	int levels;		/* of the 64-bit page tables: 4 or 5 */
};

struct vm *vm_new(void);
struct vm *vm_new_with(void *ram);	/* with RAM_SIZE bytes of the caller's */
struct vm *vm_new_bare(void);		/* no memory at all */
void vm_free(struct vm *vm);		/* closes and unmaps; vCPUs have their own vcpu_free() */

int vm_try_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size,
		void *hva);
void vm_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva);
void *vm_add_ram(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size);
void *vm_hva(struct vm *vm, uint64_t gpa);
void vm_copy(struct vm *vm, uint64_t gpa, const void *from, size_t size);

/* Anonymous memory whose address is a multiple of align (a power of two). */
void *map_aligned(size_t size, size_t align);
void *map_anon(size_t size);
void unmap(void *p, size_t size);

/* The VM's copy of a global variable. */
#define G(vm, var) (*(volatile __typeof__(var) *)vm_hva(vm, (uint64_t)&(var)))

/* Copies the 16- or 32-bit code between two assembler labels NAME and NAME_end. */
#define vm_copy_code(vm, gpa, name) vm_copy(vm, gpa, name, (size_t)(name##_end - name))

#endif
