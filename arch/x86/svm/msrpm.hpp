/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/alloc.hpp"

namespace kx::svm {

enum class MsrAccess : u8 { intercept, pass };

/* The MSR permission map: 8 KiB, two bits an MSR (read, write), set means exit. Three ranges of 8192
 * MSRs each; MSRs outside them always exit. APM vol. 2 §15.11 */
class MsrPm {
	u8 *map_ = nullptr;

public:
	MsrPm() = default;
	MsrPm(const MsrPm &) = delete;
	~MsrPm()
	{
		if (map_)
			kx_pages_free(map_, 1);
	}
	/* Everything exits. Sleeps. */
	Errc init()
	{
		map_ = static_cast<u8 *>(kx_pages_alloc(1));
		if (!map_)
			return Errc::nomem;
		__builtin_memset(map_, 0xff, 2 * page_size);
		return Errc::ok;
	}
	/* Bit number of the read bit, or none for an MSR without one. */
	static constexpr u32 none = ~0u;
	static constexpr u32 bit_of(u32 msr)
	{
		constexpr u32 base[] = {0, 0xc0000000, 0xc0010000};
		for (u32 r = 0; r < 3; ++r)
			if (msr - base[r] < 0x2000)
				return r * 0x4000 + (msr - base[r]) * 2;
		return none;
	}
	void set(u32 msr, MsrAccess read, MsrAccess write)
	{
		const u32 b = bit_of(msr);
		if (b == none)
			return;
		const u8 both = u8(3 << (b % 8));
		const u8 want = u8(((read == MsrAccess::intercept) | (write == MsrAccess::intercept) << 1) << (b % 8));
		map_[b / 8] = u8((map_[b / 8] & ~both) | want);
	}
	Hpa pa() const { return phys_of(map_); }
};
static_assert(MsrPm::bit_of(0) == 0 && MsrPm::bit_of(0xc0000080) == 0x4100 && MsrPm::bit_of(0xc0010000) == 0x8000);
static_assert(MsrPm::bit_of(0x2000) == MsrPm::none && MsrPm::bit_of(0x40000000) == MsrPm::none);

}
