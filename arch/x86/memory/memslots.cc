/* SPDX-License-Identifier: GPL-2.0-only */
#include "memslots.hpp"

namespace kx {

namespace {

void free_log(DirtyLog *l) { Owned<DirtyLog>{l}.reset(); }

Level congruence(Gfn g, Hva h)
{
	const u64 differ = g.raw() ^ (h.raw() >> page_shift);
	Level l = Level::huge;
	while (l > Level::page && differ & (pages_of(l) - 1))
		l = below(l);
	return l;
}

/* KVM_SET_USER_MEMORY_REGION's checks of the request alone: whatever they refuse is EINVAL. */
bool well_formed(const kvm_userspace_memory_region &r, unsigned ids)
{
	constexpr u64 in_page = page_size - 1;
	u64 end;
	return !(r.flags & ~u32{KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY}) &&
	       r.slot >> 16 == 0 && (r.slot & 0xffff) < ids &&
	       !((r.memory_size | r.guest_phys_addr | r.userspace_addr) & in_page) &&
	       kx_user_range_ok(r.userspace_addr, r.memory_size) &&
	       !__builtin_add_overflow(r.guest_phys_addr, r.memory_size, &end) &&
	       r.memory_size >> page_shift <= Memslots::max_pages;
}

}

Memslots::Plan::Plan(Plan &&o) noexcept
	: next_{o.next_}, then_{o.then_}, now_{kx::move(o.now_)}, log_{kx::move(o.log_)}, old_{o.old_}, base_{o.base_},
	  change_{o.change_}, space_{o.space_}
{
	o.next_ = o.then_ = nullptr;
}

Memslots::Plan::~Plan()
{
	if (then_)
		next_->discard(then_);
	if (next_)
		base_->discard(next_);
}

Errc Memslots::init()
{
	KX_CHECK(srcu_.init());
	srcu_made_ = true;
	for (Space space : every_space) {
		set_[space] = SlotSet::make(0);
		if (!set_[space])
			return Errc::nomem;
		set_[space]->generation = ++generation_;
	}
	return Errc::ok;
}

SlotSet *Memslots::counted(SlotSet *made)
{
	if (made)
		made->generation = ++generation_;
	return made;
}

Memslots::~Memslots()
{
	if (srcu_made_)
		srcu_.destroy();
	for (Space space : every_space) {
		SlotSet *const set = set_[space]; /* none: init() failed or was not tried */
		for (u32 i = 0; set && i < set->chunks; ++i) {
			SlotChunk *c = set->ref[i].chunk;
			for (u32 k = 0; k < c->n; ++k) {
				free_log(c->slot[k]->log);
				kx_free(const_cast<Memslot *>(c->slot[k]));
			}
			kx_free(c);
			kx_cond_resched();
		}
		kx_free(set);
	}
}

const Memslot *Memslots::find_slow(const SlotSet &set, SlotHint &hint, Gfn g)
{
	const Memslot *s = set.find(g);
	if (s)
		hint = {set.generation, s};
	return s;
}

Result<Memslots::Plan> Memslots::plan(Space space, const kvm_userspace_memory_region &r, unsigned ids,
				      const MmuCaps &caps)
{
	if (!well_formed(r, ids))
		return Errc::inval;
	const unsigned id = r.slot;
	Memslot *const old = by_id(space, id);
	const SlotSet *const set = set_[space];
	Plan p;
	p.space_ = space;
	p.base_ = set;
	p.old_ = old;

	if (!r.memory_size) {
		if (!old)
			return Errc::inval;
		p.change_ = Change::remove;
		p.next_ = counted(set->without(*old));
		if (!p.next_)
			return Errc::nomem;
		return p;
	}

	const Gfn base = Gpa{r.guest_phys_addr}.frame();
	const u64 pages = r.memory_size >> page_shift;
	const bool log = r.flags & KVM_MEM_LOG_DIRTY_PAGES, readonly = r.flags & KVM_MEM_READONLY;
	if (!old) {
		p.change_ = Change::create;
		if (pages_ + pages < pages_)
			return Errc::inval;
	} else {
		if (old->hva.raw() != r.userspace_addr || old->pages != pages || old->readonly != readonly)
			return Errc::inval;
		p.change_ = old->base != base ? Change::move : !!old->log != log ? Change::flags : Change::none;
		if (p.change_ == Change::none)
			return p;
	}
	if (p.change_ != Change::flags) {
		if (set->overlaps({base, base + pages}, old))
			return Errc::exist;
		if (caps.end_gfn() < base + pages)
			return Errc::inval;
	}

	p.now_ = KX_TRY(make<Memslot>(base, pages, Hva{r.userspace_addr}));
	Memslot &now = *p.now_;
	now.id = u16(id);
	now.readonly = readonly;
	now.congruent = congruence(base, now.hva);
	if (log && old && old->log) {
		now.log = old->log;
	} else if (log) {
		p.log_ = KX_TRY(DirtyLog::make(pages));
		now.log = p.log_.get();
	}

	switch (p.change_) {
	case Change::create: {
		Page<IdPage> &page = ids_[space].page[index_nospec<id_pages>(id / ids_per_page)];
		if (!page)
			page = KX_TRY(Page<IdPage>::make());
		p.next_ = counted(set->with(&now));
		break;
	}
	case Change::move:
		p.next_ = counted(set->without(*old));
		if (!p.next_)
			return Errc::nomem;
		p.then_ = counted(p.next_->with(&now));
		if (!p.then_)
			return Errc::nomem;
		break;
	default: p.next_ = counted(set->with_instead(*old, &now)); break;
	}
	if (!p.next_)
		return Errc::nomem;
	return p;
}

void Memslots::publish(Plan &p, Exclusive)
{
	SlotSet *const was = set_[p.space_], *const next = p.next_;
	const bool last = !p.then_;
	Memslot *const old = p.old_;
	p.base_ = p.next_;
	p.next_ = p.then_;
	p.then_ = nullptr;
	p.old_ = nullptr; /* retired with the first step */

	DirtyLog *log = nullptr;
	if (old && old->log && (p.change_ == Change::remove || p.now_->log != old->log))
		log = old->log;
	if (old && p.change_ == Change::remove)
		pages_ -= old->pages;
	if (p.change_ == Change::create)
		pages_ += p.now_->pages;
	if (old)
		place(p.space_, old->id) = nullptr;
	if (last && p.now_) {
		Memslot *now = p.now_.release();
		p.log_.release();
		place(p.space_, now->id) = now;
	}
	__atomic_store_n(&set_[p.space_], next, __ATOMIC_SEQ_CST);
	retire(was, *next, old, log);
}

/* Readers hold SRCU, fast faults RCU: one after the other. */
void Memslots::retire(SlotSet *was, const SlotSet &next, const Memslot *slot, DirtyLog *log)
{
	SlotSet::Retired &r = was->retired;
	r.self = was;
	r.chunk = was->replaced_by(next);
	r.slot = slot;
	r.log = log;
	kx_call_srcu(srcu_.os(), r.head.os(), [](void *head) {
		kx_call_rcu(head, [](void *h) {
			const auto *gone = reinterpret_cast<SlotSet::Retired *>(h);
			if (gone->chunk)
				kx_free(gone->chunk);
			if (gone->slot)
				kx_free(const_cast<Memslot *>(gone->slot));
			free_log(gone->log);
			kx_free(gone->self);
		});
	});
}

}
