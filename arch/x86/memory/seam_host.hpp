/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/mmu/fault.hpp"
#include "cxxrt/seam.h"

namespace kx {

/* The pages of the VMM's address space, as the seam offers them. */
struct SeamHost {
	u64 present(Hva a, unsigned n, u64 *pfns, u64 *writable, unsigned *order)
	{
		return kx_host_present(a.raw(), n, pfns, writable, order);
	}
	Result<HostPage> pin(Hva a, Access want)
	{
		kx_host_page p{};
		if (const int e = kx_page_pin(a.raw(), allows(want, Access::write), &p))
			return Errc(-e);
		return HostPage{Pfn{p.pfn}, p.writable != 0, p.pinned != 0, p.ram ? MemType::ram : MemType::device};
	}
	void unpin(const HostPage &p, Used u)
	{
		if (p.pinned)
			kx_page_unpin(p.pfn.raw(), u == Used::written, u != Used::no);
	}
};
static_assert(HostPages<SeamHost>);

}
