/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/bits.hpp"

namespace kx {

/* Bits of a page fault's error code, as the guest gets it and as exits of nested paging have it. APM vol. 2
 * §8.4.2, §15.25.6; SDM vol. 3 §4.7 */
namespace pfec {
inline constexpr u32 present = 1, write = 2, user = 4, rsvd = 8, fetch = 16, pk = 32, ss = 64;
}

}
