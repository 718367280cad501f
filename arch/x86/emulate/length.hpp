/* SPDX-License-Identifier: GPL-2.0-only */
/* The length of an instruction whose opcode the exit reason already tells: prefixes are counted,
 * then its one to three bytes must be there. No decoder runs. */
#pragma once
#include "cxxrt/addr.hpp"
#include "cxxrt/span.hpp"

namespace kx::emulate {

struct Opcode {
	u8 byte[3];
	u8 count;
	u8 trailing = 0; /* immediate bytes behind */
};

namespace opcode {
inline constexpr Opcode cpuid{{0x0f, 0xa2}, 2}, rdmsr{{0x0f, 0x32}, 2}, wrmsr{{0x0f, 0x30}, 2}, hlt{{0xf4}, 1},
	rdtsc{{0x0f, 0x31}, 2}, rdpmc{{0x0f, 0x33}, 2}, rdtscp{{0x0f, 0x01, 0xf9}, 3}, invd{{0x0f, 0x08}, 2},
	wbinvd{{0x0f, 0x09}, 2}, /* WBNOINVD too: F3 is a prefix */
	pause{{0x90}, 1}, xsetbv{{0x0f, 0x01, 0xd1}, 3}, monitor{{0x0f, 0x01, 0xc8}, 3}, mwait{{0x0f, 0x01, 0xc9}, 3},
	vmcall{{0x0f, 0x01, 0xc1}, 3}, vmmcall{{0x0f, 0x01, 0xd9}, 3}, vmrun{{0x0f, 0x01, 0xd8}, 3},
	vmload{{0x0f, 0x01, 0xda}, 3}, vmsave{{0x0f, 0x01, 0xdb}, 3}, stgi{{0x0f, 0x01, 0xdc}, 3},
	clgi{{0x0f, 0x01, 0xdd}, 3}, skinit{{0x0f, 0x01, 0xde}, 3}, invlpga{{0x0f, 0x01, 0xdf}, 3},
	rsm{{0x0f, 0xaa}, 2}, clts{{0x0f, 0x06}, 2}, int3{{0xcc}, 1}, icebp{{0xf1}, 1}, into{{0xce}, 1},
	int_n{{0xcd}, 1, 1};
}

enum class RexBytes : u8 { none, present }; /* 40..4F are prefixes in 64-bit mode alone */

/* 0: these are not its bytes (the code was replaced, or too few were given): decode instead. */
constexpr unsigned intercepted_length(Span<const u8> bytes, const Opcode &op, RexBytes rex)
{
	size_t at = 0;
	for (; at < bytes.size(); at++) {
		const u8 b = bytes[at];
		const bool legacy = (b & 0xe7) == 0x26 || (b >= 0x64 && b <= 0x67) || b == 0xf0 || (b & 0xfe) == 0xf2;
		if (!legacy && !(rex == RexBytes::present && (b & 0xf0) == 0x40))
			break;
	}
	const size_t length = at + op.count + op.trailing;
	if (length > bytes.size() || length > 15)
		return 0;
	for (unsigned k = 0; k < op.count; k++)
		if (bytes[at + k] != op.byte[k])
			return 0;
	return unsigned(length);
}

}
