/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest's page walk against the manuals written down once more (mmu_walker_model.hpp), over tables
 * whose every bit is the fuzzer's. */
#include <cstdlib>
#include <cstring>
#include "mmu_walker_model.hpp"

using namespace kx;
using namespace kx::test;

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t n)
{
	/* Six pages of tables at 0x1000; each entry that is given says where, which page it leads to, and the
	 * rest of its bits. */
	if (n < 24)
		return 0;
	u64 head[3];
	std::memcpy(head, data, sizeof(head));
	data += sizeof(head), n -= sizeof(head);
	const auto take = [&head](unsigned bits) {
		const u64 v = head[0] & (bit(bits) - 1);
		head[0] >>= bits;
		return v;
	};
	GuestRole g = role_of(Paging(take(3) % 6));
	g.nx = take(1), g.write_protect = take(1), g.smep = take(1), g.smap = take(1), g.pke = take(1);
	WalkCaps c;
	c.phys_bits = u8(32 + take(5) % 21);
	c.huge_1g = take(1), c.pse36 = take(1), c.top_global_rsvd = take(1);
	WalkRequest r;
	r.access = u32(take(3) & 1 ? pfec::write : 0) | u32(take(1) ? pfec::user : 0);
	if (!(r.access & pfec::write) && take(1))
		r.access |= pfec::fetch;
	r.smap_exempt = take(1);
	r.pkru = u32(head[1]);
	const u64 va = head[2];

	WalkRam ram;
	ram.hole = 0x8000;
	const unsigned size = g.pae ? 8 : 4;
	u64 pdptes[4] = {0x1001, 0x2001, 0x3000, 0x1001};
	for (; n >= 12; data += 12, n -= 12) {
		u16 where;
		u64 entry;
		std::memcpy(&where, data, 2);
		std::memcpy(&entry, data + 2, 8);
		/* Half of the entries are on the walk's own way, so that it gets somewhere. */
		u64 index = where;
		if (data[10] & 1) {
			const unsigned level = data[10] >> 1 & 7;
			index = va >> (12 + (g.pae ? 9 : 10) * (level % 5));
		}
		index &= g.pae ? 511 : 1023;
		if (data[10] & 16)
			entry = (entry & ~u64{0xffffffff000}) | (0x1000 + (data[11] % 7) * 0x1000) | 1;
		ram.poke(0x1000 + (data[10] >> 5) % 6 * 0x1000 + index * size, size, entry);
	}
	const u64 cr3 = 0x1000;
	const WalkExpected want = naive_walk(ram, g, c, cr3, pdptes, va, r);
	WalkRam after = ram;
	for (auto [at, bits] : want.marks)
		if (want.ok)
			after.poke(at, size, after.peek(at, size) | bits);
	const WalkResult got = walk_guest(ram, g, c, {cr3, pdptes}, Gva{va}, r);
	if (got.ok != want.ok || (got.ok && got.gpa.raw() != want.gpa) || (!got.ok && got.error != want.error))
		std::abort();
	/* A table may be its own leaf: then marks change what is walked, and only the outcome counts. */
	if (!got.ok && ram.words != after.words)
		std::abort();
	return 0;
}
