/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory of a VM: its slots, its nested page tables, and what keeps both in step with the VMM's
 * address space. There are several guest-physical spaces (Space), each with slots and roots of its own; what
 * the host does concerns them all, an ioctl or a vCPU one. Tlb is the VM's: flush(GfnRange) returns when no
 * vCPU translates by what was in the tables before; it is called with and without mmu_lock held and must not
 * sleep. Where CPUs log what they write (MmuCaps::pml), drain_logs() returns when logged() was called for all
 * that they noted before; it may sleep. A vCPU's own thread drains at every exit.
 *
 * Threads. fault() and fast_fault() run in vCPU threads, any number at once, under the shared mmu_lock
 * or no lock; set_region() and get_dirty_log() one at a time (slots mutex); notifier_*() from wherever
 * the host changes the VMM's mappings. Four rules tie them together:
 *  1. A change of slots zaps what it takes away, flushes, and publishes the new set, in this order in one
 *     exclusive mmu_lock section. A fault looks under the shared lock whether its set is still the one that is
 *     published. So nothing is mapped by a set that is gone; and as long as something is mapped, the slot that
 *     an invalidation of the host looks for is there to be found.
 *  2. An invalidation is announced first, then zaps under the exclusive lock and flushes before it
 *     unlocks. A fault looks for announced ones under the shared lock, and reads the host's tables only
 *     there: what it maps is what the host has, or will be zapped.
 *  3. Whoever grants the right to write marks the dirty log afterwards (dirty_log.hpp).
 *  4. A table page goes from its parent's entry to FlushBatch to Graveyard: cut off, TLBs flushed, grace
 *     period, freed.
 */
#pragma once
#include "arch/x86/mmu/age.hpp"
#include "arch/x86/mmu/fault.hpp"
#include "arch/x86/mmu/flush.hpp"
#include "arch/x86/mmu/invalidations.hpp"
#include "arch/x86/mmu/role.hpp"
#include "arch/x86/mmu/root.hpp"
#include "arch/x86/mmu/zap.hpp"
#include "guest_ram.hpp"
#include "seam_host.hpp"

namespace kx {

enum class FaultKind : u8 {
	fixed,	  /* back into the guest */
	spurious, /* the entry allowed it already: back into the guest */
	retry,	  /* the host or an ioctl is changing this memory: back into the guest, it will fault again */
	mmio,	  /* no slot there: emulate */
	readonly, /* a write to a read-only slot: emulate, the access goes to the VMM */
	failed,	  /* error says why: fault, hwpoison, intr, nomem */
};
struct FaultOutcome {
	FaultKind kind;
	Errc error = Errc::ok;
};
enum class FastFault : u8 { fixed, slow }; /* slow: not for here, ask fault() */

template <TableFormat F, class Tlb, TableWords Words = PlainWords, HostPages Host = SeamHost> class Memory {
public:
	using Tree = Direct<F, Words>;

	/* One vCPU's part; written by its thread alone. */
	struct Vcpu {
		TableCache<4> tables;
		SlotHint faults, ram; /* the latter for ram() */
		Gfn mmio{~u64{0}};    /* where the last fault without a slot was */
		Space space = Space::normal; /* the root's */
		Root<F, Words> *root = nullptr;
		VcpuMmuStats stats;
	};

	Memory(Tlb &tlb, const MmuCaps &caps) : tlb_{tlb}, caps_{caps} {}
	Memory(const Memory &) = delete;
	/* Sleeps; when it fails only the destructor may follow. */
	Errc init() { return caps_.pml && !can_drain ? Errc::inval : slots_.init(); }
	/* The VM goes: no vCPU, no ioctl, no notifier callback any more. Returns at once; the tables are
	 * freed in the background, then done(arg) is called from the work queue, and only then may the
	 * object be destroyed. */
	void teardown(void (*done)(void *), void *arg);

	/* --- vCPUs */
	void attach(Vcpu &) { stats_.mmu_constant_inits.count(); } /* at creation: law 1 */
	void detach(Vcpu &);					     /* at destruction */
	/* The root for that role (without the C-bit); cheap when the vCPU has it already (law 4). */
	Result<Hpa> load_root(Vcpu &, const GuestRole &);
	/* In the vCPU's thread, with a root; may sleep. */
	FaultOutcome fault(Vcpu &, Gpa, u32 code);
	/* Permission-only faults, without a lock. Interrupts may be off. */
	FastFault fast_fault(Vcpu &, Gpa, u32 code, const RcuRead &);
	FastFault fast_fault(Vcpu &v, Gpa gpa, u32 code) { return fast_fault(v, gpa, code, RcuRead{}); }

	/* The vCPU's CPU set D for this page and noted it. */
	void logged(Vcpu &v, Gfn g, const RcuRead &rcu) { slots_.mark(v.space, rcu, v.faults, g); }

	/* --- ioctls */
	/* KVM_SET_USER_MEMORY_REGION but for the space in the number of the slot; ids: slots of the VMM, or also
	 * ours above them. */
	Errc set_region(Space, const kvm_userspace_memory_region &, unsigned ids = Memslots::user_slots);
	Errc get_dirty_log(Space, const kvm_dirty_log &);
	/* Of all slots. Sleeps. */
	u64 slot_pages()
	{
		Guard g{slots_.mutex()};
		return slots_.pages();
	}

	/* --- guest memory from the outside */
	/* As that vCPU sees it now. */
	GuestRam ram(Vcpu &v) { return GuestRam{slots_, v.space, v.ram}; }
	Errc read(Vcpu &v, Gpa p, void *to, size_t n) { return ram(v).read(p, to, n); }
	Errc write(Vcpu &v, Gpa p, const void *from, size_t n) { return ram(v).write(p, from, n); }

	/* --- the host's address space; see seam.h */
	void notifier_start(Hva start, Hva end);
	void notifier_end(Hva, Hva) { invalidations_.finish(); }
	bool notifier_age(Hva start, Hva end, Ageing); /* was any of it accessed */
	void notifier_gone();

	const MmuStats &stats() const { return stats_; }
	Host &host() { return host_; }

private:
	using Batch = FlushBatch<F, Tlb>;
	static constexpr bool can_drain = F::has_pml && requires(Tlb &t) { t.drain_logs(); };

	Tlb &tlb_;
	const MmuCaps &caps_;
	MmuStats stats_;
	[[no_unique_address]] Host host_;
	RwLock mmu_lock_{KX_LOCK_MMU};
	Invalidations invalidations_;
	Graveyard<F> graves_{caps_, stats_};
	/* One direct root a space. Made under mmu_lock, and stays until teardown. */
	PerSpace<Atomic<Root<F, Words> *>> roots_;
	Memslots slots_;

	Batch batch() { return Batch{tlb_, graves_, stats_}; }
	/* Of that space: an entry of one means nothing in another's tables. */
	template <class Fn> void for_roots(Space s, Fn f) const
	{
		if (Root<F, Words> *root = roots_[s].acquire())
			f(*root);
	}
	static Backing backing(const Memslot &s)
	{
		return {s.range(), s.hva, s.congruent, s.log != nullptr, s.readonly};
	}
	static FaultOutcome failed(Vcpu &, Errc);
	FaultOutcome fault_mmio(Vcpu &, const SlotSet &, Gfn);
	bool is_remembered_mmio(const Vcpu &, Gfn) const;
	AttemptResult attempt(Vcpu &, const SlotSet &, const Memslot &, Gfn, Access, const HostPage *, u64 sequence);
	FaultOutcome count_mapped(Vcpu &, const AttemptResult &);

	void zap_host_range(Space, SlotSet::ByHva);
	void change_slots(Memslots::Plan &, GfnRange gone) KX_REQUIRES(slots_.mutex());
	void protect(Space, const Memslot &);
	void promote(Space, const Memslot &);
};

}

#include "faults.hpp"
#include "notifier.hpp"
#include "roots.hpp"
#include "regions.hpp"
