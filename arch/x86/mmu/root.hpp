/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "role.hpp"
#include "direct.hpp"

namespace kx {

/* One set of tables and what it is valid for. Found by role, shared by every vCPU of that role. There is
 * one direct root an address space, and the VM itself holds it: it survives the vCPUs that come and go. */
template <TableFormat F, TableWords Words> struct Root {
	PageRole role;
	Direct<F, Words> tree;

	Root(const PageRole &r, const MmuCaps &caps, u64 *table) : role{r}, tree{caps, r.level, table} {}
};

}
