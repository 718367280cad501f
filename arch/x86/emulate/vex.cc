/* SPDX-License-Identifier: GPL-2.0-only */
/* VEX, EVEX and XOP prefixes. SDM vol. 2 §2.3.5, §2.7.1; APM vol. 3 §1.9 */
#include "arch/x86/emulate/opcode_bytes.hpp"

namespace kx::emulate {
namespace {

/* The immediate of an opcode in maps that are not tabled. */
constexpr u16 vex_bits(MapName map, u8 op)
{
	switch (map) {
	case MapName::x0f:
		if ((op >= 0x70 && op <= 0x73) || op == 0xc2 || (op >= 0xc4 && op <= 0xc6))
			return u16(Imm::b) | Entry::modrm;
		return Entry::modrm;
	case MapName::x0f3a:
	case MapName::xop8: return u16(Imm::b) | Entry::modrm;
	case MapName::xopa: return u16(Imm::d) | Entry::modrm;
	default: return Entry::modrm;
	}
}

}

bool vex_follows(u8 first, u8 next, const Mode &mode)
{
	if (mode.cpu == CpuMode::real || mode.cpu == CpuMode::vm86)
		return false;
	if (first == 0x8f)
		return (next & 31) >= 8;
	return mode.cpu == CpuMode::long64 || (next & 0xc0) == 0xc0;
}

/* C5 RvvvvLpp; C4 RXBmmmmm WvvvvLpp and XOP alike; EVEX has a byte more, and only its length is
 * known. */
OpcodeBytes take_vex(Cursor &c, u8 first, Before before, const Mode &mode)
{
	const bool long64 = mode.cpu == CpuMode::long64;
	OpcodeBytes o{};
	const u8 b1 = c.take();
	u8 b2 = b1;

	o.rex = b1 & 0x80 ? 0 : rex_r;
	o.map = MapName::x0f;
	if (first != 0xc5) {
		o.rex |= (b1 & 0x40 ? 0 : rex_x) | (b1 & 0x20 ? 0 : rex_b);
		b2 = c.take();
		o.rex |= b2 & 0x80 ? rex_w : 0;
		o.map = MapName(b1 & (first == 0x62 ? 7 : 31));
	}
	if (!long64)
		o.rex = 0; /* the inverted bits are 1 there, W and the rest are ignored */
	o.vex = true;
	o.vvvv = u8(~b2 >> 3 & (long64 ? 15 : 7));
	o.vex_l = b2 >> 2 & 1;
	o.pp = b2 & 3;
	if (first == 0x62)
		c.take();
	o.opcode = c.take();
	const bool upper = o.map == MapName::x0f && o.opcode == 0x77; /* VZEROUPPER */
	const u16 bits = upper && first != 0x62 ? 0 : vex_bits(o.map, o.opcode);
	const bool known_maps = first == 0xc4 || first == 0xc5;
	o.entry = {u8(before == Before::bad ? Op::invalid : Op::unknown), Form::none,
		   u16(bits | (known_maps ? Entry::refined : 0))};
	return o;
}

}
