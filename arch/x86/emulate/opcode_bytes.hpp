/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/emulate/decode.hpp"
#include "arch/x86/emulate/opcodes.hpp"
#include "arch/x86/emulate/vector_op.hpp"

namespace kx::emulate {

class Cursor {
	const u8 *p_;

public:
	explicit Cursor(const u8 *p) : p_{p} {}
	template <class T> T take()
	{
		T v;
		__builtin_memcpy(&v, p_, sizeof(T));
		p_ += sizeof(T);
		return v;
	}
	u8 take() { return *p_++; }
	u8 peek() const { return *p_; }
	unsigned since(const u8 *begin) const { return unsigned(p_ - begin); }
};

inline constexpr u8 rex_w = 8, rex_r = 4, rex_x = 2, rex_b = 1;

/* What stands between prefixes and ModRM. */
struct OpcodeBytes {
	Entry entry;
	MapName map;
	u8 opcode;
	u8 rex; /* of VEX too, un-inverted */
	bool vex;
	u8 vex_l, vvvv, pp;
};

/* Are these two bytes a VEX, EVEX or XOP prefix, or LES, LDS, BOUND, POP? */
bool vex_follows(u8 first, u8 next, const Mode &mode);
/* What follows the first byte of such a prefix, up to the opcode. `bad`: a prefix before it that
 * must not be. */
enum class Before : u8 { fine, bad };
OpcodeBytes take_vex(Cursor &c, u8 first, Before before, const Mode &mode);

}
