/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/control_regs.hpp"
#include "cpu_record_qemu_max.hpp"
#include "cpu_record_skylake.hpp"

using namespace kx;
using namespace kx::test;

namespace {

constexpr u64 pe_pg = cr0::pe | cr0::pg | cr0::et;
constexpr ControlRegs real_mode = {cr0::et, 0, 0, 0};
constexpr ControlRegs flat32 = {pe_pg, 0x1000, 0, 0};
constexpr ControlRegs pae32 = {pe_pg, 0x1000, cr4::pae, 0};
constexpr ControlRegs long64 = {pe_pg, 0x1000, cr4::pae, efer::lme | efer::lma | efer::sce};
constexpr ControlRegs before_long = {cr0::pe | cr0::et, 0x1000, cr4::pae, efer::lme};

template <class T> void expect_gp(const OrException<T> &r)
{
	ASSERT_FALSE(r.ok());
	EXPECT_EQ(r.fault().vector, Vector::gp);
	EXPECT_TRUE(r.fault().has_error);
	EXPECT_EQ(r.fault().error, 0u);
}

struct Guest {
	std::unique_ptr<Host> host;
	std::unique_ptr<CpuidTable> cpuid;
	OrException<CrWrite> cr4(const ControlRegs &now, u64 v) const
	{
		return write_cr4(now, v, *cpuid, host->caps);
	}
	OrException<CrWrite> cr3(const ControlRegs &now, u64 v) const
	{
		return write_cr3(now, v, *cpuid);
	}
	OrException<u64> efer(const ControlRegs &now, u64 v) const
	{
		return write_efer(now, v, *cpuid, host->caps);
	}
};
template <size_t N> Guest guest_of(const RawCpuid (&raw)[N])
{
	Guest g{host_of(raw), nullptr};
	g.host->make_caps();
	g.cpuid = table_of(*g.host, g.host->supported());
	return g;
}

}

TEST(WriteCr0, RefusesTheCombinationsThatFault)
{
	for (u64 v : {cr0::pg, cr0::pe | cr0::nw, cr0::nw, bit(32), bit(63) | cr0::pe})
		expect_gp(write_cr0(real_mode, v, CodeSize::not64));
	EXPECT_TRUE(write_cr0(real_mode, cr0::pe | cr0::nw | cr0::cd, CodeSize::not64).ok());
	EXPECT_TRUE(write_cr0(real_mode, cr0::pe | cr0::cd, CodeSize::not64).ok());
}

TEST(WriteCr0, KeepsEtAndDropsReservedBits)
{
	const auto r = write_cr0(real_mode, cr0::pe | bit(6) | bit(17) | bit(28), CodeSize::not64);
	ASSERT_TRUE(r.ok());
	EXPECT_EQ(r.value().regs.cr0, cr0::pe | cr0::et);
}

TEST(WriteCr0, EntersLongModeWithPagingAndLeavesItWithout)
{
	const auto on = write_cr0(before_long, pe_pg, CodeSize::not64);
	ASSERT_TRUE(on.ok());
	EXPECT_EQ(on.value().regs.efer, efer::lme | efer::lma);
	EXPECT_EQ(on.value().pdptrs, Pdptrs::keep);
	EXPECT_EQ(on.value().tlb, TlbOwed::everything);

	const auto off = write_cr0(on.value().regs, cr0::pe, CodeSize::not64);
	ASSERT_TRUE(off.ok());
	EXPECT_EQ(off.value().regs.efer, efer::lme);
	EXPECT_EQ(off.value().tlb, TlbOwed::everything);
	expect_gp(write_cr0(long64, cr0::pe, CodeSize::is64)); /* from 64-bit code */
}

TEST(WriteCr0, LongModeNeedsPaeAndA32BitSegment)
{
	ControlRegs no_pae = before_long;
	no_pae.cr4 = 0;
	expect_gp(write_cr0(no_pae, pe_pg, CodeSize::not64));
	expect_gp(write_cr0(before_long, pe_pg, CodeSize::is64));
}

TEST(WriteCr0, CannotLeavePagingWithProcessContextIds)
{
	ControlRegs r = long64;
	r.cr4 |= cr4::pcide;
	expect_gp(write_cr0(r, cr0::pe, CodeSize::not64));
}

TEST(WriteCr0, LoadsPdptrsWhenPaePagingStartsOrCachingChanges)
{
	ControlRegs off = pae32;
	off.cr0 = cr0::pe | cr0::et;
	EXPECT_EQ(write_cr0(off, pe_pg, CodeSize::not64).value().pdptrs, Pdptrs::load);
	EXPECT_EQ(write_cr0(pae32, pe_pg | cr0::cd, CodeSize::not64).value().pdptrs, Pdptrs::load);
	EXPECT_EQ(write_cr0(pae32, pe_pg | cr0::wp | cr0::ts, CodeSize::not64).value().pdptrs,
		  Pdptrs::keep);
	EXPECT_EQ(write_cr0(flat32, pe_pg | cr0::cd, CodeSize::not64).value().pdptrs, Pdptrs::keep);
	EXPECT_EQ(write_cr0(long64, pe_pg | cr0::cd, CodeSize::is64).value().pdptrs, Pdptrs::keep);
}

TEST(WriteCr0, WriteProtectOwesNothing)
{
	const auto r = write_cr0(long64, pe_pg | cr0::wp, CodeSize::is64);
	ASSERT_TRUE(r.ok());
	EXPECT_EQ(r.value().tlb, TlbOwed::nothing);
	EXPECT_EQ(r.value().regs.efer, long64.efer);
}

TEST(WriteMsw, SetsButNeverClearsPe)
{
	EXPECT_EQ(write_msw(real_mode, 0xffff, CodeSize::not64).value().regs.cr0,
		  cr0::pe | cr0::mp | cr0::em | cr0::ts | cr0::et);
	EXPECT_EQ(write_msw(long64, 0, CodeSize::is64).value().regs.cr0, pe_pg);
	ControlRegs ts = long64;
	ts.cr0 |= cr0::ts;
	EXPECT_EQ(write_msw(ts, 0, CodeSize::is64).value().regs.cr0, pe_pg);
}

TEST(WriteCr3, RefusesAddressesTooWide)
{
	const Guest g = guest_of(qemu_max::raw);
	EXPECT_TRUE(g.cr3(long64, ones(39, 12)).ok());
	expect_gp(g.cr3(long64, bit(40)));
	expect_gp(g.cr3(long64, bit(63) | 0x1000)); /* not a flag without CR4.PCIDE */
}

TEST(WriteCr3, KeepsTheTlbOnRequest)
{
	const Guest g = guest_of(skylake::raw);
	ControlRegs r = long64;
	r.cr4 |= cr4::pcide;
	const auto keep = g.cr3(r, bit(63) | 0x2005);
	ASSERT_TRUE(keep.ok());
	EXPECT_EQ(keep.value().regs.cr3, 0x2005u);
	EXPECT_EQ(keep.value().tlb, TlbOwed::nothing);
	EXPECT_EQ(g.cr3(r, 0x2005).value().tlb, TlbOwed::current);
}

TEST(WriteCr3, LoadsPdptrsUnderPaePagingEvenOfTheSame)
{
	const Guest g = guest_of(qemu_max::raw);
	EXPECT_EQ(g.cr3(pae32, pae32.cr3).value().pdptrs, Pdptrs::load);
	EXPECT_EQ(g.cr3(pae32, 0x2000).value().pdptrs, Pdptrs::load);
	EXPECT_EQ(g.cr3(long64, 0x2000).value().pdptrs, Pdptrs::keep);
	EXPECT_EQ(g.cr3(flat32, 0x2000).value().pdptrs, Pdptrs::keep);
}

TEST(WriteCr4, RefusesBitsHostOrGuestLack)
{
	Guest g = guest_of(qemu_max::raw);
	for (u64 v : {cr4::vmxe, cr4::smxe, cr4::cet, cr4::pks, bit(15), bit(19), bit(32), bit(63)})
		expect_gp(g.cr4(flat32, v));
	EXPECT_TRUE(g.cr4(flat32, cr4::smep | cr4::smap | cr4::fsgsbase | cr4::umip | cr4::osxsave |
					  cr4::pke)
			    .ok());
	g.cpuid = table_of(*g.host, {entry(1, {0, 0, 0, ~0u})});
	for (u64 v :
	     {cr4::smep, cr4::smap, cr4::fsgsbase, cr4::umip, cr4::osxsave, cr4::pke, cr4::la57})
		expect_gp(g.cr4(flat32, v));
}

TEST(WriteCr4, LongModeKeepsPaeAndItsLevels)
{
	const Guest g = guest_of(qemu_max::raw);
	expect_gp(g.cr4(long64, 0));
	expect_gp(g.cr4(long64, cr4::pae | cr4::la57));
	ControlRegs five = long64;
	five.cr4 |= cr4::la57;
	expect_gp(g.cr4(five, cr4::pae));
	EXPECT_TRUE(g.cr4(pae32, cr4::pae | cr4::la57).ok()); /* on the way there */
}

TEST(WriteCr4, ProcessContextIdsStartInLongModeFromZero)
{
	const Guest g = guest_of(skylake::raw);
	EXPECT_TRUE(g.cr4(long64, cr4::pae | cr4::pcide).ok());
	ControlRegs tagged = long64;
	tagged.cr3 |= 5;
	expect_gp(g.cr4(tagged, cr4::pae | cr4::pcide));
	expect_gp(g.cr4(pae32, cr4::pae | cr4::pcide));
	tagged.cr4 |= cr4::pcide;
	EXPECT_TRUE(g.cr4(tagged, tagged.cr4 | cr4::pge).ok()); /* on already */
}

TEST(WriteCr4, OwesTheFlushesTheManualNames)
{
	const Guest g = guest_of(skylake::raw);
	ControlRegs ids = long64;
	ids.cr4 |= cr4::pcide;
	EXPECT_EQ(g.cr4(long64, cr4::pae | cr4::pge).value().tlb, TlbOwed::everything);
	EXPECT_EQ(g.cr4(ids, cr4::pae).value().tlb, TlbOwed::everything);
	EXPECT_EQ(g.cr4(long64, cr4::pae | cr4::pcide).value().tlb, TlbOwed::nothing);
	EXPECT_EQ(g.cr4(long64, cr4::pae | cr4::smep).value().tlb, TlbOwed::current);
	EXPECT_EQ(g.cr4(flat32, cr4::pae).value().tlb, TlbOwed::everything);
	EXPECT_EQ(g.cr4(flat32, cr4::pse).value().tlb, TlbOwed::everything);
	EXPECT_EQ(g.cr4({pe_pg, 0x1000, cr4::pse, 0}, 0).value().tlb, TlbOwed::everything);
	EXPECT_EQ(g.cr4(long64, cr4::pae | cr4::osxsave | cr4::smap).value().tlb, TlbOwed::nothing);
}

TEST(WriteCr4, LoadsPdptrsUnderPaePaging)
{
	const Guest g = guest_of(skylake::raw);
	EXPECT_EQ(g.cr4(flat32, cr4::pae).value().pdptrs, Pdptrs::load);
	EXPECT_EQ(g.cr4(pae32, cr4::pae | cr4::pge).value().pdptrs, Pdptrs::load);
	EXPECT_EQ(g.cr4(pae32, cr4::pae | cr4::smep).value().pdptrs, Pdptrs::load);
	EXPECT_EQ(g.cr4(pae32, cr4::pae | cr4::de).value().pdptrs, Pdptrs::keep);
	EXPECT_EQ(g.cr4(pae32, 0).value().pdptrs, Pdptrs::keep);
	EXPECT_EQ(g.cr4(long64, cr4::pae | cr4::pge).value().pdptrs, Pdptrs::keep);
}

TEST(WriteCr8, HasFourBits)
{
	EXPECT_EQ(write_cr8(15).value(), 15u);
	expect_gp(write_cr8(16));
	expect_gp(write_cr8(bit(63)));
}

TEST(WriteEfer, RefusesWhatHostOrGuestLack)
{
	Guest g = guest_of(qemu_max::raw);
	for (u64 v : {efer::svme, efer::lmsle, efer::tce, efer::autoibrs, bit(1), bit(9), bit(63)})
		expect_gp(g.efer(real_mode, v));
	EXPECT_TRUE(g.efer(real_mode, efer::sce | efer::lme | efer::nx).ok());
	g.cpuid = table_of(*g.host, {});
	EXPECT_TRUE(g.efer(real_mode, efer::sce).ok());
	for (u64 v : {efer::lme, efer::nx, efer::lma})
		expect_gp(g.efer(real_mode, v));
}

TEST(WriteEfer, KeepsLmaWhateverIsWritten)
{
	const Guest g = guest_of(qemu_max::raw);
	EXPECT_EQ(g.efer(long64, efer::lme).value(), efer::lme | efer::lma);
	EXPECT_EQ(g.efer(real_mode, efer::lma | efer::lme).value(), efer::lme);
}

TEST(WriteEfer, CannotChangeLmeUnderPaging)
{
	const Guest g = guest_of(qemu_max::raw);
	expect_gp(g.efer(long64, efer::sce | efer::lma));
	expect_gp(g.efer(pae32, efer::lme));
	EXPECT_TRUE(g.efer(long64, efer::lme | efer::nx).ok());
	EXPECT_TRUE(g.efer(before_long, 0).ok());
}

TEST(HostEfer, RefusesOnlyWhatNoGuestCouldHave)
{
	const Guest g = guest_of(qemu_max::raw);
	EXPECT_EQ(host_efer(long64, efer::sce, g.host->caps).peek(),
		  efer::sce | efer::lma); /* LME too, under paging */
	EXPECT_EQ(host_efer(real_mode, efer::svme, g.host->caps).error(), Errc::inval);
	EXPECT_EQ(host_efer(real_mode, bit(40), g.host->caps).error(), Errc::inval);
}

TEST(ControlRegs, KnowTheirMode)
{
	EXPECT_TRUE(pae32.pae_paging() && !long64.pae_paging() && !flat32.pae_paging() &&
		    !before_long.pae_paging());
	EXPECT_EQ(long64.linear_bits(), 48u);
	ControlRegs five = long64;
	five.cr4 |= cr4::la57;
	EXPECT_EQ(five.linear_bits(), 57u);
}
