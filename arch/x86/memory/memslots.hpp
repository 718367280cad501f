/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include <linux/kvm.h>
#include "arch/x86/mmu/caps.hpp"
#include "arch/x86/mmu/space.hpp"
#include "cxxrt/lock.hpp"
#include "cxxrt/nospec.hpp"
#include "cxxrt/rcu.hpp"
#include "slot_set.hpp"

namespace kx {

/* Last hit of one user; valid for the set it was made from. */
struct SlotHint {
	u64 generation = 0; /* no set has it */
	const Memslot *slot = nullptr;
};

/*
 * The memslots of a VM, in all its address spaces. Readers follow an immutable SlotSet of one space inside an
 * SRCU read section (or, for the lock-free fault, an RCU one: a set is freed after both). Writers hold
 * mutex(), plan a change of one space, which allocates everything it will need, and publish it; what a change
 * means for the tables is Memory's. Sets are counted over all spaces: what was remembered of one (SlotHint,
 * FetchMemo) is never taken for another's.
 */
class Memslots {
public:
	static constexpr unsigned user_slots = 32764, all_slots = 32767; /* KVM_USER_MEM_SLOTS; ours above */
	static constexpr u64 max_pages = (u64{1} << 31) - 1;

	enum class Change : u8 { none, create, remove, move, flags };
	/* A change with everything it needs allocated; dropped before it is published, it leaves no trace. */
	class Plan {
		friend class Memslots;
		SlotSet *next_ = nullptr, *then_ = nullptr; /* then_: a move is a removal and a creation */
		Owned<Memslot> now_;
		Owned<DirtyLog> log_; /* a new one, also in now_ */
		Memslot *old_ = nullptr;
		const SlotSet *base_ = nullptr;
		Change change_ = Change::none;
		Space space_ = Space::normal;

	public:
		Plan() = default;
		Plan(Plan &&) noexcept;
		~Plan();
		Change change() const { return change_; }
		const Memslot *old() const { return old_; }
		const Memslot *now() const { return now_.get(); } /* until published */
		Space space() const { return space_; }
	};

private:
	Mutex mutex_{KX_LOCK_SLOTS};
	Srcu srcu_;
	bool srcu_made_ = false;
	PerSpace<SlotSet *> set_; /* published */
	u64 generation_ = 0;	  /* of the set made last, by mutex_ */
	static constexpr unsigned ids_per_page = page_size / sizeof(void *), id_pages = (all_slots + 1) / ids_per_page;
	struct IdPage {
		Memslot *slot[ids_per_page];
	};
	struct Ids {
		Page<IdPage> page[id_pages];
	};
	PerSpace<Ids> ids_;
	u64 pages_ = 0; /* of all slots */

	static const Memslot *find_slow(const SlotSet &, SlotHint &, Gfn);
	SlotSet *load(Space s) const { return __atomic_load_n(&set_[s], __ATOMIC_ACQUIRE); }
	SlotSet *counted(SlotSet *) KX_REQUIRES(mutex_);
	Memslot *&place(Space s, unsigned id) { return ids_[s].page[id / ids_per_page]->slot[id % ids_per_page]; }
	void retire(SlotSet *, const SlotSet &next, const Memslot *, DirtyLog *);

public:
	Memslots() = default;
	Memslots(const Memslots &) = delete;
	~Memslots(); /* sleeps; no reader left */
	Errc init(); /* sleeps */

	Mutex &mutex() KX_TSA(lock_returned(mutex_)) { return mutex_; }
	Srcu &srcu() { return srcu_; }

	/* Readers. */
	const SlotSet *current(Space s, const SrcuRead &) const { return load(s); }
	const SlotSet *current(Space s, const RcuRead &) const { return load(s); }
	/* Whoever publishes holds mmu_lock exclusively: while it is held at all the answer stays the same. */
	bool is_current(Space s, const SlotSet &set, Shared) const { return load(s) == &set; }
	static const Memslot *find(const SlotSet &set, SlotHint &hint, Gfn g)
	{
		if (hint.generation == set.generation && hint.slot->has(g)) [[likely]]
			return hint.slot;
		return find_slow(set, hint, g);
	}
	/* Marks g in the log its slot has now. The store or the entry this is about was made before, with a
	 * full barrier since: a log that is not seen here was not there yet when the page was written, and
	 * what is there when it appears is protected then. */
	template <class Section> void mark(Space space, const Section &s, SlotHint &hint, Gfn g) const
	{
		if (const Memslot *slot = find(*current(space, s), hint, g))
			slot->mark(g);
	}

	/* Writers. Of ids a VMM gave: below all_slots. */
	Result<Plan> plan(Space, const kvm_userspace_memory_region &, unsigned ids, const MmuCaps &)
		KX_REQUIRES(mutex_);
	/* The next step of a plan becomes what readers see; no fault is mapping by what was before. What it
	 * replaces is freed when its readers are gone. */
	void publish(Plan &, Exclusive) KX_REQUIRES(mutex_);
	/* Waits for readers of what was published before. */
	void drain() KX_REQUIRES(mutex_) { srcu_.synchronize(); }
	Memslot *by_id(Space s, unsigned id) const KX_REQUIRES(mutex_)
	{
		const auto &page = ids_[s].page[index_nospec<id_pages>(id / ids_per_page)];
		return page ? page->slot[id % ids_per_page] : nullptr;
	}
	u64 pages() const KX_REQUIRES(mutex_) { return pages_; }
};

}
