/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cursor.hpp"
#include "direct.hpp"

namespace kx {

enum class Ageing : u8 { test, clear };

/* Was any page of the range accessed since this was last cleared? Under RCU alone: an entry that changes
 * under us has been used by somebody just now, and then the host asks again. No flush: a CPU that still
 * caches the entry sets A when it reloads it, and being a little late makes nothing wrong. */
template <TableFormat F, TableWords Words>
bool age(const Direct<F, Words> &tree, GfnRange r, Ageing how, const RcuRead &)
{
	bool young = false;
	for (Cursor<F, Words> c{tree.caps(), tree.root(), r}; !c.done(); c.next()) {
		const Spte<F> e = c.get();
		if (!e.is_leaf(c.level()) || !e.is_accessed())
			continue;
		young = true;
		if (how == Ageing::test)
			break;
		Words::compare_exchange(c.entry(), e.raw(), e.aged().raw());
	}
	return young;
}

/* Where the CPU has no accessed bits: is anything mapped at all? Fault-around makes a page's neighbours
 * young with it there; who ages clears by unmapping, so each stays young only as long as it comes back. */
template <TableFormat F, TableWords Words> bool any_mapped(const Direct<F, Words> &tree, GfnRange r, const RcuRead &)
{
	for (Cursor<F, Words> c{tree.caps(), tree.root(), r}; !c.done(); c.next())
		if (c.get().is_leaf(c.level()))
			return true;
	return false;
}

}
