/* SPDX-License-Identifier: GPL-2.0-only */
/* MOV to and from control and debug registers, for processors whose exit does not name the register. */
#pragma once
#include "arch/x86/cpu/regs.hpp"
#include "cxxrt/span.hpp"

namespace kx::svm {

struct MovCr {
	enum class Form : u8 { other, from_cr, to_cr, from_dr, to_dr };
	Form form = Form::other;
	u8 reg = 0;    /* of the control or debug registers */
	Gpr gpr{};
	u8 length = 0; /* bytes */
};

/* Whether that can be what exited: other vCPUs may have changed the bytes since, and of what else it could be the
 * processor has not checked the privilege. */
constexpr bool explains(const MovCr &m, MovCr::Form exited, unsigned cpl) { return m.form == exited && !cpl; }

enum class Width : u8 { legacy, long64 };

/* 0F 20..23 /r after any prefixes. ModRM.mod is ignored: the operand is always a register. A LOCK prefix
 * outside 64-bit mode, and there too, means CR8 instead of CR0. APM vol. 3, MOV CRn */
constexpr MovCr decode_mov_cr(Span<const u8> b, Width w)
{
	unsigned i = 0;
	bool lock = false;
	u8 rex = 0;
	for (; i < b.size(); ++i) {
		const u8 c = b[i];
		if (w == Width::long64 && (c & 0xf0) == 0x40) {
			rex = c;
			continue;
		}
		const bool prefix = c == 0x66 || c == 0x67 || c == 0xf2 || c == 0xf3 || c == 0xf0 || c == 0x26 ||
				    c == 0x2e || c == 0x36 || c == 0x3e || c == 0x64 || c == 0x65;
		if (!prefix)
			break;
		lock = lock || c == 0xf0;
		rex = 0; /* counts only right before the opcode */
	}
	if (i + 3 > b.size() || i + 3 > 15 || b[i] != 0x0f || b[i + 1] < 0x20 || b[i + 1] > 0x23)
		return {};
	const u8 modrm = b[i + 2];
	constexpr MovCr::Form forms[] = {MovCr::Form::from_cr, MovCr::Form::from_dr, MovCr::Form::to_cr,
					 MovCr::Form::to_dr};
	MovCr m;
	m.form = forms[b[i + 1] - 0x20];
	m.reg = u8((modrm >> 3 & 7) | (rex & 4 ? 8 : 0) | (lock ? 8 : 0));
	m.gpr = Gpr((modrm & 7) | (rex & 1 ? 8 : 0));
	m.length = u8(i + 3);
	return m;
}

}
