/* SPDX-License-Identifier: GPL-2.0-only */
/* Real threads under the thread sanitizer: guests, the host, ioctls and the background at once. */
#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include "vm_processors.hpp"

using namespace kx;
using namespace kx::test;

namespace {

constexpr u64 block = 512;

template <class P> class Threads : public testing::Test {
public:
	using Fixture = Threads;

protected:
	static constexpr unsigned guests = 3;
	using Vm = TestVm<typename P::Format, PlainWords>;
	std::unique_ptr<Vm> vm = std::make_unique<Vm>(on_processor<P>({.caps = {}, .cpus = guests}));
	std::atomic<bool> stop{false};
	std::vector<std::thread> threads;
	std::atomic<u64> work[8] = {};

	void start(unsigned what, std::function<void(std::mt19937_64 &)> body)
	{
		threads.emplace_back([this, what, body] {
			std::mt19937_64 random{what + 1};
			while (!stop) {
				body(random);
				++work[what];
			}
		});
	}
	void start_background()
	{
		threads.emplace_back([this] {
			while (!stop) {
				hosted::run_deferred();
				std::this_thread::yield();
			}
		});
	}
	void run(unsigned ms, std::initializer_list<unsigned> at_least_once)
	{
		std::this_thread::sleep_for(std::chrono::milliseconds(ms));
		stop = true;
		for (auto &t : threads)
			t.join();
		threads.clear();
		stop = false;
		for (unsigned w : at_least_once)
			EXPECT_GT(work[w].load(), 0u) << w;
	}
};

#define THREADS(name)                                                                                            \
	KX_TEST_ON(Threads, Threads, name, EveryProcessor, using Threads<P>::guests; using Threads<P>::vm;       \
		   using Threads<P>::stop; using Threads<P>::threads; using Threads<P>::work;                    \
		   using Threads<P>::start; using Threads<P>::start_background; using Threads<P>::run;)

}

THREADS(GuestsAgainstTheHost)
{
	constexpr u64 pages = 2 * block, lost = 8 * block; /* the second slot's memory comes and goes */
	const u64 kept = vm->vmm.map(pages << page_shift), gone = vm->vmm.map(pages << page_shift);
	ASSERT_EQ(vm->region(0, 0, pages, kept), Errc::ok);
	ASSERT_EQ(vm->region(1, lost, pages, gone), Errc::ok);
	static u8 value[guests][pages];
	std::memset(value, 0, sizeof(value));
	start_background();
	for (unsigned c = 0; c < guests; ++c)
		start(c, [this, c](std::mt19937_64 &random) {
			for (int i = 0; i < 50; ++i) {
				/* Each page has one writer: it knows what it must find. */
				const u64 g = random() % (pages / guests) * guests + c;
				if (g >= pages)
					continue;
				u8 b = 0;
				const FaultKind k = vm->access(c, g, 0, &b, 10000);
				if (k != FaultKind::fixed)
					ADD_FAILURE() << "no read: " << int(k) << ", error " << int(vm->cpus[c]->last_error);
				if (b != value[c][g])
					ADD_FAILURE() << "gfn " << g << " holds " << int(b) << ", not " << int(value[c][g]);
				if (vm->write(c, g, ++value[c][g]) != FaultKind::fixed)
					--value[c][g]; /* the host kept it busy */
				vm->write(c, lost + random() % pages);
			}
		});
	start(6, [&](std::mt19937_64 &random) {
		const u64 n = 1 + random() % 40, g = random() % (pages - n);
		vm->vmm.migrate(kept + (g << page_shift), n << page_shift);
		vm->vmm.discard(gone + (g << page_shift), n << page_shift);
		vm->vmm.write_back(gone + (random() % pages << page_shift), page_size);
		if (random() % 8 == 0)
			vm->vmm.collapse(gone);
	});
	start(7, [&](std::mt19937_64 &random) {
		const u64 n = 1 + random() % 40, g = random() % (pages - n);
		for (u64 area : {kept, gone}) {
			const Hva at{area + (g << page_shift)};
			vm->mem->notifier_age(at, at + (n << page_shift), random() % 2 ? Ageing::clear : Ageing::test);
		}
		std::this_thread::yield();
	});
	run(2500, {0, 1, 2, 6, 7});
	EXPECT_EQ(vm->mem->stats().broken.relaxed(), 0u);
	EXPECT_EQ(vm->vmm.pinned(), 0u);
}

THREADS(GuestsAgainstSlotChanges)
{
	constexpr u64 pages = block;
	const u64 a = vm->vmm.map(pages << page_shift, VmmMemory::Backing::large),
		  b = vm->vmm.map(pages << page_shift);
	ASSERT_EQ(vm->region(0, 0, pages, a), Errc::ok);
	start_background();
	for (unsigned c = 0; c < guests; ++c)
		start(c, [this, c](std::mt19937_64 &random) {
			for (int i = 0; i < 50; ++i) {
				vm->write(c, random() % pages);
				vm->read(c, block + random() % (2 * pages));
				u8 bytes[16] = {};
				(void)vm->mem->write(*vm->cpus[c], Gpa{random() % (3 * pages) << page_shift}, bytes, 16);
			}
		});
	start(5, [&](std::mt19937_64 &random) {
		const u64 at = block + (random() % 2) * 100;
		EXPECT_EQ(vm->region(1, at, pages, b, random() % 2), Errc::ok);
		EXPECT_EQ(vm->region(1, at + 50, pages, b, random() % 2), Errc::ok);
		EXPECT_EQ(vm->region(1, at + 50, pages, b, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
		vm->dirty(1, pages);
		EXPECT_EQ(vm->remove(1), Errc::ok);
		EXPECT_EQ(vm->mapped(at + 50, at + 50 + pages), 0u);
		EXPECT_EQ(vm->region(0, 0, pages, a, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
		EXPECT_EQ(vm->region(0, 0, pages, a, 0), Errc::ok);
	});
	start(6, [&](std::mt19937_64 &random) {
		vm->vmm.discard(b + (random() % pages << page_shift), page_size);
		vm->vmm.migrate(a + (random() % pages << page_shift), page_size);
	});
	run(2500, {0, 1, 2, 5, 6});
	EXPECT_EQ(vm->mem->stats().broken.relaxed(), 0u);
}

/* A migration: what is dirty is copied again and again while the guests write and the host moves pages.
 * When the guests stand still, one last round makes the copy equal. */
THREADS(ALiveMigrationCopiesEverything)
{
	constexpr u64 pages = 3 * block;
	const u64 hva = vm->vmm.map(pages << page_shift, VmmMemory::Backing::large);
	vm->vmm.touch(hva, pages << page_shift);
	ASSERT_EQ(vm->region(0, 0, pages, hva), Errc::ok);
	std::vector<u8> copy(pages);
	const auto copy_page = [&](u64 g) { EXPECT_EQ(kx_copy_from_user(&copy[g], hva + (g << page_shift), 1), 0); };
	start_background();
	for (unsigned c = 0; c < guests; ++c)
		start(c, [this, c](std::mt19937_64 &random) {
			for (int i = 0; i < 50; ++i) {
				const u64 g = random() % pages;
				if (random() % 4) {
					vm->write(c, g, u8(random()));
				} else {
					u8 byte = u8(random());
					EXPECT_EQ(vm->mem->write(*vm->cpus[c], Gpa{g << page_shift}, &byte, 1), Errc::ok);
				}
			}
		});
	start(6, [&](std::mt19937_64 &random) {
		vm->vmm.migrate(hva + (random() % (pages - 4) << page_shift), 4 * page_size);
		std::this_thread::yield();
	});
	threads.emplace_back([&] {
		EXPECT_EQ(vm->region(0, 0, pages, hva, KVM_MEM_LOG_DIRTY_PAGES), Errc::ok);
		for (u64 g = 0; g < pages; ++g)
			copy_page(g);
		while (!stop) {
			for (u64 g : vm->dirty(0, pages))
				copy_page(g);
			++work[5];
		}
	});
	run(2500, {0, 1, 2, 5, 6});
	for (u64 g : vm->dirty(0, pages))
		copy_page(g);
	for (u64 g = 0; g < pages; ++g)
		EXPECT_EQ(copy[g], *vm->vmm.byte(hva + (g << page_shift), false)) << g;
}
