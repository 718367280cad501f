/* SPDX-License-Identifier: GPL-2.0-only */
/* The opcode maps: four bytes an opcode. SDM vol. 2 appendix A, APM vol. 3 appendix A. */
#pragma once
#include "arch/x86/emulate/insn.hpp"

namespace kx::emulate {

enum class Imm : u8 {
	none,
	b,     /* one byte, zero-extended: ports, shift counts, selectors of SIMD instructions */
	sb,    /* one byte, sign-extended */
	w,     /* two bytes */
	d,     /* four bytes (XOP) */
	z,     /* operand size, but at most four bytes, sign-extended */
	v,     /* operand size, all of it */
	wb,    /* ENTER */
	far,   /* pointer: z and a selector */
	moffs, /* address size: the address of the operand */
	jz,    /* near branch */
};

struct Entry {
	enum Flag : u16 {
		modrm = 1 << 4,
		byte = 1 << 5,	   /* operand size is one byte */
		lockable = 1 << 6, /* with a memory destination */
		d64 = 1 << 7,	   /* operand size 64 in 64-bit mode, 16 with the prefix */
		near = 1 << 8,	   /* likewise, the prefix subject to Branch66 */
		no64 = 1 << 9,	   /* #UD in 64-bit mode */
		group = 1 << 10,   /* op is the number of a group, ModRM.reg its row */
		refined = 1 << 11,   /* more than the opcode and its group decide: see refine() */
		reg_only = 1 << 12,  /* ModRM.mod is ignored, r/m is a register: MOV CRn, DRn */
		prefix = 1 << 13,
		mem_only = 1 << 14, /* #UD with a register */
		escape = 1 << 15,   /* 0F, VEX, EVEX, XOP */
	};
	u8 op;
	Form form;
	u16 bits; /* Imm in the low four */

	constexpr Imm imm() const { return Imm(bits & 15); }
	constexpr bool is(Flag f) const { return bits & f; }
};
static_assert(sizeof(Entry) == 4);

struct OpcodeMap {
	Entry e[256];
};
enum class Group : u8 { g1, g1a, g2, g3, g4, g5, g8, g9, g11, g15, shift_one, shift_cl, count };
struct GroupRows {
	Entry e[8];
};

extern const OpcodeMap one_byte_map, two_byte_map;
extern const GroupRows opcode_groups[unsigned(Group::count)];

}
