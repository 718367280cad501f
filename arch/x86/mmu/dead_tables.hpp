/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/table_page.hpp"
#include "level.hpp"

namespace kx {

/* Table pages cut off from their root, each the top of a subtree. Linked beside the pages: CPUs may
 * still walk what is in them. */
class DeadTables {
	u64 *head_ = nullptr, *tail_ = nullptr;

public:
	DeadTables() = default;
	DeadTables(const DeadTables &) = delete;
	bool empty() const { return !head_; }
	void push(u64 *table, Level l)
	{
		table_page_link(table) = {head_, u64(l)};
		if (!head_)
			tail_ = table;
		head_ = table;
	}
	struct Dead {
		u64 *table;
		Level level;
	};
	Dead pop()
	{
		u64 *t = head_;
		const TablePageLink link = table_page_link(t);
		head_ = link.next;
		return {t, Level(link.level)};
	}
	void take_all(DeadTables &from)
	{
		if (from.empty())
			return;
		table_page_link(from.tail_).next = head_;
		if (!head_)
			tail_ = from.tail_;
		head_ = from.head_;
		from.head_ = from.tail_ = nullptr;
	}
};

}
