/* SPDX-License-Identifier: GPL-2.0-only */
/* Bytes to Insn. Knows the length of every instruction, and the meaning of those emulated. */
#pragma once
#include "arch/x86/emulate/insn.hpp"
#include "arch/x86/emulate/machine.hpp"

namespace kx::emulate {

inline constexpr unsigned max_length = 15;

/* What was fetched of an instruction. The decoder reads on past count, never past the array, and
 * says `truncated` in the end: no check at every byte. 14 prefixes and the longest rest fit. */
struct CodeBytes {
	u8 bytes[32];
	u8 count; /* <= max_length */
};

enum class Decoded : u8 {
	ok,
	truncated, /* more bytes than were given belong to it */
	too_long,  /* more than 15: #GP(0) */
	undefined, /* #UD */
};

/* Decodes in place, because the instruction outlives the call that decoded it. Only `ok` leaves a
 * whole Insn; `undefined` leaves a length, for what it is worth. */
Decoded decode(Insn &insn, const CodeBytes &code, const Mode &mode);

}
