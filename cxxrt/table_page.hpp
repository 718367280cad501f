/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "addr.hpp"
#include "alloc.hpp"

namespace kx {

/* Pages that hardware walks: 512 words. They have no header; two words beside the page link it while it
 * waits to be freed, because its contents must stay what they are until no walker is left. */
inline u64 *table_page_alloc() { return static_cast<u64 *>(kx_page_alloc()); } /* zeroed; may sleep; nullptr */
inline void table_page_free(u64 *p) { kx_page_free(p); }

struct TablePageLink {
	u64 *next;
	u64 level;
};
inline TablePageLink &table_page_link(u64 *p) { return *reinterpret_cast<TablePageLink *>(kx_page_link(p)); }
static_assert(sizeof(TablePageLink) == 2 * sizeof(kx_u64));

}
