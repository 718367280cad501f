/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "level.hpp"
#include "cxxrt/table_page.hpp"

namespace kx {

/* Zeroed table pages got while sleeping was allowed, for use under mmu_lock. One user at a time. */
template <unsigned Max> class TableCache {
	u64 *page_[Max] = {};
	unsigned n_ = 0;

public:
	TableCache() = default;
	TableCache(const TableCache &) = delete;
	~TableCache() { drain(); }
	static constexpr unsigned capacity = Max;
	unsigned size() const { return n_; }
	bool empty() const { return !n_; }
	/* May sleep. What was got stays when it fails half-way. */
	Errc top_up(unsigned want = Max)
	{
		while (n_ < want) {
			u64 *p = table_page_alloc();
			if (!p)
				return Errc::nomem;
			page_[n_++] = p;
		}
		return Errc::ok;
	}
	u64 *take() { return page_[--n_]; } /* not when empty */
	/* Zeroed, and never linked. */
	void give_back(u64 *p) { page_[n_++] = p; }
	void drain()
	{
		while (n_)
			table_page_free(page_[--n_]);
	}
};

}
