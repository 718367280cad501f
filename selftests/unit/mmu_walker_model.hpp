/* SPDX-License-Identifier: GPL-2.0-only */
/* What a walk of the guest's tables must come to, for the test and the fuzzer. */
#pragma once
#include <functional>
#include <map>
#include "arch/x86/mmu/walker.hpp"

namespace kx::test {

/* Guest memory as a map of 8-byte words; addresses from `hole` on are not there. */
struct WalkRam {
	std::map<u64, u64> words;
	u64 hole = ~u64{0}, rom = ~u64{0};
	std::function<void(WalkRam &)> before_swap;
	unsigned swaps = 0, reads = 0;

	u64 peek(u64 a, unsigned n) const
	{
		auto it = words.find(a & ~u64{7});
		const u64 w = it == words.end() ? 0 : it->second;
		return n == 8 ? w : u32(w >> (8 * (a & 7)));
	}
	void poke(u64 a, unsigned n, u64 v)
	{
		u64 &w = words[a & ~u64{7}];
		if (n == 8)
			w = v;
		else
			w = (w & ~(u64{0xffffffff} << (8 * (a & 7)))) | u64{u32(v)} << (8 * (a & 7));
	}
	Result<u64> read64(Gpa p)
	{
		++reads;
		if (p.raw() >= hole)
			return Errc::fault;
		return peek(p.raw(), 8);
	}
	Result<u32> read32(Gpa p)
	{
		++reads;
		if (p.raw() >= hole)
			return Errc::fault;
		return u32(peek(p.raw(), 4));
	}
	GuestSwap cmpxchg(Gpa p, unsigned n, u64 *old, u64 now)
	{
		++swaps;
		if (before_swap)
			before_swap(*this);
		if (p.raw() >= hole)
			return GuestSwap::fault;
		if (p.raw() >= rom)
			return GuestSwap::readonly;
		const u64 is = peek(p.raw(), n);
		if (is != *old) {
			*old = is;
			return GuestSwap::differs;
		}
		poke(p.raw(), n, now);
		return GuestSwap::stored;
	}
};

struct WalkExpected {
	bool ok;
	u32 error;
	u64 gpa;
	std::map<u64, u64> marks; /* entry address -> bits that must be set afterwards */
};

/* The manuals' rules, written once more from the other end: level by level with explicit masks, nothing
 * shared with the code under test. */
inline WalkExpected naive_walk(const WalkRam &ram, const GuestRole &g, const WalkCaps &c, u64 cr3, const u64 *pdptes, u64 va,
	       const WalkRequest &r)
{
	const bool long_mode = g.long_mode, pae = g.long_mode || g.pae;
	const bool wr = r.access & pfec::write, us = r.access & pfec::user, fe = r.access & pfec::fetch;
	const unsigned size = pae ? 8 : 4;
	u32 code = (wr ? 2u : 0) | (us ? 4u : 0) | (fe && (g.smep || (pae && g.nx)) ? 16u : 0);
	if (!g.paging)
		return {true, 0, va, {}};
	if (!long_mode)
		va &= 0xffffffff;
	int level = !pae ? 2 : !long_mode ? 2 : g.la57 ? 5 : 4;
	u64 table;
	if (!pae) {
		table = cr3 & 0xfffff000;
	} else if (!long_mode) {
		const u64 p = pdptes[va >> 30];
		if (!(p & 1))
			return {false, code, 0, {}};
		table = p & 0xffffffffff000;
	} else {
		table = cr3 & 0xffffffffff000;
	}
	bool w = true, u = true, nx = false;
	std::map<u64, u64> marks;
	u64 maxphy_rsvd = 0;
	for (unsigned b = c.phys_bits; b < 52; ++b)
		maxphy_rsvd |= u64{1} << b;
	for (;; --level) {
		const unsigned low = pae ? 12 + 9 * (level - 1) : 12 + 10 * (level - 1);
		const u64 at = table + ((va >> low) & (pae ? 511 : 1023)) * size;
		if (at >= ram.hole)
			return {false, code, 0, {}};
		const u64 e = ram.peek(at, size);
		if (!(e & 1))
			return {false, code, 0, {}};
		bool leaf = level == 1;
		u64 bad = 0;
		if (pae) {
			bad |= maxphy_rsvd;
			if (!long_mode)
				bad |= 0x7ff0000000000000;
			if (!g.nx)
				bad |= u64{1} << 63;
			if (level >= 4)
				bad |= 0x80 | (c.top_global_rsvd ? 0x100 : 0);
			if (level == 3 && !c.huge_1g)
				bad |= 0x80;
			if ((level == 2 || level == 3) && e & 0x80) {
				leaf = true;
				bad |= level == 2 ? 0x1fe000 : 0x3fffe000;
			}
		} else if (level == 2 && g.pse && e & 0x80) {
			leaf = true;
			unsigned extra = 0; /* address bits beyond 32 */
			if (c.pse36)
				extra = c.phys_bits >= 40 ? 8 : c.phys_bits > 32 ? c.phys_bits - 32u : 0;
			for (unsigned b = 13 + extra; b <= 21; ++b)
				bad |= u64{1} << b;
		}
		if (e & bad)
			return {false, code | 1 | 8, 0, {}};
		w = w && e & 2, u = u && e & 4, nx = nx || (pae && e >> 63);
		marks[at] = 0x20;
		if (!leaf) {
			table = pae ? e & 0xffffffffff000 : e & 0xfffff000;
			continue;
		}
		bool refuse = false;
		if (us) {
			refuse = !u || (wr && !w) || (fe && nx);
		} else {
			refuse = (wr && !w && g.write_protect) || (fe && nx) || (fe && u && g.smep) ||
				 (!fe && u && g.smap && !r.smap_exempt);
		}
		u32 pk = 0;
		if (long_mode && g.pke && u && !fe) {
			const unsigned key = e >> 59 & 15;
			const bool ad = r.pkru >> (2 * key) & 1, wd = r.pkru >> (2 * key + 1) & 1;
			if (ad || (wd && wr && (us || g.write_protect)))
				pk = 32;
		}
		if (refuse || pk)
			return {false, code | 1 | pk, 0, {}};
		if (wr)
			marks[at] |= 0x40;
		u64 page;
		if (pae)
			page = e & 0xffffffffff000 & ~((u64{1} << low) - 1);
		else if (level == 1)
			page = e & 0xfffff000;
		else
			page = (e & 0xffc00000) | ((e >> 13 & 0xff) & (c.pse36 ? (c.phys_bits >= 40 ? 0xff : (1u << (c.phys_bits > 32 ? c.phys_bits - 32 : 0)) - 1) : 0)) << 32;
		return {true, 0, page | (va & ((u64{1} << low) - 1)), marks};
	}
}

enum class Paging { none, legacy, legacy_pse, pae, four, five };

inline GuestRole role_of(Paging p)
{
	GuestRole g;
	g.paging = p != Paging::none;
	g.pse = p == Paging::legacy_pse;
	g.pae = p == Paging::pae || p == Paging::four || p == Paging::five;
	g.long_mode = p == Paging::four || p == Paging::five;
	g.la57 = p == Paging::five;
	return g;
}

}
