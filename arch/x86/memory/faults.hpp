/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory: what happens when a guest access finds no mapping. */
#pragma once
#include "memory.hpp"

namespace kx {

#define KX_MEMORY template <TableFormat F, class Tlb, TableWords Words, HostPages Host>

constexpr Access access_of(u32 code)
{
	return code & pfec::write ? Access::write : code & pfec::fetch ? Access::exec : Access::read;
}

KX_MEMORY FaultOutcome Memory<F, Tlb, Words, Host>::fault(Vcpu &v, Gpa gpa, u32 code)
{
	const Gfn gfn = gpa.frame();
	/* An MMIO entry stands only where there is no slot: creating one zaps its range first. Where nothing tells a fault by
	 * it from one by an empty entry, drivers do: they stay with their device for a while. RAM's faults do not pay for it. */
	const bool likely = F::mmio_fault != 0 ? (code & F::mmio_fault) == F::mmio_fault : gfn == v.mmio;
	if (likely && is_remembered_mmio(v, gfn)) {
		v.stats.faults_remembered_mmio.count();
		return {FaultKind::mmio};
	}
	const unsigned tables = v.root->tree.tables_for_fault();
	if (v.tables.size() < tables && v.tables.top_up(tables) != Errc::ok) [[unlikely]]
		return failed(v, Errc::nomem);

	SrcuRead srcu{slots_.srcu()};
	const SlotSet &set = *slots_.current(v.space, srcu);
	const Memslot *slot = Memslots::find(set, v.faults, gfn);
	if (!slot || !v.root->tree.reaches(gfn)) [[unlikely]]
		return fault_mmio(v, set, gfn);
	const Access want = access_of(code);
	if (slot->readonly && want == Access::write) {
		v.stats.faults_readonly.count();
		return {FaultKind::readonly};
	}

	AttemptResult a = attempt(v, set, *slot, gfn, want, nullptr, 0);
	if (a.what != Attempt::absent) [[likely]]
		return count_mapped(v, a);

	/* What the first attempt has linked may be cut off again before the second. */
	if (v.tables.top_up(tables) != Errc::ok) [[unlikely]]
		return failed(v, Errc::nomem);
	/* The sequence is read before the host is asked: an invalidation that ends after this makes the
	 * answer void. */
	const u64 sequence = invalidations_.sequence();
	Result<HostPage> r = host_.pin(slot->hva_of(gfn), want);
	v.stats.faults_pinned.count();
	if (!r.ok())
		return failed(v, r.error());
	const HostPage page = kx::move(r).take();
	return count_mapped(v, attempt(v, set, *slot, gfn, want, &page, sequence));
}

KX_MEMORY AttemptResult Memory<F, Tlb, Words, Host>::attempt(Vcpu &v, const SlotSet &set, const Memslot &slot, Gfn gfn,
							     Access want, const HostPage *held, u64 sequence)
{
	Batch owed = batch(); /* paid after unlocking: only promotions and splits owe anything here */
	ReadGuard lock{mmu_lock_};
	FaultAttempt<F, Words, Host> one{v.root->tree, invalidations_, host_};
	const Backing b = backing(slot);
	AttemptResult a{slots_.is_current(v.space, set, lock.held()) ? Attempt::again : Attempt::busy};
	/* Whoever wins the exchange we lose has changed what we look at: a few rounds, then the guest. */
	for (unsigned rounds = 4; rounds-- && a.what == Attempt::again;)
		a = one.run(b, gfn, want, held, sequence, v.tables, owed.debt(), lock.held());
	/* After the entry: whoever takes the bit protects the page later still. */
	if (a.what == Attempt::mapped && want == Access::write)
		slot.mark(gfn);
	/* Marked dirty while the mapping cannot go: whoever writes the page back later has to zap it first, and a
	 * mark that came after that would keep the file system from ever learning of the next write. */
	if (held)
		host_.unpin(*held, a.what != Attempt::mapped	? Used::no
				   : held->writable && !b.readonly ? Used::written
								   : Used::read);
	return a;
}

KX_MEMORY FaultOutcome Memory<F, Tlb, Words, Host>::count_mapped(Vcpu &v, const AttemptResult &a)
{
	switch (a.what) {
	case Attempt::mapped:
		v.stats.faults_fixed.count();
		v.stats.mapped[u8(a.level)].count();
		if (a.around)
			v.stats.mapped_around.count(a.around);
		return {FaultKind::fixed};
	case Attempt::spurious: v.stats.faults_spurious.count(); return {FaultKind::spurious};
	case Attempt::busy:
	case Attempt::absent:
	case Attempt::again: break;
	}
	v.stats.faults_retried.count();
	return {FaultKind::retry};
}

KX_MEMORY FaultOutcome Memory<F, Tlb, Words, Host>::failed(Vcpu &v, Errc e)
{
	v.stats.faults_failed.count();
	return {FaultKind::failed, e};
}

KX_MEMORY bool Memory<F, Tlb, Words, Host>::is_remembered_mmio(const Vcpu &v, Gfn gfn) const
{
	const Tree &tree = v.root->tree;
	if (!tree.reaches(gfn))
		return false;
	RcuRead rcu;
	return !tree.mmio().is_empty() && tree.find(gfn, rcu).value == tree.mmio();
}

KX_MEMORY FaultOutcome Memory<F, Tlb, Words, Host>::fault_mmio(Vcpu &v, const SlotSet &set, Gfn gfn)
{
	const Tree &tree = v.root->tree;
	v.mmio = gfn;
	if constexpr (F::mmio_fault == 0)
		if (is_remembered_mmio(v, gfn)) {
			v.stats.faults_remembered_mmio.count();
			return {FaultKind::mmio};
		}
	if (tree.reaches(gfn)) {
		const Level empty = set.empty_level(gfn, tree.top());
		Batch owed = batch();
		ReadGuard lock{mmu_lock_};
		if (!slots_.is_current(v.space, set, lock.held())) {
			v.stats.faults_retried.count();
			return {FaultKind::retry};
		}
		Install<F, Words> install{tree, v.tables, owed.debt(), lock.held()};
		if (install.remember_mmio(gfn, empty, tree.find(gfn, lock.held())) == Installed::mapped)
			v.stats.mmio_entries.count();
	}
	v.stats.faults_mmio.count();
	return {FaultKind::mmio};
}

/*
 * A write to a page that is write-protected only to be logged: W is set and the page marked, with no lock
 * at all. What may happen meanwhile: the page is zapped (the exchange fails, or precedes the zap and is
 * undone by it); a reader of the log takes the bit (it protects the page after that, hence after us); a
 * log comes into being (mark() sees it, or its first protection sees our W).
 */
KX_MEMORY FastFault Memory<F, Tlb, Words, Host>::fast_fault(Vcpu &v, Gpa gpa, u32 code, const RcuRead &rcu)
{
	constexpr u32 wanted = pfec::present | pfec::write;
	const Gfn gfn = gpa.frame();
	const Tree &tree = v.root->tree;
	if ((code & (wanted | pfec::rsvd | pfec::fetch)) != wanted || !tree.reaches(gfn))
		return FastFault::slow;
	const auto spot = tree.find(gfn, rcu);
	if (spot.level != Level::page || !spot.value.is_present())
		return FastFault::slow;
	if (spot.value.is_writable()) {
		v.stats.faults_fast_spurious.count();
		return FastFault::fixed;
	}
	if (!tree.grant_write(spot, rcu))
		return FastFault::slow;
	slots_.mark(v.space, rcu, v.faults, gfn);
	v.stats.faults_fast.count();
	return FastFault::fixed;
}

}
