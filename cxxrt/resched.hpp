/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "seam.h"

namespace kx {

/* Others may run, if they want to: in long loops that hold no lock. May sleep. */
inline void cond_resched() { kx_cond_resched(); }

}
