/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "access.hpp"
#include "cxxrt/result.hpp"
#include "format.hpp"

namespace kx {

/* A page the host was asked for, to be released once it is mapped or given up. */
struct HostPage {
	Pfn pfn{0};
	bool writable = false, pinned = false;
	MemType type = MemType::ram;
};

/* What became of it. `written`: an entry made from it is writable, or a fast fault may make it so. */
enum class Used : u8 { no, read, written };

template <class H>
concept HostPages = requires(H &h, Hva a, unsigned n, u64 *pfns, u64 *writable, unsigned *order, Access want,
			     const HostPage &p, Used u) {
	{ h.present(a, n, pfns, writable, order) } -> std::same_as<u64>; /* of the host's own tables */
	{ h.pin(a, want) } -> std::same_as<Result<HostPage>>;		  /* may sleep */
	h.unpin(p, u); /* under mmu_lock */
};

}
