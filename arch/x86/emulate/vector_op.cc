/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/emulate/vector_op.hpp"

namespace kx::emulate {
namespace {

enum class Align : u8 { any, natural };

void full(Insn &i, Op op, unsigned bytes, Align a)
{
	i.op = op;
	i.size = u8(bytes);
	i.aligned = a == Align::natural;
}

/* A scalar: from or to memory alone, or within a register, whose rest is kept by MOVSS and MOVSD.
 * The VEX register forms of those two have three operands: left out. */
void scalar(Insn &i, Op op, unsigned bytes)
{
	if (i.vex && !i.memory)
		return;
	i.op = op;
	i.size = u8(bytes);
	i.vec_merge = !i.memory;
}

void full_memory(Insn &i, Op op, unsigned bytes, Align a)
{
	full(i, i.memory ? op : Op::invalid, bytes, a);
}

void refine_0f(const VectorOp &v, Insn &i)
{
	const unsigned whole = v.l ? 32 : 16, low = v.w ? 8 : 4;
	const Op move = v.opcode & 1 ? Op::vec_store : Op::vec_load;
	const bool narrow = !v.l;

	switch (v.opcode) {
	case 0x0d: /* PREFETCHW; with a register Intel has a NOP, AMD #UD */
		if (!i.memory)
			i.op = Op::unknown;
		return;
	case 0x10: case 0x11: /* MOVUPS, MOVUPD, MOVSS, MOVSD */
		if (v.prefix < 2)
			full(i, move, whole, Align::any);
		else
			scalar(i, move, v.prefix == 2 ? 4 : 8);
		return;
	case 0x28: case 0x29: /* MOVAPS, MOVAPD */
		if (v.prefix < 2)
			full(i, move, whole, Align::natural);
		return;
	case 0x2b: /* MOVNTPS, MOVNTPD */
		if (v.prefix < 2)
			full_memory(i, Op::vec_store, whole, Align::natural);
		return;
	case 0xe7: /* MOVNTDQ */
		if (v.prefix == 1)
			full_memory(i, Op::vec_store, whole, Align::natural);
		return;
	case 0x6f: case 0x7f: /* MOVDQA, MOVDQU */
		if (v.prefix == 1 || v.prefix == 2)
			full(i, v.opcode == 0x6f ? Op::vec_load : Op::vec_store, whole,
			     v.prefix == 1 ? Align::natural : Align::any);
		return;
	case 0xf0: /* LDDQU */
		if (v.prefix == 3)
			full_memory(i, Op::vec_load, whole, Align::any);
		return;
	case 0x6e: /* MOVD, MOVQ from r/m */
		if (v.prefix == 1 && narrow)
			full(i, Op::vec_from_gpr, low, Align::any);
		return;
	case 0x7e: /* MOVD, MOVQ to r/m; MOVQ from xmm/m64 */
		if (v.prefix == 1 && narrow)
			full(i, Op::vec_to_gpr, low, Align::any);
		else if (v.prefix == 2 && narrow)
			full(i, Op::vec_load, 8, Align::any);
		return;
	case 0xd6: /* MOVQ to xmm/m64 */
		if (v.prefix == 1 && narrow)
			full(i, Op::vec_store, 8, Align::any);
		return;
	case 0xc3: /* MOVNTI */
		i.size = u8(low);
		if (v.prefix != 0 || v.vex)
			i.op = v.vex ? Op::unknown : Op::invalid;
		return;
	case 0xc7: /* CMPXCHG8B, CMPXCHG16B */
		if (i.op == Op::cmpxchg8b) {
			i.size = v.w ? 16 : 8;
			if (!i.memory)
				i.op = Op::invalid;
		}
		return;
	case 0xae: /* CLFLUSH; CLFLUSHOPT; CLWB */
		if (i.memory && !v.vex && ((i.reg & 7) == 7 ? v.prefix < 2 : (i.reg & 7) == 6 && v.prefix == 1))
			i.op = Op::touch;
		return;
	}
}

void refine_0f38(const VectorOp &v, Insn &i)
{
	switch (v.opcode) {
	case 0x2a: /* MOVNTDQA */
		if (v.prefix == 1)
			full_memory(i, Op::vec_load, v.l ? 32 : 16, Align::natural);
		return;
	case 0xf0: case 0xf1: /* MOVBE; CRC32 with F2 */
		if (v.vex || v.prefix > 1)
			i.op = Op::unknown;
		return;
	case 0xf2: case 0xf7: /* ANDN, BEXTR */
		if (v.vex && v.prefix == 0 && !v.l) {
			i.op = v.opcode == 0xf2 ? Op::andn : Op::bextr;
			i.form = Form::vex_reg_rm;
			i.size = v.w ? 8 : 4;
		}
		return;
	}
}

}

void VectorOp::refine(Insn &i) const
{
	const bool was_invalid = i.op == Op::invalid;

	if (map == MapName::x0f)
		refine_0f(*this, i);
	else if (map == MapName::x0f38)
		refine_0f38(*this, i);
	const bool two_operand_vector = i.op == Op::vec_load || i.op == Op::vec_store || i.op == Op::vec_from_gpr ||
					i.op == Op::vec_to_gpr;
	if (was_invalid || (vex && two_operand_vector && i.vvvv))
		i.op = Op::invalid;
}

}
