/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/atomic.hpp"

namespace kx {

/* Counts that one thread at a time makes and any thread may read: one instruction that reads and writes whole,
 * and is not locked. (A relaxed load and store are three.) */
class Counter {
	u64 v_ = 0;

public:
	void count(u64 n = 1) { asm("addq %1, %0" : "+m"(v_) : "er"(n) : "cc"); }
	u64 get() const { return __atomic_load_n(&v_, __ATOMIC_RELAXED); }
};

/* Of one vCPU; its own thread writes. */
struct VcpuMmuStats {
	Counter faults_fixed, faults_spurious, faults_retried, faults_failed;
	Counter faults_mmio, faults_readonly, faults_remembered_mmio;
	Counter faults_fast;	/* permission-only, fixed without a lock */
	Counter faults_fast_spurious; /* and there was nothing to fix any more */
	Counter mmio_entries;	/* made to remember that there is no slot */
	Counter faults_pinned;	/* the host had to be asked for the page; the rest found it present */
	Counter mapped[3];	/* by level: 4 KiB, 2 MiB, 1 GiB */
	Counter mapped_around;
	Counter root_loads;	/* law 4 */
};

/* Of a VM. */
struct MmuStats {
	Atomic<u64> mmu_constant_inits;	/* law 1: one a vCPU, at its creation */
	Atomic<u64> page_hash_lookups;	/* law 2: 0 while there is no indirect root */
	Atomic<u64> indirect_roots;	/* law 2: the state itself */
	Atomic<u64> roots_built, tlb_flushes;
	Atomic<u64> tables_linked, tables_freed; /* table pages; what is between them stands or waits */
	Atomic<u64> zapped_leaves, zapped_tables, split, promoted;
	Atomic<u64> invalidations, invalidations_hit; /* of the host; those that concerned a slot */
	Atomic<u64> broken;		/* an invariant found violated and repaired: always 0 */
};

}
