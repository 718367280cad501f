/* SPDX-License-Identifier: GPL-2.0-only */
#include <cstring>
#include "vm_processors.hpp"

using namespace kx;
using namespace kx::test;

namespace {

constexpr u64 block = 512;
/* What the tests here have at hand. */
template <class P> struct OnProcessor : testing::Test {
	using Fixture = OnProcessor;
	using Format = typename P::Format;
	struct Vm : TestVm<Format, WatchedWords<Format>> {
		explicit Vm(TestOptions o = {}) : TestVm<Format, WatchedWords<Format>>{on_processor<P>(o)} {}
	};
	/* A VM with one slot at gfn 0, its memory touched or not. */
	struct OneSlot : Vm {
		u64 hva, pages;
		explicit OneSlot(u64 n = 1024, VmmMemory::Backing b = VmmMemory::Backing::small, u32 flags = 0,
				 TestOptions o = {})
			: Vm{o}, hva{this->vmm.map(n << page_shift, b)}, pages{n}
		{
			EXPECT_EQ(this->region(0, 0, n, hva, flags), Errc::ok);
		}
		u64 at(u64 gfn) const { return hva + (gfn << page_shift); }
		Errc flags(u32 f) { return this->region(0, 0, pages, hva, f); }
	};
};

#define TEST_ON(processors, suite, name)                                                                         \
	KX_TEST_ON(OnProcessor, suite, name, processors, using typename OnProcessor<P>::Vm;                      \
		   using typename OnProcessor<P>::OneSlot; using typename OnProcessor<P>::Format;)
#define TEST_ON_EVERY(suite, name) TEST_ON(EveryProcessor, suite, name)

}

TEST_ON_EVERY(Fault, MapsThePageOfTheSlot)
{
	OneSlot vm;
	vm.vmm.touch(vm.at(5), page_size);
	EXPECT_EQ(vm.fault(0, 5).kind, FaultKind::fixed);
	EXPECT_EQ(vm.pfn(5), vm.vmm.pfn_at(vm.at(5)));
	EXPECT_TRUE(vm.maps_writable(5));
	EXPECT_EQ(vm.vmm.pin_calls(), 0u) << "the host had it: no reference is taken";
}

TEST_ON_EVERY(Fault, AsksTheHostForWhatItDoesNotHave)
{
	OneSlot vm;
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	EXPECT_EQ(vm.stats().faults_pinned.get(), 1u);
	EXPECT_EQ(vm.vmm.pinned(), 0u) << "no page stays pinned for a mapping";
	EXPECT_TRUE(vm.vmm.marked_dirty(vm.pfn(5)));
}

TEST_ON_EVERY(Fault, AReadOfFreshMemoryMapsTheZeroPageReadOnly)
{
	OneSlot vm;
	EXPECT_EQ(vm.read(0, 5), FaultKind::fixed);
	EXPECT_TRUE(vm.maps(5));
	EXPECT_FALSE(vm.spot(5).value.is_mmu_writable());
	const u64 zero = vm.pfn(5);
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	EXPECT_NE(vm.pfn(5), zero);
}

TEST_ON_EVERY(Fault, SetsAccessedForTheFaultingPageAlone)
{
	OneSlot vm;
	vm.vmm.touch(vm.hva, 32 * page_size);
	EXPECT_EQ(vm.fault(0, 5).kind, FaultKind::fixed);
	for (u64 g = 0; g < 16; ++g)
		EXPECT_EQ(vm.spot(g).value.is_accessed(), g == 5);
}

TEST_ON_EVERY(FaultAround, MapsAnAlignedRunThatTheHostHas)
{
	OneSlot vm;
	vm.vmm.touch(vm.at(16), 10 * page_size);
	vm.vmm.touch(vm.at(30), 4 * page_size);
	EXPECT_EQ(vm.fault(0, 20).kind, FaultKind::fixed);
	for (u64 g = 0; g < 64; ++g)
		EXPECT_EQ(vm.maps_writable(g), (16 <= g && g < 26) || g == 30 || g == 31) << g;
	EXPECT_EQ(vm.stats().mapped_around.get(), 11u);
	EXPECT_EQ(vm.stats().mapped[0].get(), 1u);
	EXPECT_EQ(vm.fault(1, 17).kind, FaultKind::spurious);
}

TEST_ON_EVERY(FaultAround, StaysInTheSlot)
{
	Vm vm;
	const u64 hva = vm.vmm.map(64 * page_size);
	vm.vmm.touch(hva, 64 * page_size);
	ASSERT_EQ(vm.region(0, 3, 7, hva + 8 * page_size), Errc::ok);
	EXPECT_EQ(vm.fault(0, 4).kind, FaultKind::fixed);
	for (u64 g = 0; g < 32; ++g) {
		EXPECT_EQ(vm.maps(g), 3 <= g && g < 10) << g;
		if (vm.maps(g))
			EXPECT_EQ(vm.pfn(g), vm.vmm.pfn_at(hva + (g + 5) * page_size));
	}
}

TEST_ON_EVERY(FaultAround, LeavesWhatIsThere)
{
	OneSlot vm;
	vm.vmm.touch(vm.at(3), page_size);
	EXPECT_EQ(vm.read(0, 3), FaultKind::fixed);
	const auto before = vm.spot(3).value;
	vm.vmm.touch(vm.hva, 16 * page_size);
	EXPECT_EQ(vm.fault(0, 7).kind, FaultKind::fixed);
	EXPECT_EQ(vm.spot(3).value, before);
	EXPECT_TRUE(vm.maps(4));
}

TEST_ON_EVERY(FaultAround, ANeighboursFirstWriteIsNoticedWhileTheSlotIsLogged)
{
	OneSlot vm{256, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	vm.vmm.touch(vm.hva, 64 * page_size);
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	for (u64 g = 0; g < 16; ++g) {
		EXPECT_TRUE(vm.maps(g));
		EXPECT_EQ(vm.writes_unnoticed(g), g == 5);
		EXPECT_TRUE(vm.spot(g).value.is_mmu_writable());
	}
	EXPECT_EQ(vm.dirty(0, 256), std::set<u64>{5}) << "never a page nobody wrote";
	EXPECT_EQ(vm.write(1, 6), FaultKind::fixed);
	EXPECT_EQ(vm.stats(1).faults_fast.get(), vm.caps.pml ? 0u : 1u);
	EXPECT_EQ(vm.stats(1).faults_fixed.get(), 0u) << "a neighbour is written without any lock";
	EXPECT_EQ(vm.dirty(0, 256), std::set<u64>{6});
}

TEST_ON_EVERY(FaultAround, DoesNotMapWritableWhatTheHostWouldHaveToMark)
{
	OneSlot vm;
	vm.vmm.touch(vm.hva, 16 * page_size);
	vm.vmm.write_back(vm.at(4), page_size);
	EXPECT_EQ(vm.fault(0, 5, pfec::write).kind, FaultKind::fixed);
	EXPECT_TRUE(vm.maps(4));
	EXPECT_FALSE(vm.maps_writable(4));
	EXPECT_EQ(vm.write(0, 4), FaultKind::fixed);
	EXPECT_TRUE(vm.vmm.marked_dirty(vm.pfn(4)));
}

TEST_ON_EVERY(Fault, ACleanPageIsMarkedBeforeTheGuestMayWriteIt)
{
	for (u32 flags : {0u, u32{KVM_MEM_LOG_DIRTY_PAGES}}) {
		OneSlot vm{64, VmmMemory::Backing::small, flags};
		vm.vmm.touch(vm.hva, 64 * page_size);
		vm.vmm.clean(vm.hva, 64 * page_size);
		EXPECT_EQ(vm.read(0, 5), FaultKind::fixed);
		EXPECT_FALSE(vm.spot(5).value.is_mmu_writable()) << "the host was not asked for writing";
		EXPECT_FALSE(vm.vmm.marked_dirty(vm.pfn(5)));
		EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
		EXPECT_EQ(vm.stats().faults_pinned.get(), 1u);
		EXPECT_TRUE(vm.vmm.marked_dirty(vm.pfn(5)));
		EXPECT_FALSE(vm.vmm.marked_dirty(vm.pfn(6)));
	}
}

TEST_ON_EVERY(Fault, HugeBackingIsMappedHuge)
{
	OneSlot vm{4 * block, VmmMemory::Backing::large};
	EXPECT_EQ(vm.write(0, block + 7), FaultKind::fixed);
	EXPECT_EQ(vm.spot(block).level, Level::large);
	EXPECT_EQ(vm.pfn(block + 9), vm.vmm.pfn_at(vm.at(block + 9)));
	EXPECT_FALSE(vm.maps(0));
	EXPECT_EQ(vm.stats().mapped[1].get(), 1u);
	EXPECT_EQ(vm.write(1, block + 500), FaultKind::fixed);
	EXPECT_EQ(vm.stats(1).faults_fixed.get() + vm.stats(1).faults_spurious.get(), 0u);
}

TEST_ON_EVERY(Fault, OneGigabyteToo)
{
	OneSlot vm{2 * block * block, VmmMemory::Backing::huge};
	EXPECT_EQ(vm.write(0, block * block + 12345), FaultKind::fixed);
	EXPECT_EQ(vm.spot(block * block).level, Level::huge);
	EXPECT_EQ(vm.stats().mapped[2].get(), 1u);
	TestOptions o;
	o.caps.huge_1g = false;
	OneSlot without{block * block, VmmMemory::Backing::huge, 0, o};
	EXPECT_EQ(without.write(0, 12345), FaultKind::fixed);
	EXPECT_EQ(without.spot(12345).level, Level::large);
}

TEST_ON_EVERY(Fault, HugeOnlyWhereSlotAndHostAgree)
{
	Vm vm;
	const u64 hva = vm.vmm.map(8 * block * page_size, VmmMemory::Backing::large);
	/* Shifted against each other. */
	ASSERT_EQ(vm.region(0, 0, 2 * block, hva + page_size), Errc::ok);
	EXPECT_EQ(vm.write(0, 3), FaultKind::fixed);
	EXPECT_EQ(vm.spot(3).level, Level::page);
	/* Congruent, but the block sticks out of the slot at both ends. */
	ASSERT_EQ(vm.region(1, 4 * block + 1, 2 * block, hva + (4 * block + 1) * page_size), Errc::ok);
	EXPECT_EQ(vm.write(0, 4 * block + 1), FaultKind::fixed);
	EXPECT_EQ(vm.write(0, 6 * block), FaultKind::fixed);
	EXPECT_EQ(vm.write(0, 5 * block + 1), FaultKind::fixed);
	EXPECT_EQ(vm.spot(4 * block + 1).level, Level::page);
	EXPECT_EQ(vm.spot(6 * block).level, Level::page);
	EXPECT_FALSE(vm.maps(6 * block + 1));
	EXPECT_EQ(vm.spot(5 * block).level, Level::large);
}

TEST_ON_EVERY(Fault, SmallMappingsGiveWayToALargeOne)
{
	OneSlot vm{block};
	vm.vmm.touch(vm.hva, block * page_size);
	for (u64 g = 0; g < 100; g += 16)
		EXPECT_EQ(vm.read(0, g), FaultKind::fixed);
	const u64 tables = vm.table_pages();
	vm.vmm.collapse(vm.hva); /* zaps; then one page comes back small, before the host has it huge */
	EXPECT_EQ(vm.write(0, 200), FaultKind::fixed);
	EXPECT_EQ(vm.spot(200).level, Level::large);
	EXPECT_EQ(vm.table_pages(), tables - 1);
}

TEST_ON_EVERY(Fault, NxMitigationKeepsExecutablePagesSmall)
{
	TestOptions o;
	o.caps.nx_huge_pages = true;
	OneSlot vm{2 * block, VmmMemory::Backing::large, 0, o};
	EXPECT_EQ(vm.write(0, 3), FaultKind::fixed);
	EXPECT_EQ(vm.spot(3).level, Level::large);
	EXPECT_FALSE(allows(vm.spot(3).value.access(), Access::exec));
	EXPECT_EQ(vm.fault(0, 3, pfec::fetch | pfec::present).kind, FaultKind::fixed);
	EXPECT_EQ(vm.spot(3).level, Level::page);
	EXPECT_TRUE(allows(vm.spot(3).value.access(), Access::exec));
	EXPECT_TRUE(vm.maps_writable(300)) << "the rest of the block stays mapped";
	EXPECT_EQ(vm.write(0, 300), FaultKind::fixed);
	EXPECT_EQ(vm.spot(300).level, Level::page) << "and does not grow together again";
}

TEST_ON_EVERY(Fault, DeviceMemoryIsMappedUncachedAndNotPinned)
{
	OneSlot vm{16, VmmMemory::Backing::device};
	EXPECT_EQ(vm.write(0, 2), FaultKind::fixed);
	EXPECT_TRUE(is_uncached(Format{}, vm.spot(2).value.raw()));
	EXPECT_TRUE(vm.maps_writable(2));
	EXPECT_FALSE(vm.maps(3));
}

TEST_ON_EVERY(Fault, UnmappedMemoryOfTheVmmFails)
{
	OneSlot vm;
	vm.vmm.unmap(vm.hva, vm.pages << page_shift);
	EXPECT_EQ(vm.write(0, 5), FaultKind::failed);
	EXPECT_EQ(vm.cpus[0]->last_error, Errc::fault);
}

TEST_ON_EVERY(ReadOnlySlot, IsReadAndItsWritesGoToTheVmm)
{
	OneSlot vm{64, VmmMemory::Backing::small, KVM_MEM_READONLY};
	vm.vmm.touch(vm.hva, 64 * page_size);
	EXPECT_EQ(vm.read(0, 3), FaultKind::fixed);
	EXPECT_FALSE(vm.spot(3).value.is_mmu_writable());
	EXPECT_EQ(vm.write(0, 3), FaultKind::readonly);
	EXPECT_EQ(vm.write(0, 40), FaultKind::readonly);
	EXPECT_FALSE(vm.maps(40));
	u8 b = 1;
	EXPECT_EQ(vm.mem->write(*vm.cpus[0], Gpa{0x3000}, &b, 1), Errc::fault);
	EXPECT_EQ(vm.mem->read(*vm.cpus[0], Gpa{0x3000}, &b, 1), Errc::ok);
}

TEST_ON_EVERY(Mmio, IsRememberedWithoutTablesWhereThereIsNoSlot)
{
	OneSlot vm;
	const u64 tables = vm.table_pages(), far = u64{3} << 27;
	for (u64 g : {far, far + 1, far + 1000, far + (1 << 18)})
		EXPECT_EQ(vm.read(0, g), FaultKind::mmio);
	EXPECT_EQ(vm.table_pages(), tables);
	EXPECT_EQ(vm.stats().faults_mmio.get(), 1u) << "one entry stands for the whole block";
	EXPECT_EQ(vm.stats().faults_remembered_mmio.get(), 3u);
}

TEST_ON_EVERY(Mmio, NextToSlotsIsRememberedInSmallBlocks)
{
	OneSlot vm{10};
	EXPECT_EQ(vm.write(0, 3), FaultKind::fixed);
	EXPECT_EQ(vm.read(0, 10), FaultKind::mmio);
	EXPECT_EQ(vm.spot(10).level, Level::page);
	EXPECT_TRUE(vm.spot(10).value.is_mmio(vm.caps));
	EXPECT_TRUE(vm.maps(3));
	EXPECT_EQ(vm.read(0, 600), FaultKind::mmio);
	EXPECT_EQ(vm.spot(600).level, Level::large);
	EXPECT_EQ(vm.read(0, 1 << 18), FaultKind::mmio);
	EXPECT_EQ(vm.spot(1 << 18).level, Level::huge);
}

TEST_ON_EVERY(Mmio, IsForgottenWhenASlotAppears)
{
	Vm vm;
	EXPECT_EQ(vm.read(0, 100), FaultKind::mmio);
	EXPECT_EQ(vm.read(0, 100), FaultKind::mmio);
	EXPECT_EQ(vm.stats().faults_remembered_mmio.get(), 1u);
	const u64 hva = vm.vmm.map(16 * page_size);
	ASSERT_EQ(vm.region(0, 96, 16, hva), Errc::ok);
	EXPECT_EQ(vm.write(0, 100), FaultKind::fixed);
	EXPECT_EQ(vm.read(0, 95), FaultKind::mmio);
	EXPECT_EQ(vm.read(0, 112), FaultKind::mmio);
	ASSERT_EQ(vm.remove(0), Errc::ok);
	EXPECT_EQ(vm.read(0, 100), FaultKind::mmio);
	EXPECT_EQ(vm.tlb.flushes.load(), 1u) << "for the page that was mapped, not for MMIO";
}

TEST_ON_EVERY(Mmio, WithoutAReservedBitEveryAccessIsLookedUp)
{
	TestOptions o;
	o.caps.rsvd_from = 52;
	Vm vm{o};
	const bool remembers = Format::mmio(vm.caps); /* EPT needs none */
	EXPECT_EQ(vm.read(0, 100), FaultKind::mmio);
	EXPECT_EQ(vm.read(0, 100), FaultKind::mmio);
	EXPECT_EQ(vm.stats().faults_mmio.get(), remembers ? 1u : 2u);
	EXPECT_EQ(vm.table_pages(), 1u);
}

TEST_ON_EVERY(Mmio, BeyondTheTablesIsMmio)
{
	TestOptions o;
	o.caps.phys_bits = 52;
	Vm vm{o};
	EXPECT_EQ(vm.fault(0, u64{1} << 37).kind, FaultKind::mmio);
	EXPECT_EQ(vm.mem->fast_fault(*vm.cpus[0], Gpa{u64{1} << 49}, pfec::present | pfec::write), FastFault::slow);
	EXPECT_EQ(vm.fault(0, u64{1} << 37, pfec::rsvd).kind, FaultKind::mmio);
}

TEST_ON_EVERY(Notifier, TakesAwayWhatTheHostTakes)
{
	OneSlot vm;
	vm.vmm.touch(vm.hva, 64 * page_size);
	for (u64 g = 0; g < 64; ++g)
		EXPECT_EQ(vm.write(g & 1, g, u8(g)), FaultKind::fixed);
	vm.vmm.discard(vm.at(10), 20 * page_size);
	EXPECT_EQ(vm.mapped(0, 64), 44u);
	vm.vmm.migrate(vm.at(40), 8 * page_size);
	for (u64 g = 0; g < 64; ++g) {
		u8 b = 0xff;
		EXPECT_EQ(vm.access(g & 1, g, 0, &b), FaultKind::fixed);
		EXPECT_EQ(b, 10 <= g && g < 30 ? 0 : g);
	}
	EXPECT_EQ(vm.mem->stats().broken.relaxed(), 0u);
}

TEST_ON_EVERY(Notifier, PaysNoAttentionToMemoryThatIsNotTheGuests)
{
	OneSlot vm;
	const u64 other = vm.vmm.map(16 * page_size);
	vm.vmm.touch(other, 16 * page_size);
	vm.write(0, 1);
	vm.vmm.discard(other, 16 * page_size);
	EXPECT_EQ(vm.mem->stats().invalidations.relaxed(), vm.mem->stats().invalidations_hit.relaxed() + 1);
	EXPECT_EQ(vm.tlb.flushes.load(), 0u);
}

TEST_ON_EVERY(Notifier, FaultsWaitWhileTheHostIsAtWorkAndNeighboursDoNot)
{
	OneSlot vm;
	vm.vmm.touch(vm.hva, 64 * page_size);
	vm.mem->notifier_start(Hva{vm.at(5)}, Hva{vm.at(6)});
	EXPECT_EQ(vm.fault(0, 5).kind, FaultKind::retry);
	EXPECT_EQ(vm.fault(0, 6).kind, FaultKind::fixed);
	EXPECT_EQ(vm.mapped(0, 16), 1u) << "nobody looks around next to an invalidation";
	EXPECT_EQ(vm.fault(0, 40).kind, FaultKind::fixed);
	EXPECT_EQ(vm.mapped(32, 48), 16u);
	vm.mem->notifier_end(Hva{vm.at(5)}, Hva{vm.at(6)});
	EXPECT_EQ(vm.fault(0, 5).kind, FaultKind::fixed);
}

TEST_ON_EVERY(Notifier, NoHugeMappingOverAnInvalidationInItsBlock)
{
	OneSlot vm{2 * block, VmmMemory::Backing::large};
	vm.vmm.touch(vm.hva, vm.pages << page_shift);
	vm.mem->notifier_start(Hva{vm.at(300)}, Hva{vm.at(301)});
	EXPECT_EQ(vm.fault(0, 3).kind, FaultKind::fixed);
	EXPECT_EQ(vm.spot(3).level, Level::page);
	EXPECT_FALSE(vm.maps(300));
	vm.mem->notifier_end(Hva{vm.at(300)}, Hva{vm.at(301)});
	EXPECT_EQ(vm.fault(0, 300).kind, FaultKind::fixed);
	EXPECT_EQ(vm.spot(3).level, Level::large);
}

TEST_ON_EVERY(Notifier, OverlappingInvalidationsKeepTheirRangesUntilAllEnd)
{
	OneSlot vm;
	vm.vmm.touch(vm.hva, 256 * page_size);
	vm.mem->notifier_start(Hva{vm.at(5)}, Hva{vm.at(6)});
	vm.mem->notifier_start(Hva{vm.at(100)}, Hva{vm.at(101)});
	vm.mem->notifier_end(Hva{vm.at(5)}, Hva{vm.at(6)});
	EXPECT_EQ(vm.fault(0, 100).kind, FaultKind::retry);
	EXPECT_EQ(vm.fault(0, 200).kind, FaultKind::fixed);
	vm.mem->notifier_end(Hva{vm.at(100)}, Hva{vm.at(101)});
	EXPECT_EQ(vm.fault(0, 5).kind, FaultKind::fixed);
	EXPECT_EQ(vm.fault(0, 100).kind, FaultKind::fixed);
}

TEST_ON_EVERY(Notifier, GoneTakesEverything)
{
	OneSlot vm{4 * block, VmmMemory::Backing::large};
	vm.write(0, 3);
	vm.write(0, block + 3);
	vm.read(0, 1 << 20);
	vm.mem->notifier_gone();
	EXPECT_EQ(vm.mapped(0, 4 * block), 0u);
	EXPECT_EQ(vm.table_pages(), 1u);
}

TEST_ON(ThoseWithAd, Ageing, SeesAccessesAndClearsThem)
{
	OneSlot vm;
	vm.vmm.touch(vm.hva, 64 * page_size);
	EXPECT_EQ(vm.read(0, 5), FaultKind::fixed);
	const auto age = [&](u64 g, Ageing how) { return vm.mem->notifier_age(Hva{vm.at(g)}, Hva{vm.at(g + 1)}, how); };
	EXPECT_FALSE(age(6, Ageing::test)) << "a neighbour was not accessed";
	EXPECT_TRUE(age(5, Ageing::test));
	EXPECT_TRUE(age(5, Ageing::clear));
	EXPECT_FALSE(age(5, Ageing::clear));
	vm.guests[0]->flush_all();
	EXPECT_EQ(vm.read(0, 5), FaultKind::fixed);
	EXPECT_TRUE(age(5, Ageing::test));
	EXPECT_EQ(vm.tlb.flushes.load(), 0u);
}

TEST_ON(ThoseWithoutAd, Ageing, IsToUnmap)
{
	OneSlot vm;
	vm.vmm.touch(vm.hva, 64 * page_size);
	const auto age = [&](u64 from, u64 to, Ageing how) {
		return vm.mem->notifier_age(Hva{vm.at(from)}, Hva{vm.at(to)}, how);
	};
	EXPECT_FALSE(age(0, 64, Ageing::clear));
	EXPECT_EQ(vm.write(0, 5, 7), FaultKind::fixed);
	EXPECT_TRUE(age(5, 6, Ageing::test));
	EXPECT_TRUE(age(5, 6, Ageing::test));
	EXPECT_EQ(vm.tlb.flushes.load(), 0u);
	EXPECT_TRUE(age(5, 6, Ageing::clear));
	EXPECT_FALSE(vm.maps(5));
	EXPECT_TRUE(vm.maps(6));
	EXPECT_EQ(vm.tlb.flushes.load(), 1u) << "a use from now on must be noticed";
	EXPECT_FALSE(age(5, 6, Ageing::clear));
	EXPECT_EQ(vm.tlb.flushes.load(), 1u);
	u8 b = 0;
	EXPECT_EQ(vm.access(0, 5, 0, &b), FaultKind::fixed);
	EXPECT_EQ(b, 7);
	EXPECT_TRUE(age(0, 64, Ageing::clear));
	EXPECT_EQ(vm.mapped(0, 64), 0u);
	EXPECT_EQ(vm.mem->stats().invalidations.relaxed(), 0u) << "faults need not wait for it";
}

TEST_ON(ThoseWithoutAd, Ageing, UnmapsAHugePageAsAWhole)
{
	OneSlot vm{2 * block, VmmMemory::Backing::large};
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	EXPECT_EQ(vm.write(1, block + 5), FaultKind::fixed);
	EXPECT_TRUE(vm.mem->notifier_age(Hva{vm.at(300)}, Hva{vm.at(301)}, Ageing::clear));
	EXPECT_FALSE(vm.maps(5));
	EXPECT_TRUE(vm.maps(block + 5));
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	EXPECT_EQ(vm.spot(5).level, Level::large);
}

TEST_ON(ThoseWithoutAd, Ageing, LosesNothingOfTheDirtyLog)
{
	OneSlot vm{64, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	vm.vmm.touch(vm.hva, 64 * page_size);
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	EXPECT_TRUE(vm.mem->notifier_age(Hva{vm.hva}, Hva{vm.at(64)}, Ageing::clear));
	EXPECT_EQ(vm.dirty(0, 64), std::set<u64>{5});
	EXPECT_EQ(vm.read(0, 5), FaultKind::fixed);
	EXPECT_EQ(vm.dirty(0, 64), std::set<u64>{});
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	EXPECT_EQ(vm.dirty(0, 64), std::set<u64>{5});
}

TEST_ON_EVERY(DirtyLog, ReportsEachWriteOnce)
{
	OneSlot vm{300, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	vm.vmm.touch(vm.hva, 300 * page_size);
	EXPECT_EQ(vm.dirty(0, 300), std::set<u64>{});
	std::set<u64> some{0, 1, 63, 64, 65, 127, 200, 299};
	for (u64 g : some)
		EXPECT_EQ(vm.write(g & 1, g), FaultKind::fixed);
	EXPECT_EQ(vm.dirty(0, 300), some);
	EXPECT_EQ(vm.dirty(0, 300), std::set<u64>{});
	for (u64 g : some)
		EXPECT_FALSE(vm.writes_unnoticed(g));
	EXPECT_EQ(vm.write(0, 299), FaultKind::fixed);
	EXPECT_EQ(vm.write(0, 299), FaultKind::fixed);
	EXPECT_EQ(vm.dirty(0, 300), std::set<u64>{299});
}

TEST_ON_EVERY(DirtyLog, SlotsThatBeginAnywhere)
{
	Vm vm;
	const u64 hva = vm.vmm.map(2000 * page_size);
	vm.vmm.touch(hva, 2000 * page_size);
	ASSERT_EQ(vm.region(3, 1001, 777, hva, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	std::set<u64> all;
	for (u64 g = 0; g < 777; g += 7) {
		EXPECT_EQ(vm.write(0, 1001 + g), FaultKind::fixed);
		all.insert(g);
	}
	EXPECT_EQ(vm.dirty(3, 777), all);
	EXPECT_EQ(vm.dirty(3, 777), std::set<u64>{});
	for (u64 g = 0; g < 777; ++g)
		EXPECT_FALSE(vm.writes_unnoticed(1001 + g));
}

TEST_ON_EVERY(DirtyLog, FlushesBeforeItIsSeen)
{
	OneSlot vm{64, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	vm.vmm.touch(vm.hva, 64 * page_size);
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	const unsigned before = vm.tlb.flushes;
	EXPECT_EQ(vm.dirty(0, 64).size(), 1u);
	EXPECT_EQ(vm.tlb.flushes, before + 1);
	EXPECT_EQ(vm.dirty(0, 64).size(), 0u);
	EXPECT_EQ(vm.tlb.flushes, before + 1) << "nothing was protected: nothing to flush";
}

TEST_ON_EVERY(DirtyLog, SeesWritesFromOutsideTheGuest)
{
	OneSlot vm{64, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	u8 bytes[3 * page_size] = {7};
	EXPECT_EQ(vm.mem->write(*vm.cpus[0], Gpa{0x5fff}, bytes, 2), Errc::ok);
	EXPECT_EQ(vm.dirty(0, 64), (std::set<u64>{5, 6}));
	EXPECT_EQ(vm.mem->write(*vm.cpus[0], Gpa{0x8000}, bytes, sizeof(bytes)), Errc::ok);
	EXPECT_EQ(vm.dirty(0, 64), (std::set<u64>{8, 9, 10}));
	u64 old = 7;
	EXPECT_EQ(vm.mem->ram(*vm.cpus[0]).cmpxchg(Gpa{0x8000}, 8, &old, 9), GuestSwap::stored);
	EXPECT_EQ(vm.dirty(0, 64), std::set<u64>{8});
	EXPECT_EQ(vm.mem->ram(*vm.cpus[0]).cmpxchg(Gpa{0x8000}, 8, &old, 10), GuestSwap::differs);
	EXPECT_EQ(old, 9u);
	EXPECT_EQ(vm.dirty(0, 64), std::set<u64>{});
}

TEST_ON_EVERY(DirtyLog, WhenItBeginsEverythingIsProtectedAndSplit)
{
	OneSlot vm{4 * block, VmmMemory::Backing::large};
	for (u64 b = 0; b < 3; ++b)
		EXPECT_EQ(vm.write(0, b * block + 9), FaultKind::fixed);
	EXPECT_EQ(vm.flags(KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	for (u64 g = 0; g < 3 * block; g += 37) {
		EXPECT_EQ(vm.spot(g).level, Level::page);
		EXPECT_TRUE(vm.maps(g));
		EXPECT_FALSE(vm.writes_unnoticed(g));
		EXPECT_EQ(vm.pfn(g), vm.vmm.pfn_at(vm.at(g)));
	}
	EXPECT_EQ(vm.mem->stats().split.relaxed(), 3u);
	const u64 fixed = vm.stats().faults_fixed.get();
	EXPECT_EQ(vm.write(0, 700), FaultKind::fixed);
	EXPECT_EQ(vm.stats().faults_fixed.get(), fixed) << "split beforehand: the write needs no lock";
	EXPECT_EQ(vm.dirty(0, 4 * block), std::set<u64>{700});
	EXPECT_EQ(vm.write(0, 3 * block + 1), FaultKind::fixed);
	EXPECT_EQ(vm.spot(3 * block + 1).level, Level::page);
	EXPECT_EQ(vm.dirty(0, 4 * block), std::set<u64>{3 * block + 1});
}

TEST_ON_EVERY(DirtyLog, SplitsAGigabyte)
{
	OneSlot vm{block * block, VmmMemory::Backing::huge};
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	hosted::make_lock_holders_yield(true);
	EXPECT_EQ(vm.flags(KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	hosted::make_lock_holders_yield(false);
	EXPECT_EQ(vm.mem->stats().split.relaxed(), 1 + block);
	EXPECT_EQ(vm.spot(99999).level, Level::page);
	EXPECT_FALSE(vm.writes_unnoticed(99999));
}

TEST_ON_EVERY(DirtyLog, BeginsEvenWithoutMemoryToSplit)
{
	OneSlot vm{2 * block, VmmMemory::Backing::large};
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	ASSERT_EQ(vm.write(0, block + 5), FaultKind::fixed);
	/* Everything the change itself needs is there, tables are not. */
	hosted::fail_allocation(0);
	EXPECT_EQ(vm.flags(KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	const u64 needed = hosted::allocations_tried();
	EXPECT_EQ(vm.flags(0), Errc::ok);
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	ASSERT_EQ(vm.spot(5).level, Level::large);
	hosted::fail_allocations_from(needed - 32 + 1);
	EXPECT_EQ(vm.flags(KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	hosted::fail_allocation(0);
	EXPECT_EQ(vm.spot(5).level, Level::large);
	EXPECT_FALSE(vm.writes_unnoticed(5));
	EXPECT_EQ(vm.dirty(0, vm.pages), std::set<u64>{});
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	EXPECT_EQ(vm.spot(5).level, Level::page);
	EXPECT_FALSE(vm.writes_unnoticed(6)) << "pieces keep the protection";
	EXPECT_EQ(vm.dirty(0, vm.pages), std::set<u64>{5});
}

TEST_ON_EVERY(DirtyLog, WhenItEndsBlocksGrowTogetherInPlace)
{
	OneSlot vm{4 * block, VmmMemory::Backing::large, KVM_MEM_LOG_DIRTY_PAGES};
	vm.vmm.touch(vm.hva, vm.pages << page_shift);
	for (u64 g = 0; g < 3 * block; g += 100)
		EXPECT_EQ(vm.write(0, g), FaultKind::fixed);
	EXPECT_EQ(vm.spot(5).level, Level::page);
	EXPECT_EQ(vm.flags(0), Errc::ok);
	for (u64 b = 0; b < 3; ++b) {
		EXPECT_EQ(vm.spot(b * block + 5).level, Level::large);
		EXPECT_TRUE(vm.maps_writable(b * block + 5));
	}
	EXPECT_FALSE(vm.maps(3 * block)) << "nothing is mapped that was not";
	EXPECT_EQ(vm.mem->stats().promoted.relaxed(), 3u);
	const u64 faults = vm.stats().faults_fixed.get();
	EXPECT_EQ(vm.write(0, 7), FaultKind::fixed);
	EXPECT_EQ(vm.stats().faults_fixed.get(), faults);
	EXPECT_EQ(vm.dirty(0, vm.pages, Errc::noent), std::set<u64>{});
}

TEST_ON_EVERY(DirtyLog, WhenItEndsBlocksAtTheEdgesStaySmall)
{
	Vm vm;
	const u64 hva = vm.vmm.map(8 * block * page_size, VmmMemory::Backing::large);
	vm.vmm.touch(hva, 8 * block * page_size);
	const u64 first = block + 1, n = 3 * block;
	ASSERT_EQ(vm.region(0, first, n, hva + first * page_size, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	for (u64 g = first; g < first + n; g += 16)
		EXPECT_EQ(vm.write(0, g), FaultKind::fixed);
	EXPECT_EQ(vm.write(0, first + n - 1), FaultKind::fixed);
	ASSERT_EQ(vm.region(0, first, n, hva + first * page_size, 0), Errc::ok);
	EXPECT_EQ(vm.spot(first).level, Level::page);
	EXPECT_EQ(vm.spot(2 * block).level, Level::large);
	EXPECT_EQ(vm.spot(3 * block).level, Level::large);
	EXPECT_EQ(vm.spot(4 * block).level, Level::page);
	EXPECT_FALSE(vm.maps(first - 1) || vm.maps(first + n));
}

TEST_ON_EVERY(DirtyLog, WhenItEndsProtectedPagesAreFreedByFastFaults)
{
	OneSlot vm{64, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	vm.vmm.touch(vm.hva, 64 * page_size);
	EXPECT_EQ(vm.read(0, 5), FaultKind::fixed);
	EXPECT_EQ(vm.flags(0), Errc::ok);
	EXPECT_FALSE(vm.writes_unnoticed(6));
	EXPECT_EQ(vm.write(0, 6), FaultKind::fixed);
	EXPECT_EQ(vm.stats().faults_fast.get(), vm.caps.pml ? 0u : 1u);
}

TEST_ON_EVERY(DirtyLog, RefusesWhatIsNotThere)
{
	OneSlot vm{64};
	EXPECT_EQ(vm.dirty(0, 64, Errc::noent), std::set<u64>{});
	EXPECT_EQ(vm.dirty(1, 64, Errc::noent), std::set<u64>{});
	EXPECT_EQ(vm.dirty(32764, 64, Errc::inval), std::set<u64>{});
	EXPECT_EQ(vm.dirty(1 << 16, 64, Errc::inval), std::set<u64>{});
	EXPECT_EQ(vm.flags(KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	kvm_dirty_log log{};
	log.dirty_bitmap = nullptr;
	EXPECT_EQ(vm.mem->get_dirty_log(Space::normal, log), Errc::fault);
}

TEST_ON(ThoseWithPml, PageModificationLog, SparesTheFault)
{
	OneSlot vm{256, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	vm.vmm.touch(vm.hva, 64 * page_size);
	EXPECT_EQ(vm.read(0, 5), FaultKind::fixed);
	for (u64 g = 0; g < 16; ++g) {
		EXPECT_TRUE(vm.maps_writable(g));
		EXPECT_FALSE(vm.spot(g).value.is_dirty());
	}
	for (int round = 0; round < 3; ++round) {
		EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
		EXPECT_EQ(vm.write(1, 6), FaultKind::fixed);
		EXPECT_EQ(vm.write(1, 6), FaultKind::fixed);
		EXPECT_EQ(vm.stats(0).faults_fixed.get(), 1u);
		EXPECT_EQ(vm.stats(1).faults_fixed.get() + vm.stats(1).faults_fast.get(), 0u);
		EXPECT_EQ(vm.dirty(0, 256), (std::set<u64>{5, 6}));
		EXPECT_EQ(vm.dirty(0, 256), std::set<u64>{});
	}
	EXPECT_EQ(vm.tlb.flushes.load(), 3u) << "a CPU that has the page as dirty would not log it";
}

TEST_ON(ThoseWithPml, PageModificationLog, HasRoomForSoMuchOnly)
{
	OneSlot vm{4 * block, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	vm.vmm.touch(vm.hva, vm.pages << page_shift);
	for (u64 g = 0; g < vm.pages; g += 16)
		EXPECT_EQ(vm.read(0, g), FaultKind::fixed);
	std::set<u64> all;
	for (u64 g = 0; g < vm.pages; ++g, all.insert(all.end(), g - 1))
		EXPECT_EQ(vm.write(0, g), FaultKind::fixed);
	EXPECT_EQ(vm.guests[0]->take_log().size(), block) << "the rest was handed over";
	for (u64 g = 3 * block; g < 4 * block; ++g)
		all.erase(g);
	EXPECT_EQ(vm.dirty(0, vm.pages), all);
}

TEST_ON(ThoseWithPml, PageModificationLog, IsEmptyWhereNoSlotIsLogged)
{
	for (auto backing : {VmmMemory::Backing::small, VmmMemory::Backing::large}) {
		OneSlot vm{2 * block, backing};
		vm.vmm.touch(vm.hva, vm.pages << page_shift);
		for (u64 g = 0; g < vm.pages; g += 7)
			EXPECT_EQ(g % 2 ? vm.read(0, g) : vm.write(0, g), FaultKind::fixed);
		for (u64 g = 0; g < vm.pages; ++g)
			EXPECT_EQ(vm.write(0, g), FaultKind::fixed);
		EXPECT_TRUE(vm.guests[0]->take_log().empty());
	}
}

TEST_ON(ThoseWithPml, PageModificationLog, OfAPageThatIsGoneIsKept)
{
	OneSlot vm{64, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	vm.vmm.touch(vm.hva, 64 * page_size);
	EXPECT_EQ(vm.read(0, 5), FaultKind::fixed);
	EXPECT_EQ(vm.write(0, 6), FaultKind::fixed);
	vm.vmm.migrate(vm.hva, 64 * page_size);
	EXPECT_EQ(vm.dirty(0, 64), std::set<u64>{6});
	EXPECT_EQ(vm.write(0, 7), FaultKind::fixed);
	EXPECT_EQ(vm.remove(0), Errc::ok);
	vm.drain(0);
}

TEST(PageModificationLog, NeedsSomebodyWhoDrainsIt)
{
	struct {
		void flush(GfnRange) {}
	} tlb;
	MmuCaps caps;
	caps.pml = true;
	Memory<Ept, decltype(tlb)> memory{tlb, caps};
	EXPECT_EQ(memory.init(), Errc::inval);
}

TEST_ON_EVERY(FastFault, LeavesAloneWhatIsNotOnlyPermission)
{
	OneSlot vm{block, VmmMemory::Backing::small};
	vm.vmm.touch(vm.hva, 16 * page_size);
	const auto fast = [&](u64 g, u32 code) { return vm.mem->fast_fault(*vm.cpus[0], Gpa{g << page_shift}, code); };
	EXPECT_EQ(fast(3, pfec::write), FastFault::slow) << "not present";
	EXPECT_EQ(fast(3, pfec::write | pfec::present), FastFault::slow) << "no entry";
	vm.vmm.write_back(vm.at(4), page_size);
	EXPECT_EQ(vm.fault(0, 3).kind, FaultKind::fixed);
	EXPECT_EQ(fast(4, pfec::write | pfec::present), FastFault::slow) << "the host must be asked";
	EXPECT_EQ(fast(3, pfec::write | pfec::present), FastFault::fixed) << "writable already";
	EXPECT_EQ(fast(3, pfec::write | pfec::present | pfec::rsvd), FastFault::slow);
	EXPECT_EQ(fast(3, pfec::fetch | pfec::present), FastFault::slow);
	EXPECT_EQ(hosted::locks_held(), 0u);
}

TEST_ON_EVERY(Slots, RemovalUnmapsAndFreesTables)
{
	OneSlot vm{8 * block};
	vm.vmm.touch(vm.hva, vm.pages << page_shift);
	for (u64 g = 0; g < vm.pages; g += 16)
		EXPECT_EQ(vm.read(0, g), FaultKind::fixed);
	const s64 pages = hosted::live_pages();
	const u64 zapped = vm.mem->stats().zapped_tables.relaxed();
	EXPECT_EQ(vm.remove(0), Errc::ok);
	EXPECT_EQ(vm.mapped(0, vm.pages), 0u);
	EXPECT_EQ(vm.mem->stats().zapped_tables.relaxed() - zapped, 8u) << "cut off whole, not entry by entry";
	EXPECT_EQ(vm.mem->stats().zapped_leaves.relaxed(), 0u);
	EXPECT_EQ(hosted::live_pages(), pages) << "freed only after a grace period";
	hosted::run_deferred();
	EXPECT_LE(hosted::live_pages(), pages - 8);
	EXPECT_EQ(vm.mem->stats().tlb_flushes.relaxed(), 1u);
}

TEST_ON_EVERY(Slots, MoveTakesTheMappingsAlong)
{
	OneSlot vm{64, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES};
	EXPECT_EQ(vm.write(0, 5, 55), FaultKind::fixed);
	EXPECT_EQ(vm.region(0, 1000, 64, vm.hva, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	EXPECT_EQ(vm.read(0, 5), FaultKind::mmio);
	u8 b = 0;
	EXPECT_EQ(vm.access(0, 1005, 0, &b), FaultKind::fixed);
	EXPECT_EQ(b, 55);
	EXPECT_EQ(vm.dirty(0, 64), std::set<u64>{5}) << "the log goes along";
}

TEST_ON_EVERY(Slots, AliasesAreInvalidatedTogether)
{
	Vm vm;
	const u64 hva = vm.vmm.map(64 * page_size);
	ASSERT_EQ(vm.region(0, 0, 64, hva), Errc::ok);
	ASSERT_EQ(vm.region(1, 1000, 64, hva), Errc::ok);
	EXPECT_EQ(vm.write(0, 5, 9), FaultKind::fixed);
	u8 b = 0;
	EXPECT_EQ(vm.access(1, 1005, 0, &b), FaultKind::fixed);
	EXPECT_EQ(b, 9);
	vm.vmm.migrate(hva, 64 * page_size);
	EXPECT_FALSE(vm.maps(5) || vm.maps(1005));
}

TEST_ON_EVERY(GuestRam, CrossesPagesAndSlots)
{
	Vm vm;
	const u64 a = vm.vmm.map(4 * page_size), b = vm.vmm.map(4 * page_size);
	ASSERT_EQ(vm.region(0, 0, 4, a), Errc::ok);
	ASSERT_EQ(vm.region(1, 4, 4, b), Errc::ok);
	std::vector<u8> out(6 * page_size), in(6 * page_size);
	for (size_t i = 0; i < out.size(); ++i)
		out[i] = u8(i * 7);
	EXPECT_EQ(vm.mem->write(*vm.cpus[0], Gpa{0x1003}, out.data(), out.size()), Errc::ok);
	EXPECT_EQ(vm.mem->read(*vm.cpus[0], Gpa{0x1003}, in.data(), in.size()), Errc::ok);
	EXPECT_EQ(in, out);
	EXPECT_EQ(vm.mem->read(*vm.cpus[0], Gpa{0x7fff}, in.data(), 2), Errc::fault);
	EXPECT_EQ(vm.mem->read(*vm.cpus[0], Gpa{~u64{0} - 3}, in.data(), 2), Errc::fault);
	EXPECT_EQ(vm.mem->ram(*vm.cpus[0]).hva(Gfn{5}).take().raw(), b + page_size);
	EXPECT_EQ(vm.mem->ram(*vm.cpus[0]).hva(Gfn{8}).error(), Errc::fault);
	GuestRam ram = vm.mem->ram(*vm.cpus[0]);
	EXPECT_EQ(ram.backing(Gpa{0x7000}), GuestRam::Backing::ram);
	EXPECT_EQ(ram.backing(Gpa{0x8000}), GuestRam::Backing::none);
	EXPECT_EQ(ram.read64(Gpa{0x8000}).error(), Errc::fault);
	u64 want;
	std::memcpy(&want, &out[0x1008 - 0x1003], 8);
	EXPECT_EQ(ram.read64(Gpa{0x1008}).take(), want);
}

/* Both spaces have memory at the same place, and CPU 1 is in SMM. */
template <class P> struct InBothSpaces : OnProcessor<P>::Vm {
	using Vm = typename OnProcessor<P>::Vm;
	static constexpr u64 pages = 2 * block;
	u64 plain = this->vmm.map(pages << page_shift, VmmMemory::Backing::large);
	u64 smram = this->vmm.map(pages << page_shift, VmmMemory::Backing::large);
	explicit InBothSpaces(u32 flags = 0)
	{
		EXPECT_EQ(set(Space::normal, flags), Errc::ok);
		EXPECT_EQ(set(Space::smm, flags), Errc::ok);
		this->enter(1, Space::smm);
	}
	Errc set(Space s, u32 flags) { return this->region(0, 0, pages, s == Space::smm ? smram : plain, flags, s); }
	void both_write(u64 gfn)
	{
		EXPECT_EQ(this->write(0, gfn), FaultKind::fixed);
		EXPECT_EQ(this->write(1, gfn), FaultKind::fixed);
	}
};

TEST_ON_EVERY(Spaces, EachHasItsOwnMemory)
{
	InBothSpaces<P> vm;
	vm.both_write(5);
	EXPECT_EQ(vm.pfn(5, 0), vm.vmm.pfn_at(vm.plain + 5 * page_size));
	EXPECT_EQ(vm.pfn(5, 1), vm.vmm.pfn_at(vm.smram + 5 * page_size));
	EXPECT_EQ(vm.mem->stats().roots_built.relaxed(), 2u);
	const u64 value = 7;
	EXPECT_EQ(vm.mem->write(*vm.cpus[1], Gpa{0x5008}, &value, sizeof value), Errc::ok);
	EXPECT_EQ(vm.mem->ram(*vm.cpus[1]).read64(Gpa{0x5008}).take(), 7u);
	EXPECT_EQ(vm.mem->ram(*vm.cpus[0]).read64(Gpa{0x5008}).take(), 0u);
}

TEST_ON_EVERY(Spaces, OneVcpuGoesToAndFro)
{
	InBothSpaces<P> vm;
	const u64 inits = vm.mem->stats().mmu_constant_inits.relaxed();
	for (u64 gfn = 5; gfn < 5 + 8 * block / 4; gfn += block / 2)
		for (Space s : every_space) {
			vm.enter(0, s);
			EXPECT_EQ(vm.write(0, gfn), FaultKind::fixed);
			EXPECT_EQ(vm.pfn(gfn), vm.vmm.pfn_at((s == Space::smm ? vm.smram : vm.plain) + gfn * page_size));
			GuestRam ram = vm.mem->ram(*vm.cpus[0]);
			EXPECT_EQ(ram.hva(Gfn{gfn}).take().raw(), (s == Space::smm ? vm.smram : vm.plain) + gfn * page_size);
		}
	EXPECT_EQ(vm.mem->stats().mmu_constant_inits.relaxed(), inits);
	EXPECT_EQ(vm.mem->stats().page_hash_lookups.relaxed(), 0u);
}

TEST_ON_EVERY(Spaces, ARemovedSlotTakesNothingFromTheOther)
{
	InBothSpaces<P> vm;
	vm.both_write(5);
	EXPECT_EQ(vm.remove(0, Space::smm), Errc::ok);
	EXPECT_TRUE(vm.maps_writable(5, 0));
	EXPECT_FALSE(vm.maps(5, 1));
	EXPECT_EQ(vm.fault(1, 5, pfec::write).kind, FaultKind::mmio);
	EXPECT_EQ(vm.write(0, block + 5), FaultKind::fixed) << "and the other's faults go on by the set they have";
	EXPECT_EQ(vm.remove(0), Errc::ok);
	EXPECT_FALSE(vm.maps(5, 0));
}

TEST_ON_EVERY(Spaces, AChangeOfOneDoesNotHoldUpTheOther)
{
	InBothSpaces<P> vm;
	for (u64 i = 1; i < 8; ++i) {
		EXPECT_EQ(vm.region(u32(i), (10 + i) * block, 1, vm.smram, 0, Space::smm), Errc::ok);
		EXPECT_EQ(vm.fault(0, i * 100, pfec::write).kind, i == 1 || i == 6 ? FaultKind::fixed : FaultKind::spurious);
	}
}

TEST_ON_EVERY(Spaces, LoggingOneLeavesTheOtherWritable)
{
	InBothSpaces<P> vm;
	vm.both_write(5);
	EXPECT_EQ(vm.spot(5, 0).level, Level::large);
	EXPECT_EQ(vm.set(Space::smm, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
	EXPECT_EQ(vm.spot(5, 0).level, Level::large);
	EXPECT_TRUE(vm.writes_unnoticed(5, 0));
	EXPECT_EQ(vm.spot(5, 1).level, Level::page);
	EXPECT_FALSE(vm.writes_unnoticed(5, 1));
	vm.both_write(6);
	EXPECT_EQ(vm.dirty(0, vm.pages, Errc::noent), std::set<u64>{});
	EXPECT_EQ(vm.dirty(0, vm.pages, Errc::ok, Space::smm), std::set<u64>{6});
}

TEST_ON_EVERY(Spaces, EachLogHasItsOwnWrites)
{
	InBothSpaces<P> vm{KVM_MEM_LOG_DIRTY_PAGES};
	EXPECT_EQ(vm.write(0, 5), FaultKind::fixed);
	EXPECT_EQ(vm.write(1, 6), FaultKind::fixed);
	EXPECT_EQ(vm.dirty(0, vm.pages, Errc::ok, Space::smm), std::set<u64>{6});
	EXPECT_TRUE(vm.writes_unnoticed(5, 0)) << "reading one's log protects nothing of the other's";
	EXPECT_FALSE(vm.writes_unnoticed(6, 1));
	EXPECT_EQ(vm.dirty(0, vm.pages), std::set<u64>{5});
	/* Fast faults and the CPU's own log find the slot of their space as well. */
	EXPECT_EQ(vm.write(1, 6), FaultKind::fixed);
	EXPECT_EQ(vm.dirty(0, vm.pages), std::set<u64>{});
	EXPECT_EQ(vm.dirty(0, vm.pages, Errc::ok, Space::smm), std::set<u64>{6});
}

TEST_ON_EVERY(Spaces, APromotionPutsItsMemoryIntoItsOwnTreeAlone)
{
	InBothSpaces<P> vm{KVM_MEM_LOG_DIRTY_PAGES};
	vm.both_write(5);
	EXPECT_EQ(vm.set(Space::smm, 0), Errc::ok);
	EXPECT_EQ(vm.spot(5, 1).level, Level::large);
	EXPECT_EQ(vm.pfn(5, 1), vm.vmm.pfn_at(vm.smram + 5 * page_size));
	EXPECT_EQ(vm.spot(5, 0).level, Level::page);
	EXPECT_EQ(vm.pfn(5, 0), vm.vmm.pfn_at(vm.plain + 5 * page_size));
}

TEST_ON_EVERY(Spaces, WhatTheHostDoesConcernsWhoeverHasThatMemory)
{
	InBothSpaces<P> vm;
	vm.both_write(5);
	EXPECT_EQ(vm.region(1, 4 * block, block, vm.smram, 0), Errc::ok) << "SMRAM, seen by both";
	EXPECT_EQ(vm.read(0, 4 * block + 5), FaultKind::fixed);
	EXPECT_TRUE(vm.mem->notifier_age(Hva{vm.smram}, Hva{vm.smram + block * page_size}, Ageing::clear));
	EXPECT_FALSE(vm.mem->notifier_age(Hva{vm.smram}, Hva{vm.smram + block * page_size}, Ageing::test));
	EXPECT_TRUE(vm.mem->notifier_age(Hva{vm.plain}, Hva{vm.plain + block * page_size}, Ageing::test)) << "same place";
	for (auto &g : vm.guests)
		g->flush_all();
	vm.both_write(5);
	EXPECT_EQ(vm.read(0, 4 * block + 5), FaultKind::fixed);
	const u64 hit = vm.mem->stats().invalidations_hit.relaxed();
	vm.vmm.discard(vm.smram, block * page_size);
	EXPECT_EQ(vm.mem->stats().invalidations_hit.relaxed(), hit + 1) << "one, however many it concerned";
	EXPECT_FALSE(vm.maps(5, 1));
	EXPECT_FALSE(vm.maps(4 * block + 5, 0));
	EXPECT_TRUE(vm.maps(5, 0));
	vm.mem->notifier_gone();
	EXPECT_FALSE(vm.maps(5, 0));
}

TEST_ON_EVERY(Laws, ConstantsAreSetOnceAVcpu)
{
	OneSlot vm;
	const u64 inits = vm.mem->stats().mmu_constant_inits.relaxed();
	EXPECT_EQ(inits, 2u);
	for (int i = 0; i < 600; ++i) {
		GuestRole g;
		g.smm = i & 1;
		EXPECT_TRUE(vm.mem->load_root(*vm.cpus[0], g).ok());
	}
	EXPECT_EQ(vm.mem->stats().mmu_constant_inits.relaxed(), inits);
	EXPECT_EQ(vm.mem->stats().roots_built.relaxed(), 2u) << "one an address space, found again ever after";
	EXPECT_EQ(vm.mem->stats().page_hash_lookups.relaxed(), 0u);
	EXPECT_EQ(vm.mem->stats().indirect_roots.relaxed(), 0u);
}

TEST_ON_EVERY(Laws, AGuestRoleThatLeavesThePageRoleAloneKeepsTheRoot)
{
	OneSlot vm;
	const Hpa root = vm.mem->load_root(*vm.cpus[0], GuestRole{}).take();
	const u64 loads = vm.stats().root_loads.get();
	for (unsigned i = 0; i < 64; ++i) {
		const GuestRole g{.paging = !!(i & 1), .write_protect = !!(i & 2), .smep = !!(i & 4), .smap = !!(i & 8),
				  .pke = !!(i & 16)};
		EXPECT_EQ(vm.mem->load_root(*vm.cpus[0], g).take(), root);
	}
	EXPECT_EQ(vm.stats().root_loads.get(), loads);
	EXPECT_EQ(vm.tlb.flushes.load(), 0u);
}

TEST_ON_EVERY(Allocation, EveryFailureIsSurvived)
{
	const s64 live = hosted::live_allocations();
	bool finished = false;
	u64 nth = 0;
	for (; !finished; ++nth) {
		ASSERT_LT(nth, 400u);
		{
			Vm vm;
			const u64 hva = vm.vmm.map(4 * block * page_size, VmmMemory::Backing::large);
			hosted::fail_allocation(nth + 1);
			bool ok = vm.region(0, 0, 4 * block, hva) == Errc::ok;
			ok = vm.write(0, 5) == FaultKind::fixed && ok;
			ok = vm.write(0, 3 * block) == FaultKind::fixed && ok;
			ok = vm.region(0, 0, 4 * block, hva, KVM_MEM_LOG_DIRTY_PAGES) == Errc::ok && ok;
			ok = vm.write(0, 700) == FaultKind::fixed && ok;
			ok = vm.region(0, 8 * block, 4 * block, hva, KVM_MEM_LOG_DIRTY_PAGES) == Errc::ok && ok;
			ok = vm.write(0, 8 * block + 1) == FaultKind::fixed && ok;
			ok = vm.region(1, 0, 64, hva) == Errc::ok && ok;
			ok = vm.region(0, 8 * block, 4 * block, hva, 0) == Errc::ok && ok;
			ok = vm.remove(0) == Errc::ok && ok;
			ok = vm.mem->load_root(*vm.cpus[0], {.smm = true}).ok() && ok;
			finished = hosted::allocations_tried() <= nth;
			hosted::fail_allocation(0);
			/* Whatever failed, it works afterwards. */
			if (!vm.mem->ram(*vm.cpus[0]).hva(Gfn{10}).ok())
				EXPECT_EQ(vm.region(1, 0, 64, hva), Errc::ok);
			EXPECT_EQ(vm.write(1, 10), FaultKind::fixed) << nth;
			if (finished)
				EXPECT_TRUE(ok);
		}
		ASSERT_EQ(hosted::live_allocations(), live) << "a leak after failure " << nth;
	}
	EXPECT_GT(nth, 20u);
}

TEST_ON_EVERY(Teardown, ReturnsAtOnceAndFreesLater)
{
	const s64 live = hosted::live_allocations();
	{
		OneSlot vm{64 * block};
		vm.vmm.touch(vm.hva, vm.pages << page_shift);
		for (u64 g = 0; g < vm.pages; g += 64)
			vm.read(0, g);
		vm.vmm.watch(nullptr);
		for (auto &c : vm.cpus)
			vm.mem->detach(*c);
		vm.guests.clear();
		const s64 pages = hosted::live_pages();
		bool done = false;
		vm.mem->teardown([](void *d) { *static_cast<bool *>(d) = true; }, &done);
		EXPECT_EQ(hosted::live_pages(), pages);
		EXPECT_FALSE(done);
		hosted::run_deferred();
		EXPECT_TRUE(done);
		vm.down = true;
		EXPECT_LT(hosted::live_pages(), pages - 60);
		EXPECT_EQ(vm.mem->stats().tables_linked.relaxed(), vm.mem->stats().tables_freed.relaxed());
	}
	hosted::run_deferred();
	EXPECT_EQ(hosted::live_allocations(), live);
}

TEST_ON_EVERY(FiveLevels, WorkTheSame)
{
	TestOptions o;
	o.caps.levels = 5;
	o.caps.phys_bits = 52;
	o.caps.rsvd_from = 52;
	Vm vm{o};
	const u64 hva = vm.vmm.map(block * page_size), far = u64{1} << 39;
	ASSERT_EQ(vm.region(0, far, block, hva), Errc::ok);
	EXPECT_EQ(vm.write(0, far + 5), FaultKind::fixed);
	EXPECT_EQ(vm.table_pages(), 5u);
	EXPECT_EQ(vm.remove(0), Errc::ok);
	EXPECT_EQ(vm.table_pages(), 4u);
}
