/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/sregs.hpp"
#include "cpu_record_qemu_max.hpp"

using namespace kx;
using namespace kx::test;

namespace {

struct Sregs : testing::Test {
	std::unique_ptr<Host> host = host_of(qemu_max::raw);
	std::unique_ptr<CpuidTable> cpuid;
	kvm_sregs s = {};

	Sregs()
	{
		host->make_caps();
		cpuid = table_of(*host, host->supported());
		s.cr0 = cr0::pe | cr0::pg | cr0::et;
		s.cr4 = cr4::pae;
		s.efer = efer::lme | efer::lma;
		s.cr3 = 0x1000;
		s.cs.l = 1;
		s.apic_base = apic_base::reset_address | apic_base::enable | apic_base::bsp;
	}
	Errc check() const { return check_sregs(s, *cpuid, host->caps); }
};

}

TEST_F(Sregs, TakeLongMode) { EXPECT_EQ(check(), Errc::ok); }

TEST_F(Sregs, TakeRealMode)
{
	s = {};
	s.cr0 = cr0::et | cr0::cd | cr0::nw;
	s.apic_base = apic_base::reset_address;
	EXPECT_EQ(check(), Errc::ok);
}

TEST_F(Sregs, LongModeNeedsPaeAndLma)
{
	s.cr4 = 0;
	EXPECT_EQ(check(), Errc::inval);
	s.cr4 = cr4::pae;
	s.efer = efer::lme;
	EXPECT_EQ(check(), Errc::inval);
}

TEST_F(Sregs, LongModeNeedsACr3TheGuestCanHave)
{
	s.cr3 = bit(40);
	EXPECT_EQ(check(), Errc::inval);
	/* Outside of it, nobody looks. */
	s.efer = 0;
	s.cs.l = 0;
	EXPECT_EQ(check(), Errc::ok);
}

TEST_F(Sregs, OutsideLongModeThereIsNoLmaAndNo64BitCode)
{
	s.efer = efer::lma;
	EXPECT_EQ(check(), Errc::inval);
	s.efer = 0;
	EXPECT_EQ(check(), Errc::inval); /* CS.L */
	s.cs.l = 0;
	EXPECT_EQ(check(), Errc::ok);
	s.efer = efer::lme;
	s.cr0 = cr0::pe;
	EXPECT_EQ(check(), Errc::ok);
	s.efer |= efer::lma;
	EXPECT_EQ(check(), Errc::inval);
}

TEST_F(Sregs, RefuseImpossibleCr0)
{
	for (u64 bad : {cr0::nw, bit(32)}) {
		s.cr0 |= bad;
		EXPECT_EQ(check(), Errc::inval);
		s.cr0 &= ~bad;
	}
	s.efer = 0, s.cs.l = 0, s.cr0 = cr0::pg;
	EXPECT_EQ(check(), Errc::inval);
}

TEST_F(Sregs, RefuseCr4BitsTheGuestLacks)
{
	const auto bare = table_of(*host, {entry(1, {0, 0, 0, ~0u})});
	for (u64 b : {cr4::umip, cr4::la57, cr4::vmxe, cr4::smxe, cr4::fsgsbase, cr4::pcide,
		      cr4::osxsave, cr4::smep, cr4::smap, cr4::pke}) {
		s.cr4 = cr4::pae | b;
		s.cr3 = 0;
		EXPECT_EQ(check_sregs(s, *bare, host->caps), Errc::inval) << std::hex << b;
	}
}

TEST_F(Sregs, TakeEverySupportedCr4BitBeforeCpuidIsSet)
{
	const CpuidTable unset;
	s = {};
	s.cr0 = cr0::et;
	s.cr4 = ~host->caps.cr4_reserved();
	EXPECT_EQ(check_sregs(s, unset, host->caps), Errc::ok);
	EXPECT_TRUE(s.cr4 & cr4::la57 && s.cr4 & cr4::umip);
	s.cr4 |= cr4::smxe;
	EXPECT_EQ(check_sregs(s, unset, host->caps), Errc::inval);
}

TEST_F(Sregs, CheckTheApicBase)
{
	s.apic_base = bit(10);
	EXPECT_EQ(check(), Errc::inval);
	s.apic_base = bit(11);
	EXPECT_EQ(check(), Errc::ok);
	s.apic_base = bit(11) | bit(10); /* no x2APIC offered */
	EXPECT_EQ(check(), Errc::inval);
	for (u64 b : {bit(0), bit(7), bit(9), bit(40), bit(63)}) {
		s.apic_base = bit(11) | b;
		EXPECT_EQ(check(), Errc::inval) << std::hex << b;
	}
}

TEST(ApicBase, GuestsClimbOneStepAtATime)
{
	auto h = host_of(qemu_max::raw);
	h->make_caps();
	const auto t = table_of(*h, {entry(1, {0, 0, mask_of(Feature::x2apic), 0})});
	const u64 off = apic_base::reset_address & ~ones(63, 36), x = off | apic_base::enable,
		  x2 = x | apic_base::x2apic;
	const auto ask = [&t](u64 from, u64 to, MsrBy by) {
		return check_apic_base(from, to, by, *t);
	};
	EXPECT_EQ(ask(off, x, MsrBy::guest), Errc::ok);
	EXPECT_EQ(ask(x, x2, MsrBy::guest), Errc::ok);
	EXPECT_EQ(ask(x2, off, MsrBy::guest), Errc::ok);
	EXPECT_EQ(ask(x2, x, MsrBy::guest), Errc::inval);
	EXPECT_EQ(ask(off, x2, MsrBy::guest), Errc::inval);
	EXPECT_EQ(ask(x2, x, MsrBy::host), Errc::ok);
	EXPECT_EQ(ask(off, x2, MsrBy::host), Errc::ok);
	EXPECT_EQ(ask(off, off | apic_base::x2apic, MsrBy::host), Errc::inval);
}

TEST(Segments, SurviveTheRoundTrip)
{
	for (unsigned bits = 0; bits < 256; ++bits) {
		Segment s = {};
		s.base = 0xffff800012345678;
		s.limit = 0xabcdef12;
		s.selector = 0x1234;
		s.type = bits & 15;
		s.dpl = bits >> 4 & 3;
		s.s = bits & 1, s.present = bits >> 1 & 1, s.avl = bits >> 2 & 1,
		s.l = bits >> 3 & 1;
		s.db = bits >> 4 & 1, s.g = bits >> 5 & 1, s.unusable = bits >> 6 & 1;
		EXPECT_EQ(from_kvm(to_kvm(s)), s);
		EXPECT_EQ(to_kvm(s).padding, 0);
	}
}

TEST(Segments, TakeTheLowBitsOfAVmmsBytes)
{
	kvm_segment k;
	std::memset(&k, 0xff, sizeof(k));
	const Segment s = from_kvm(k);
	EXPECT_EQ(s.type, 15);
	EXPECT_EQ(s.dpl, 3);
	EXPECT_TRUE(s.s && s.present && s.avl && s.l && s.db && s.g && s.unusable);
	k.type = 0xf0, k.dpl = 0xfc, k.s = 2;
	EXPECT_EQ(from_kvm(k).type, 0);
	EXPECT_EQ(from_kvm(k).dpl, 0);
	EXPECT_FALSE(from_kvm(k).s);
}

TEST(Segments, TablesLoseTheirPadding)
{
	kvm_dtable k;
	std::memset(&k, 0xff, sizeof(k));
	const kvm_dtable back = to_kvm(from_kvm(k));
	EXPECT_EQ(back.base, ~u64{0});
	EXPECT_EQ(back.limit, 0xffff);
	EXPECT_EQ(back.padding[0] | back.padding[1] | back.padding[2], 0);
}

TEST(PendingVector, IsTheLowestInTheBitmap)
{
	kvm_sregs s = {};
	EXPECT_EQ(pending_vector(s), -1);
	for (unsigned v : {255u, 128u, 64u, 63u, 33u, 0u}) {
		set_pending_vector(s, u8(v));
		EXPECT_EQ(pending_vector(s), int(v));
	}
}

TEST(ResetVector, IsWhereTheBootCpuStarts)
{
	kvm_sregs s = {};
	s.cs.selector = 0xf000;
	s.cs.base = 0xffff0000;
	EXPECT_TRUE(is_reset_vector(s, 0xfff0));
	EXPECT_FALSE(is_reset_vector(s, 0xfff1));
	s.cr0 = cr0::pe;
	EXPECT_FALSE(is_reset_vector(s, 0xfff0));
	s.cr0 = 0;
	s.cs.base = 0xf0000;
	EXPECT_FALSE(is_reset_vector(s, 0xfff0));
}
