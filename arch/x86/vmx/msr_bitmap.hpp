/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/alloc.hpp"

namespace kx::vmx {

enum class MsrAccess : u8 { intercept, pass };

/* A page of four bitmaps: reads of MSRs 0-1FFF and C0000000-C0001FFF, then writes. Set means exit; MSRs
 * outside always do. SDM vol. 3 §25.6.9 */
class MsrBitmap {
	Page<u8> page_;

public:
	static constexpr u32 none = ~0u, writes = 0x800 * 8;
	/* Bit number of the read bit. */
	static constexpr u32 bit_of(u32 msr)
	{
		if (msr < 0x2000)
			return msr;
		if (msr - 0xc0000000 < 0x2000)
			return 0x400 * 8 + (msr - 0xc0000000);
		return none;
	}
	/* Everything exits. Sleeps. */
	Errc init()
	{
		page_ = KX_TRY(Page<u8>::make());
		__builtin_memset(page_.get(), 0xff, page_size);
		return Errc::ok;
	}
	void set(u32 msr, MsrAccess read, MsrAccess write)
	{
		const u32 b = bit_of(msr);
		if (b == none)
			return;
		put(b, read);
		put(b + writes, write);
	}
	u64 pa() const { return phys_of(page_.get()).raw(); }

private:
	void put(u32 b, MsrAccess a)
	{
		u8 &byte = page_.get()[b / 8];
		byte = u8(a == MsrAccess::pass ? byte & ~(1u << b % 8) : byte | 1u << b % 8);
	}
};
static_assert(MsrBitmap::bit_of(0xc0000080) == 0x400 * 8 + 0x80 && MsrBitmap::bit_of(0x40000000) == MsrBitmap::none);

}
