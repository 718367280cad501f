/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "level.hpp"

namespace kx {

/* The part of a slot a fault needs. */
struct Backing {
	GfnRange range;
	Hva hva; /* of range.begin */
	Level congruent;
	bool log, readonly;

	Hva hva_of(Gfn g) const { return hva + ((g - range.begin) << page_shift); }
};

}
