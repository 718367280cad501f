/* SPDX-License-Identifier: GPL-2.0-only */
/* SVM on the host's CPUs: switching it on and off, and what each CPU keeps for its guests. */
#pragma once
#include "arch/x86/cpu/tag_pool.hpp"
#include "arch/x86/svm/caps.hpp"
#include "arch/x86/svm/vmcb.hpp"
#include "cxxrt/alloc.hpp"

namespace kx::svm {

struct alignas(64) HostCpu {
	Page<u8> hsave;	   /* VM_HSAVE_PA: the CPU's own, not to be touched */
	Page<Vmcb> host;   /* VMSAVE image of the host: FS, GS, TR, LDTR and the syscall MSRs */
	u64 host_pa = 0;
	u64 last_guest = 0; /* Cpu::serial of the guest that ran here last */
	TagPool tags;
	bool on = false;
};

/* An address as the CPU takes it from VMCBs and MSRs: where the host encrypts its memory, ours is too. */
inline u64 encrypted(Hpa p) { return p.raw() | kx_sme_mask(); }

class Host {
	Caps caps_;
	HostCpu *cpus_ = nullptr;
	unsigned nr_ = 0;
	void *iopm_ = nullptr;	/* 12 KiB, all ones: every port exits */

public:
	/* Sleeps. nodev: no SVM with nested paging; perm: the firmware switched it off. */
	Errc init();
	void destroy();
	/* On that CPU, interrupts off. busy: somebody else has SVM on. */
	Errc online(unsigned cpu);
	void offline(unsigned cpu);
	static void emergency();

	const Caps &caps() const { return caps_; }
	HostCpu &cpu(unsigned n) { return cpus_[n]; }
	u64 iopm() const { return encrypted(phys_of(iopm_)); }
};

extern constinit Host host;

}
