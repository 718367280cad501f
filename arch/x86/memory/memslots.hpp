/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include <linux/kvm.h>
#include "arch/x86/mmu/caps.hpp"
#include "cxxrt/lock.hpp"
#include "cxxrt/rcu.hpp"
#include "slot_set.hpp"

namespace kx {

/* Last hit of one user; valid for the set it was made from. */
struct SlotHint {
	u64 generation = 0; /* no set has it */
	const Memslot *slot = nullptr;
};

/*
 * The memslots of a VM. Readers follow an immutable SlotSet inside an SRCU read section (or, for the
 * lock-free fault, an RCU one: a set is freed after both). Writers hold mutex(), plan a change, which
 * allocates everything it will need, and publish it; what a change means for the tables is Memory's.
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

	public:
		Plan() = default;
		Plan(Plan &&) noexcept;
		~Plan();
		Change change() const { return change_; }
		const Memslot *old() const { return old_; }
		const Memslot *now() const { return now_.get(); } /* until published */
		u64 generation() const { return next_->generation; }
	};

private:
	Mutex mutex_{KX_LOCK_SLOTS};
	Srcu srcu_;
	SlotSet *set_ = nullptr; /* published */
	static constexpr unsigned ids_per_page = page_size / sizeof(void *), id_pages = (all_slots + 1) / ids_per_page;
	struct IdPage {
		Memslot *slot[ids_per_page];
	};
	Page<IdPage> ids_[id_pages];
	u64 pages_ = 0; /* of all slots */

	static const Memslot *find_slow(const SlotSet &, SlotHint &, Gfn);
	SlotSet *load() const { return __atomic_load_n(&set_, __ATOMIC_ACQUIRE); }
	void retire(SlotSet *, const SlotSet &next, const Memslot *, DirtyLog *);

public:
	Memslots() = default;
	Memslots(const Memslots &) = delete;
	~Memslots(); /* sleeps; no reader left */
	Errc init(); /* sleeps */

	Mutex &mutex() KX_TSA(lock_returned(mutex_)) { return mutex_; }
	Srcu &srcu() { return srcu_; }

	/* Readers. */
	const SlotSet *current(const SrcuRead &) const { return load(); }
	const SlotSet *current(const RcuRead &) const { return load(); }
	static const Memslot *find(const SlotSet &set, SlotHint &hint, Gfn g)
	{
		if (hint.generation == set.generation && hint.slot->has(g)) [[likely]]
			return hint.slot;
		return find_slow(set, hint, g);
	}
	/* Marks g in the log its slot has now. The store or the entry this is about was made before, with a
	 * full barrier since: a log that is not seen here was not there yet when the page was written, and
	 * what is there when it appears is protected then. */
	template <class Section> void mark(const Section &s, SlotHint &hint, Gfn g) const
	{
		if (const Memslot *slot = find(*current(s), hint, g))
			slot->mark(g);
	}

	/* Writers. */
	Result<Plan> plan(const kvm_userspace_memory_region &, unsigned ids, const MmuCaps &) KX_REQUIRES(mutex_);
	/* The next step of a plan becomes what readers see. What it replaces is freed when they are gone. */
	void publish(Plan &) KX_REQUIRES(mutex_);
	/* Waits for readers of what was published before. */
	void drain() KX_REQUIRES(mutex_) { srcu_.synchronize(); }
	Memslot *by_id(unsigned id) const KX_REQUIRES(mutex_)
	{
		const auto &page = ids_[id / ids_per_page];
		return page ? page->slot[id % ids_per_page] : nullptr;
	}
	u64 pages() const KX_REQUIRES(mutex_) { return pages_; }
};

}
