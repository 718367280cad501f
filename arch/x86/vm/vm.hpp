/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/vendor.hpp"
#include "arch/x86/memory/memory.hpp"
#include "arch/x86/vm/vm_base.hpp"

namespace kx {

template <Vendor V> class Vcpu;

/*
 * The whole VM. It lives until its last file is closed and a work item has taken it out of the VMM's
 * address space; the caller of that close waits for nothing.
 */
template <Vendor V> class Vm : public VmBase {
	alignas(8) unsigned char notifier_[KX_SIZEOF_NOTIFIER];
	struct Work {
		alignas(8) unsigned char os[KX_SIZEOF_WORK];
		Vm *vm;
	};
	Work work_;

public:
	VmTlb tlb{this};
	Memory<typename V::TdpFormat, VmTlb> memory{tlb, sys->mmu};

	/* KVM_CREATE_VM: the file descriptor. Sleeps. */
	static Result<int> create(unsigned long type);
	/* nosys: not an ioctl of a VM. */
	long ioctl(unsigned cmd, unsigned long arg);
	/* From its file of statistics. Sleeps. */
	long read_stats(u64 to, size_t n, u64 pos) const;
	void close()
	{
		if (put_file())
			kx_work_queue(work_.os);
	}

private:
	Errc init();
	static void destroy(void *work);
	Result<int> create_vcpu(unsigned long id);
	Result<int> stats_fd();
	Result<int> stats_fd_of(unsigned long id);
	Errc set_region(unsigned long arg);
	Errc get_dirty_log(unsigned long arg);
	Errc set_nr_mmu_pages(unsigned long n);
	long get_nr_mmu_pages();

	/* How many pages of tables there may be that are made from a guest's own. So far there are none of these, and
	 * this is what the VMM said, or a fiftieth of the guest's memory. By lock. */
	static constexpr u64 min_indirect_pages = 64;
	u64 max_indirect_pages_ = 0;
	bool max_indirect_pages_set_ = false;
};

}
