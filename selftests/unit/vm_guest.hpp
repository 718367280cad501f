/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A VM without a processor: the memory under test, a VMM's address space, and guest CPUs that walk the
 * nested tables as hardware does, keep what they found until they are flushed, and say at once when they
 * come upon something that must not be: a freed page, a freed table, a right nobody granted.
 */
#pragma once
#include <gtest/gtest.h>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>
#include "arch/x86/memory/memory.hpp"
#include "cxxrt/hosted/hosted.hpp"
#include "cxxrt/hosted/vmm_memory.hpp"

namespace kx::test {

using hosted::VmmMemory;

/* Words that are scheduling points, and that watch every state an entry goes through. */
template <class F> struct WatchedWords {
	static u64 load(const u64 *e) { return PlainWords::load(e); }
	static bool compare_exchange(u64 *e, u64 old, u64 now)
	{
		hosted::point();
		const bool done = PlainWords::compare_exchange(e, old, now);
		if (done)
			check(old, now);
		return done;
	}
	static u64 exchange(u64 *e, u64 now)
	{
		hosted::point();
		const u64 old = PlainWords::exchange(e, now);
		check(old, now);
		return old;
	}
	static void store_unlinked(u64 *e, u64 w) { PlainWords::store_unlinked(e, w); }

	/* Of any entry, at any moment. What has HostWritable is a leaf for sure. */
	static void check(u64 old, u64 now)
	{
		const bool leaf = F::mmu_present(now) && F::HostWritable::test(now);
		if (!F::mmu_present(now)) {
			const u64 address = now & F::Address::mask;
			EXPECT_TRUE(address == 0 || address == F::Address::mask) << "an unusable entry names memory";
		}
		EXPECT_TRUE(!leaf || !F::W::test(now) || F::MmuWritable::test(now)) << "W without MmuWritable";
		EXPECT_TRUE(!F::mmu_present(now) || !F::MmuWritable::test(now) || leaf) << "MmuWritable without HostWritable";
		if (leaf && F::mmu_present(old) && F::HostWritable::test(old)) {
			EXPECT_EQ(old & F::Address::mask, now & F::Address::mask) << "a leaf turns to other memory";
		}
	}
};

/* One guest processor. In the threads' tests another thread flushes it: lock is what an IPI waits for. */
template <class F> class GuestCpu {
public:
	struct Translation {
		u64 pfn;
		bool writable, executable;
		bool dirty; /* a write need not set D */

		bool allows(u32 access) const
		{
			return (!(access & pfec::write) || writable) && (!(access & pfec::fetch) || executable);
		}
	};
	std::recursive_mutex lock;

private:
	const MmuCaps &caps_;
	u64 *root_ = nullptr;
	std::map<u64, Translation> tlb_;   /* by gfn */
	std::map<u64, u64 *> leaf_tables_; /* paging-structure cache: by gfn / 512 */
	std::vector<u64> log_;		    /* gfns it set D for, with PML */

	/* As hardware does: only in the entry that was judged, or not at all. */
	static bool set_bits(u64 *e, u64 seen, u64 bits)
	{
		return (seen & bits) == bits || __atomic_compare_exchange_n(e, &seen, seen | bits, false,
									     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}

public:
	explicit GuestCpu(const MmuCaps &caps) : caps_{caps} {}
	void set_root(Hpa r) { root_ = direct_of<u64>(r); }

	void flush(GfnRange r)
	{
		std::lock_guard g{lock};
		tlb_.erase(tlb_.lower_bound(r.begin.raw()), tlb_.lower_bound(r.end.raw()));
		leaf_tables_.clear();
	}
	void flush_all() { flush({Gfn{0}, Gfn{~u64{0}}}); }

	/* It leaves the guest before it would set D with no room in the log. */
	static constexpr u32 log_full = 1u << 31;
	static constexpr size_t log_entries = 512;
	std::vector<u64> take_log()
	{
		std::lock_guard g{lock};
		return std::exchange(log_, {});
	}

	/* As a CPU would: by what it has cached; what that refuses, by a walk from the root. The error code of
	 * the nested fault, or none and *out. */
	std::optional<u32> translate(Gfn g, u32 access, Translation *out)
	{
		if (!walk(g, access, out, Use::caches))
			return std::nullopt;
		leaf_tables_.erase(g.raw() / 512);
		return walk(g, access, out, Use::nothing);
	}

private:
	enum class Use { caches, nothing };
	std::optional<u32> walk(Gfn g, u32 access, Translation *out, Use use)
	{
		const bool write = access & pfec::write;
		if (auto it = tlb_.find(g.raw()); use == Use::caches && it != tlb_.end() && it->second.allows(access) &&
		    (!write || it->second.dirty)) {
			*out = it->second;
			return std::nullopt;
		}
		tlb_.erase(g.raw()); /* refused by a cached translation: walks again */
		u64 *table = root_;
		Level l = caps_.top();
		if (auto it = leaf_tables_.find(g.raw() / 512); use == Use::caches && it != leaf_tables_.end()) {
			table = it->second;
			l = Level::page;
		}
		Access rights = Access::rwx;
		for (;;) {
			u64 *e = &table[index_of(g, l)];
			const u64 v = __atomic_load_n(e, __ATOMIC_ACQUIRE);
			if (v == F::mmio(caps_) && v)
				return access | F::mmio_fault;
			if (!F::walked(v))
				return access;
			const bool leaf = F::leaf(v, l);
			const Access r = rights & F::access(v);
			const u64 pfn = ((v & caps_.address_mask()) >> page_shift) + (g.raw() & (pages_of(l) - 1));
			const bool dirty = F::Dirty::test(v), dirties = leaf && write && !dirty && caps_.ad_bits;
			const Translation found{pfn, kx::allows(r, Access::write), kx::allows(r, Access::exec),
						dirty || dirties || !caps_.ad_bits};
			if (leaf && !found.allows(access))
				return access | pfec::present;
			if (dirties && caps_.pml && log_.size() == log_entries)
				return log_full;
			if (caps_.ad_bits && !set_bits(e, v, F::Accessed::mask | (dirties ? F::Dirty::mask : 0)))
				continue;
			if (dirties && caps_.pml)
				log_.push_back(g.raw());
			rights = r;
			if (!leaf) {
				table = direct_of<u64>(Hpa{v & caps_.address_mask()});
				if (l == Level::large)
					leaf_tables_[g.raw() / 512] = table;
				l = below(l);
				continue;
			}
			tlb_[g.raw()] = *out = found;
			return std::nullopt;
		}
	}

public:
	/* Every frame this CPU could still reach without a walk. */
	template <class Fn> void each_cached(Fn f)
	{
		std::lock_guard g{lock};
		for (auto &[gfn, t] : tlb_)
			f(gfn, t);
	}
};

struct TestOptions {
	MmuCaps caps;
	unsigned cpus = 2;
};

template <class F = LongMode, class Words = PlainWords> class TestVm : hosted::VmmWatcher {
public:
	struct Tlb {
		std::vector<std::unique_ptr<GuestCpu<F>>> *cpus;
		std::atomic<unsigned> flushes{0};
		void flush(GfnRange r)
		{
			++flushes;
			hosted::point(); /* the IPI is under way: the guests run on */
			for (auto &c : *cpus)
				c->flush(r);
		}
		TestVm *vm;
		void drain_logs()
		{
			hosted::point();
			for (unsigned c = 0; c < cpus->size(); ++c)
				vm->drain(c);
		}
	};
	using Mem = Memory<F, Tlb, Words>;
	struct Cpu : Mem::Vcpu {
		Errc last_error = Errc::ok;
		typename Mem::Vcpu drainer; /* for who holds the guest CPU's lock */
	};

	MmuCaps caps;
	VmmMemory vmm;
	std::vector<std::unique_ptr<GuestCpu<F>>> guests;
	Tlb tlb{.cpus = &guests, .vm = this};
	std::unique_ptr<Mem> mem;
	std::vector<std::unique_ptr<Cpu>> cpus;
	bool down = false;
	/* Bytes the guest wrote, by gfn: what must be read again, whatever the host did meanwhile. */
	std::map<u64, u8> written;

	explicit TestVm(TestOptions o = {}) : caps{o.caps}
	{
		mem = std::make_unique<Mem>(tlb, caps);
		EXPECT_EQ(mem->init(), Errc::ok);
		for (unsigned i = 0; i < o.cpus; ++i)
			add_cpu();
		vmm.watch(this);
	}
	virtual ~TestVm()
	{
		if (!down)
			teardown();
	}
	void add_cpu()
	{
		guests.push_back(std::make_unique<GuestCpu<F>>(caps));
		cpus.push_back(std::make_unique<Cpu>());
		mem->attach(*cpus.back());
		auto root = mem->load_root(*cpus.back(), GuestRole{});
		ASSERT_TRUE(root.ok());
		guests.back()->set_root(kx::move(root).take());
	}
	/* What entering or leaving SMM comes to for its memory. */
	void enter(unsigned c, Space s)
	{
		drain(c);
		auto root = mem->load_root(*cpus[c], {.smm = s == Space::smm});
		ASSERT_TRUE(root.ok());
		guests[c]->set_root(kx::move(root).take());
		guests[c]->flush_all();
		cpus[c]->drainer.space = s;
	}
	void teardown()
	{
		vmm.watch(nullptr);
		for (auto &c : cpus)
			mem->detach(*c);
		for (auto &g : guests)
			g->flush_all();
		guests.clear(); /* their root is about to go */
		mem->teardown([](void *vm) { static_cast<TestVm *>(vm)->down = true; }, this);
		hosted::run_deferred();
		EXPECT_TRUE(down);
		mem.reset();
		hosted::run_deferred();
	}

	/* --- ioctls */
	Errc region(u32 slot, u64 gfn, u64 pages, u64 hva, u32 flags = 0, Space space = Space::normal)
	{
		return mem->set_region(space, {.slot = slot, .flags = flags, .guest_phys_addr = gfn << page_shift,
					.memory_size = pages << page_shift, .userspace_addr = hva});
	}
	Errc remove(u32 slot, Space space = Space::normal) { return region(slot, 0, 0, 0, 0, space); }
	/* The dirty gfns of a slot, relative to its base. */
	std::set<u64> dirty(u32 slot, u64 pages, Errc want = Errc::ok, Space space = Space::normal)
	{
		std::vector<u64> bits((pages + 63) / 64, ~u64{0});
		kvm_dirty_log log{};
		log.slot = slot;
		log.dirty_bitmap = bits.data();
		EXPECT_EQ(mem->get_dirty_log(space, log), want);
		std::set<u64> out;
		for (u64 i = 0; want == Errc::ok && i < bits.size() * 64; ++i)
			if (bits[i / 64] >> (i % 64) & 1)
				out.insert(i);
		return out;
	}

	/* --- what guests do */
	/* The CPU leaves the guest, and its log is handed over. */
	void drain(unsigned c)
	{
		std::lock_guard out_of_guest{guests[c]->lock};
		RcuRead rcu;
		for (u64 gfn : guests[c]->take_log())
			mem->logged(cpus[c]->drainer, Gfn{gfn}, rcu);
	}
	/* One access of CPU c; the faults it takes are handled as KVM_RUN would. fixed: done. */
	FaultKind access(unsigned c, u64 gfn, u32 how, u8 *byte = nullptr, unsigned max_faults = 64)
	{
		Cpu &v = *cpus[c];
		for (unsigned n = 0; n < max_faults; ++n) {
			u32 code;
			{
				GuestCpu<F> &g = *guests[c];
				std::lock_guard in_guest{g.lock};
				typename GuestCpu<F>::Translation t;
				const std::optional<u32> failed = g.translate(Gfn{gfn}, how, &t);
				if (!failed) {
					touch(t.pfn, gfn, how, byte);
					return FaultKind::fixed;
				}
				code = *failed;
			}
			hosted::point();
			drain(c);
			if (code == GuestCpu<F>::log_full)
				continue;
			if (mem->fast_fault(v, Gpa{gfn << page_shift}, code) == FastFault::fixed)
				continue;
			const FaultOutcome o = mem->fault(v, Gpa{gfn << page_shift}, code);
			v.last_error = o.error;
			if (o.kind == FaultKind::mmio || o.kind == FaultKind::readonly || o.kind == FaultKind::failed)
				return o.kind;
			if (o.kind == FaultKind::retry)
				hosted::give_way();
		}
		return FaultKind::retry;
	}
	FaultKind read(unsigned c, u64 gfn) { return access(c, gfn, 0); }
	FaultKind write(unsigned c, u64 gfn, u8 v = 1) { return access(c, gfn, pfec::write, &v); }
	FaultKind fetch(unsigned c, u64 gfn) { return access(c, gfn, pfec::fetch); }
	/* One fault, straight: what came of it. */
	FaultOutcome fault(unsigned c, u64 gfn, u32 code = 0) { return mem->fault(*cpus[c], Gpa{gfn << page_shift}, code); }

	/* --- what the tables hold */
	typename Mem::Tree &tree(unsigned c = 0) { return cpus[c]->root->tree; }
	/* Through the root of CPU c. */
	typename Mem::Tree::Spot spot(u64 gfn, unsigned c = 0)
	{
		RcuRead r;
		return tree(c).find(Gfn{gfn}, r);
	}
	bool maps(u64 gfn, unsigned c = 0)
	{
		const auto s = spot(gfn, c);
		return s.value.is_leaf(s.level);
	}
	bool maps_writable(u64 gfn, unsigned c = 0) { return maps(gfn, c) && spot(gfn, c).value.is_writable(); }
	/* A write goes through and nobody hears of it. */
	bool writes_unnoticed(u64 gfn, unsigned c = 0)
	{
		const bool small = spot(gfn, c).level == Level::page;
		return maps_writable(gfn, c) && !(caps.pml && small && !spot(gfn, c).value.is_dirty());
	}
	u64 pfn(u64 gfn, unsigned c = 0)
	{
		const auto s = spot(gfn, c);
		return s.value.pfn(caps).raw() + (gfn & (pages_of(s.level) - 1));
	}
	u64 mapped(u64 begin, u64 end)
	{
		u64 n = 0;
		for (u64 g = begin; g < end; ++g)
			n += maps(g);
		return n;
	}
	/* Table pages that hang on the root, itself included. */
	u64 table_pages()
	{
		u64 n = 1;
		for (Cursor<F, Words> c{tree(), tree().all()}; !c.done(); c.next())
			n += c.get().is_table(c.level());
		return n;
	}
	VcpuMmuStats &stats(unsigned c = 0) { return cpus[c]->stats; }

	/* Set by a test that wants to be asked before the host goes on. */
	std::function<void(u64, u64)> after_start;

private:
	void touch(u64 pfn, u64 gfn, u32 how, u8 *byte)
	{
		u8 *page = vmm.contents(pfn);
		if (!page) {
			ADD_FAILURE() << "a guest uses host page " << std::hex << pfn << " at gfn " << gfn << " after it was freed";
			return;
		}
		if (how & pfec::write)
			__atomic_store_n(page, byte ? *byte : u8{1}, __ATOMIC_RELAXED);
		else if (byte)
			*byte = __atomic_load_n(page, __ATOMIC_RELAXED);
	}
	void start(u64 begin, u64 end) override
	{
		mem->notifier_start(Hva{begin}, Hva{end});
		/* The host may now do what it likes with these pages. */
		std::set<u64> pfns;
		for (u64 a = begin; a < end; a += page_size)
			if (const u64 p = vmm.pfn_at(a); p != ~u64{0} && p != vmm.zero_page())
				pfns.insert(p);
		for (auto &g : guests)
			g->each_cached([&](u64 gfn, const auto &t) {
				if (pfns.count(t.pfn))
					ADD_FAILURE() << "cached at gfn " << std::hex << gfn << " after the invalidation began";
			});
		if (after_start)
			after_start(begin, end);
		hosted::point();
	}
	void end(u64 begin, u64 end) override { mem->notifier_end(Hva{begin}, Hva{end}); }
};

}
