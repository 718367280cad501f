/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/emulate/opcode_bytes.hpp"

namespace kx::emulate {
namespace {

constexpr u8 no_override = 0xff;

struct Prefixes {
	u8 rex = 0;
	bool operand = false, address = false, lock = false;
	Repeat repeat = Repeat::none;
	u8 seg = no_override;

	/* Was that byte one of them? REX counts only right before the opcode. */
	bool note(u8 byte, const Entry &e, bool long64)
	{
		if (long64 && (byte & 0xf0) == 0x40) {
			rex = byte;
			return true;
		}
		if (!e.is(Entry::prefix)) [[likely]]
			return false;
		rex = 0;
		switch (byte) {
		case 0x66: operand = true; break;
		case 0x67: address = true; break;
		case 0xf0: lock = true; break;
		case 0xf2: repeat = Repeat::repne; break;
		case 0xf3: repeat = Repeat::repe; break;
		case 0x64: seg = u8(Seg::fs); break;
		case 0x65: seg = u8(Seg::gs); break;
		default: /* 26 2E 36 3E: ES CS SS DS */
			if (!long64)
				seg = byte >> 3 & 3;
		}
		return true;
	}
	Before before_vex() const
	{
		return rex || operand || lock || repeat != Repeat::none ? Before::bad : Before::fine;
	}
	/* 66, F3, F2 as the second half of an opcode. */
	u8 mandatory() const
	{
		return repeat == Repeat::repe ? 2 : repeat == Repeat::repne ? 3 : operand ? 1 : 0;
	}
};

/* The 0F 38 map is not tabled: few of it are known. */
Entry entry_0f38(u8 op)
{
	if (op == 0xf0 || op == 0xf1)
		return {u8(Op::movbe), op & 1 ? Form::rm_reg : Form::reg_rm,
			Entry::modrm | Entry::mem_only | Entry::refined};
	return {u8(Op::unknown), Form::none, u16(op == 0x2a ? Entry::modrm | Entry::refined : u16(Entry::modrm))};
}

OpcodeBytes take_escaped(Cursor &c, u8 first, const Prefixes &p, const Mode &mode)
{
	if (first != 0x0f) {
		if (vex_follows(first, c.peek(), mode))
			return take_vex(c, first, p.before_vex(), mode);
		return {one_byte_map.e[first], MapName::one_byte, first, p.rex, false, 0, 0, 0};
	}
	OpcodeBytes o{{}, MapName::x0f, c.take(), p.rex, false, 0, 0, p.mandatory()};
	o.entry = two_byte_map.e[o.opcode];
	if (o.entry.is(Entry::escape)) {
		o.map = o.opcode == 0x38 ? MapName::x0f38 : MapName::x0f3a;
		o.opcode = c.take();
		o.entry = o.map == MapName::x0f38 ? entry_0f38(o.opcode) :
						    Entry{0, Form::none, u16(Imm::b) | Entry::modrm};
	}
	return o;
}

u64 take_signed(Cursor &c, unsigned bytes)
{
	switch (bytes) {
	case 1: return u64(s64(std::int8_t(c.take())));
	case 2: return u64(s64(std::int16_t(c.take<u16>())));
	default: return u64(s64(s32(c.take<u32>())));
	}
}

void take_address16(Cursor &c, Insn &i, unsigned mod, unsigned rm)
{
	constexpr u8 bx = u8(Gpr::rbx), bp = u8(Gpr::rbp), si = u8(Gpr::rsi), di = u8(Gpr::rdi);
	constexpr u8 bases[] = {bx, bx, bp, bp, si, di, bp, bx};
	constexpr u8 indices[] = {si, di, si, di, no_reg, no_reg, no_reg, no_reg};

	i.base = bases[rm];
	i.index = indices[rm];
	i.disp = mod ? take_signed(c, mod) : 0;
	if (mod == 0 && rm == 6) {
		i.base = no_reg;
		i.disp = c.take<u16>();
	}
	i.seg = i.base == bp ? Seg::ss : Seg::ds;
}

[[gnu::always_inline]] inline void take_address(Cursor &c, Insn &i, unsigned mod, unsigned rm, u8 rex, bool long64)
{
	constexpr u8 sp = u8(Gpr::rsp), bp = u8(Gpr::rbp);
	unsigned low = rm;

	if (rm == 4) {
		const u8 sib = c.take();
		const u8 index = (sib >> 3 & 7) | (rex & rex_x ? 8 : 0);
		low = sib & 7;
		if (index != sp)
			i.index = index;
		i.scale = sib >> 6;
	}
	const u8 base = u8(low | (rex & rex_b) << 3);
	i.base = base;
	i.seg = base == sp || base == bp ? Seg::ss : Seg::ds;
	if (mod == 0) {
		i.disp = 0;
		if (low == 5) {
			i.base = rm == 5 && long64 ? rip_base : no_reg;
			i.seg = Seg::ds;
			i.disp = take_signed(c, 4);
		}
	} else {
		i.disp = mod == 1 ? take_signed(c, 1) : take_signed(c, 4);
	}
}

u64 take_immediate(Cursor &c, Imm kind, unsigned size, unsigned addr_size)
{
	const unsigned z = size < 4 ? size : 4;
	switch (kind) {
	case Imm::none: return 0;
	case Imm::b: return c.take();
	case Imm::sb: return take_signed(c, 1);
	case Imm::w: return c.take<u16>();
	case Imm::d: return c.take<u32>();
	case Imm::z: return take_signed(c, z);
	case Imm::v: return size == 8 ? c.take<u64>() : take_signed(c, z);
	case Imm::wb: c.take(); return c.take<u16>();
	case Imm::far: take_signed(c, z); return c.take<u16>();
	case Imm::moffs: return addr_size == 2 ? c.take<u16>() : addr_size == 4 ? c.take<u32>() : c.take<u64>();
	case Imm::jz: return take_signed(c, size == 2 ? 2 : 4);
	}
	return 0;
}

/* Operand size of an entry that is not of byte size. SDM vol. 1 table 3-4, APM vol. 3 table 1-2 */
unsigned operand_size(const Entry &e, u8 rex, bool prefix, const Mode &mode)
{
	const unsigned dflt = mode.code_size;
	if (mode.cpu != CpuMode::long64)
		return prefix ? 6 - dflt : dflt;
	if (rex & rex_w)
		return 8;
	if (e.is(Entry::near))
		return prefix && mode.branch66 == Branch66::honoured ? 2 : 8;
	if (e.is(Entry::d64))
		return prefix ? 2 : 8;
	return prefix ? 2 : 4;
}

/* Entries whose meaning depends on more than the opcode. */
void refine(Insn &i, const OpcodeBytes &o, Cursor &c, unsigned word, bool long64)
{
	const bool one_byte = o.map == MapName::one_byte && !o.vex;

	switch (i.op) {
	case Op::movzx:
	case Op::movsx:
		i.src_size = u8(one_byte ? 4 : 1u << (o.opcode & 1));
		i.size = u8(word);
		if (one_byte && !long64)
			i.op = Op::unknown; /* ARPL */
		return;
	case Op::ins:
	case Op::outs: i.size = i.size == 8 ? 4 : i.size; return; /* no port is wider */
	case Op::mov_from_seg: i.size = i.memory ? 2 : i.size; return;
	case Op::bsf:
	case Op::bsr:
		if (i.repeat == Repeat::repe)
			i.op = Op::unknown; /* TZCNT, LZCNT */
		return;
	case Op::xchg:
		if (i.rm == 0)
			i.op = Op::nop; /* 90, also PAUSE; not XCHG EAX, EAX, which would clear the upper half */
		return;
	default: break;
	}
	const VectorOp v{o.map, o.opcode, o.pp, o.vex_l, bool(o.rex & rex_w), o.vex};
	if (v.has_two_immediates())
		c.take<u16>();
	v.refine(i);
}

Decoded ended(unsigned length, const CodeBytes &code)
{
	if (length <= code.count) [[likely]]
		return Decoded::ok;
	return code.count < max_length ? Decoded::truncated : Decoded::too_long;
}

Entry row_of(const Entry &group, unsigned modrm)
{
	const Entry &row = opcode_groups[group.op].e[modrm >> 3 & 7];
	return {row.op, row.form, u16((group.bits & ~Entry::group) | row.bits)};
}

/* Nothing about it but ModRM, an immediate, and whether it is of byte size. */
constexpr bool plain(const Entry &e)
{
	constexpr u16 special = Entry::d64 | Entry::near | Entry::no64 | Entry::group | Entry::refined |
				Entry::reg_only | Entry::prefix | Entry::mem_only | Entry::escape;
	return (e.bits & (special | Entry::modrm)) == Entry::modrm && e.op > u8(Op::invalid);
}

/* The short way for what most device accesses are: 64-bit code, no prefix but REX, an opcode of
 * one byte. A third of the work of the general way, to the same end: the tests compare the two. */
Decoded decode_plain(Insn &i, Cursor c, const CodeBytes &code, const Entry &e, u8 opcode, u8 rex)
{
	const unsigned modrm = c.take(), mod = modrm >> 6;
	const u8 word = rex & rex_w ? 8 : 4;

	i = {.op = Op(e.op), .form = e.form, .length = 0, .opcode = opcode, .size = e.is(Entry::byte) ? u8{1} : word,
	     .src_size = 0, .addr_size = 8, .repeat = Repeat::none, .lock = false, .memory = mod != 3, .rex = rex != 0,
	     .vex = false, .aligned = false, .vec_merge = false, .seg = Seg::ds,
	     .reg = u8((modrm >> 3 & 7) | (rex & rex_r) << 1), .rm = u8((modrm & 7) | (rex & rex_b) << 3), .vvvv = 0,
	     .base = no_reg, .index = no_reg, .scale = 0, .disp = 0, .imm = 0};
	if (mod != 3) [[likely]]
		take_address(c, i, mod, modrm & 7, rex, true);
	if (e.imm() != Imm::none)
		i.imm = take_immediate(c, e.imm(), i.size, 8);
	const unsigned length = c.since(code.bytes);
	i.length = u8(length);
	return ended(length, code);
}

[[gnu::noinline]] Decoded decode_general(Insn &i, const CodeBytes &code, const Mode &mode)
{
	const bool long64 = mode.cpu == CpuMode::long64;
	Cursor c{code.bytes};
	Prefixes p;
	OpcodeBytes o;

	o.opcode = c.take();
	o.entry = one_byte_map.e[o.opcode];
	while (p.note(o.opcode, o.entry, long64)) {
		if (c.since(code.bytes) == max_length) [[unlikely]]
			return ended(max_length + 1, code);
		o.opcode = c.take();
		o.entry = one_byte_map.e[o.opcode];
	}
	o.map = MapName::one_byte;
	o.rex = p.rex;
	o.vex = false;
	o.vvvv = 0;
	if (o.entry.is(Entry::escape))
		o = take_escaped(c, o.opcode, p, mode);

	i.opcode = o.opcode;
	i.src_size = 0;
	i.addr_size = u8(long64 ? (p.address ? 4 : 8) : p.address ? 6 - mode.code_size : mode.code_size);
	i.repeat = p.repeat;
	i.lock = p.lock;
	i.memory = false;
	i.rex = o.rex && !o.vex;
	i.vex = o.vex;
	i.aligned = i.vec_merge = false;
	i.seg = Seg::ds;
	i.reg = 0;
	i.rm = u8((o.opcode & 7) | (o.rex & rex_b) << 3);
	i.vvvv = o.vvvv;
	i.base = i.index = no_reg;
	i.scale = 0;
	i.disp = i.imm = 0;

	if (o.entry.is(Entry::modrm)) {
		const unsigned modrm = c.take(), mod = o.entry.is(Entry::reg_only) ? 3 : modrm >> 6;
		i.reg = u8((modrm >> 3 & 7) | (o.rex & rex_r) << 1);
		i.rm = u8((modrm & 7) | (o.rex & rex_b) << 3);
		if (o.entry.is(Entry::group))
			o.entry = row_of(o.entry, modrm);
		if (mod != 3) {
			i.memory = true;
			if (i.addr_size == 2) [[unlikely]]
				take_address16(c, i, mod, modrm & 7);
			else
				take_address(c, i, mod, modrm & 7, o.rex, long64);
		}
	}

	const Entry e = o.entry;
	const unsigned word = operand_size(e, o.rex, p.operand, mode);
	i.op = Op(e.op);
	i.form = e.form;
	i.size = u8(e.is(Entry::byte) ? 1 : word);
	if (e.imm() != Imm::none) {
		i.imm = take_immediate(c, e.imm(), i.size, i.addr_size);
		if (e.imm() == Imm::moffs) {
			i.disp = i.imm;
			i.memory = true;
		}
	}
	if (p.seg != no_override)
		i.seg = Seg(p.seg);
	if (e.is(Entry::refined)) [[unlikely]]
		refine(i, o, c, word, long64);

	const unsigned length = c.since(code.bytes);
	i.length = u8(length < max_length ? length : max_length);
	if (const Decoded d = ended(length, code); d != Decoded::ok) [[unlikely]]
		return d;
	if (i.op <= Op::invalid) [[unlikely]]
		return i.op == Op::invalid || (long64 && e.is(Entry::no64)) ? Decoded::undefined : Decoded::ok;
	const bool lock_fits = e.is(Entry::lockable) && i.memory;
	const bool register_form = e.is(Entry::mem_only) && !i.memory;
	if ((i.lock && !lock_fits) || register_form || (long64 && e.is(Entry::no64))) [[unlikely]]
		return Decoded::undefined;
	return Decoded::ok;
}

}

Decoded decode(Insn &i, const CodeBytes &code, const Mode &mode)
{
	if (mode.cpu == CpuMode::long64) [[likely]] {
		Cursor c{code.bytes};
		u8 op = c.take(), rex = 0;
		if ((op & 0xf0) == 0x40) {
			rex = op;
			op = c.take();
		}
		Entry e = one_byte_map.e[op];
		if (e.is(Entry::group))
			e = row_of(e, c.peek());
		if (plain(e)) [[likely]]
			return decode_plain(i, c, code, e, op, rex);
	}
	return decode_general(i, code, mode);
}

}
