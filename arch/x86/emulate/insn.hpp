/* SPDX-License-Identifier: GPL-2.0-only */
/* A decoded instruction: a value that does not change while it executes, however often. */
#pragma once
#include "arch/x86/cpu/regs.hpp"

namespace kx::emulate {

enum class Op : u8 {
	unknown, /* length known, nothing else: not emulated */
	invalid, /* #UD on every CPU */
	/* The order of the encodings: group 1 and its one-byte rows. */
	add, or_, adc, sbb, and_, sub, xor_, cmp,
	/* ... and group 2. */
	rol, ror, rcl, rcr, shl, shr, sal, sar,
	test, not_, neg, mul, imul, div, idiv,
	inc, dec,
	mov, movzx, movsx, movbe, bswap, lea, xchg, xadd, cmpxchg, cmpxchg8b,
	bt, bts, btr, btc, /* consecutive */
	shld, shrd, imul2, imul3, bextr, andn, setcc, cmovcc, cbw, cwd,
	bsf, bsr, mov_from_seg, xlat,
	push, pop, pushf, call_near, jmp_near, jcc, ret_near,
	nop,   /* operands are not touched */
	touch, /* clflush and kin: the address is checked and translated for reading, no more */
	movs, cmps, stos, lods, scas, ins, outs,
	vec_load, vec_store, /* moves between a vector register and r/m */
	vec_from_gpr, vec_to_gpr,
};

/* Where the operands are. `reg` and `rm` are the ModRM fields, `acc` is rAX. Destination first. */
enum class Form : u8 {
	none, /* implied by the operation */
	rm_reg, reg_rm, rm_imm, acc_imm, rm, rm_one, rm_cl,
	acc_moffs, moffs_acc, /* decoded as acc_rm and rm_acc with an absolute address */
	opcode_reg,	      /* low three bits of the opcode */
	opcode_imm, opcode_acc,
	imm,
	reg_rm_imm, /* imul3; also shld: rm, reg, imm */
	vex_reg_rm, /* VEX.vvvv is the third operand */
};

enum class Repeat : u8 { none, repe, repne };

/* No register: of base, index. */
inline constexpr u8 no_reg = 0xff, rip_base = 0xfe;

struct Insn {
	Op op;
	Form form;
	u8 length;
	u8 opcode;    /* the last opcode byte: its low four bits are a condition */
	u8 size;      /* operand size in bytes, 1..8; of a vector move the bytes moved, 4..32 */
	u8 src_size;  /* movzx, movsx: size of the source */
	u8 addr_size; /* 2, 4, 8 */
	Repeat repeat;

	bool lock;
	bool memory;	/* r/m (or moffs) is a memory operand */
	bool rex;	/* byte registers 4..7 are SPL..DIL, not AH..BH */
	bool vex;	/* upper parts of vector registers are zeroed */
	bool aligned;	/* #GP unless the address is a multiple of size */
	bool vec_merge; /* movss, movsd between registers: the rest is kept */
	Seg seg;	/* of the memory operand: override, else the default */
	u8 reg;

	u8 rm, vvvv;
	u8 base, index, scale; /* scale is a shift count */
	u64 disp;	       /* sign-extended */
	u64 imm;	       /* sign-extended to 64 bits, where the instruction does that */

	constexpr unsigned condition() const { return opcode & 15; }
	constexpr bool string_port() const { return op == Op::ins || op == Op::outs; }
	/* Operands at two addresses: a hint could be of either. */
	constexpr bool two_addresses() const
	{
		return op == Op::movs || op == Op::cmps ||
		       (memory && (op == Op::push || op == Op::pop || op == Op::call_near));
	}
};
static_assert(sizeof(Insn) <= 40);

}
