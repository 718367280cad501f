/* SPDX-License-Identifier: GPL-2.0-only */
/* The life of a VM and the ioctls of its file. */
#pragma once
#include "arch/x86/vm/usercopy.hpp"
#include "arch/x86/vm/vcpu.hpp"
#include "arch/x86/vm/vm.hpp"
#include "arch/x86/vm/vm_stats.hpp"

namespace kx {

template <Vendor V> Result<int> Vm<V>::create(unsigned long type)
{
	if (type)
		return Errc::inval;
	auto made = KX_TRY(make<Vm>());
	KX_CHECK(made->init());
	Vm *vm = made.release(); /* from here on close() is what unmakes it */
	const int fd = kx_fd_vm(vm);
	if (fd < 0) {
		vm->close();
		return Errc(-fd);
	}
	return fd;
}

template <Vendor V> Errc Vm<V>::init()
{
	KX_CHECK(VmBase::init());
	KX_CHECK(memory.init());
	kx_work_init(work_.os, destroy);
	work_.vm = this;
	switch (-kx_notifier_register(notifier_, this)) {
	case 0: return Errc::ok;
	case int(Errc::intr): return Errc::intr;
	default: return Errc::nomem;
	}
}

/* In the background: nobody has a file of this VM any more. First the address space lets go, so that no
 * callback runs; then the vCPUs; then the tables, which may take their time; the object goes last. */
template <Vendor V> void Vm<V>::destroy(void *work)
{
	Vm *vm = static_cast<Work *>(work)->vm; /* os is its first member */
	kx_notifier_unregister(vm->notifier_);
	for (VcpuBase *b = vm->first_vcpu(); b;) {
		Owned<Vcpu<V>> v{static_cast<Vcpu<V> *>(b)};
		b = b->next;
	}
	vm->memory.teardown([](void *p) { Owned<Vm>{static_cast<Vm *>(p)}.reset(); }, vm);
}

template <Vendor V> Result<int> Vm<V>::create_vcpu(unsigned long n)
{
	if (n >= max_vcpu_id)
		return Errc::inval;
	auto made = KX_TRY(make<Vcpu<V>>(*this, u32(n)));
	KX_CHECK(made->init());
	Guard g{lock};
	if (vcpus == max_vcpus)
		return Errc::inval;
	for (const VcpuBase *v = first_vcpu(); v; v = v->next)
		if (v->id == n)
			return Errc::exist;
	void *file;
	const int fd = kx_fd_vcpu_prepare(made.get(), u32(n), &file);
	if (fd < 0)
		return Errc(-fd);
	made->start_tsc();
	get_file();
	append(*made.release());
	++vcpus;
	kx_fd_publish(fd, file); /* last: another thread may use it, or close it, at once */
	return fd;
}

template <Vendor V> Result<int> Vm<V>::stats_fd()
{
	get_file();
	const int fd = kx_fd_vm_stats(this);
	if (fd >= 0)
		return fd;
	put_file(); /* not the last: this is an ioctl of another */
	return Errc(-fd);
}

template <Vendor V> Result<int> Vm<V>::stats_fd_of(unsigned long id)
{
	if (id == KVMXX_STATS_OF_VM)
		return stats_fd();
	for (VcpuBase *v = first_vcpu(); v; v = v->next)
		if (v->id == id)
			return static_cast<Vcpu<V> *>(v)->stats_fd();
	return Errc::noent;
}

template <Vendor V> long Vm<V>::read_stats(u64 to, size_t n, u64 pos) const
{
	return as_long(kx::read_stats(StatsId{creator}, vm_stat::descs, vm_stat::table, memory.stats(), to, n, pos));
}

template <Vendor V> Errc Vm<V>::set_region(unsigned long arg)
{
	/* One space: its number in the upper half of the slot is refused with the rest. */
	KX_CHECK(memory.set_region(Space::normal, KX_TRY(from_user<kvm_userspace_memory_region>(arg))));
	Guard g{lock};
	if (!max_indirect_pages_set_) {
		const u64 n = memory.slot_pages() / 50;
		max_indirect_pages_ = n < min_indirect_pages ? min_indirect_pages : n;
	}
	return Errc::ok;
}

template <Vendor V> Errc Vm<V>::set_nr_mmu_pages(unsigned long n)
{
	if (n < min_indirect_pages)
		return Errc::inval;
	Guard g{lock};
	max_indirect_pages_ = n;
	max_indirect_pages_set_ = true;
	return Errc::ok;
}

template <Vendor V> long Vm<V>::get_nr_mmu_pages()
{
	Guard g{lock};
	return long(max_indirect_pages_);
}

template <Vendor V> Errc Vm<V>::get_dirty_log(unsigned long arg)
{
	auto log = KX_TRY(from_user<kvm_dirty_log>(arg));
	if (kx_in_compat()) /* the pointer is half the field, and the rest anything */
		log.padding2 = u32(log.padding2);
	return memory.get_dirty_log(Space::normal, log);
}

template <Vendor V> long Vm<V>::ioctl(unsigned cmd, unsigned long arg)
{
	if (cmd == KVMXX_GET_STATS_FD) /* by others too, and of a VM that has died */
		return as_long(stats_fd_of(arg));
	if (mm != kx_current_mm() || dead())
		return -long(Errc::io);
	switch (cmd) {
	case KVM_CHECK_EXTENSION:
		return check_extension(arg);
	case KVM_CREATE_VCPU:
		return as_long(create_vcpu(arg));
	case KVM_GET_STATS_FD:
		return as_long(stats_fd());
	case KVM_SET_USER_MEMORY_REGION:
		return -long(set_region(arg));
	case KVM_SET_NR_MMU_PAGES:
		return -long(set_nr_mmu_pages(arg));
	case KVM_GET_NR_MMU_PAGES:
		return get_nr_mmu_pages();
	case KVM_GET_DIRTY_LOG:
		return -long(get_dirty_log(arg));
	default:
		return -long(base_ioctl(cmd, arg));
	}
}

}
