/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Two or three logical threads, every order of their steps up to a number of preemptions. The guest CPUs
 * and the watched words (vm_guest.hpp) judge each state; the checks here judge the end.
 */
#include <cstdio>
#include "cxxrt/hosted/stepper.hpp"
#include "vm_processors.hpp"

using namespace kx;
using namespace kx::test;
using hosted::Stepper;

namespace {

constexpr u64 block = 512;

/* A fresh VM for each schedule. */
template <class P> class Steps : public testing::Test {
public:
	using Fixture = Steps;

protected:
	struct Vm : TestVm<typename P::Format, WatchedWords<typename P::Format>> {
		Vm() : TestVm<typename P::Format, WatchedWords<typename P::Format>>{on_processor<P>()} {}
	};
	std::unique_ptr<Vm> vm;
	u64 hva = 0, pages = 0;

	void begin(u64 n, VmmMemory::Backing b = VmmMemory::Backing::small, u32 flags = 0)
	{
		vm.reset();
		vm = std::make_unique<Vm>();
		pages = n;
		hva = vm->vmm.map(n << page_shift, b);
		vm->vmm.touch(hva, n << page_shift);
		ASSERT_EQ(vm->region(0, 0, n, hva, flags), Errc::ok);
		hosted::run_deferred();
	}
	u64 at(u64 g) const { return hva + (g << page_shift); }
	/* What every end has in common: the tables hold what the host has. */
	void agrees_with_host(u64 base = 0)
	{
		for (u64 g = 0; g < pages; ++g)
			if (vm->maps(base + g)) {
				EXPECT_EQ(vm->pfn(base + g), vm->vmm.pfn_at(at(g))) << g;
				EXPECT_FALSE(vm->vmm.freed(vm->pfn(base + g)));
			}
		EXPECT_EQ(vm->mem->stats().broken.relaxed(), 0u);
		EXPECT_EQ(vm->vmm.pinned(), 0u);
	}
	/* The property of the log: who reads it now and then copies what it says has every write. */
	void nothing_unlogged(const std::map<u64, u8> &copy)
	{
		const std::set<u64> now = vm->dirty(0, pages);
		for (u64 g = 0; g < pages; ++g) {
			const u64 pfn = vm->vmm.pfn_at(at(g));
			const u8 is = pfn == ~u64{0} ? 0 : *vm->vmm.contents(pfn);
			const auto was = copy.find(g);
			if (was != copy.end() && was->second != is)
				EXPECT_TRUE(now.count(g)) << "a write to " << g << " is in no log";
		}
	}
	void run(const std::function<Stepper::Run()> &make, unsigned preemptions = 2, unsigned max = 40000)
	{
		Stepper s{preemptions, max};
		const auto r = s.explore(make, [&] { return HasFailure(); });
		EXPECT_FALSE(HasFailure()) << "schedule " << s.schedule();
		RecordProperty("schedules", int(r.schedules));
		std::printf("    %u schedules%s\n", r.schedules, r.exhausted ? "" : ", not all");
		EXPECT_GT(r.schedules, 5u);
		vm.reset();
		hosted::run_deferred();
	}
};

#define STEPS_ON(processors, name)                                                                               \
	KX_TEST_ON(Steps, Steps, name, processors, using typename Steps<P>::Vm; using Steps<P>::vm;              \
		   using Steps<P>::hva; using Steps<P>::pages; using Steps<P>::begin; using Steps<P>::at;        \
		   using Steps<P>::agrees_with_host; using Steps<P>::nothing_unlogged; using Steps<P>::run;)
#define STEPS(name) STEPS_ON(ThoseWithAd, name)

}

STEPS(TwoFaultsOnTheSamePage)
{
	run([&] {
		begin(32);
		return Stepper::Run{{[&] { EXPECT_EQ(vm->write(0, 5, 1), FaultKind::fixed); },
				     [&] { EXPECT_EQ(vm->write(1, 5, 2), FaultKind::fixed); }},
				    [&] {
					    agrees_with_host();
					    EXPECT_TRUE(vm->maps_writable(5));
					    EXPECT_EQ(vm->table_pages(), 4u) << "the loser's tables are not lost";
				    }};
	});
}

STEPS(TwoFaultsInDifferentBlocks)
{
	run([&] {
		begin(2 * block);
		return Stepper::Run{{[&] { EXPECT_EQ(vm->write(0, 5), FaultKind::fixed); },
				     [&] { EXPECT_EQ(vm->write(1, block + 5), FaultKind::fixed); }},
				    [&] {
					    agrees_with_host();
					    EXPECT_EQ(vm->table_pages(), 5u);
				    }};
	});
}

STEPS(FaultAgainstInvalidation)
{
	run([&] {
		begin(32);
		EXPECT_EQ(vm->write(0, 20), FaultKind::fixed);
		return Stepper::Run{{[&] {
					     EXPECT_NE(vm->write(0, 5, 7), FaultKind::failed);
					     vm->write(0, 6, 8);
				     },
				     [&] { vm->vmm.migrate(at(4), 3 * page_size); }},
				    [&] {
					    agrees_with_host();
					    u8 b = 0;
					    EXPECT_EQ(vm->access(1, 5, 0, &b), FaultKind::fixed);
					    EXPECT_EQ(b, 7);
				    }};
	}, 3);
}

STEPS(FaultOnFreshMemoryAgainstInvalidation)
{
	/* The slow way: the host is asked, and what it says may be old when the lock is taken. */
	run([&] {
		begin(32);
		vm->vmm.discard(hva, 32 * page_size);
		return Stepper::Run{{[&] { EXPECT_NE(vm->write(0, 5, 7), FaultKind::failed); },
				     [&] { vm->vmm.discard(at(4), 3 * page_size); },
				     [&] { vm->read(1, 5); }},
				    [&] { agrees_with_host(); }};
	}, 2, 5000);
}

STEPS(TwoInvalidationsOfTheSamePage)
{
	/* The second finds the entry gone already and must not run ahead of the first one's flush. */
	run([&] {
		begin(32);
		EXPECT_EQ(vm->write(0, 5), FaultKind::fixed);
		return Stepper::Run{{[&] { vm->vmm.migrate(at(5), page_size); },
				     [&] { vm->vmm.discard(at(0), 16 * page_size); },
				     [&] { vm->write(0, 5); }},
				    [&] { agrees_with_host(); }};
	});
}

STEPS(HugeFaultAgainstInvalidationOfAPart)
{
	run([&] {
		begin(block, VmmMemory::Backing::large);
		return Stepper::Run{{[&] { EXPECT_NE(vm->write(0, 5, 7), FaultKind::failed); },
				     [&] { vm->vmm.migrate(at(300), page_size); }},
				    [&] { agrees_with_host(); }};
	}, 3);
}

STEPS(RemovalAgainstFaults)
{
	run([&] {
		begin(32);
		EXPECT_EQ(vm->write(1, 20), FaultKind::fixed);
		return Stepper::Run{{[&] {
					     vm->write(0, 5);
					     vm->write(0, 6);
				     },
				     [&] {
					     EXPECT_EQ(vm->remove(0), Errc::ok);
					     EXPECT_EQ(vm->mapped(0, 32), 0u) << "when the ioctl returns nothing is mapped";
				     }},
				    [&] {
					    EXPECT_EQ(vm->mapped(0, 32), 0u);
					    EXPECT_EQ(vm->write(0, 5), FaultKind::mmio);
				    }};
	}, 3);
}

STEPS(RemovalAgainstTheHostTakingTheMemory)
{
	/* The host must find the slot as long as anything of it is mapped. */
	run([&] {
		begin(32);
		EXPECT_EQ(vm->write(0, 5), FaultKind::fixed);
		return Stepper::Run{{[&] { EXPECT_EQ(vm->remove(0), Errc::ok); },
				     [&] { vm->vmm.unmap(hva, 32 * page_size); },
				     [&] { vm->write(0, 5, 1); }},
				    [&] { EXPECT_EQ(vm->mapped(0, 32), 0u); }};
	});
}

STEPS(RemovalWaitsForReadersByAddress)
{
	/* When the ioctl has returned, the VMM may give the address to something else. */
	bool removed = false;
	run([&] {
		begin(32);
		removed = false;
		return Stepper::Run{{[&] {
					     GuestRam ram = vm->mem->ram(*vm->cpus[0]);
					     const bool saw = ram.backing(Gpa{0x5000}) == GuestRam::Backing::ram;
					     hosted::point();
					     u8 b;
					     EXPECT_EQ(ram.read(Gpa{0x5000}, &b, 1) == Errc::ok && removed, false);
					     hosted::point();
					     EXPECT_FALSE(saw && removed);
				     },
				     [&] {
					     EXPECT_EQ(vm->remove(0), Errc::ok);
					     removed = true;
				     }},
				    {}};
	}, 3);
}

STEPS(MoveAgainstFaults)
{
	run([&] {
		begin(32);
		EXPECT_EQ(vm->write(1, 5, 9), FaultKind::fixed);
		return Stepper::Run{{[&] {
					     vm->write(0, 5);
					     vm->read(0, 1005);
				     },
				     [&] { EXPECT_EQ(vm->region(0, 1000, 32, hva), Errc::ok); }},
				    [&] {
					    EXPECT_EQ(vm->mapped(0, 32), 0u);
					    agrees_with_host(1000);
				    }};
	});
}

STEPS(CreationAgainstMmio)
{
	run([&] {
		vm.reset();
		vm = std::make_unique<Vm>();
		hva = vm->vmm.map(32 * page_size);
		vm->vmm.touch(hva, 32 * page_size);
		return Stepper::Run{{[&] {
					     vm->read(0, 5);
					     vm->read(0, 5);
				     },
				     [&] {
					     EXPECT_EQ(vm->region(0, 0, 32, hva), Errc::ok);
					     EXPECT_EQ(vm->write(1, 5), FaultKind::fixed);
				     }},
				    [&] { EXPECT_EQ(vm->read(0, 5), FaultKind::fixed) << "MMIO is forgotten"; }};
	}, 3);
}

STEPS(LogReaderAgainstWriters)
{
	std::map<u64, u8> copy;
	run([&] {
		begin(32, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES);
		EXPECT_EQ(vm->write(0, 5, 1), FaultKind::fixed);
		EXPECT_EQ(vm->read(1, 6), FaultKind::fixed);
		copy.clear();
		return Stepper::Run{{[&] {
					     vm->write(0, 5, 2);
					     vm->write(0, 6, 3);
				     },
				     [&] {
					     vm->dirty(0, 32);
					     for (u64 g = 0; g < 32; ++g)
						     copy[g] = *vm->vmm.contents(vm->vmm.pfn_at(at(g)));
				     }},
				    [&] { nothing_unlogged(copy); }};
	}, 3);
}

STEPS(LogReaderAgainstFirstFault)
{
	std::map<u64, u8> copy;
	run([&] {
		begin(32, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES);
		copy.clear();
		return Stepper::Run{{[&] { vm->write(0, 5, 2); },
				     [&] {
					     vm->dirty(0, 32);
					     vm->dirty(0, 32);
					     for (u64 g = 0; g < 32; ++g)
						     copy[g] = *vm->vmm.contents(vm->vmm.pfn_at(at(g)));
				     }},
				    [&] { nothing_unlogged(copy); }};
	}, 3);
}

STEPS(LogReaderAgainstEmulatedWrites)
{
	std::map<u64, u8> copy;
	run([&] {
		begin(32, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES);
		copy.clear();
		return Stepper::Run{{[&] {
					     u8 b = 9;
					     EXPECT_EQ(vm->mem->write(*vm->cpus[0], Gpa{0x5000}, &b, 1), Errc::ok);
				     },
				     [&] {
					     vm->dirty(0, 32);
					     for (u64 g = 0; g < 32; ++g)
						     copy[g] = *vm->vmm.contents(vm->vmm.pfn_at(at(g)));
				     }},
				    [&] { nothing_unlogged(copy); }};
	}, 3);
}

/* Logging begins while the guest writes, by every way there is to write. When the ioctl has returned, the
 * VMM copies everything, and from then on the log tells what changed. */
STEPS(LoggingBeginsAgainstWriters)
{
	std::map<u64, u8> copy;
	for (auto backing : {VmmMemory::Backing::small, VmmMemory::Backing::large})
		run([&] {
			begin(backing == VmmMemory::Backing::small ? 32 : block, backing);
			EXPECT_EQ(vm->write(0, 5, 1), FaultKind::fixed);
			copy.clear();
			return Stepper::Run{{[&] {
						     u8 b = 9;
						     vm->write(0, 5, 2);
						     EXPECT_EQ(vm->mem->write(*vm->cpus[0], Gpa{0x7000}, &b, 1), Errc::ok);
						     vm->write(0, 6, 3);
					     },
					     [&] {
						     EXPECT_EQ(vm->region(0, 0, pages, hva, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
						     for (u64 g = 0; g < 32; ++g)
							     copy[g] = *vm->vmm.contents(vm->vmm.pfn_at(at(g)));
					     }},
					    [&] { nothing_unlogged(copy); }};
		}, backing == VmmMemory::Backing::small ? 3 : 2);
}

STEPS(FastFaultsAgainstLoggingBeginningAgain)
{
	/* Pages are read-only from an earlier log, so writes are fast; a log appears in between. */
	std::map<u64, u8> copy;
	run([&] {
		begin(32, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES);
		EXPECT_EQ(vm->read(0, 5), FaultKind::fixed);
		EXPECT_EQ(vm->region(0, 0, pages, hva, 0), Errc::ok);
		EXPECT_FALSE(vm->writes_unnoticed(5));
		copy.clear();
		return Stepper::Run{{[&] {
					     vm->write(0, 5, 2);
					     vm->write(0, 6, 3);
				     },
				     [&] {
					     EXPECT_EQ(vm->region(0, 0, pages, hva, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
					     for (u64 g = 0; g < 32; ++g)
						     copy[g] = *vm->vmm.contents(vm->vmm.pfn_at(at(g)));
				     }},
				    [&] { nothing_unlogged(copy); }};
	}, 3);
}

STEPS(LoggingEndsAgainstWritersAndTheHost)
{
	run([&] {
		begin(block, VmmMemory::Backing::large, KVM_MEM_LOG_DIRTY_PAGES);
		EXPECT_EQ(vm->write(0, 5), FaultKind::fixed);
		return Stepper::Run{{[&] {
					     EXPECT_EQ(vm->write(0, 5, 4), FaultKind::fixed);
					     EXPECT_EQ(vm->write(0, 40, 5), FaultKind::fixed);
				     },
				     [&] { EXPECT_EQ(vm->region(0, 0, pages, hva, 0), Errc::ok); },
				     [&] { vm->vmm.migrate(at(40), page_size); }},
				    [&] {
					    agrees_with_host();
					    u8 b = 0;
					    EXPECT_EQ(vm->access(1, 40, 0, &b), FaultKind::fixed);
					    EXPECT_EQ(b, 5);
				    }};
	}, 1);
}

STEPS(TablesAreFreedOnlyWhenNobodyWalksThem)
{
	/* The sanitizer is the judge: a fast fault and ageing walk while the table is cut off and freed. */
	run([&] {
		begin(block, VmmMemory::Backing::small, KVM_MEM_LOG_DIRTY_PAGES);
		EXPECT_EQ(vm->read(0, 5), FaultKind::fixed);
		return Stepper::Run{{[&] {
					     vm->mem->fast_fault(*vm->cpus[0], Gpa{0x5000}, pfec::write | pfec::present);
					     vm->mem->fast_fault(*vm->cpus[0], Gpa{0x6000}, pfec::write | pfec::present);
				     },
				     [&] {
					     vm->vmm.discard(hva, block * page_size);
					     hosted::run_deferred();
				     },
				     [&] { vm->mem->notifier_age(Hva{hva}, Hva{at(20)}, Ageing::clear); }},
				    [&] { EXPECT_EQ(vm->mapped(0, block), 0u); }};
	});
}

STEPS(PromotionAgainstFaultsInTheSmallTable)
{
	run([&] {
		begin(block, VmmMemory::Backing::large);
		vm->mem->notifier_start(Hva{at(300)}, Hva{at(301)});
		EXPECT_EQ(vm->write(0, 5), FaultKind::fixed);
		vm->mem->notifier_end(Hva{at(300)}, Hva{at(301)});
		EXPECT_EQ(vm->spot(5).level, Level::page);
		return Stepper::Run{{[&] { EXPECT_EQ(vm->write(0, 200, 1), FaultKind::fixed); },
				     [&] { EXPECT_EQ(vm->write(1, 6, 2), FaultKind::fixed); },
				     [&] { hosted::run_deferred(); }},
				    [&] {
					    agrees_with_host();
					    EXPECT_EQ(vm->spot(5).level, Level::large);
				    }};
	});
}

/* Where to age is to unmap: the host may take the page for old, or move it, as soon as it is told. */
STEPS_ON(EveryProcessor, AgeingAgainstAWriterAndTheHost)
{
	run([&] {
		begin(32);
		EXPECT_EQ(vm->write(0, 5, 1), FaultKind::fixed);
		return Stepper::Run{{[&] {
					     EXPECT_EQ(vm->write(0, 5, 2), FaultKind::fixed);
					     EXPECT_EQ(vm->write(0, 6, 3), FaultKind::fixed);
				     },
				     [&] { vm->mem->notifier_age(Hva{hva}, Hva{at(32)}, Ageing::clear); },
				     [&] { vm->vmm.migrate(at(5), page_size); }},
				    [&] {
					    agrees_with_host();
					    for (u64 g : {5, 6}) {
						    u8 b = 0;
						    EXPECT_EQ(vm->access(1, g, 0, &b), FaultKind::fixed);
						    EXPECT_EQ(b, g - 3);
					    }
				    }};
	});
}

STEPS(RootsAreBuiltOnce)
{
	run([&] {
		begin(16);
		return Stepper::Run{{[&] { EXPECT_TRUE(vm->mem->load_root(*vm->cpus[0], {.smm = true}).ok()); },
				     [&] { EXPECT_TRUE(vm->mem->load_root(*vm->cpus[1], {.smm = true}).ok()); }},
				    [&] {
					    EXPECT_EQ(vm->cpus[0]->root, vm->cpus[1]->root);
					    EXPECT_EQ(vm->mem->stats().roots_built.relaxed(), 2u);
				    }};
	});
}
