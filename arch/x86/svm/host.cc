// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/svm/host.hpp"
#include "arch/x86/cpu/insn.hpp"
#include "arch/x86/cpu/regs.hpp"

namespace kx::svm {

constinit Host host;

Errc Host::init()
{
	caps_ = detect([](u32 leaf, u32 sub) { return insn::cpuid(leaf, sub); });
	if (!caps_.svm)
		return Errc::nodev;
	if (!caps_.npt) {
		kx_log(3, "this processor has no nested paging; shadow paging is not there yet", 0, 0);
		return Errc::nodev;
	}
	u64 vm_cr = 0;
	if (!kx_rdmsr_safe(hwmsr::vm_cr, &vm_cr) && (vm_cr & hwmsr::vm_cr_svmdis)) {
		kx_log(3, "SVM is switched off by the firmware (VM_CR)", vm_cr, 0);
		return Errc::perm;
	}
	caps_.nrips = caps_.nrips && kx_params.nrips;

	nr_ = kx_nr_cpus();
	cpus_ = static_cast<HostCpu *>(kx_vzalloc(nr_ * sizeof(HostCpu)));
	iopm_ = kx_pages_alloc(2); /* three pages and a byte may be read; four are simplest to get */
	bool ok = cpus_ && iopm_;
	for (unsigned i = 0; ok && i < nr_; ++i) {
		auto *c = ::new (&cpus_[i]) HostCpu{};
		auto hsave = Page<u8>::make_inside();
		auto image = Page<Vmcb>::make_inside();
		ok = hsave.ok() && image.ok();
		if (!ok)
			break;
		c->hsave = move(hsave).take();
		c->host = move(image).take();
		c->host_pa = encrypted(phys_of(c->host.get()));
		c->tags = TagPool{caps_.asids};
	}
	if (!ok) {
		destroy();
		return Errc::nomem;
	}
	__builtin_memset(iopm_, 0xff, 4 * page_size);
	return Errc::ok;
}

void Host::destroy()
{
	for (unsigned i = 0; cpus_ && i < nr_; ++i)
		cpus_[i].~HostCpu();
	kx_free(cpus_);
	if (iopm_)
		kx_pages_free(iopm_, 2);
	cpus_ = nullptr;
	iopm_ = nullptr;
}

Errc Host::online(unsigned n)
{
	HostCpu &c = cpus_[n];
	const u64 was = insn::rdmsr(hwmsr::efer);
	if (was & efer::svme) {
		kx_log(3, "another hypervisor has SVM on; unload it first (CPU)", n, 0);
		return Errc::busy;
	}
	u64 vm_cr = 0;
	if (!kx_rdmsr_safe(hwmsr::vm_cr, &vm_cr) && (vm_cr & hwmsr::vm_cr_svmdis))
		return Errc::perm;
	insn::wrmsr(hwmsr::efer, was | efer::svme);
	insn::wrmsr(hwmsr::vm_hsave_pa, encrypted(phys_of(c.hsave.get())));
	if (caps_.tsc_ratio)
		insn::wrmsr(hwmsr::tsc_ratio, hwmsr::tsc_ratio_one);
	kx_svm_host(1);
	c.tags.restart();
	c.last_guest = 0;
	c.on = true;
	return Errc::ok;
}

void Host::offline(unsigned n)
{
	HostCpu &c = cpus_[n];
	if (!c.on)
		return;
	c.on = false;
	kx_svm_host(0);
	insn::wrmsr(hwmsr::vm_hsave_pa, 0);
	insn::wrmsr(hwmsr::efer, insn::rdmsr(hwmsr::efer) & ~efer::svme);
}

/* NMI context: no memory of ours is touched. GIF must be set before SVME goes, or the machine that
 * comes next is deaf. */
void Host::emergency()
{
	const u64 was = insn::rdmsr(hwmsr::efer);
	if (!(was & efer::svme))
		return;
	insn::stgi();
	insn::wrmsr(hwmsr::efer, was & ~efer::svme);
}

}
