/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest's TSC: the host's plus an offset. VMMs set the TSC of each vCPU with its own call, each
 * a little later than the last; KVM's answer, kept here, is to take writes that agree with the time
 * that passed as one act and give all of them the same offset.
 */
#pragma once
#include "cxxrt/addr.hpp"
#include "cxxrt/result.hpp"

namespace kx {

/* One moment on the host. */
struct TscNow {
	u64 host_tsc;
	u64 ns;	     /* boot time */
	bool stable; /* the TSC ticks alike on all CPUs */
	u64 lost = 0; /* kx_tsc_lost */
};

class VcpuTsc {
	friend class VmTsc;
	u64 offset_ = 0, adjust_ = 0;
	u64 generation_ = 0;
	u64 lost_ = 0; /* by the host up to when offset_ was right */
	u32 khz_ = 0;

public:
	explicit VcpuTsc(u32 host_khz) : khz_{host_khz} {}
	/* A host whose TSC went back when it resumed. */
	void make_up(u64 lost)
	{
		offset_ += lost - lost_;
		lost_ = lost;
	}
	u64 offset() const { return offset_; }
	u64 lost() const { return lost_; }
	u64 adjust() const { return adjust_; }
	u32 khz() const { return khz_; }
	u64 read(u64 host_tsc) const { return host_tsc + offset_; }

	/* WRMSR TSC by the guest moves TSC_ADJUST along. SDM vol. 3 §17.17.3 */
	void guest_write(u64 value, u64 host_tsc);
	/* WRMSR TSC_ADJUST by the guest moves the TSC along. */
	void guest_adjust(u64 value);
	/* KVM_SET_MSRS TSC_ADJUST moves nothing. */
	void host_adjust(u64 value) { adjust_ = value; }
	/* KVM_SET_TSC_KHZ, 0 meaning the host's rate. Without scaling hardware in use only what
	 * lies within 250 ppm of the host's rate works; inval otherwise. */
	Errc set_khz(u32 khz, u32 host_khz);
};

/* Of the VM. Calls are serialised by the caller. */
class VmTsc {
	u64 last_ns_ = 0, last_write_ = 0;
	u64 cur_offset_ = 0, generation_ = 0;
	u64 lost_ = 0; /* as VcpuTsc's, of cur_offset_ */
	u32 last_khz_ = 0;
	unsigned matched_ = 0; /* vCPUs, beyond the first, that share the generation */

public:
	/* KVM_SET_MSRS TSC, and 0 at vCPU creation. */
	void host_write(VcpuTsc &vcpu, u64 value, const TscNow &now);
	/* All vCPUs run with one offset. */
	bool all_match(unsigned vcpus) const { return matched_ + 1 == vcpus; }
};

/* Nanoseconds to cycles without a 128-bit division. */
constexpr u64 cycles_in(u64 ns, u32 khz)
{
	return ns / 1000000 * khz + ns % 1000000 * khz / 1000000;
}
bool within_tolerance(u32 khz, u32 host_khz);

}
