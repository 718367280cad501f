/* SPDX-License-Identifier: GPL-2.0-only */
/* Opcodes whose meaning depends on 66, F3, F2, VEX.L or REX.W: vector moves above all. */
#pragma once
#include "arch/x86/emulate/insn.hpp"

namespace kx::emulate {

/* The numbers are those in VEX.mmmmm, EVEX.mmm and XOP.mmmmm. */
enum class MapName : u8 { one_byte = 0, x0f = 1, x0f38 = 2, x0f3a = 3, xop8 = 8, xop9 = 9, xopa = 10 };

struct VectorOp {
	MapName map;
	u8 opcode;
	u8 prefix; /* 0 none, 1 66, 2 F3, 3 F2 */
	u8 l;	   /* VEX.L: 256 bits */
	bool w, vex;

	/* EXTRQ xmm, i8, i8 and INSERTQ xmm, xmm, i8, i8 (SSE4a). */
	bool has_two_immediates() const
	{
		return map == MapName::x0f && opcode == 0x78 && !vex && (prefix == 1 || prefix == 3);
	}
	/* Fills in what i does; leaves Op::unknown what is not known. */
	void refine(Insn &i) const;
};

}
