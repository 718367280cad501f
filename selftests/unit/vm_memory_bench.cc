/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How many instructions the MMU's hot paths take: run under callgrind by count.sh, which counts what is
 * executed below each function named bench_*, without the seam (locks, the host's page look-up). The
 * number in a name's line is divided by what the function says it did.
 */
#include <cstdio>
#include "vm_guest.hpp"

using namespace kx;
using namespace kx::test;

namespace {

constexpr u64 n = 512;
template <class F> struct Vm : TestVm<F, PlainWords> {
	using Format = F;
	u64 hva = 0;
};

void report(const char *name, u64 per) { std::printf("%s %llu\n", name, static_cast<unsigned long long>(per)); }

template <class F> struct Ready : Vm<F> {
	Ready(u64 pages, u32 flags = 0)
	{
		this->hva = this->vmm.map(pages << page_shift);
		this->vmm.touch(this->hva, pages << page_shift);
		(void)this->region(0, 0, pages, this->hva, flags);
		this->fault(0, 0); /* the tables stand */
		for (u64 g = 0; g < pages; g += n)
			this->fault(0, g);
	}
};

}

/* A measured function, which returns how often it did it: bench_* with NPT, bench_ept_* with EPT. */
#define BENCH(name)                                                                                      \
	template <class V> [[gnu::always_inline]] static inline u64 name(V &vm);                         \
	[[gnu::noinline]] static void bench_##name(Vm<LongMode> &vm) { report(__func__, name(vm)); }     \
	[[gnu::noinline]] static void bench_ept_##name(Vm<Ept> &vm) { report(__func__, name(vm)); }      \
	static void measure_##name(Vm<LongMode> &vm) { bench_##name(vm); }                               \
	static void measure_##name(Vm<Ept> &vm) { bench_ept_##name(vm); }                                \
	template <class V> static u64 name(V &vm)

/* Each page alone: around it the host has nothing. */
BENCH(fault_4k)
{
	for (u64 g = 16; g < n; g += 16)
		vm.fault(0, g, pfec::write);
	return n / 16 - 1;
}
/* With fifteen neighbours. */
BENCH(fault_4k_around)
{
	for (u64 g = 16; g < n; g += 16)
		vm.fault(0, g + 5, pfec::write);
	return n / 16 - 1;
}
BENCH(fault_spurious)
{
	for (u64 g = 0; g < n; ++g)
		vm.fault(0, g, pfec::write | pfec::present);
	return n;
}
/* The first in a block: a leaf table is made. */
BENCH(fault_new_table)
{
	for (u64 g = 0; g < 32 * n; g += n)
		vm.fault(0, g + 5, pfec::write);
	return 32;
}
BENCH(fast_fault_dirty)
{
	for (u64 g = 0; g < n; ++g)
		vm.mem->fast_fault(*vm.cpus[0], Gpa{g << page_shift}, pfec::write | pfec::present);
	return n;
}
BENCH(dirty_log_page)
{
	std::vector<u64> bits(n / 64);
	kvm_dirty_log log{};
	log.dirty_bitmap = bits.data();
	(void)vm.mem->get_dirty_log(Space::normal, log);
	return n;
}
BENCH(mmio_remembered)
{
	for (u64 g = 0; g < n; ++g)
		vm.fault(0, (1 << 20) + g, V::Format::mmio_fault);
	return n;
}
/* An invalidation of one page. */
BENCH(zap_page)
{
	for (u64 g = 0; g < n; ++g) {
		vm.mem->notifier_start(Hva{vm.hva + (g << page_shift)}, Hva{vm.hva + ((g + 1) << page_shift)});
		vm.mem->notifier_end(Hva{vm.hva + (g << page_shift)}, Hva{vm.hva + ((g + 1) << page_shift)});
	}
	return n;
}
/* A whole VM of 8 GiB, cut off. */
BENCH(zap_8g)
{
	(void)vm.remove(0);
	return 1;
}
BENCH(guest_read)
{
	u64 v;
	for (u64 g = 0; g < n; ++g)
		(void)vm.mem->read(*vm.cpus[0], Gpa{g << page_shift}, &v, 8);
	return n;
}

template <class F> static void measure()
{
	{
		Vm<F> vm;
		const u64 hva = vm.vmm.map(n << page_shift);
		for (u64 g = 0; g < n; g += 16)
			vm.vmm.touch(hva + (g << page_shift), page_size);
		(void)vm.region(0, 0, n, hva);
		vm.fault(0, 0);
		measure_fault_4k(vm);
	}
	{
		Ready<F> vm{n};
		measure_fault_4k_around(vm);
		measure_fault_spurious(vm);
		measure_guest_read(vm);
		measure_zap_page(vm);
	}
	{
		Vm<F> vm;
		const u64 hva = vm.vmm.map(32 * n << page_shift);
		vm.vmm.touch(hva, 32 * n << page_shift);
		(void)vm.region(0, 0, 32 * n, hva);
		vm.fault(0, 0);
		vm.mem->notifier_start(Hva{hva}, Hva{vm.hva + (32 * n << page_shift)});
		vm.mem->notifier_end(Hva{hva}, Hva{hva});
		measure_fault_new_table(vm);
	}
	{
		Ready<F> vm{n, KVM_MEM_LOG_DIRTY_PAGES};
		for (u64 g = 0; g < n; g += 16)
			vm.fault(0, g);
		measure_fast_fault_dirty(vm);
		measure_dirty_log_page(vm);
		vm.fault(0, 1 << 20);
		measure_mmio_remembered(vm);
	}
	{
		Vm<F> vm;
		const u64 hva = vm.vmm.map(2048 * n << page_shift, VmmMemory::Backing::large);
		(void)vm.region(0, 0, 2048 * n, hva);
		for (u64 g = 0; g < 2048 * n; g += 64 * n)
			vm.write(0, g);
		measure_zap_8g(vm);
	}
}

int main()
{
	measure<LongMode>();
	measure<Ept>();
}
