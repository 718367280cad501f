// SPDX-License-Identifier: GPL-2.0-only
#include <cstring>
#include <string>
#include "vmx_controls.hpp"

using namespace kx;
using namespace kx::vmx;
using namespace kx::test;

/* One bit at a time */

TEST(VmxControls, RefusesAControlItDoesNotKnowAndCannotSwitchOff)
{
	for (const Control &w : controls)
		for (unsigned b = 0; b < 32; ++b) {
			SCOPED_TRACE(w.name + (" " + std::to_string(b)));
			CapMsrs m = full();
			m.*w.msr = forced(m.*w.msr, b);
			const Negotiated n = negotiate(m);
			if (!w.known(b)) {
				EXPECT_TRUE(refused(n, w.lacks, bit(b)));
				continue;
			}
			EXPECT_TRUE(accepted(n));
			EXPECT_TRUE(n.caps.*w.word & bit(b));
		}
}

TEST(VmxControls, NamesAllTheControlsItCannotSwitchOff)
{
	for (const Control &w : controls) {
		CapMsrs m = full();
		u64 unknown = 0;
		for (unsigned b = 0; b < 32; ++b)
			if (!w.known(b))
				unknown |= bit(b);
		m.*w.msr |= unknown | unknown << 32;
		EXPECT_TRUE(refused(negotiate(m), w.lacks, unknown)) << w.name;
	}
}

TEST(VmxControls, RefusesAFeatureThatIsSwitchedOffAndInsistsOnBeingOn)
{
	CapMsrs m = full();
	m.proc2 = forced(m.proc2, 5);
	EXPECT_TRUE(refused(negotiate(m, {.vpid = false}), Lacks::proc2, proc2::vpid));
	m = full();
	m.proc2 = forced(m.proc2, 7);
	EXPECT_TRUE(refused(negotiate(m, {.unrestricted = false}), Lacks::proc2, proc2::unrestricted));
	m = full();
	m.pin = forced(m.pin, 5);
	EXPECT_TRUE(refused(negotiate(m, {.vnmi = false}), Lacks::pin, pin::virtual_nmi));
	m = full();
	m.proc = forced(m.proc, 21);
	EXPECT_TRUE(refused(negotiate(m, {.tpr_shadow = false}), Lacks::proc, proc::tpr_shadow));
}

TEST(VmxControls, RefusesAProcessorThatLacksAnyOneOfTheRequiredControls)
{
	for (const Control &w : controls)
		for (unsigned b = 0; b < 32; ++b) {
			SCOPED_TRACE(w.name + (" " + std::to_string(b)));
			CapMsrs m = full();
			m.*w.msr = denied(m.*w.msr, b);
			const Negotiated n = negotiate(m);
			if (w.needed(b)) {
				EXPECT_TRUE(refused(n, w.lacks, bit(b)));
				continue;
			}
			EXPECT_TRUE(accepted(n));
			EXPECT_FALSE(n.caps.*w.word & bit(b));
		}
}

TEST(VmxControls, NamesAllTheControlsThatAreMissing)
{
	for (const Control &w : controls) {
		CapMsrs m = full();
		u64 missing = 0;
		for (unsigned b : w.required)
			missing |= bit(b);
		m.*w.msr &= ~(missing | missing << 32);
		EXPECT_TRUE(refused(negotiate(m), w.lacks, missing)) << w.name;
	}
}

TEST(VmxControls, RefusesExtendedPageTablesThatLackAnyOneOfTheRequiredFeatures)
{
	const u64 required = ept_cap::levels4 | ept_cap::write_back | ept_cap::pages_2m | ept_cap::invept |
			     ept_cap::invept_all;
	for (unsigned b = 0; b < 64; ++b) {
		CapMsrs m = full();
		m.ept_vpid &= ~bit(b);
		const Negotiated n = negotiate(m);
		if (required & bit(b))
			EXPECT_TRUE(refused(n, Lacks::ept, bit(b))) << b;
		else
			EXPECT_TRUE(accepted(n)) << b;
	}
	CapMsrs m = full();
	m.ept_vpid &= ~required;
	EXPECT_TRUE(refused(negotiate(m), Lacks::ept, required));
}

/* IA32_VMX_BASIC. SDM vol. 3 §A.1 */

TEST(VmxControls, RefusesAVmcsOfMoreThanAPage)
{
	for (u64 size : {u64{1}, u64{1024}, u64{4095}, u64{4096}, u64{4097}, u64{8191}}) {
		CapMsrs m = full();
		m.basic = (m.basic & ~ones(44, 32)) | size << 32;
		if (size <= 4096)
			EXPECT_TRUE(accepted(negotiate(m))) << size;
		else
			EXPECT_TRUE(refused(negotiate(m), Lacks::vmcs_format, m.basic)) << size;
	}
}

TEST(VmxControls, RefusesAVmcsThatIsNotWriteBack)
{
	for (u64 type = 0; type < 16; ++type) {
		CapMsrs m = full();
		m.basic = (m.basic & ~ones(53, 50)) | type << 50;
		if (type == 6)
			EXPECT_TRUE(accepted(negotiate(m)));
		else
			EXPECT_TRUE(refused(negotiate(m), Lacks::vmcs_format, m.basic)) << type;
	}
}

TEST(VmxControls, TheRevisionHas31Bits)
{
	CapMsrs m = full();
	m.basic |= 0xffffffff;
	EXPECT_EQ(negotiate(m).caps.revision, 0x7fffffffu);
}

/* Features */

TEST(VmxControls, EachFeatureOfExtendedPageTablesIsOnItsOwn)
{
	const struct {
		u64 bit;
		bool Caps::*feature;
	} features[] = {
		{ept_cap::accessed_dirty, &Caps::ept_ad},
		{ept_cap::pages_1g, &Caps::ept_1g},
		{ept_cap::levels5, &Caps::ept_5_levels},
		{ept_cap::invept_single, &Caps::invept_single},
	};
	const Caps all = negotiate(full()).caps;
	for (const auto &f : features) {
		EXPECT_TRUE(all.*f.feature);
		CapMsrs m = full();
		m.ept_vpid &= ~f.bit;
		Caps want = all;
		want.*f.feature = false;
		want.pml = want.ept_ad;
		EXPECT_EQ(negotiate(m).caps, want) << std::hex << f.bit;
	}
}

TEST(VmxControls, UsesVpidsOnlyIfAllOfThemCanBeInvalidated)
{
	Caps without = negotiate(full()).caps;
	EXPECT_TRUE(without.vpid);
	without.vpid = false;
	without.proc2 &= ~proc2::vpid;
	for (u64 missing : {ept_cap::invvpid, ept_cap::invvpid_all, ept_cap::invvpid | ept_cap::invvpid_all}) {
		CapMsrs m = full();
		m.ept_vpid &= ~missing;
		EXPECT_EQ(negotiate(m).caps, without) << std::hex << missing;
	}
	CapMsrs m = full(); /* of one address, one context, one context but for globals: not needed */
	m.ept_vpid &= ~(bit(40) | bit(41) | bit(43));
	EXPECT_TRUE(negotiate(m).caps.vpid);
	m = full();
	m.proc2 = denied(m.proc2, 5);
	EXPECT_EQ(negotiate(m).caps, without);
}

TEST(VmxControls, LogsDirtyPagesOnlyWithDirtyBits)
{
	for (unsigned i = 0; i < 16; ++i) {
		const bool has_pml = i & 1, has_ad = i & 2, pml = i & 4, ad = i & 8;
		CapMsrs m = full();
		if (!has_pml)
			m.proc2 = denied(m.proc2, 17);
		if (!has_ad)
			m.ept_vpid &= ~ept_cap::accessed_dirty;
		const Caps c = negotiate(m, {.ept_ad = ad, .pml = pml}).caps;
		EXPECT_EQ(c.ept_ad, has_ad && ad) << i;
		EXPECT_EQ(c.pml, has_pml && has_ad && pml && ad) << i;
		EXPECT_FALSE(c.proc2 & proc2::pml) << i;
	}
}

TEST(VmxControls, SwitchesThePatBothWaysOrNot)
{
	for (unsigned i = 0; i < 4; ++i) {
		const bool at_exit = i & 1, at_entry = i & 2;
		CapMsrs m = full();
		if (!at_exit)
			m.exit = denied(m.exit, 19);
		if (!at_entry)
			m.entry = denied(m.entry, 14);
		const Negotiated n = negotiate(m);
		ASSERT_TRUE(accepted(n));
		EXPECT_EQ(n.caps.pat, at_exit && at_entry);
		EXPECT_EQ(bool(n.caps.exit & exit_control::load_pat), n.caps.pat);
		EXPECT_EQ(bool(n.caps.entry & entry_control::load_pat), n.caps.pat);
	}
	/* One that would bring in the guest's and leave it there */
	CapMsrs m = full();
	m.exit = denied(m.exit, 19);
	m.entry = forced(m.entry, 14);
	EXPECT_TRUE(refused(negotiate(m), Lacks::entry, entry_control::load_pat));
	m = full();
	m.exit = forced(m.exit, 19);
	m.entry = denied(m.entry, 14);
	EXPECT_TRUE(refused(negotiate(m), Lacks::exit, exit_control::load_pat));
}

TEST(VmxControls, EveryAccessToCr8IsShadowedOrIntercepted)
{
	CapMsrs m = full();
	m.proc = denied(m.proc, 21);
	Negotiated n = negotiate(m);
	ASSERT_TRUE(accepted(n));
	EXPECT_FALSE(n.caps.tpr_shadow);
	EXPECT_EQ(n.caps.proc & (proc::cr8_load | proc::cr8_store), proc::cr8_load | proc::cr8_store);
	EXPECT_EQ(n.caps, negotiate(full(), {.tpr_shadow = false}).caps);

	/* Without the one a guest would read the host's priority */
	m.proc = denied(m.proc, 20);
	EXPECT_TRUE(refused(negotiate(m), Lacks::proc, proc::cr8_store));
	m = full();
	m.proc = denied(m.proc, 20);
	EXPECT_EQ(negotiate(m).caps, negotiate(full()).caps) << "needed without the shadow only";
	EXPECT_TRUE(refused(negotiate(m, {.tpr_shadow = false}), Lacks::proc, proc::cr8_store));
}

TEST(VmxControls, VirtualNmisNeedAWindowToWaitFor)
{
	CapMsrs m = full();
	m.proc = denied(m.proc, 22);
	const Negotiated n = negotiate(m);
	ASSERT_TRUE(accepted(n));
	EXPECT_EQ(n.caps, negotiate(full(), {.vnmi = false}).caps);
	m.pin = forced(m.pin, 5);
	EXPECT_TRUE(refused(negotiate(m), Lacks::pin, pin::virtual_nmi));
	m = full();
	m.pin = denied(m.pin, 5);
	EXPECT_EQ(negotiate(m).caps, negotiate(full(), {.vnmi = false}).caps);
}

TEST(VmxControls, ThePreemptionTimerIsFoundAndLeftOff)
{
	EXPECT_TRUE(negotiate(full()).caps.preemption_timer);
	EXPECT_FALSE(negotiate(full()).caps.pin & pin::preemption_timer);
	CapMsrs m = full();
	m.pin = denied(m.pin, 6);
	Caps want = negotiate(full()).caps;
	want.preemption_timer = false;
	EXPECT_EQ(negotiate(m).caps, want);
}

TEST(VmxControls, WhatCpuidDecidesAboutIsOfferedOneByOne)
{
	for (unsigned b : {3u, 11u, 12u, 16u, 20u}) {
		CapMsrs m = full();
		m.proc2 = denied(m.proc2, b);
		Caps want = negotiate(full()).caps;
		EXPECT_TRUE(want.proc2_by_cpuid & bit(b));
		want.proc2_by_cpuid &= ~u32(bit(b));
		EXPECT_EQ(negotiate(m).caps, want) << b;
	}
}

TEST(VmxControls, SaysWhyInWords)
{
	std::set<std::string> said;
	for (unsigned i = 1; i <= unsigned(Lacks::ept); ++i) {
		const Lacks l{u8(i)};
		EXPECT_EQ(std::strncmp(text(l), "VMX: ", 5), 0) << unsigned(l);
		EXPECT_TRUE(said.insert(text(l)).second) << text(l);
	}
	EXPECT_STREQ(text(Lacks::nothing), "");
	EXPECT_STREQ(text(Lacks(unsigned(Lacks::ept) + 1)), "");
}
