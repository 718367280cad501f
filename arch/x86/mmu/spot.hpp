/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "spte.hpp"
#include "words.hpp"

namespace kx {

template <TableFormat F, TableWords Words> class Direct;

/* A place in a table that CPUs walk, and what stood there when it was looked at. Anybody may look; the word
 * itself is within reach of the tree alone. */
template <TableFormat F, TableWords Words> class Spot {
	u64 *entry_;
	friend class Direct<F, Words>;

public:
	Level level;
	Spte<F> value;

	Spot(u64 *entry, Level l, Spte<F> seen) : entry_{entry}, level{l}, value{seen} {}
	Spot(u64 *entry, Level l) : Spot{entry, l, Spte<F>{Words::load(entry)}} {}
	void reload() { value = Spte<F>{Words::load(entry_)}; }
	/* n entries on in the same table. */
	Spot beside(s64 n) const { return {entry_ + n, level}; }
};

}
