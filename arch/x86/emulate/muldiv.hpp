/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/emulate/alu.hpp"

namespace kx::emulate {

enum class Signed : u8 { no, yes };

/* low and high have `size` bytes each. */
struct Product {
	u64 low, high, flags;
};
Product multiply(u64 a, u64 b, u64 flags, unsigned size, Signed s);

/* fits is false for #DE: division by zero, or a quotient larger than size. */
struct Quotient {
	u64 quotient, remainder;
	bool fits;
};
Quotient divide(u64 high, u64 low, u64 by, unsigned size, Signed s);

}
