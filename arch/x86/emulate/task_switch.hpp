/* SPDX-License-Identifier: GPL-2.0-only */
/* A hardware task switch that is to be made: see task.hpp. */
#pragma once
#include "cxxrt/bits.hpp"
#include "cxxrt/span.hpp"

namespace kx::emulate {

struct TaskSwitch {
	enum class By : u8 { call, iret, jmp, gate }; /* gate: one of the IDT */
	By by;
	u16 selector; /* of the new TSS */
	u64 return_rip; /* where the old task goes on */
	u64 flags;	/* and with which RFLAGS: RF is set where the event's frame would have it set */
	bool external = false;	/* by an event that is not the program's doing: error codes have EXT */
	bool has_error = false; /* the event's code goes onto the new task's stack */
	u32 error = 0;
};

/* The length of an instruction that switches tasks: far CALL and JMP, INT n, INT3, INTO, INT1, IRET. 0: it is
 * none, or there are not enough bytes of it. Outside 64-bit mode; code_size is 2 or 4, by CS.D. */
constexpr unsigned task_switch_length(Span<const u8> bytes, unsigned code_size)
{
	unsigned at = 0, operand = code_size, address = code_size;
	const auto byte = [&](unsigned i) -> unsigned { return i < bytes.size() ? bytes[i] : 0; };
	for (bool prefix = true; prefix; at += prefix) {
		const unsigned b = byte(at);
		prefix = at < bytes.size() && ((b & 0xe7) == 0x26 || (b >= 0x64 && b <= 0x67) || b == 0xf0 || (b & 0xfe) == 0xf2);
		if (b == 0x66)
			operand = 6 - code_size;
		if (b == 0x67)
			address = 6 - code_size;
	}
	unsigned length = 0;
	switch (byte(at)) {
	case 0x9a: /* CALL, JMP ptr16:16, ptr16:32 */
	case 0xea: length = at + 1 + operand + 2; break;
	case 0xcd: length = at + 2; break;
	case 0xcc:
	case 0xce:
	case 0xcf:
	case 0xf1: length = at + 1; break;
	case 0xff: { /* CALL, JMP m16:16, m16:32 */
		const unsigned modrm = byte(at + 1), mod = modrm >> 6, rm = modrm & 7, reg = modrm >> 3 & 7;
		if (mod == 3 || (reg != 3 && reg != 5))
			return 0;
		length = at + 2 + (mod == 1 ? 1 : mod == 2 ? address : 0);
		if (address == 2)
			length += mod == 0 && rm == 6 ? 2 : 0;
		else if (rm == 4)
			length += 1 + (mod == 0 && (byte(at + 2) & 7) == 5 ? 4 : 0);
		else
			length += mod == 0 && rm == 5 ? 4 : 0;
		break;
	}
	default: return 0;
	}
	return length <= bytes.size() && length <= 15 ? length : 0;
}

}
