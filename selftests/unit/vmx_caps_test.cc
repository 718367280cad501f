// SPDX-License-Identifier: GPL-2.0-only
#include "vmx_controls.hpp"

using namespace kx;
using namespace kx::vmx;
using namespace kx::test;

/* Generations */

namespace {
constexpr u32 rdtscp = proc2::rdtscp, rdrand = rdtscp | proc2::rdrand, invpcid = rdrand | proc2::invpcid,
	      rdseed = invpcid | proc2::rdseed, xsaves = rdseed | proc2::xsaves;
struct Expected {
	const VmxMsrs *cpu;
	u32 revision, by_cpuid;
	bool unrestricted, ad, gig, five, pml, pause_loop, encls = false;
};
constexpr Expected expected[] = {
	{&nehalem, 1, rdtscp, false, false, true, false, false, false},
	{&westmere, 1, rdtscp, true, false, true, false, false, false},
	{&sandy_bridge, 0x10, rdtscp, true, false, false, false, false, false},
	{&ivy_bridge, 0x10, rdrand, true, false, false, false, false, false},
	{&braswell, 2, rdrand, true, false, false, false, false, false},
	{&haswell, 0x12, invpcid, true, true, true, false, false, true},
	{&broadwell, 0x12, rdseed, true, true, true, false, false, true},
	{&skylake, 4, xsaves, true, true, true, false, true, true, true},
	{&skylake_x, 4, xsaves, true, true, true, false, false, true},
	{&cascade_lake, 1, rdseed, true, true, true, false, true, false},
	{&cannon_lake, 4, xsaves, true, true, true, false, true, true},
	{&ice_lake, 0x13, xsaves, true, true, true, false, true, true, true},
	{&tiger_lake, 0x13, xsaves, true, true, true, false, true, true},
	{&sapphire_rapids, 1, xsaves, true, true, true, true, true, false},
	{&arrow_lake, 0x15, xsaves, true, true, true, false, true, true},
	{&bochs_lynnfield, 0x2b, rdtscp, false, false, false, false, false, false},
	{&bochs_arrandale, 0x2b, rdtscp, true, false, false, false, false, false},
	{&bochs_sandy_bridge, 0x2b, rdtscp, true, false, false, false, false, false},
	{&bochs_ivy_bridge, 0x2b, rdrand, true, false, false, false, false, false},
	{&bochs_haswell, 0x2b, invpcid, true, true, true, false, false, true},
	{&bochs_broadwell, 0x2b, rdseed, true, true, true, false, false, true},
	{&bochs_skylake_x, 0x2b, xsaves, true, true, true, false, true, true},
	{&bochs_sapphire_rapids, 4, xsaves, true, true, true, false, true, true},
	{&bochs_arrow_lake, 4, xsaves, true, true, true, false, true, true},
};
}

TEST(VmxCaps, TakesEveryGenerationThatHasExtendedPageTables)
{
	EXPECT_EQ(std::size(expected), with_ept().size());
	for (const Expected &e : expected) {
		SCOPED_TRACE(e.cpu->name);
		const Negotiated n = negotiate(read(*e.cpu));
		ASSERT_TRUE(accepted(n));
		const Caps &c = n.caps;
		EXPECT_EQ(c.revision, e.revision);
		EXPECT_EQ(c.proc2_by_cpuid, e.by_cpuid);
		EXPECT_EQ(c.unrestricted, e.unrestricted);
		EXPECT_EQ(c.ept_ad, e.ad);
		EXPECT_EQ(c.ept_1g, e.gig);
		EXPECT_EQ(c.ept_5_levels, e.five);
		EXPECT_EQ(c.pml, e.pml);
		EXPECT_EQ(c.pause_loop, e.pause_loop);
		EXPECT_TRUE(c.vpid && c.vnmi && c.tpr_shadow && c.pat && c.invept_single && c.preemption_timer);
		EXPECT_EQ(c.pin, 0x16u | pin::external_interrupt | pin::nmi | pin::virtual_nmi);
		EXPECT_EQ(c.proc, 0x04006172u | proc::hlt | proc::mwait | proc::rdpmc | proc::tsc_offset |
					  proc::mov_dr | proc::unconditional_io | proc::msr_bitmaps | proc::monitor |
					  proc::secondary | proc::cr8_load | proc::tpr_shadow);
		EXPECT_EQ(c.proc2, proc2::ept | proc2::vpid | proc2::wbinvd |
					   (e.unrestricted ? proc2::unrestricted : 0) |
					   (e.pause_loop ? proc2::pause_loop : 0) | (e.encls ? proc2::encls : 0));
		EXPECT_EQ(c.exit, 0x36dffu | exit_control::host_64 | exit_control::load_efer |
					  exit_control::load_pat);
		EXPECT_EQ(c.entry, 0x11ffu | entry_control::load_efer | entry_control::load_pat);
	}
}

TEST(VmxCaps, RefusesAProcessorWithoutExtendedPageTables)
{
	for (const VmxMsrs *cpu : {&penryn, &bochs_penryn})
		for (unsigned i = 0; i < 1 << nr_switches; ++i)
			EXPECT_TRUE(refused(negotiate(read(*cpu), switches_of(i)), Lacks::proc2, proc2::ept))
				<< cpu->name << ' ' << i;
}

TEST(VmxCaps, TakesOneWithoutUnrestrictedGuest)
{
	const Caps c = negotiate(read(nehalem)).caps;
	EXPECT_FALSE(c.unrestricted);
	EXPECT_EQ(c.cr0_fixed0, 0x80000021u) << "PE and PG stay fixed";
	EXPECT_EQ(c, negotiate(read(nehalem), {.unrestricted = false}).caps);
}

/* Properties of all sets and all combinations of the switches */

TEST(VmxCaps, EveryControlWordIsOneThatTheProcessorAllows)
{
	for (const VmxMsrs *cpu : with_ept()) {
		const CapMsrs m = read(*cpu);
		for (unsigned i = 0; i < 1 << nr_switches; ++i) {
			SCOPED_TRACE(cpu->name + (" " + std::to_string(i)));
			const Negotiated n = negotiate(m, switches_of(i));
			ASSERT_TRUE(accepted(n));
			const Caps &c = n.caps;
			for (const Control &w : controls) {
				const u32 v = c.*w.word, must = u32(m.*w.msr), may = u32(m.*w.msr >> 32);
				EXPECT_EQ(must & ~v, 0u) << w.name;
				EXPECT_EQ(v & ~may, 0u) << w.name;
			}
			/* Those that come later */
			EXPECT_EQ(c.proc2_by_cpuid & ~u32(m.proc2 >> 32), 0u);
			EXPECT_TRUE(m.proc >> 32 & proc::interrupt_window);
			EXPECT_TRUE(m.entry >> 32 & entry_control::ia32e);
			EXPECT_TRUE(!c.vnmi || m.proc >> 32 & proc::nmi_window);
			EXPECT_TRUE(!c.pml || m.proc2 >> 32 & proc2::pml);
			EXPECT_TRUE(!c.preemption_timer || m.pin >> 32 & pin::preemption_timer);
			/* Those that go together. SDM vol. 3 §27.2.1 */
			EXPECT_EQ(c.vnmi, bool(c.pin & pin::virtual_nmi));
			EXPECT_TRUE(!c.vnmi || c.pin & pin::nmi);
			EXPECT_EQ(c.vpid, bool(c.proc2 & proc2::vpid));
			EXPECT_EQ(c.unrestricted, bool(c.proc2 & proc2::unrestricted));
			EXPECT_EQ(c.pause_loop, bool(c.proc2 & proc2::pause_loop));
			EXPECT_EQ(c.tpr_shadow, bool(c.proc & proc::tpr_shadow));
			EXPECT_NE(c.tpr_shadow, bool(c.proc & proc::cr8_store));
			EXPECT_EQ(c.pat, bool(c.exit & exit_control::load_pat));
			EXPECT_EQ(c.pat, bool(c.entry & entry_control::load_pat));
			EXPECT_EQ(c.proc2 & c.proc2_by_cpuid, 0u);
			EXPECT_EQ(c.proc & (proc::io_bitmaps | proc::monitor_trap | proc::interrupt_window), 0u);
		}
	}
}

TEST(VmxCaps, ASwitchTakesItsFeatureAwayAndNothingElse)
{
	for (const VmxMsrs *cpu : with_ept()) {
		const CapMsrs m = read(*cpu);
		const Caps all = negotiate(m).caps;
		for (unsigned i = 0; i < 1 << nr_switches; ++i) {
			const Switches s = switches_of(i);
			Caps want = all;
			if (!s.vpid) {
				want.vpid = false;
				want.proc2 &= ~proc2::vpid;
			}
			if (!s.ept_ad)
				want.ept_ad = want.pml = false;
			if (!s.unrestricted) {
				want.unrestricted = false;
				want.proc2 &= ~proc2::unrestricted;
			}
			if (!s.vnmi) {
				want.vnmi = false;
				want.pin &= ~pin::virtual_nmi;
			}
			if (!s.pml)
				want.pml = false;
			if (!s.tpr_shadow) {
				want.tpr_shadow = false;
				want.proc = (want.proc & ~proc::tpr_shadow) | proc::cr8_store;
			}
			EXPECT_EQ(negotiate(m, s).caps, want) << cpu->name << ' ' << i;
		}
	}
}

/* Processors without the «true» MSRs. SDM vol. 3 §A.2 */

TEST(VmxCaps, KeepsTheDefault1ClassOnWithoutTrueMsrs)
{
	for (const VmxMsrs *cpu : with_ept()) {
		SCOPED_TRACE(cpu->name);
		VmxMsrs old = *cpu;
		old.value[0] &= ~bit(55);
		for (u32 msr = 0x48d; msr <= 0x490; ++msr)
			old.value[msr - 0x480] = 0;
		const CapMsrs m = read(old);
		const Negotiated n = negotiate(m), is = negotiate(read(*cpu));
		ASSERT_TRUE(accepted(n));
		for (const Control &w : controls)
			for (unsigned b : w.default1)
				EXPECT_TRUE(n.caps.*w.word & bit(b)) << w.name << ' ' << b;
		/* In effect these two; the debug controls are on anyway */
		Caps want = is.caps;
		want.proc |= proc::cr3_load | proc::cr3_store;
		EXPECT_EQ(n.caps, want);
		EXPECT_FALSE(is.caps.proc & (proc::cr3_load | proc::cr3_store));
	}
}

/* Reading */

namespace {
std::set<u32> asked(VmxMsrs cpu)
{
	std::set<u32> s;
	read_caps([&](u32 msr) {
		EXPECT_TRUE(s.insert(msr).second) << "twice: " << std::hex << msr;
		return cpu.at(msr);
	});
	return s;
}
const std::set<u32> always = {0x480, 0x485, 0x486, 0x487, 0x488, 0x489},
		    plain = {0x481, 0x482, 0x483, 0x484}, truly = {0x48d, 0x48e, 0x48f, 0x490};
std::set<u32> all_of(std::initializer_list<std::set<u32>> l)
{
	std::set<u32> r;
	for (const auto &s : l)
		r.insert(s.begin(), s.end());
	return r;
}
}

TEST(VmxCaps, AsksOnlyForRegistersThatAreThere)
{
	for (const VmxMsrs *cpu : every_vmx)
		EXPECT_EQ(asked(*cpu), all_of({always, cpu->at(0x480) & bit(55) ? truly : plain, {0x48b},
					       has_ept(*cpu) ? std::set<u32>{0x48c} : std::set<u32>{}}))
			<< cpu->name;

	/* IA32_VMX_EPT_VPID_CAP is there for either of the two. SDM vol. 3 §A.10 */
	VmxMsrs v = skylake;
	v.value[0xb] = u64{proc2::vpid} << 32;
	EXPECT_EQ(asked(v), all_of({always, truly, {0x48b, 0x48c}}));
	v.value[0xb] = u64{proc2::ept} << 32;
	EXPECT_EQ(asked(v), all_of({always, truly, {0x48b, 0x48c}}));
	v.value[0xb] = ~(u64{proc2::ept | proc2::vpid} << 32);
	EXPECT_EQ(asked(v), all_of({always, truly, {0x48b}}));

	/* What activates the secondary controls is in the high half */
	v = skylake;
	v.value[0xe] = denied(v.value[0xe], 31);
	EXPECT_EQ(asked(v), all_of({always, truly}));
	v.value[0xe] |= bit(31);
	EXPECT_EQ(asked(v), all_of({always, truly}));
	v = penryn;
	v.value[2] = denied(v.value[2], 31);
	EXPECT_EQ(asked(v), all_of({always, plain}));
}

TEST(VmxCaps, ReadsEachRegisterToItsPlace)
{
	/* Each register tells its number, and in the bits that decide what is there */
	for (const bool has_true : {true, false}) {
		const u64 x = bit(63) | u64{proc2::ept} << 32 | (has_true ? bit(55) : 0);
		const u64 pin = has_true ? 0x48d : 0x481;
		EXPECT_EQ(read_caps([x](u32 msr) { return x | msr; }),
			  (CapMsrs{x | 0x480, x | pin, x | (pin + 1), x | 0x48b, x | (pin + 2), x | (pin + 3),
				   x | 0x485, x | 0x48c, x | 0x486, x | 0x487, x | 0x488, x | 0x489}));
	}
}

TEST(VmxCaps, PassesTheFixedBitsThrough)
{
	for (const VmxMsrs *cpu : with_ept()) {
		const Caps c = negotiate(read(*cpu)).caps;
		EXPECT_EQ(c.cr0_fixed0, cpu->at(0x486)) << cpu->name;
		EXPECT_EQ(c.cr0_fixed1, cpu->at(0x487)) << cpu->name;
		EXPECT_EQ(c.cr4_fixed0, cpu->at(0x488)) << cpu->name;
		EXPECT_EQ(c.cr4_fixed1, cpu->at(0x489)) << cpu->name;
	}
	CapMsrs m = full();
	m.cr0_fixed0 = ~u64{0} << 1;
	m.cr0_fixed1 = ~u64{0} << 2;
	m.cr4_fixed0 = ~u64{0} << 3;
	m.cr4_fixed1 = ~u64{0} << 4;
	const Caps c = negotiate(m).caps;
	EXPECT_EQ(c.cr0_fixed0, ~u64{0} << 1);
	EXPECT_EQ(c.cr0_fixed1, ~u64{0} << 2);
	EXPECT_EQ(c.cr4_fixed0, ~u64{0} << 3);
	EXPECT_EQ(c.cr4_fixed1, ~u64{0} << 4);
}
