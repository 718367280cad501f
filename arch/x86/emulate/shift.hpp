/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/emulate/alu.hpp"
#include "arch/x86/emulate/insn.hpp"

namespace kx::emulate {

/* Op::rol .. Op::sar. count is taken as in CL: masked here. */
Sum shift(Op op, u64 value, unsigned count, u64 flags, unsigned size);
/* Op::shld, Op::shrd: bits come from `fill`. */
Sum shift_double(Op op, u64 value, u64 fill, unsigned count, u64 flags, unsigned size);

}
