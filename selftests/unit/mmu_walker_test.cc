/* SPDX-License-Identifier: GPL-2.0-only */
#include <gtest/gtest.h>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>
#include "mmu_walker_model.hpp"

using namespace kx;
using namespace kx::test;

class Walker : public testing::TestWithParam<Paging> {
protected:
	WalkRam ram;
	std::mt19937_64 random{42};
	u64 pdptes[4] = {};
	u64 next_table = 0x10000;
	std::vector<u64> vas;
	GuestRole shape = role_of(GetParam());

	u64 pick(std::initializer_list<u64> l) { return l.begin()[random() % l.size()]; }
	bool chance(unsigned percent) { return random() % 100 < percent; }

	/* Flags that are mostly fine, so that walks get deep. */
	u64 flags(unsigned level)
	{
		u64 f = chance(92) ? 1 : 0;
		f |= (chance(80) ? 2 : 0) | (chance(75) ? 4 : 0) | (chance(30) ? 0x20 : 0) | (chance(30) ? 0x40 : 0);
		if (shape.pae) {
			f |= chance(10) ? u64{1} << 63 : 0;
			f |= chance(30) ? (random() & 15) << 59 : 0;
			f |= chance(3) ? u64{1} << (40 + random() % 12) : 0;
			f |= chance(3) && level >= 4 ? 0x100 : 0;
		}
		f |= chance(3) ? u64{1} << 13 : 0;
		return f;
	}
	u64 build(unsigned level)
	{
		const u64 at = next_table;
		next_table += 0x1000;
		const unsigned n = shape.pae ? 512 : 1024, size = shape.pae ? 8 : 4;
		for (unsigned k = 0; k < 3; ++k) {
			const u64 i = pick({0, 1, n - 1, random() % n, random() % n});
			u64 e = flags(level);
			const bool leaf = level == 1 || (level <= 3 && chance(25));
			if (leaf) {
				if (level > 1)
					e |= 0x80;
				const unsigned low = shape.pae ? 12 + 9 * (level - 1) : 12 + 10 * (level - 1);
				e |= (random() & (shape.pae ? 0xffffff000 : 0xfffff000)) & ~((u64{1} << low) - 1);
				if (!shape.pae && level == 2)
					e |= chance(50) ? (random() & 0x1fe000) : 0;
			} else {
				e |= chance(97) ? build(level - 1) : ram.hole & 0xfffff000;
			}
			ram.poke(at + i * size, size, e);
		}
		return at;
	}
	/* An address that follows entries that are there, mostly. */
	u64 address(u64 cr3)
	{
		if (chance(5))
			return random();
		u64 va = random() & 0xfff;
		u64 table = cr3;
		int level = !shape.pae ? 2 : !shape.long_mode ? 2 : shape.la57 ? 5 : 4;
		if (GetParam() == Paging::pae) {
			const u64 i = random() & 3;
			va |= i << 30;
			table = pdptes[i] & ~u64{0xfff};
		}
		for (; level > 0; --level) {
			const unsigned n = shape.pae ? 512 : 1024, size = shape.pae ? 8 : 4;
			const unsigned low = shape.pae ? 12 + 9 * (level - 1) : 12 + 10 * (level - 1);
			std::vector<u64> there;
			for (u64 i = 0; i < n; ++i)
				if (ram.peek(table + i * size, size))
					there.push_back(i);
			if (there.empty())
				break;
			const u64 i = there[random() % there.size()];
			va |= i << low;
			const u64 e = ram.peek(table + i * size, size);
			if (level > 1 && e & 0x80)
				va |= random() & ((u64{1} << low) - 1);
			table = e & 0xffffff000;
		}
		return va;
	}
};

TEST_P(Walker, AgreesWithTheManualsOnRandomTables)
{
	unsigned ok = 0, rsvd = 0, refused = 0, keys = 0;
	for (int world = 0; world < 60; ++world) {
		ram = {};
		next_table = 0x10000;
		ram.hole = u64{1} << 33; /* beyond everything built; build() points into it now and then */
		const int top = !shape.pae ? 2 : !shape.long_mode ? 2 : shape.la57 ? 5 : 4;
		u64 cr3 = 0;
		if (GetParam() == Paging::pae)
			for (u64 &p : pdptes)
				p = build(2) | (chance(90) ? 1 : 0);
		else
			cr3 = build(unsigned(top)) | (shape.pae ? pick({0, 0x18, 0xfff}) : 0x18);
		for (int n = 0; n < 400; ++n) {
			GuestRole g = shape;
			g.nx = chance(70), g.write_protect = chance(50), g.smep = chance(50), g.smap = chance(50);
			g.pke = chance(50);
			WalkCaps c;
			c.phys_bits = u8(pick({32, 36, 40, 46, 52}));
			c.huge_1g = chance(70), c.pse36 = chance(70), c.top_global_rsvd = chance(50);
			WalkRequest r;
			r.access = u32(random() & (pfec::write | pfec::user | pfec::fetch));
			if (r.access & pfec::fetch)
				r.access &= ~pfec::write;
			r.smap_exempt = chance(30);
			r.pkru = chance(50) ? 0 : u32(random());
			const u64 va = address(cr3 & ~u64{0xfff});
			const WalkExpected want = naive_walk(ram, g, c, cr3, pdptes, va, r);
			const WalkRam before = ram;
			const WalkResult got = walk_guest(ram, g, c, {cr3, pdptes}, Gva{va}, r);
			ASSERT_EQ(got.ok, want.ok) << std::hex << va << " error " << got.error << " wanted " << want.error;
			if (!got.ok) {
				ASSERT_EQ(got.error, want.error) << std::hex << va;
				ASSERT_EQ(ram.words, before.words) << "a refused access leaves no mark";
				rsvd += !!(got.error & 8);
				refused += (got.error & 9) == 1;
				keys += !!(got.error & 32);
				continue;
			}
			++ok;
			ASSERT_EQ(got.gpa.raw(), want.gpa) << std::hex << va;
			std::map<u64, u64> words = before.words;
			WalkRam marked = before;
			for (auto [at, bits] : want.marks)
				marked.poke(at, shape.pae ? 8 : 4, marked.peek(at, shape.pae ? 8 : 4) | bits);
			ASSERT_EQ(ram.words, marked.words);
		}
	}
	EXPECT_GT(ok, 2000u);
	if (GetParam() != Paging::none) {
		EXPECT_GT(refused, 500u);
		EXPECT_TRUE(rsvd > 100 || GetParam() == Paging::legacy);
	}
	EXPECT_EQ(keys > 0, shape.long_mode);
}

static std::string mode_name(const testing::TestParamInfo<Paging> &p)
{
	static const char *const names[] = {"none", "legacy", "legacy_pse", "pae", "four", "five"};
	return names[size_t(p.param)];
}
INSTANTIATE_TEST_SUITE_P(Modes, Walker,
			 testing::Values(Paging::none, Paging::legacy, Paging::legacy_pse, Paging::pae, Paging::four,
					 Paging::five),
			 mode_name);

namespace {

/* One page, mapped by four levels of tables at 0x1000, 0x2000, 0x3000, 0x4000. */
struct Simple {
	WalkRam ram;
	GuestRole role = role_of(Paging::four);
	WalkCaps caps;
	Simple()
	{
		for (u64 t = 0x1000; t < 0x4000; t += 0x1000)
			ram.poke(t, 8, (t + 0x1000) | 7);
		ram.poke(0x4000, 8, 0x9000 | 7);
		role.nx = role.write_protect = true;
	}
	WalkResult walk(u32 access = 0) { return walk_guest(ram, role, caps, {0x1000, nullptr}, Gva{0x123}, {.access = access}); }
};

}

TEST(WalkerMarks, AreSetOnceAndNotAgain)
{
	Simple s;
	EXPECT_TRUE(s.walk().ok);
	EXPECT_EQ(s.ram.swaps, 4u);
	EXPECT_TRUE(s.walk().ok);
	EXPECT_EQ(s.ram.swaps, 4u);
	EXPECT_TRUE(s.walk(pfec::write).ok);
	EXPECT_EQ(s.ram.swaps, 5u) << "D alone";
	EXPECT_EQ(s.ram.peek(0x4000, 8), 0x9067u);
}

TEST(WalkerMarks, AWalkStartsOverWhenAnEntryMoves)
{
	Simple s;
	bool once = true;
	s.ram.before_swap = [&](WalkRam &r) {
		if (once)
			r.poke(0x1000, 8, 0x5000 | 7), r.poke(0x5000, 8, 0x3000 | 7);
		once = false;
	};
	const WalkResult w = s.walk();
	EXPECT_TRUE(w.ok);
	EXPECT_EQ(w.gpa.raw(), 0x9123u);
	EXPECT_TRUE(s.ram.peek(0x5000, 8) & 0x20);
	EXPECT_FALSE(s.ram.peek(0x2000, 8) & 0x20) << "the table it left is not marked";
}

TEST(WalkerMarks, EndWhenTheGuestNeverStopsChangingItsTables)
{
	Simple s;
	u64 flip = 0;
	s.ram.before_swap = [&](WalkRam &r) { r.poke(0x1000, 8, 0x2000 | 7 | (++flip & 1) << 9); };
	const WalkResult w = s.walk();
	EXPECT_FALSE(w.ok);
	EXPECT_EQ(w.error, 0u);
	EXPECT_EQ(s.ram.swaps, GuestWalker<Guest4>::max_rounds);
}

TEST(WalkerMarks, AreLeftOutInRom)
{
	Simple s;
	s.ram.rom = 0;
	EXPECT_TRUE(s.walk(pfec::write).ok);
	EXPECT_EQ(s.ram.peek(0x4000, 8), 0x9007u);
}

TEST(WalkerMarks, FaultWhenTheMemoryGoesAway)
{
	Simple s;
	s.ram.before_swap = [](WalkRam &r) { r.hole = 0; };
	const WalkResult w = s.walk(pfec::write | pfec::user);
	EXPECT_FALSE(w.ok);
	EXPECT_EQ(w.error, pfec::write | pfec::user);
}

TEST(Permissions, WriteProtectAndItsLikeAreALookUp)
{
	/* Law 3: a role that differs in these only reads another row; it needs no preparation. */
	GuestRole a, b;
	b.write_protect = true;
	const WalkRequest w{.access = pfec::write};
	EXPECT_FALSE(guest_permissions.refuses(a, w, Access::read));
	EXPECT_TRUE(guest_permissions.refuses(b, w, Access::read));
}
