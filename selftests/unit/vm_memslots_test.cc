/* SPDX-License-Identifier: GPL-2.0-only */
#include <gtest/gtest.h>
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include "arch/x86/memory/memslots.hpp"
#include "cxxrt/hosted/hosted.hpp"

using namespace kx;

namespace {

constexpr u64 hva0 = 0x10000000;

struct Slots {
	std::unique_ptr<Memslots> m = std::make_unique<Memslots>();
	RwLock mmu_lock{KX_LOCK_MMU};
	MmuCaps caps;
	SlotHint hint;

	Slots() { EXPECT_EQ(m->init(), Errc::ok); }
	~Slots()
	{
		m.reset();
		hosted::run_deferred();
	}
	Errc set(const kvm_userspace_memory_region &r, unsigned ids = Memslots::user_slots, Space space = Space::normal)
	{
		Guard g{m->mutex()};
		auto plan = m->plan(space, r, ids, caps);
		if (!plan.ok())
			return plan.error();
		Memslots::Plan p = kx::move(plan).take();
		if (p.change() == Memslots::Change::none)
			return Errc::ok;
		WriteGuard faults{mmu_lock};
		m->publish(p, faults.excl());
		if (p.change() == Memslots::Change::move)
			m->publish(p, faults.excl());
		return Errc::ok;
	}
	Errc set(u32 slot, u64 gfn, u64 pages, u64 hva, u32 flags = 0)
	{
		return set({.slot = slot, .flags = flags, .guest_phys_addr = gfn << page_shift,
			    .memory_size = pages << page_shift, .userspace_addr = hva});
	}
	const Memslot *find(u64 gfn)
	{
		SrcuRead s{m->srcu()};
		return Memslots::find(*m->current(Space::normal, s), hint, Gfn{gfn});
	}
};

}

TEST(Memslots, RefuseWhatKvmRefuses)
{
	Slots s;
	const kvm_userspace_memory_region good{.slot = 1, .flags = 0, .guest_phys_addr = 0x10000, .memory_size = 0x4000,
					       .userspace_addr = hva0};
	const auto with = [&](auto change) {
		auto r = good;
		change(r);
		return s.set(r);
	};
	EXPECT_EQ(with([](auto &r) { r.slot = 32764; }), Errc::inval);
	EXPECT_EQ(with([](auto &r) { r.slot = 1 << 16 | 1; }), Errc::inval) << "a second address space";
	EXPECT_EQ(with([](auto &r) { r.flags = 4; }), Errc::inval);
	EXPECT_EQ(with([](auto &r) { r.guest_phys_addr += 1; }), Errc::inval);
	EXPECT_EQ(with([](auto &r) { r.memory_size += 0x800; }), Errc::inval);
	EXPECT_EQ(with([](auto &r) { r.userspace_addr |= 0x10; }), Errc::inval);
	EXPECT_EQ(with([](auto &r) { r.userspace_addr = 0xffff'8000'0000'0000; }), Errc::inval);
	EXPECT_EQ(with([](auto &r) { r.userspace_addr = 0x7fff'ffff'd000; }), Errc::inval) << "runs out of user space";
	EXPECT_EQ(with([](auto &r) { r.guest_phys_addr = ~u64{0xfff}, r.memory_size = 0x2000; }), Errc::inval);
	EXPECT_EQ(with([](auto &r) { r.guest_phys_addr = ~u64{0xfff}, r.memory_size = 0x1000; }), Errc::inval);
	EXPECT_EQ(with([](auto &r) { r.memory_size = u64{1} << 43; }), Errc::inval) << "2^31 pages";
	EXPECT_EQ(with([](auto &r) { r.memory_size = 0; }), Errc::inval) << "nothing there to remove";
	EXPECT_EQ(with([](auto &r) { r.guest_phys_addr = (u64{1} << 48) - 0x3000; }), Errc::inval) << "beyond MAXPHYADDR";
	EXPECT_EQ(with([](auto &r) { r.guest_phys_addr = (u64{1} << 48) - 0x4000; }), Errc::ok);
	EXPECT_EQ(with([](auto &r) { r.slot = 2; }), Errc::ok);
	EXPECT_EQ(with([](auto &r) { r.slot = 3; }), Errc::exist);
	EXPECT_EQ(with([](auto &r) { r.slot = 3, r.guest_phys_addr += 0x3000; }), Errc::exist);
	EXPECT_EQ(with([](auto &r) { r.slot = 3, r.guest_phys_addr += 0x4000; }), Errc::ok);
	EXPECT_EQ(with([](auto &r) { r.slot = 2, r.userspace_addr += 0x1000; }), Errc::inval) << "other memory";
	EXPECT_EQ(with([](auto &r) { r.slot = 2, r.memory_size += 0x1000; }), Errc::inval) << "another size";
	EXPECT_EQ(with([](auto &r) { r.slot = 2, r.flags = KVM_MEM_READONLY; }), Errc::inval);
	EXPECT_EQ(with([](auto &r) { r.slot = 2, r.flags = KVM_MEM_LOG_DIRTY_PAGES; }), Errc::ok);
	EXPECT_EQ(with([](auto &r) { r.slot = 2, r.guest_phys_addr += 0x1000; }), Errc::exist);
	EXPECT_EQ(with([](auto &r) { r.slot = 2, r.guest_phys_addr -= 0x1000; }), Errc::ok) << "may overlap itself";
	EXPECT_EQ(s.set({.slot = 32766, .flags = 0, .guest_phys_addr = 0x100000, .memory_size = 0x1000,
			 .userspace_addr = hva0},
			Memslots::all_slots),
		  Errc::ok);
}

TEST(Memslots, LogComesGoesAndMoves)
{
	Slots s;
	ASSERT_EQ(s.set(0, 100, 1000, hva0, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	s.find(100)->mark(Gfn{700});
	const DirtyLog *log = s.find(100)->log;
	ASSERT_EQ(s.set(0, 5000, 1000, hva0, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	EXPECT_EQ(s.find(100), nullptr);
	EXPECT_EQ(s.find(5600)->log, log);
	EXPECT_EQ(s.find(5600)->log->peek(600 / 64), u64{1} << (600 % 64));
	ASSERT_EQ(s.set(0, 5000, 1000, hva0, 0), Errc::ok);
	EXPECT_EQ(s.find(5600)->log, nullptr);
	ASSERT_EQ(s.set(0, 5000, 1000, hva0, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	EXPECT_EQ(s.find(5600)->log->peek(600 / 64), 0u);
}

TEST(Memslots, CongruenceLimitsTheLevel)
{
	Slots s;
	ASSERT_EQ(s.set(0, 0, 4, 0x40000000), Errc::ok);
	ASSERT_EQ(s.set(1, 512, 4, 0x40000000), Errc::ok);
	ASSERT_EQ(s.set(2, 513, 0, 0), Errc::inval);
	ASSERT_EQ(s.set(2, 1025, 4, 0x40000000), Errc::ok);
	ASSERT_EQ(s.set(3, 0x40005, 4, 0x80005000), Errc::ok);
	EXPECT_EQ(s.find(0)->congruent, Level::huge);
	EXPECT_EQ(s.find(512)->congruent, Level::large);
	EXPECT_EQ(s.find(1025)->congruent, Level::page);
	EXPECT_EQ(s.find(0x40005)->congruent, Level::huge);
}

TEST(Memslots, ReadersKeepWhatTheySee)
{
	Slots s;
	ASSERT_EQ(s.set(0, 0, 16, hva0, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	hosted::run_deferred();
	const auto waiting = hosted::deferred_pending();
	{
		SrcuRead r{s.m->srcu()};
		const SlotSet *set = s.m->current(Space::normal, r);
		const Memslot *old = set->find(Gfn{3});
		ASSERT_EQ(s.set(0, 0, 0, 0), Errc::ok);
		EXPECT_EQ(s.find(3), nullptr);
		old->mark(Gfn{3}); /* the sanitizer knows if it is gone */
		EXPECT_EQ(set->find(Gfn{3}), old);
		EXPECT_EQ(hosted::deferred_pending(), waiting + 1);
	}
	EXPECT_GT(hosted::run_deferred(), 0u);
}

TEST(Memslots, AHintIsGoodForItsSetAlone)
{
	Slots s;
	ASSERT_EQ(s.set(0, 0, 16, hva0), Errc::ok);
	const Memslot *first = s.find(3);
	EXPECT_EQ(s.hint.slot, first);
	ASSERT_EQ(s.set(0, 0, 16, hva0, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	hosted::run_deferred(); /* first is freed */
	EXPECT_NE(s.find(3), nullptr);
	EXPECT_NE(s.find(3)->log, nullptr);
}

/* A vCPU that goes from one space to another takes its hint along. */
TEST(Memslots, NoTwoSetsOfAVmHaveTheSameGeneration)
{
	Slots s;
	std::set<u64> seen;
	const auto look = [&](Space space) {
		SrcuRead r{s.m->srcu()};
		const SlotSet &set = *s.m->current(space, r);
		const Memslot *slot = Memslots::find(set, s.hint, Gfn{16});
		EXPECT_EQ(slot ? slot->hva.raw() : 0, slot ? hva0 + (space == Space::smm ? 0x100000 : 0) : 0);
		return set.generation;
	};
	seen.insert(look(Space::normal));
	EXPECT_TRUE(seen.insert(look(Space::smm)).second);
	for (u32 id = 0; id < 4; ++id)
		for (Space space : every_space) {
			kvm_userspace_memory_region r{.slot = id, .flags = 0, .guest_phys_addr = 0x10000 + id * u64{0x10000},
						      .memory_size = 0x10000, .userspace_addr = hva0 + id * u64{0x10000}};
			r.userspace_addr += space == Space::smm ? 0x100000 : 0;
			EXPECT_EQ(s.set(r, Memslots::user_slots, space), Errc::ok) << "overlaps nothing of its own space";
			EXPECT_TRUE(seen.insert(look(space)).second);
			EXPECT_FALSE(seen.insert(look(space == Space::smm ? Space::normal : Space::smm)).second);
		}
}

TEST(Memslots, AsManyAsKvmHas)
{
	Slots s;
	const u64 live = u64(hosted::live_allocations());
	for (u32 i = 0; i < Memslots::user_slots; ++i)
		ASSERT_EQ(s.set(i, i * 2, 1, hva0 + (u64{i} << page_shift)), Errc::ok);
	hosted::run_deferred();
	for (u32 i = 0; i < Memslots::user_slots; i += 13) {
		ASSERT_EQ(s.find(i * 2)->id, i);
		ASSERT_EQ(s.find(i * 2 + 1), nullptr);
	}
	EXPECT_EQ(s.set(5, 1, 1, hva0), Errc::inval);
	for (u32 i = 0; i < Memslots::user_slots; ++i)
		ASSERT_EQ(s.set((i * 7919) % Memslots::user_slots, 0, 0, 0), Errc::ok);
	hosted::run_deferred();
	EXPECT_LE(u64(hosted::live_allocations()), live + 64);
}

TEST(Memslots, EveryFailedAllocationChangesNothing)
{
	const auto live = hosted::live_allocations();
	for (u64 nth = 1;; ++nth) {
		bool failed = false;
		{
			Slots s;
			ASSERT_EQ(s.set(1, 100, 50, hva0, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
			const auto step = [&](Errc e) {
				EXPECT_TRUE(e == Errc::ok || e == Errc::nomem);
				failed = failed || e != Errc::ok;
			};
			hosted::fail_allocation(nth);
			step(s.set(1000, 200, 50, hva0, KVM_MEM_LOG_DIRTY_PAGES));
			if (failed)
				EXPECT_EQ(s.find(200), nullptr);
			step(s.set(1, 300, 50, hva0, KVM_MEM_LOG_DIRTY_PAGES));
			EXPECT_EQ(!!s.find(100), !s.find(300));
			step(s.set(1, s.find(100) ? 100 : 300, 50, hva0, 0));
			step(s.set(1, 0, 0, 0));
			hosted::fail_allocation(0);
		}
		hosted::run_deferred();
		ASSERT_EQ(hosted::live_allocations(), live) << nth;
		if (!failed)
			break;
		ASSERT_LT(nth, 100u);
	}
}

/* Against a plain map, by random requests of every kind. */
TEST(Memslots, AgreeWithANaiveModel)
{
	struct Plain {
		u64 gfn, pages, hva;
		u32 flags;
	};
	std::mt19937_64 random{7};
	for (int world = 0; world < 8; ++world) {
		Slots s;
		std::map<u32, Plain> model;
		const u32 ids = world & 1 ? 200 : 12;
		const u64 space = world & 1 ? 4000 : 300;
		unsigned kinds[6] = {};
		for (int op = 0; op < 3000; ++op) {
			const u32 id = u32(random() % ids);
			u64 gfn = random() % space, pages = 1 + random() % 20, hva = hva0 + (random() % space << page_shift);
			u32 flags = u32(random() & 3);
			auto it = model.find(id);
			if (it != model.end()) { /* keep what may not change, mostly */
				if (random() % 8)
					pages = it->second.pages, hva = it->second.hva;
				if (random() % 8)
					flags = (flags & 1) | (it->second.flags & 2);
				if (random() % 2)
					gfn = it->second.gfn;
			}
			if (random() % 6 == 0)
				pages = 0;
			Errc want = Errc::ok;
			if (!pages) {
				want = it == model.end() ? Errc::inval : Errc::ok;
			} else {
				bool overlap = false;
				for (auto &[other, p] : model)
					overlap = overlap || (other != id && gfn < p.gfn + p.pages && p.gfn < gfn + pages);
				if (it != model.end() && (it->second.pages != pages || it->second.hva != hva ||
							  (it->second.flags ^ flags) & KVM_MEM_READONLY))
					want = Errc::inval;
				else if ((it == model.end() || it->second.gfn != gfn) && overlap)
					want = Errc::exist;
			}
			ASSERT_EQ(s.set(id, gfn, pages, hva, flags), want);
			++kinds[want == Errc::ok ? 0 : want == Errc::exist ? 1 : 2];
			if (want == Errc::ok) {
				if (pages)
					model[id] = {gfn, pages, hva, flags};
				else
					model.erase(id);
			}
			if (op % 50)
				continue;
			hosted::run_deferred();
			u64 total = 0;
			for (auto &[i, p] : model)
				total += p.pages;
			{
				Guard g{s.m->mutex()};
				ASSERT_EQ(s.m->pages(), total);
			}
			SrcuRead r{s.m->srcu()};
			const SlotSet &set = *s.m->current(Space::normal, r);
			ASSERT_EQ(set.slots(), model.size());
			for (u64 g = 0; g < space + 30; ++g) {
				const Memslot *m = Memslots::find(set, s.hint, Gfn{g});
				const Plain *p = nullptr;
				u32 owner = 0;
				for (auto &[i, q] : model)
					if (q.gfn <= g && g < q.gfn + q.pages)
						p = &q, owner = i;
				ASSERT_EQ(!!m, !!p) << g;
				if (!m) {
					const Level l = set.empty_level(Gfn{g}, Level::huge);
					const u64 first = g & ~(pages_of(l) - 1), next = g & ~(pages_of(above(l)) - 1);
					bool none = true, none_above = true;
					for (auto &[i, q] : model) {
						none = none && !(first < q.gfn + q.pages && q.gfn < first + pages_of(l));
						none_above = none_above && !(next < q.gfn + q.pages &&
									     q.gfn < next + pages_of(above(l)));
					}
					ASSERT_TRUE(none);
					ASSERT_TRUE(l == Level::huge || !none_above);
					continue;
				}
				ASSERT_EQ(m->id, owner);
				ASSERT_EQ(m->hva_of(Gfn{g}).raw(), p->hva + ((g - p->gfn) << page_shift));
				ASSERT_EQ(!!m->log, !!(p->flags & KVM_MEM_LOG_DIRTY_PAGES));
				ASSERT_EQ(m->readonly, !!(p->flags & KVM_MEM_READONLY));
			}
			/* By address of the VMM. */
			for (int n = 0; n < 10; ++n) {
				const u64 a = hva0 + (random() % space << page_shift) + random() % 2 * 100,
					  b = a + 1 + random() % 30000;
				std::map<u32, GfnRange> want_ranges;
				for (auto &[i, p] : model) {
					const u64 end = p.hva + (p.pages << page_shift);
					if (!(a < end && p.hva < b))
						continue;
					const u64 lo = (std::max(a, p.hva) - p.hva) >> page_shift,
						  hi = (std::min(b, end) - p.hva + page_size - 1) >> page_shift;
					want_ranges.insert({i, {Gfn{p.gfn + lo}, Gfn{p.gfn + hi}}});
				}
				std::map<u32, GfnRange> got;
				for (SlotSet::ByHva at{set, Hva{a}, Hva{b}}; !at.done(); at.next())
					ASSERT_TRUE(got.insert({at.slot().id, at.range()}).second);
				ASSERT_EQ(got.size(), want_ranges.size());
				for (auto &[i, gr] : want_ranges)
					ASSERT_TRUE(got.at(i) == gr);
			}
		}
		for (unsigned k = 0; k < 3; ++k)
			EXPECT_GT(kinds[k], 50u);
	}
}
