/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/tsc.hpp"

namespace kx {

namespace {

constexpr u64 tolerance_ppm = 250; /* half of what NTP corrects */

}

bool within_tolerance(u32 khz, u32 host_khz)
{
	const u64 million = 1000000;
	return khz >= host_khz * (million - tolerance_ppm) / million &&
	       khz <= host_khz * (million + tolerance_ppm) / million;
}

void VcpuTsc::guest_write(u64 value, u64 host_tsc)
{
	const u64 moved = value - host_tsc - offset_;
	offset_ += moved;
	adjust_ += moved;
}

void VcpuTsc::guest_adjust(u64 value)
{
	offset_ += value - adjust_;
	adjust_ = value;
}

Errc VcpuTsc::set_khz(u32 khz, u32 host_khz)
{
	if (khz == 0)
		khz = host_khz;
	/* host_khz is 0 where the kernel could not calibrate its TSC. */
	if (khz == 0 || !within_tolerance(khz, host_khz))
		return Errc::inval;
	khz_ = khz;
	return Errc::ok;
}

void VmTsc::host_write(VcpuTsc &vcpu, u64 value, const TscNow &now)
{
	const u64 elapsed = now.ns - last_ns_;
	cur_offset_ += now.lost - lost_;
	lost_ = vcpu.lost_ = now.lost;
	bool together = false;
	if (vcpu.khz_ && vcpu.khz_ == last_khz_) {
		/* Zero is a vCPU that starts; else: within one second of where the clock would be
		 * by now. */
		const u64 second = u64{vcpu.khz_} * 1000;
		const u64 expected = last_write_ + cycles_in(elapsed, vcpu.khz_);
		together = value == 0 || (value < expected + second && value + second > expected);
	}

	u64 offset = value - now.host_tsc;
	if (together) {
		if (now.stable) {
			offset = cur_offset_;
		} else {
			/* Offsets mean nothing between CPUs that tick apart: let the elapsed time
			 * stand in. */
			value += cycles_in(elapsed, vcpu.khz_);
			offset = value - now.host_tsc;
		}
	}

	last_ns_ = now.ns;
	last_write_ = value;
	last_khz_ = vcpu.khz_;
	vcpu.offset_ = offset;

	/* Writes that belong together make up a generation; its first one sets the offset. */
	if (!together) {
		++generation_;
		cur_offset_ = offset;
		matched_ = 0;
	} else if (vcpu.generation_ != generation_) {
		++matched_;
	}
	vcpu.generation_ = generation_;
}

}
