/* SPDX-License-Identifier: GPL-2.0-only */
#include <gtest/gtest.h>
#include <random>
#include "arch/x86/mmu/role.hpp"
#include "arch/x86/mmu/spte.hpp"

using namespace kx;

template <class F> class Format : public testing::Test {
public:
	std::mt19937_64 random{1};
	MmuCaps caps() const
	{
		MmuCaps c;
		c.phys_bits = c.rsvd_from = 46;
		return c;
	}
};
using Formats = testing::Types<LongMode, Ept>;
TYPED_TEST_SUITE(Format, Formats);

TYPED_TEST(Format, LeafGivesBackWhatItWasMadeFrom)
{
	using F = TypeParam;
	for (int round = 0; round < 5000; ++round) {
		const u64 r = this->random();
		const Level l = Level(r % 3);
		LeafAttr a;
		a.access = Access::read | Access(r >> 8 & u8(Access::write | Access::exec));
		a.host_writable = allows(a.access, Access::write) || r >> 16 & 1;
		a.mmu_writable = allows(a.access, Access::write) || (a.host_writable && r >> 17 & 1);
		a.accessed = r >> 18 & 1;
		a.type = r >> 19 & 1 ? MemType::ram : MemType::device;
		const Pfn pfn{this->random() & ones(33, 0) & ~(pages_of(l) - 1)};
		const auto e = Spte<F>::leaf(pfn, l, a, this->caps());
		ASSERT_TRUE(e.is_present() && e.is_leaf(l) && !e.is_table(l) && !e.is_empty());
		ASSERT_TRUE(F::walked(e.raw()));
		ASSERT_EQ(e.pfn(this->caps()), pfn);
		ASSERT_EQ(e.access() & Access::rwx, a.access);
		ASSERT_TRUE(allows(e.access(), Access::user));
		ASSERT_EQ(e.is_writable(), allows(a.access, Access::write));
		ASSERT_EQ(e.is_mmu_writable(), a.mmu_writable);
		ASSERT_EQ(F::HostWritable::test(e.raw()), a.host_writable);
		ASSERT_EQ(e.is_accessed(), a.accessed);
		ASSERT_EQ(F::Dirty::test(e.raw()), e.is_writable());
	}
}

TYPED_TEST(Format, EditsChangeNothingElse)
{
	using F = TypeParam;
	const auto e = Spte<F>::leaf(Pfn{0x1234}, Level::page,
				     {.access = Access::rwx, .mmu_writable = true, .host_writable = true, .accessed = true},
				     this->caps());
	const auto p = e.write_protected();
	EXPECT_FALSE(p.is_writable());
	EXPECT_TRUE(p.is_mmu_writable());
	EXPECT_EQ(p.pfn(this->caps()), e.pfn(this->caps()));
	EXPECT_EQ(p.made_writable(), e);
	EXPECT_FALSE(e.aged().is_accessed());
	EXPECT_EQ(e.aged().made_writable(), e);
}

TYPED_TEST(Format, PiecesOfAHugeLeafSayTheSame)
{
	using F = TypeParam;
	for (Level l : {Level::large, Level::huge}) {
		const auto e = Spte<F>::leaf(Pfn{1 << 20}, l, {.access = Access::rwx, .mmu_writable = true, .host_writable = true},
					     this->caps());
		for (unsigned i : {0u, 1u, 511u}) {
			const auto p = e.piece(l, i);
			EXPECT_TRUE(p.is_leaf(below(l)));
			EXPECT_EQ(p.pfn(this->caps()), Pfn{(1 << 20) + i * pages_of(below(l))});
			EXPECT_EQ(p.access(), e.access());
			EXPECT_EQ(p.is_mmu_writable(), e.is_mmu_writable());
		}
	}
}

TYPED_TEST(Format, TablesAllowEverythingAndAreNoLeaves)
{
	using F = TypeParam;
	const auto t = Spte<F>::table(Hpa{0x7000}, this->caps());
	for (Level l : {Level::large, Level::huge, Level::top4, Level::top5})
		EXPECT_TRUE(t.is_table(l) && !t.is_leaf(l));
	EXPECT_EQ(t.address(this->caps()), Hpa{0x7000});
	EXPECT_TRUE(allows(t.access(), Access::all));
}

/* L1TF: what hardware does not walk through names no memory a guest could choose. */
TYPED_TEST(Format, NothingUnusableNamesMemory)
{
	using F = TypeParam;
	for (u64 e : {u64{0}, F::mmio(this->caps())}) {
		const u64 address = e & ones(51, 12);
		EXPECT_TRUE(address == 0 || address == ones(51, 12)) << std::hex << e;
		EXPECT_FALSE(F::mmu_present(e));
		EXPECT_FALSE(F::walked(e));
		EXPECT_FALSE(F::Accessed::test(e)) << "ageing would change it";
	}
	EXPECT_FALSE(Spte<F>{}.is_mmio(this->caps()));
	EXPECT_TRUE(Spte<F>::mmio(this->caps()).is_mmio(this->caps()));
}

TEST(LongMode, CannotRememberMmioWithoutAReservedBit)
{
	MmuCaps c;
	c.rsvd_from = 52;
	EXPECT_EQ(LongMode::mmio(c), 0u);
	c.rsvd_from = 51;
	c.me_mask = bit(51);
	EXPECT_EQ(LongMode::mmio(c), 0u);
	c.rsvd_from = 47;
	EXPECT_NE(LongMode::mmio(c), 0u);
}

TEST(LongMode, EncryptsRamAndTablesButNoDevices)
{
	MmuCaps c;
	c.me_mask = bit(47);
	const Pfn p{0x4000};
	const auto ram = Spte<LongMode>::leaf(p, Level::page, {.access = Access::read}, c);
	const auto device = Spte<LongMode>::leaf(p, Level::page, {.access = Access::read, .type = MemType::device}, c);
	EXPECT_TRUE(ram.raw() & c.me_mask);
	EXPECT_FALSE(device.raw() & c.me_mask);
	EXPECT_TRUE(LongMode::Pcd::test(device.raw()));
	EXPECT_TRUE(Spte<LongMode>::table(Hpa{0x5000}, c).raw() & c.me_mask);
	EXPECT_EQ(ram.pfn(c), p);
	EXPECT_EQ((Spte<LongMode>::table(Hpa{0x5000}, c).address(c)), Hpa{0x5000});
}

TEST(Ept, MmioIsAViolationAtEveryLevel)
{
	const u64 e = Ept::mmio({});
	EXPECT_EQ(e & 7, 0u);
	EXPECT_NE(e, 0u);
	EXPECT_EQ(Ept::mmio_fault, 0u);
	EXPECT_TRUE(Ept::SuppressVe::test(e));
}

TEST(Ept, MemoryTypeIsWriteBackForRamAlone)
{
	const auto of = [](MemType t) { return Ept::leaf_bits(Level::page, {.access = Access::read, .type = t}, {}); };
	EXPECT_EQ(Ept::Type::get(of(MemType::ram)), Ept::write_back);
	EXPECT_TRUE(Ept::IgnorePat::test(of(MemType::ram)));
	EXPECT_EQ(Ept::Type::get(of(MemType::device)), Ept::uncached);
	EXPECT_FALSE(Ept::IgnorePat::test(of(MemType::device)));
}

TEST(PageRole, KeepsAddressSpacesApart)
{
	EXPECT_NE(tdp_role({.smm = true}, {}), tdp_role({}, {}));
	MmuCaps five;
	five.levels = 5;
	EXPECT_NE(tdp_role({}, five), tdp_role({}, {}));
}

TEST(PageRole, OfAShadowRootSeesWhatChangesEntries)
{
	const GuestRole g = role_proof::linux64;
	GuestRole h = g;
	h.nx = false;
	EXPECT_NE(shadow_role(g), shadow_role(h));
	h = g, h.write_protect = false;
	EXPECT_NE(shadow_role(g), shadow_role(h));
	h = g, h.long_mode = false;
	EXPECT_NE(shadow_role(g), shadow_role(h));
	h = g, h.pke = true;
	EXPECT_EQ(shadow_role(g), shadow_role(h));
}
