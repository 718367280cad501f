/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/addr.hpp"

namespace kx {

enum class Bus : u8 { mmio, pio, ccw /* s390's: may be named, no guest here can write there */ };
enum class Taken : u8 { no, yes }; /* a guest's access, by somebody in the kernel: it does not exit */

}
