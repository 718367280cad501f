/* SPDX-License-Identifier: GPL-2.0-only */
/* VMX on the host's CPUs: switching it on and off, and what all VMCSs say about the host. */
#pragma once
#include "arch/x86/vmx/caps.hpp"
#include "arch/x86/vmx/split_lock.hpp"
#include "arch/x86/vmx/vmcs.hpp"

namespace kx::vmx {

class Host {
	Caps caps_;
	CapMsrs msrs_;
	HostCpu *cpus_ = nullptr;
	unsigned nr_ = 0;
	u8 ept_levels_ = 4;
	int flush_ = 0; /* KX_VMX_FLUSH_* */
	bool flushes_runs_ = false; /* of entries, before the first one alone */
	bool perf_ = false;
	SplitLocks split_locks_ = SplitLocks::unseen;
	bool switches_tsx_ = false;
	u64 tsx_ctrl_ = 0;

	/* Of the host's state: what is the same on every CPU. */
	struct Common {
		u64 cr0, pat, efer, idtr_base, sysenter_eip;
		u32 sysenter_cs;
		u16 tr;
	} common_{};

public:
	/* Sleeps. nodev: no VMX, or not all of it that we need; perm: the firmware locked it off; busy:
	 * somebody else has it on. */
	Errc init();
	void destroy();
	/* On that CPU, interrupts off. busy: somebody else has VMX on; inval: not like the others. */
	Errc online(unsigned cpu);
	void offline(unsigned cpu);
	void emergency();

	const Caps &caps() const { return caps_; }
	const Common &common() const { return common_; }
	u64 ept_levels() const { return ept_levels_; }
	HostCpu &cpu(unsigned n) { return cpus_[n]; }
	/* Caches and buffers want a flush before a guest runs after the host, or before each entry: kx_vmx_flush. */
	bool flushes() const { return flushes_runs_; }
	bool flushes_always() const { return flush_ & KX_VMX_FLUSH_ALWAYS; }
	bool flushes_l1d() const { return flush_ & KX_VMX_FLUSH_L1D; }
	/* Performance events may have to be switched: kx_perf_msrs. */
	bool switches_perf() const { return perf_; }
	SplitLocks split_locks() const { return split_locks_; }
	/* Transactions work, and IA32_TSX_CTRL, which the host has at that value, can switch them off. */
	bool switches_tsx() const { return switches_tsx_; }
	u64 tsx_ctrl() const { return tsx_ctrl_; }
};

extern constinit Host host;

}
