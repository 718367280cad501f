/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cursor.hpp"

namespace kx {

enum class Ageing : u8 { test, clear };

/* Was any page of the range accessed since this was last cleared? Under RCU alone: see Direct::age(). */
template <TableFormat F, TableWords Words>
bool age(const Direct<F, Words> &tree, GfnRange r, Ageing how, const RcuRead &rcu)
{
	bool young = false;
	for (Cursor<F, Words> c{tree, r}; !c.done(); c.next()) {
		const Spot<F, Words> s = c.spot();
		if (!s.value.is_leaf(s.level) || !s.value.is_accessed())
			continue;
		young = true;
		if (how == Ageing::test)
			break;
		tree.age(s, rcu);
	}
	return young;
}

/* Where the CPU has no accessed bits: is anything mapped at all? Fault-around makes a page's neighbours
 * young with it there; who ages clears by unmapping, so each stays young only as long as it comes back. */
template <TableFormat F, TableWords Words> bool any_mapped(const Direct<F, Words> &tree, GfnRange r, const RcuRead &)
{
	for (Cursor<F, Words> c{tree, r}; !c.done(); c.next())
		if (c.get().is_leaf(c.level()))
			return true;
	return false;
}

}
