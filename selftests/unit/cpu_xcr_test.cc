/* SPDX-License-Identifier: GPL-2.0-only */
#include "cpu_record_qemu_max.hpp"
#include "cpu_record_ryzen.hpp"
#include "cpu_record_skylake.hpp"

using namespace kx;
using namespace kx::test;

namespace {

constexpr u64 avx512 = xcr0::opmask | xcr0::zmm_hi256 | xcr0::hi16_zmm;
constexpr u64 base = xcr0::fp | xcr0::sse | xcr0::avx;
constexpr u64 mpx = xcr0::bndregs | xcr0::bndcsr;
constexpr u64 tile = xcr0::xtilecfg | xcr0::xtiledata;

}

TEST(Xcr0, NeedsX87Always)
{
	EXPECT_FALSE(valid_xcr0(0, ~u64{0}));
	EXPECT_FALSE(valid_xcr0(xcr0::sse, ~u64{0}));
	EXPECT_TRUE(valid_xcr0(xcr0::fp, 0)); /* even where there is no XSAVE: the reset value */
}

TEST(Xcr0, HasNothingTheGuestLacks)
{
	for (unsigned b = 1; b < 64; ++b)
		EXPECT_FALSE(valid_xcr0(xcr0::fp | bit(b), xcr0::fp)) << b;
	EXPECT_FALSE(valid_xcr0(base | bit(63), base));
}

TEST(Xcr0, BuildsUpInOrder)
{
	const u64 all = base | mpx | avx512 | xcr0::pkru | tile;
	EXPECT_TRUE(valid_xcr0(base, all));
	EXPECT_FALSE(valid_xcr0(xcr0::fp | xcr0::avx, all));
	EXPECT_FALSE(valid_xcr0(xcr0::fp | xcr0::sse | avx512, all));
	EXPECT_TRUE(valid_xcr0(base | avx512, all));
	EXPECT_TRUE(valid_xcr0(xcr0::fp | xcr0::pkru, all));
	EXPECT_TRUE(valid_xcr0(all, all));
}

TEST(Xcr0, TakesGroupsWholeOrNotAtAll)
{
	const u64 all = base | mpx | avx512 | tile;
	for (u64 group : {mpx, avx512, tile}) {
		EXPECT_TRUE(valid_xcr0(base | group, all));
		for (unsigned b = 0; b < 64; ++b)
			EXPECT_EQ(valid_xcr0(base | (group & ~bit(b)), all), !(group & bit(b)))
				<< b;
	}
}

TEST(Xcr0, XsetbvKnowsRegisterZeroAlone)
{
	EXPECT_EQ(check_xsetbv(0, base, base).peek(), base);
	EXPECT_EQ(check_xsetbv(1, base, base).error(), Errc::inval);
	EXPECT_EQ(check_xsetbv(0x80000000, base, base).error(), Errc::inval);
	EXPECT_EQ(check_xsetbv(0, 0, base).error(), Errc::inval);
}

TEST(XstateLayout, AgreesWithTheProcessorsOwnSum)
{
	for (const auto &h : {host_of(qemu_max::raw), host_of(ryzen::raw), host_of(skylake::raw)}) {
		const XstateLayout l{h->cpuid};
		const CpuidRegs d = h->cpuid.at(0xd);
		EXPECT_EQ(l.size(d.eax | u64{d.edx} << 32, XsaveForm::standard), d.ecx);
	}
}

TEST(XstateLayout, CompactsWithoutGaps)
{
	const auto h = host_of(skylake::raw);
	const XstateLayout l{h->cpuid};
	EXPECT_EQ(l.size(base | avx512, XsaveForm::compacted), 0x980u); /* what Bochs computes */
	EXPECT_EQ(l.size(xcr0::fp | xcr0::hi16_zmm, XsaveForm::compacted), 0x240u + 0x400);
	EXPECT_EQ(l.size(xcr0::fp | xcr0::hi16_zmm, XsaveForm::standard), 0x680u + 0x400);
}

TEST(XstateLayout, AlignsWhatAsksForIt)
{
	HostCpuid odd;
	odd.capture([](u32 leaf, u32 sub) -> CpuidRegs {
		if (leaf == 0)
			return {0xd, 0, 0, 0};
		if (leaf != 0xd)
			return {};
		return sub == 9	   ? CpuidRegs{8, 0xa80, 0, 0}
		       : sub == 17 ? CpuidRegs{64, 0xac0, 2, 0}
				   : CpuidRegs{};
	});
	const XstateLayout l{odd};
	EXPECT_EQ(l.size(bit(9) | bit(17), XsaveForm::compacted), 640u + 64);
	EXPECT_EQ(l.size(bit(9), XsaveForm::compacted), 584u);
	EXPECT_EQ(l.size(bit(17), XsaveForm::compacted), 576u + 64);
}

TEST(XstateLayout, IsTheLegacyAreaAndHeaderAtLeast)
{
	const XstateLayout none;
	for (XsaveForm f : {XsaveForm::standard, XsaveForm::compacted}) {
		EXPECT_EQ(none.size(0, f), 576u);
		EXPECT_EQ(none.size(3, f), 576u);
		EXPECT_EQ(none.size(~u64{0}, f), 576u);
	}
}

TEST(Xcrs, GoOutAndComeBack)
{
	kvm_xcrs x;
	std::memset(&x, 0xff, sizeof(x));
	get_xcrs(x, base);
	EXPECT_EQ(x.nr_xcrs, 1u);
	EXPECT_EQ(x.flags, 0u);
	EXPECT_EQ(x.xcrs[0].xcr, 0u);
	EXPECT_EQ(x.xcrs[0].value, base);
	EXPECT_EQ(x.xcrs[1].value | x.padding[0], 0u);
	EXPECT_EQ(set_xcrs(x, xcr0::fp, base).peek(), base);
}

TEST(Xcrs, RefuseFlagsTooManyAndBadValues)
{
	kvm_xcrs x = {};
	EXPECT_EQ(set_xcrs(x, 3, base).peek(), 3u); /* nothing said, nothing changed */
	x.nr_xcrs = KVM_MAX_XCRS + 1;
	EXPECT_EQ(set_xcrs(x, 3, base).error(), Errc::inval);
	x.nr_xcrs = ~0u;
	EXPECT_EQ(set_xcrs(x, 3, base).error(), Errc::inval);
	x.nr_xcrs = 1;
	x.flags = 1;
	EXPECT_EQ(set_xcrs(x, 3, base).error(), Errc::inval);
	x.flags = 0;
	EXPECT_EQ(set_xcrs(x, 3, base).error(), Errc::inval); /* XCR0 = 0 */
	x.xcrs[0] = {.xcr = 1, .reserved = 0, .value = 99};
	EXPECT_EQ(set_xcrs(x, 3, base).peek(), 3u); /* some other register: ignored */
	x.nr_xcrs = 2;
	x.xcrs[1] = {.xcr = 0, .reserved = 0, .value = base};
	EXPECT_EQ(set_xcrs(x, 3, base).peek(), base);
}
