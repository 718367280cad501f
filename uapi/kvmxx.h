/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kvmxx has beyond <linux/kvm.h>: its statistics by name, one ioctl, its limits. Legal C and C++.
 * ioctls and capabilities of later kernels that the module uses belong here too, by their upstream numbers
 * and under #ifndef; up to now it uses none that Linux 6.1 has not.
 */
#ifndef _UAPI_KVMXX_H
#define _UAPI_KVMXX_H

#include <linux/kvm.h>

/*
 * On a VM's file: the file of statistics that KVM_GET_STATS_FD gives for the VM (argument KVMXX_STATS_OF_VM) or
 * for its vCPU with that id (ENOENT: there is none), for whoever holds the file, in whatever address space, and
 * at once, while the vCPU runs. No VMM needs it: it is for who looks at a VM from outside.
 */
#define KVMXXIO			0xBE
#define KVMXX_GET_STATS_FD	_IO(KVMXXIO, 0x00)
#define KVMXX_STATS_OF_VM	(~0ul)

#define KVMXX_MAX_VCPUS		1024
#define KVMXX_MAX_VCPU_ID	4096	/* they are below it */
#define KVMXX_BUS_ZONES		1000	/* coalesced, on each of the buses; as KVM has it */
#define KVMXX_STAT_NAME_SIZE	48	/* kvm_stats_header.name_size; as KVM has it */

/*
 * The statistics: X(name, type as in KVM_STATS_TYPE_*), in the order in which KVM_GET_STATS_FD gives them out. All
 * are single values without a unit. A name of KVM's counts what it counts there; those of KVM's that are missing
 * are not counted here.
 */

/* Of a VM. Here KVM's is remote_tlb_flush_requests. */
#define KVMXX_VM_STATS(X)							\
	X(remote_tlb_flush_requests, CUMULATIVE)				\
	/* Law 1: what never changes of an MMU is set once, when its vCPU is created: the number of vCPUs. */	\
	X(mmu_constant_inits, CUMULATIVE)					\
	/* Law 2: look-ups for table pages while no root is indirect. There are no indirect roots yet and hence no */	\
	/* hash: this 0 is not counted, it is what the module is built like. */	\
	X(page_hash_lookups, CUMULATIVE)					\
	/* Law 4: roots made; beside root_loads of the vCPUs. */		\
	X(roots_built, CUMULATIVE)						\
	/* Pages of page tables; what is between the two stands, or waits to be freed. */	\
	X(tables_linked, CUMULATIVE)						\
	X(tables_freed, CUMULATIVE)						\
	/* Entries taken out: mappings, and tables cut off whole with all below. */	\
	X(zapped_leaves, CUMULATIVE)						\
	X(zapped_tables, CUMULATIVE)						\
	/* Huge mappings split for the dirty log, and made again. */		\
	X(mappings_split, CUMULATIVE)						\
	X(mappings_promoted, CUMULATIVE)					\
	/* The host's, and those of them that concerned a slot. */		\
	X(invalidations, CUMULATIVE)						\
	X(invalidations_hit, CUMULATIVE)					\
	/* Broken invariants of the tables, found and repaired. */		\
	X(mmu_broken, CUMULATIVE)

/* Of a vCPU. KVM's are pf_taken to pf_mmio_spte_created, and io_exits to insn_emulation. */
#define KVMXX_VCPU_STATS(X)							\
	X(pf_taken, CUMULATIVE)							\
	X(pf_fixed, CUMULATIVE)							\
	X(pf_emulate, CUMULATIVE)						\
	X(pf_spurious, CUMULATIVE)						\
	X(pf_fast, CUMULATIVE)							\
	X(pf_mmio_spte_created, CUMULATIVE)					\
	/* The host or an ioctl was changing this memory; the guest tried again. */	\
	X(pf_retried, CUMULATIVE)						\
	/* MMIO that an entry told from memory: not in pf_taken. */		\
	X(pf_mmio_remembered, CUMULATIVE)					\
	/* The host had to be asked for the page; the others found it present. */	\
	X(pf_pinned, CUMULATIVE)						\
	/* Mappings made by faults, by size, and of 4 KiB those of neighbours. */	\
	X(mapped_4k, CUMULATIVE)						\
	X(mapped_2m, CUMULATIVE)						\
	X(mapped_1g, CUMULATIVE)						\
	X(mapped_around, CUMULATIVE)						\
	/* Law 4: the vCPU got another root than it had. */			\
	X(root_loads, CUMULATIVE)						\
	X(io_exits, CUMULATIVE)							\
	X(mmio_exits, CUMULATIVE)						\
	X(signal_exits, CUMULATIVE)						\
	X(request_irq_exits, CUMULATIVE)					\
	X(insn_emulation, CUMULATIVE)

/* UAPI as C lays it out: the numbers that VMMs were compiled with. */
#ifdef __cplusplus
#define KVMXX_ASSERT(what) static_assert(what, #what)
#else
#define KVMXX_ASSERT(what) _Static_assert(what, #what)
#endif
KVMXX_ASSERT(sizeof(struct kvm_cpuid2) == 8 && sizeof(struct kvm_msrs) == 8 && sizeof(struct kvm_msr_list) == 4);
KVMXX_ASSERT(sizeof(struct kvm_coalesced_mmio_ring) == 8 && sizeof(struct kvm_signal_mask) == 4);
KVMXX_ASSERT(sizeof(struct kvm_stats_header) == 24 && sizeof(struct kvm_stats_desc) == 16);
KVMXX_ASSERT(KVM_SET_CPUID2 == 0x4008ae90 && KVM_GET_SUPPORTED_CPUID == 0xc008ae05);
KVMXX_ASSERT(KVM_GET_MSRS == 0xc008ae88 && KVM_GET_MSR_INDEX_LIST == 0xc004ae02);
KVMXX_ASSERT(KVM_SET_SIGNAL_MASK == 0x4004ae8b && KVM_RUN == 0xae80 && KVM_GET_STATS_FD == 0xaece);
#undef KVMXX_ASSERT

#endif
