/* SPDX-License-Identifier: GPL-2.0-only */
/* A virtual machine, but for its memory: vCPUs, clock, TSC, devices, and how all of its vCPUs are reached. */
#pragma once
#include <linux/kvm.h>
#include "arch/x86/cpu/clock.hpp"
#include "arch/x86/cpu/tsc.hpp"
#include "arch/x86/vm/device_bus.hpp"
#include "arch/x86/vm/system.hpp"
#include "arch/x86/vm/vcpu_base.hpp"
#include "cxxrt/rcu.hpp"

namespace kx {

class VmBase {
	Atomic<u32> files_{1};	/* the VM's file and its vCPUs' files */
	Atomic<u8> dead_;
	VcpuBase *first_ = nullptr;

public:
	Mutex lock{KX_LOCK_VM};
	const void *const mm = kx_current_mm();
	const u32 creator = kx_current_pid();
	u32 vcpus = 0; /* by lock */
	VmTsc tsc;     /* by clock_lock */
	VmClock clock{instant().boot_ns}; /* by clock_lock */
	SpinLock clock_lock{KX_LOCK_RING};
	DeviceBus devices; /* changed by lock */
	u64 tss_addr = 0, identity_map_addr = 0;

	Errc init() { return devices.init(); }

	/* A broken invariant: this VM runs no more, the host goes on. The other vCPUs leave the guest for it. Any
	 * context. */
	void die(const char *why, u64 a, u64 b)
	{
		if (dead_.exchange(1))
			return;
		kx_log(3, why, a, b);
		for (VcpuBase *v = first_vcpu(); v; v = v->next)
			v->ask(request::leave);
	}
	bool dead() const { return dead_.relaxed(); }

	void get_file() { files_.add(1); }
	/* True for the last one. */
	bool put_file() { return files_.sub(1) == 0; }

	/* Newest first; safe against a concurrent append without any lock. */
	VcpuBase *first_vcpu() const { return __atomic_load_n(&first_, __ATOMIC_ACQUIRE); }
	/* By lock. The vCPU is complete. */
	void append(VcpuBase &v)
	{
		v.next = first_;
		__atomic_store_n(&first_, &v, __ATOMIC_RELEASE);
	}

	/* Every vCPU has dropped its translations, or will before its next guest instruction, when this
	 * returns. Interrupts on. */
	void flush_all_vcpus()
	{
		if (!first_vcpu())
			return;
		kx_kick_begin();
		for (VcpuBase *v = first_vcpu(); v; v = v->next) {
			v->requests.or_with(request::flush_all);
			if (v->mode.relaxed() == CpuMode::in_guest)
				kx_kick_add(v->cpu.relaxed());
		}
		kx_kick_end();
	}

	/* Every vCPU has left the guest at least once, and said what it had logged, when this returns. Who was
	 * in it has left by the time the kick is answered; who still drains is not interrupted by other threads
	 * of its CPU. Interrupts on. */
	void drain_all_vcpus()
	{
		kx_kick_begin();
		for (VcpuBase *v = first_vcpu(); v; v = v->next)
			if (v->mode.acquire() == CpuMode::in_guest)
				kx_kick_add(v->cpu.relaxed());
		kx_kick_end();
		for (VcpuBase *v = first_vcpu(); v; v = v->next)
			while (v->mode.acquire() == CpuMode::draining)
				kx_cond_resched();
	}

	/* The ioctls that concern nothing of a vendor; notty for the rest. */
	Errc base_ioctl(unsigned cmd, unsigned long arg);

private:
	static kx_instant instant()
	{
		kx_instant now;
		kx_now(&now);
		return now;
	}
	ClockNow clock_now() const;
	Errc get_clock(unsigned long arg);
	Errc set_clock(unsigned long arg);
};

/* Memory's view of the TLBs. */
struct VmTlb {
	VmBase *vm;
	void flush(GfnRange) { vm->flush_all_vcpus(); }
	void drain_logs() { vm->drain_all_vcpus(); }
};

}
