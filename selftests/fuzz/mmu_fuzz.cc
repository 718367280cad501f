/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory of a VM, by any sequence of ioctls, host actions and guest accesses with any allocation
 * failing, against a flat model: which slots there are, what byte every page must hold, which pages must
 * be in the dirty log, no more and no less. The guest CPUs of vm_guest.hpp look for stale translations.
 */
#include <cstdio>
#include <cstdlib>
#include "vm_guest.hpp"

using namespace kx;
using namespace kx::test;

namespace {

constexpr u64 space = 3 * 512, block = 512;

void require(bool ok, const char *what)
{
	if (ok)
		return;
	std::fprintf(stderr, "model and memory differ: %s\n", what);
	std::abort();
}

struct Input {
	const u8 *at, *end;
	bool more() const { return at < end; }
	u8 byte() { return at < end ? *at++ : 0; }
	u64 below(u64 n) { return (byte() | u64{byte()} << 8) % n; }
};

struct Slot {
	u64 gfn, pages, offset; /* offset: in pages, into its memory */
	unsigned memory;
	u32 flags;
	std::set<u64> dirty;
};

template <class F> class World {
	using Vm = TestVm<F, WatchedWords<F>>;
	Vm vm_;
	struct Memory {
		u64 hva;
		u8 byte[space];
	} memory_[2];
	std::map<u32, Slot> slots_;

	Slot *slot_at(u64 gfn)
	{
		for (auto &[id, s] : slots_)
			if (s.gfn <= gfn && gfn < s.gfn + s.pages)
				return &s;
		return nullptr;
	}

	void region(Input &in)
	{
		const u32 id = u32(in.byte() % 4);
		const auto it = slots_.find(id);
		Slot want{in.below(space), 1 + in.below(700), in.below(space), unsigned(in.byte() & 1), u32(in.byte() % 4), {}};
		const u8 how = in.byte();
		if (how & 1 && it != slots_.end()) { /* something that is a change, not a refusal */
			want = it->second;
			if (how & 2)
				want.flags ^= KVM_MEM_LOG_DIRTY_PAGES;
			if (how & 4)
				want.gfn = in.below(space);
		}
		if (how & 8)
			want.gfn &= ~(block - 1), want.offset &= ~(block - 1), want.pages = (want.pages + 511) & ~(block - 1);
		if (how & 16)
			want.pages = 0;
		if (want.offset + want.pages > space)
			return;
		const u64 hva = memory_[want.memory].hva + (want.offset << page_shift);
		/* What CPUs have logged is of the slots they wrote to. */
		vm_.drain(0);
		vm_.drain(1);
		const Errc got = vm_.region(id, want.gfn, want.pages, hva, want.flags);
		if (got == Errc::nomem)
			return;
		if (!want.pages) {
			require((got == Errc::ok) == (it != slots_.end()), "removal");
			slots_.erase(id);
			return;
		}
		bool overlap = false;
		for (auto &[other, s] : slots_)
			overlap = overlap || (other != id && want.gfn < s.gfn + s.pages && s.gfn < want.gfn + want.pages);
		Errc expect = Errc::ok;
		if (it != slots_.end() && (it->second.pages != want.pages || it->second.offset != want.offset ||
					   it->second.memory != want.memory ||
					   (it->second.flags ^ want.flags) & KVM_MEM_READONLY))
			expect = Errc::inval;
		else if ((it == slots_.end() || it->second.gfn != want.gfn) && overlap)
			expect = Errc::exist;
		require(got == expect, "KVM_SET_USER_MEMORY_REGION");
		if (got != Errc::ok)
			return;
		if (it != slots_.end() && it->second.flags & want.flags & KVM_MEM_LOG_DIRTY_PAGES)
			want.dirty = it->second.dirty;
		else
			want.dirty.clear();
		slots_[id] = want;
	}

	void dirty(Input &in)
	{
		const u32 id = u32(in.byte() % 4);
		const auto it = slots_.find(id);
		const bool there = it != slots_.end() && it->second.flags & KVM_MEM_LOG_DIRTY_PAGES;
		const auto got = vm_.dirty(id, there ? it->second.pages : 1, there ? Errc::ok : Errc::noent);
		if (!there)
			return;
		require(got == it->second.dirty, "the dirty log");
		it->second.dirty.clear();
	}

	void wrote(Slot &s, u64 gfn, u8 v)
	{
		memory_[s.memory].byte[s.offset + gfn - s.gfn] = v;
		if (s.flags & KVM_MEM_LOG_DIRTY_PAGES)
			s.dirty.insert(gfn - s.gfn);
	}

	void access(Input &in)
	{
		const u8 how = in.byte();
		const u64 gfn = in.below(space + 100);
		const unsigned cpu = how & 1;
		Slot *s = slot_at(gfn);
		u8 v = in.byte();
		const bool write = how & 2;
		const u32 code = write ? pfec::write : how & 4 ? pfec::fetch : 0;
		const u8 put = v;
		const FaultKind k = vm_.access(cpu, gfn, code, &v);
		if (k == FaultKind::failed) {
			require(vm_.cpus[cpu]->last_error == Errc::nomem, "an access fails only for want of memory");
			return;
		}
		require(k == (!s			   ? FaultKind::mmio
			      : write && s->flags & KVM_MEM_READONLY ? FaultKind::readonly
								     : FaultKind::fixed),
			"the outcome of an access");
		if (k != FaultKind::fixed)
			return;
		if (write)
			wrote(*s, gfn, put);
		else if (code == 0)
			require(v == memory_[s->memory].byte[s->offset + gfn - s->gfn], "what a guest reads");
	}

	/* From outside the guest, up to three pages. */
	void outside(Input &in)
	{
		const u64 gfn = in.below(space), n = 1 + in.below(2 * page_size);
		std::vector<u8> bytes(n, in.byte());
		const bool write = in.byte() & 1;
		const Gpa at{gfn << page_shift};
		Errc expect = Errc::ok;
		u64 good = 0; /* pages before the one that fails */
		for (u64 g = gfn; g <= (at + (n - 1)).frame().raw(); ++g, ++good) {
			Slot *s = slot_at(g);
			if (!s || (write && s->flags & KVM_MEM_READONLY)) {
				expect = Errc::fault;
				break;
			}
		}
		const Errc got = write ? vm_.mem->write(*vm_.cpus[0], at, bytes.data(), n)
				       : vm_.mem->read(*vm_.cpus[0], at, bytes.data(), n);
		require(got == expect, "access from outside");
		for (u64 i = 0; i < good; ++i) {
			Slot &s = *slot_at(gfn + i);
			if (write)
				wrote(s, gfn + i, bytes[0]);
			else if (got == Errc::ok)
				require(bytes[i << page_shift] == memory_[s.memory].byte[s.offset + gfn + i - s.gfn],
					"what is read from outside");
		}
	}

	void host(Input &in)
	{
		Memory &m = memory_[in.byte() & 1];
		const u64 first = in.below(space), n = std::min<u64>(1 + in.below(100), space - first);
		const u64 at = m.hva + (first << page_shift), bytes = n << page_shift;
		switch (in.byte() % 7) {
		case 0: vm_.vmm.touch(at, bytes); break;
		case 1:
			vm_.vmm.discard(at, bytes);
			for (u64 i = first; i < first + n; ++i)
				m.byte[i] = 0;
			break;
		case 2: vm_.vmm.migrate(at, bytes); break;
		case 3: vm_.vmm.write_back(at, bytes); break;
		case 4: vm_.vmm.collapse(at); break;
		case 6: vm_.vmm.clean(at, bytes); break;
		case 5: vm_.mem->notifier_age(Hva{at}, Hva{at + bytes}, in.byte() & 1 ? Ageing::clear : Ageing::test); break;
		}
	}

	/* The touch of the model writes no byte; what fresh pages hold is 0. */
	void check_tables()
	{
		for (u64 g = 0; g < space + 100; ++g) {
			Slot *s = slot_at(g);
			const bool maps = vm_.maps(g);
			require(s || !maps, "a mapping outside every slot");
			if (!maps)
				continue;
			const u64 index = s->offset + g - s->gfn;
			require(vm_.pfn(g) == vm_.vmm.pfn_at(memory_[s->memory].hva + (index << page_shift)),
				"a mapping of memory the host has not there");
			const bool w = vm_.maps_writable(g);
			require(!w || !(s->flags & KVM_MEM_READONLY), "a writable mapping in a read-only slot");
			require(!vm_.writes_unnoticed(g) || !(s->flags & KVM_MEM_LOG_DIRTY_PAGES) ||
					s->dirty.count(g - s->gfn),
				"a page can be written without being dirty");
			require(!w || vm_.vmm.marked_dirty(vm_.pfn(g)), "a page the host may drop as clean");
		}
		require(vm_.vmm.pinned() == 0, "pinned pages");
		require(vm_.mem->stats().broken.relaxed() == 0, "a broken invariant");
	}

public:
	World(TestOptions o, VmmMemory::Backing b) : vm_{o}
	{
		for (Memory &m : memory_) {
			m.hva = vm_.vmm.map(space << page_shift, b);
			for (u8 &x : m.byte)
				x = 0;
			b = VmmMemory::Backing::small;
		}
	}
	void run(Input &in)
	{
		while (in.more()) {
			switch (in.byte() % 16) {
			case 0:
			case 1: region(in); break;
			case 2: dirty(in); break;
			case 3:
			case 4: host(in); break;
			case 5: outside(in); break;
			case 6: hosted::run_deferred(); break;
			case 7: hosted::run_one_deferred(); break;
			case 8: hosted::fail_allocation(in.byte() & 15); break;
			case 9: check_tables(); break;
			default: access(in); break;
			}
		}
		hosted::fail_allocation(0);
		check_tables();
		hosted::run_deferred();
	}
};

}

extern "C" int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	testing::InitGoogleTest(argc, *argv);
	GTEST_FLAG_SET(throw_on_failure, true);
	return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t n)
{
	const auto live = hosted::live_allocations();
	Input in{data, data + n};
	const u8 shape = in.byte();
	TestOptions o;
	o.caps.levels = shape & 1 ? 5 : 4;
	o.caps.nx_huge_pages = shape & 2;
	o.caps.rsvd_from = shape & 4 ? 52 : 48;
	o.caps.ad_bits = !(shape & 16 && shape & 32);
	o.caps.pml = shape & 16 && shape & 64 && o.caps.ad_bits;
	const auto backing = shape & 8 ? VmmMemory::Backing::large : VmmMemory::Backing::small;
	if (shape & 16)
		World<Ept>{o, backing}.run(in);
	else
		World<LongMode>{o, backing}.run(in);
	hosted::run_deferred();
	require(hosted::live_allocations() == live, "a leak");
	return 0;
}
