/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/bits.hpp"

namespace kx {

enum class Access : u8 { none = 0, read = 1, write = 2, exec = 4, user = 8, rwx = 7, all = 15 };
constexpr Access operator|(Access a, Access b) { return Access(u8(a) | u8(b)); }
constexpr Access operator&(Access a, Access b) { return Access(u8(a) & u8(b)); }
constexpr bool allows(Access have, Access want) { return (have & want) == want; }

}
