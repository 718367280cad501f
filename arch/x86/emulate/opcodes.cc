/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/emulate/opcodes.hpp"

namespace kx::emulate {
namespace {

using F = Form;
using E = Entry;

constexpr u16 operator|(Imm i, E::Flag f) { return u16(u16(i) | u16(f)); }
constexpr Entry row(Op op, Form f, unsigned bits = 0) { return {u8(op), f, u16(bits)}; }
constexpr Entry row(Group g, unsigned bits = 0) { return {u8(g), F::none, u16(bits | E::modrm | E::group)}; }
constexpr Entry length_only(unsigned bits = 0) { return {u8(Op::unknown), F::none, u16(bits)}; }
constexpr Entry invalid{u8(Op::invalid), F::none, 0};
constexpr Op after(Op o, unsigned n) { return Op(unsigned(o) + n); }

/* Builds a map row by row; a pair is the byte form and, next to it, the word form. */
struct Builder {
	OpcodeMap m{};

	constexpr void put(unsigned first, unsigned last, const Entry &e)
	{
		for (unsigned i = first; i <= last; i++)
			m.e[i] = e;
	}
	constexpr void pair(unsigned first, Op op, Form f, unsigned bits = 0)
	{
		m.e[first] = row(op, f, bits | E::byte);
		m.e[first + 1] = row(op, f, bits);
	}
};

consteval OpcodeMap build_one_byte()
{
	Builder b;
	constexpr unsigned iz = unsigned(Imm::z), ib = unsigned(Imm::b), sb = unsigned(Imm::sb), iw = unsigned(Imm::w);

	b.put(0x00, 0xff, length_only());
	for (unsigned i = 0; i < 8; i++) {
		const Op op = after(Op::add, i);
		const unsigned lock = op == Op::cmp ? 0 : E::lockable;
		b.pair(8 * i, op, F::rm_reg, E::modrm | lock);
		b.pair(8 * i + 2, op, F::reg_rm, E::modrm);
		b.pair(8 * i + 4, op, F::acc_imm, iz);
		b.put(8 * i + 6, 8 * i + 7, length_only(E::no64)); /* push, pop of a segment; BCD */
	}
	b.put(0x40, 0x47, row(Op::inc, F::opcode_reg)); /* REX in 64-bit mode */
	b.put(0x48, 0x4f, row(Op::dec, F::opcode_reg));
	b.put(0x50, 0x57, row(Op::push, F::opcode_reg, E::d64));
	b.put(0x58, 0x5f, row(Op::pop, F::opcode_reg, E::d64));
	b.put(0x60, 0x61, length_only(E::no64));
	b.m.e[0x62] = length_only(E::modrm | E::escape | E::no64); /* EVEX or BOUND */
	b.m.e[0x63] = row(Op::movsx, F::reg_rm, E::modrm | E::refined);	   /* MOVSXD; ARPL outside 64-bit mode */
	b.m.e[0x68] = row(Op::push, F::imm, iz | E::d64);
	b.m.e[0x69] = row(Op::imul3, F::reg_rm_imm, iz | E::modrm);
	b.m.e[0x6a] = row(Op::push, F::imm, sb | E::d64);
	b.m.e[0x6b] = row(Op::imul3, F::reg_rm_imm, sb | E::modrm);
	b.pair(0x6c, Op::ins, F::none, E::refined);
	b.pair(0x6e, Op::outs, F::none, E::refined);
	b.put(0x70, 0x7f, row(Op::jcc, F::imm, sb | E::near));
	b.m.e[0x80] = row(Group::g1, iz | E::byte);
	b.m.e[0x81] = row(Group::g1, iz);
	b.m.e[0x82] = row(Group::g1, iz | E::byte | E::no64);
	b.m.e[0x83] = row(Group::g1, sb);
	b.pair(0x84, Op::test, F::rm_reg, E::modrm);
	b.pair(0x86, Op::xchg, F::rm_reg, E::modrm | E::lockable);
	b.pair(0x88, Op::mov, F::rm_reg, E::modrm);
	b.pair(0x8a, Op::mov, F::reg_rm, E::modrm);
	b.m.e[0x8c] = row(Op::mov_from_seg, F::rm_reg, E::modrm | E::refined);
	b.m.e[0x8d] = row(Op::lea, F::reg_rm, E::modrm | E::mem_only);
	b.m.e[0x8e] = length_only(E::modrm); /* MOV to a segment register */
	b.m.e[0x8f] = row(Group::g1a, E::d64 | E::escape); /* POP or XOP */
	b.put(0x90, 0x97, row(Op::xchg, F::opcode_acc));
	b.m.e[0x90] = row(Op::xchg, F::opcode_acc, E::refined); /* NOP */
	b.m.e[0x98] = row(Op::cbw, F::none);
	b.m.e[0x99] = row(Op::cwd, F::none);
	b.m.e[0x9a] = length_only(Imm::far | E::no64);
	b.m.e[0x9c] = row(Op::pushf, F::none, E::d64);
	b.m.e[0x9d] = length_only(E::d64);
	b.pair(0xa0, Op::mov, F::acc_moffs, unsigned(Imm::moffs));
	b.pair(0xa2, Op::mov, F::moffs_acc, unsigned(Imm::moffs));
	b.pair(0xa4, Op::movs, F::none);
	b.pair(0xa6, Op::cmps, F::none);
	b.pair(0xa8, Op::test, F::acc_imm, iz);
	b.pair(0xaa, Op::stos, F::none);
	b.pair(0xac, Op::lods, F::none);
	b.pair(0xae, Op::scas, F::none);
	b.put(0xb0, 0xb7, row(Op::mov, F::opcode_imm, iz | E::byte));
	b.put(0xb8, 0xbf, row(Op::mov, F::opcode_imm, unsigned(Imm::v)));
	b.m.e[0xc0] = row(Group::g2, ib | E::byte);
	b.m.e[0xc1] = row(Group::g2, ib);
	b.m.e[0xc2] = row(Op::ret_near, F::imm, iw | E::near);
	b.m.e[0xc3] = row(Op::ret_near, F::none, E::near);
	b.put(0xc4, 0xc5, length_only(E::modrm | E::escape | E::no64)); /* VEX or LES, LDS */
	b.m.e[0xc6] = row(Group::g11, iz | E::byte);
	b.m.e[0xc7] = row(Group::g11, iz);
	b.m.e[0xc8] = length_only(unsigned(Imm::wb));
	b.m.e[0xca] = length_only(iw);
	b.m.e[0xcd] = length_only(ib);
	b.m.e[0xce] = length_only(E::no64);
	b.m.e[0xd0] = row(Group::shift_one, E::byte);
	b.m.e[0xd1] = row(Group::shift_one);
	b.m.e[0xd2] = row(Group::shift_cl, E::byte);
	b.m.e[0xd3] = row(Group::shift_cl);
	b.put(0xd4, 0xd5, length_only(Imm::b | E::no64));
	b.m.e[0xd6] = length_only(E::no64);
	b.m.e[0xd7] = row(Op::xlat, F::none, E::byte);
	b.put(0xd8, 0xdf, length_only(E::modrm)); /* x87 */
	b.put(0xe0, 0xe3, length_only(Imm::sb | E::near));
	b.put(0xe4, 0xe7, length_only(ib));
	b.m.e[0xe8] = row(Op::call_near, F::imm, Imm::jz | E::near);
	b.m.e[0xe9] = row(Op::jmp_near, F::imm, Imm::jz | E::near);
	b.m.e[0xea] = length_only(Imm::far | E::no64);
	b.m.e[0xeb] = row(Op::jmp_near, F::imm, sb | E::near);
	b.m.e[0xf6] = row(Group::g3, E::byte);
	b.m.e[0xf7] = row(Group::g3);
	b.m.e[0xfe] = row(Group::g4, E::byte);
	b.m.e[0xff] = row(Group::g5);
	constexpr u8 prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};
	for (const u8 p : prefixes)
		b.m.e[p] = length_only(E::prefix);
	b.m.e[0x0f] = length_only(E::escape);
	return b.m;
}

consteval OpcodeMap build_two_byte()
{
	Builder b;
	constexpr unsigned ib = unsigned(Imm::b);

	b.put(0x00, 0xff, length_only(E::modrm));
	b.put(0x05, 0x09, length_only());
	constexpr u8 holes[] = {0x04, 0x0a, 0x0c, 0x24, 0x25, 0x26, 0x27, 0x36,
				0x39, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x7a, 0x7b};
	for (const u8 o : holes)
		b.m.e[o] = invalid;
	b.m.e[0x0b] = invalid; /* UD2 */
	b.m.e[0x0d] = row(Op::nop, F::rm, E::modrm | E::refined); /* PREFETCH */
	b.m.e[0x0e] = length_only(); /* FEMMS */
	b.m.e[0x0f] = length_only(Imm::b | E::modrm);
	b.put(0x10, 0x11, length_only(E::modrm | E::refined));
	b.put(0x18, 0x1f, row(Op::nop, F::rm, E::modrm));
	b.put(0x20, 0x23, length_only(E::modrm | E::reg_only));
	b.put(0x28, 0x29, length_only(E::modrm | E::refined));
	b.m.e[0x2b] = length_only(E::modrm | E::refined);
	b.put(0x30, 0x35, length_only());
	b.m.e[0x37] = length_only();
	b.m.e[0x38] = b.m.e[0x3a] = length_only(E::escape);
	b.put(0x40, 0x4f, row(Op::cmovcc, F::reg_rm, E::modrm));
	b.put(0x6e, 0x6f, length_only(E::modrm | E::refined));
	b.put(0x70, 0x73, length_only(ib | E::modrm));
	b.m.e[0x77] = length_only();
	b.m.e[0x78] = length_only(E::modrm | E::refined); /* EXTRQ and INSERTQ have two immediates */
	b.put(0x7e, 0x7f, length_only(E::modrm | E::refined));
	b.put(0x80, 0x8f, row(Op::jcc, F::imm, Imm::jz | E::near));
	b.put(0x90, 0x9f, row(Op::setcc, F::rm, E::modrm | E::byte));
	b.put(0xa0, 0xa2, length_only());
	b.m.e[0xa3] = row(Op::bt, F::rm_reg, E::modrm);
	b.m.e[0xa4] = row(Op::shld, F::reg_rm_imm, ib | E::modrm);
	b.m.e[0xa5] = row(Op::shld, F::rm_cl, E::modrm);
	b.put(0xa8, 0xaa, length_only());
	b.m.e[0xab] = row(Op::bts, F::rm_reg, E::modrm | E::lockable);
	b.m.e[0xac] = row(Op::shrd, F::reg_rm_imm, ib | E::modrm);
	b.m.e[0xad] = row(Op::shrd, F::rm_cl, E::modrm);
	b.m.e[0xae] = row(Group::g15, E::refined);
	b.m.e[0xaf] = row(Op::imul2, F::reg_rm, E::modrm);
	b.pair(0xb0, Op::cmpxchg, F::rm_reg, E::modrm | E::lockable);
	b.m.e[0xb3] = row(Op::btr, F::rm_reg, E::modrm | E::lockable);
	b.pair(0xb6, Op::movzx, F::reg_rm, E::modrm | E::refined);
	b.m.e[0xba] = row(Group::g8, ib);
	b.m.e[0xbc] = row(Op::bsf, F::reg_rm, E::modrm | E::refined);
	b.m.e[0xbd] = row(Op::bsr, F::reg_rm, E::modrm | E::refined);
	b.m.e[0xbb] = row(Op::btc, F::rm_reg, E::modrm | E::lockable);
	b.pair(0xbe, Op::movsx, F::reg_rm, E::modrm | E::refined);
	b.pair(0xc0, Op::xadd, F::rm_reg, E::modrm | E::lockable);
	b.m.e[0xc2] = length_only(ib | E::modrm);
	b.m.e[0xc3] = row(Op::mov, F::rm_reg, E::modrm | E::mem_only | E::refined); /* MOVNTI */
	b.put(0xc4, 0xc6, length_only(ib | E::modrm));
	b.m.e[0xc7] = row(Group::g9, E::refined);
	b.put(0xc8, 0xcf, row(Op::bswap, F::opcode_reg));
	b.m.e[0xd6] = b.m.e[0xe7] = b.m.e[0xf0] = length_only(E::modrm | E::refined);
	return b.m;
}

consteval GroupRows alu_rows()
{
	GroupRows g{};
	for (unsigned i = 0; i < 8; i++)
		g.e[i] = row(after(Op::add, i), F::rm_imm, after(Op::add, i) == Op::cmp ? 0 : E::lockable);
	return g;
}

consteval GroupRows shift_rows(Form f)
{
	GroupRows g{};
	for (unsigned i = 0; i < 8; i++)
		g.e[i] = row(after(Op::rol, i), f);
	return g;
}

constexpr Entry none = length_only();

}

constinit const OpcodeMap one_byte_map = build_one_byte();
constinit const OpcodeMap two_byte_map = build_two_byte();
constinit const GroupRows opcode_groups[unsigned(Group::count)] = {
	/* g1 */ alu_rows(),
	/* g1a */ {{row(Op::pop, F::rm), invalid, invalid, invalid, invalid, invalid, invalid, invalid}},
	/* g2 */ shift_rows(F::rm_imm),
	/* g3 */
	{{row(Op::test, F::rm_imm, unsigned(Imm::z)), row(Op::test, F::rm_imm, unsigned(Imm::z)),
	  row(Op::not_, F::rm, E::lockable), row(Op::neg, F::rm, E::lockable), row(Op::mul, F::rm),
	  row(Op::imul, F::rm), row(Op::div, F::rm), row(Op::idiv, F::rm)}},
	/* g4 */
	{{row(Op::inc, F::rm, E::lockable), row(Op::dec, F::rm, E::lockable), invalid, invalid, invalid, invalid,
	  invalid, invalid}},
	/* g5; far calls and jumps are not emulated */
	{{row(Op::inc, F::rm, E::lockable), row(Op::dec, F::rm, E::lockable), row(Op::call_near, F::rm, E::near), none,
	  row(Op::jmp_near, F::rm, E::near), none, row(Op::push, F::rm, E::d64), invalid}},
	/* g8 */
	{{invalid, invalid, invalid, invalid, row(Op::bt, F::rm_imm), row(Op::bts, F::rm_imm, E::lockable),
	  row(Op::btr, F::rm_imm, E::lockable), row(Op::btc, F::rm_imm, E::lockable)}},
	/* g9; the others are VMX, XSAVES, RDRAND and their kin */
	{{none, row(Op::cmpxchg8b, F::rm, E::lockable), none, none, none, none, none, none}},
	/* g11; row 7 with a register is XABORT, XBEGIN */
	{{row(Op::mov, F::rm_imm), invalid, invalid, invalid, invalid, invalid, invalid, none}},
	/* g15: CLWB, CLFLUSH, CLFLUSHOPT are told apart by prefix */
	{{none, none, none, none, none, none, none, none}},
	/* shift_one, shift_cl */
	shift_rows(F::rm_one), shift_rows(F::rm_cl),
};

/* LOCK never fits an operation that only reads, nor a byte of the map that is no instruction. */
static_assert(build_one_byte().e[0x39].op == u8(Op::cmp) && !build_one_byte().e[0x39].is(E::lockable));
static_assert(build_one_byte().e[0x87].is(E::lockable) && build_two_byte().e[0xb1].is(E::lockable));
static_assert(!build_two_byte().e[0xa3].is(E::lockable) && build_two_byte().e[0xab].is(E::lockable));

}
