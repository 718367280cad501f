/* SPDX-License-Identifier: GPL-2.0-only */
/* The part of a vCPU that others reach: requests, kicks, its place in the VM's list. */
#pragma once
#include "cxxrt/atomic.hpp"
#include "cxxrt/lock.hpp"

namespace kx {

/* Set by anybody, taken by the vCPU's own thread before it enters the guest. */
namespace request {
inline constexpr u32 flush_all = 1, /* by whatever root this vCPU will walk */
		     flush_current = 2, /* by the one it walks now */
		     leave = 4,		/* to look again */
		     load_root = 8;	/* the role asks for another one */
}

enum class CpuMode : u8 {
	new_born, /* outside, and the guest has never run */
	outside,
	in_guest,
	draining, /* it has left the guest, and has still to say what its processor logged */
};

class VcpuBase {
public:
	/* One cache line for what other CPUs write and the entry path reads. */
	alignas(64) Atomic<u32> requests;
	Atomic<CpuMode> mode{CpuMode::new_born};
	Atomic<u32> cpu{0}; /* where it runs while in_guest */

	VcpuBase *next = nullptr; /* the VM's list only grows until the VM goes */
	const u32 id;
	Mutex mutex{KX_LOCK_VCPU};

	explicit VcpuBase(u32 n) : id{n} {}

	/*
	 * The request is seen before the guest runs its next instruction that comes after this call's
	 * effect: either the vCPU has not looked at the word yet, or it is in guest mode and gets an
	 * interrupt. The locked OR orders our write before the read of mode; entry does the converse.
	 */
	void ask(u32 what)
	{
		requests.or_with(what);
		if (mode.relaxed() == CpuMode::in_guest)
			kx_kick_cpu(cpu.relaxed());
	}
};

}
