/* SPDX-License-Identifier: GPL-2.0-only */
#include <gtest/gtest.h>
#include <cstring>
#include "arch/x86/cpu/events.hpp"

using namespace kx;

namespace {

using Delivery = Events::Delivery;

const Exception ud = Exception::plain(Vector::ud), gp = Exception::coded(Vector::gp, 0x18);
const Exception pf = Exception::page_fault(pfec::write, 0x1234), de = Exception::plain(Vector::de);

bool contributory(unsigned v) { return v == 0 || (v >= 10 && v <= 13); }

void goes_in(Events &e)
{
	e.inject_exception();
	EXPECT_TRUE(e.injected() && !e.raised());
}

kvm_vcpu_events taken(const Events &e, u8 shadow = 0)
{
	kvm_vcpu_events k;
	std::memset(&k, 0xff, sizeof(k));
	e.get(k, shadow);
	return k;
}

}

TEST(Merge, IsTheTableOfTheManual)
{
	for (unsigned a = 0; a < 32; ++a)
		for (unsigned b = 0; b < 32; ++b) {
			const bool doubled = (contributory(a) && contributory(b)) ||
					     (a == 14 && (contributory(b) || b == 14));
			const Merge want = a == 8    ? Merge::shutdown
					   : doubled ? Merge::double_fault
						     : Merge::queued;
			EXPECT_EQ(merge(Vector(a), Vector(b)), want) << a << ' ' << b;
		}
}

TEST(Events, OneNewExceptionGoesIn)
{
	Events e;
	EXPECT_FALSE(e.any());
	e.raise(gp);
	EXPECT_TRUE(e.raised() && !e.injected() && e.any());
	EXPECT_FALSE(e.needs_reinjection());
	EXPECT_EQ(e.settle(), Merge::queued);
	goes_in(e);
	EXPECT_EQ(e.exception().vector, Vector::gp);
	EXPECT_TRUE(e.exception().has_error);
	EXPECT_EQ(e.exception().error, 0x18u);
	EXPECT_TRUE(e.needs_reinjection());
}

TEST(Events, APayloadIsTakenOnce)
{
	Events e;
	e.raise(gp);
	EXPECT_FALSE(e.take_payload());
	e.raise(pf);
	EXPECT_EQ(e.new_exception_raised().payload, 0x1234u);
	EXPECT_TRUE(e.take_payload());
	EXPECT_FALSE(e.take_payload());
	EXPECT_TRUE(e.raised());
	e.raise(Exception::debug(1));
	e.forget_new_exception();
	EXPECT_FALSE(e.take_payload());
	EXPECT_FALSE(e.any());
}

TEST(Events, AllThatIsNewCanBeTurnedAway)
{
	Events e;
	e.requeue({Vector::gp, true, 0});
	e.raise(de);
	e.forget_new_exception();
	EXPECT_EQ(e.settle(), Merge::queued);
	EXPECT_TRUE(e.injected());
	EXPECT_EQ(e.exception().vector, Vector::gp) << "it has met nothing";
}

TEST(Events, TwoContributoryOnesDouble)
{
	Events e;
	e.requeue({Vector::gp, true, 0x18});
	e.raise(de);
	EXPECT_EQ(e.settle(), Merge::double_fault);
	EXPECT_FALSE(e.injected());
	goes_in(e);
	EXPECT_EQ(e.exception().vector, Vector::df);
	EXPECT_TRUE(e.exception().has_error);
	EXPECT_EQ(e.exception().error, 0u);
	e.raise(ud);
	EXPECT_EQ(e.settle(), Merge::shutdown);
	EXPECT_FALSE(e.raised());
	EXPECT_EQ(e.exception().vector, Vector::df); /* untouched */
}

TEST(Events, ABenignOneGivesWay)
{
	Events e;
	e.requeue({Vector::ud, false, 0});
	e.raise(pf);
	EXPECT_EQ(e.settle(), Merge::queued);
	goes_in(e);
	EXPECT_EQ(e.exception().vector, Vector::pf);
	EXPECT_EQ(e.exception().error, pfec::write);
	e.raise(ud);
	EXPECT_EQ(e.settle(), Merge::queued); /* the page fault comes again when its instruction does */
	goes_in(e);
	EXPECT_EQ(e.exception().vector, Vector::ud);
	EXPECT_FALSE(e.exception().has_error);
}

TEST(Events, AFaultOfDeliveryCountsTheOneUnderWay)
{
	Events e;
	e.raise(pf);
	EXPECT_EQ(e.settle(), Merge::queued);
	e.inject_exception();
	e.deliver(Delivery::exception);
	EXPECT_TRUE(e.needs_reinjection());
	/* The handler's stack faults: the exit reports both. */
	e.take_delivery();
	EXPECT_FALSE(e.injected());
	e.requeue({Vector::pf, true, pfec::write});
	EXPECT_TRUE(e.injected() && !e.raised());
	e.raise(pf);
	EXPECT_EQ(e.settle(), Merge::double_fault);
	EXPECT_FALSE(e.injected());
}

TEST(Events, WhatAnInstructionRaisesGivesWayToItsFault)
{
	Events e;
	e.queue_interrupt(0x20);
	e.requeue_software({SoftwareEvent::By::interrupt, 0x80, 2, 0x1000});
	EXPECT_TRUE(e.any() && e.needs_reinjection());
	EXPECT_EQ(e.interrupt(), 0x20) << "beside it";
	e.raise(gp);
	EXPECT_TRUE(e.software_injected()) << "nobody has decided yet";
	EXPECT_EQ(e.settle(), Merge::queued) << "it is no exception to merge with";
	EXPECT_FALSE(e.software_injected());
	e.forget_new_exception();
	e.requeue_software({SoftwareEvent::By::exception, 3, 1, 0x1000});
	e.deliver(Delivery::software);
	e.take_delivery();
	EXPECT_TRUE(!e.software_injected() && e.interrupt_queued());
}

TEST(Events, TheThirdOneStopsTheVcpuOnce)
{
	Events e;
	e.shut_down();
	EXPECT_TRUE(e.any());
	EXPECT_TRUE(e.take_shutdown());
	EXPECT_FALSE(e.take_shutdown());
	EXPECT_FALSE(e.any());
}

TEST(Events, WhatWasDeliveredIsGoneAndNothingElse)
{
	Events e;
	e.raise(gp);
	e.inject_exception();
	e.queue_interrupt(0x30);
	e.queue_nmi();
	e.inject_nmi();
	e.take_delivery(); /* nothing was */
	EXPECT_TRUE(e.injected() && e.nmi_injected() && e.interrupt_queued());
	e.deliver(Delivery::exception);
	EXPECT_TRUE(e.delivering());
	e.take_delivery();
	EXPECT_FALSE(e.delivering());
	EXPECT_TRUE(!e.injected() && e.nmi_injected() && e.interrupt_queued());
	e.deliver(Delivery::nmi);
	e.drop_delivery();
	e.take_delivery();
	EXPECT_TRUE(e.nmi_injected());
	e.deliver(Delivery::nmi);
	e.take_delivery();
	EXPECT_TRUE(!e.nmi_injected() && e.interrupt_queued());
	EXPECT_TRUE(e.nmi_masked()); /* until its IRET */
	e.deliver(Delivery::interrupt);
	e.take_delivery();
	EXPECT_FALSE(e.any());
	EXPECT_FALSE(e.needs_reinjection());
}

TEST(Events, OneInterruptWaits)
{
	Events e;
	e.queue_interrupt(0x30);
	e.queue_interrupt(0x31); /* the APIC in user space changed its mind */
	EXPECT_EQ(e.interrupt(), 0x31);
	EXPECT_TRUE(e.interrupt_queued());
	e.deliver(Delivery::interrupt);
	e.take_delivery();
	EXPECT_FALSE(e.any());
	e.requeue_interrupt(0x20);
	EXPECT_TRUE(e.needs_reinjection());
}

TEST(Events, TwoNmisAreLatchedButOneDuringOne)
{
	Events e;
	for (int i = 0; i < 5; ++i)
		e.queue_nmi();
	EXPECT_EQ(e.nmi_pending(), 2u);
	e.inject_nmi();
	EXPECT_EQ(e.nmi_pending(), 1u);
	e.queue_nmi();
	EXPECT_EQ(e.nmi_pending(), 1u);
	e.deliver(Delivery::nmi);
	e.take_delivery();
	e.queue_nmi();
	EXPECT_EQ(e.nmi_pending(), 1u); /* masked still */
	e.unmask_nmi();
	e.queue_nmi();
	EXPECT_EQ(e.nmi_pending(), 2u);
	e.requeue_nmi();
	EXPECT_TRUE(e.nmi_injected());
}

TEST(VcpuEvents, SayNothingOfAnIdleVcpu)
{
	const kvm_vcpu_events k = taken(Events{});
	kvm_vcpu_events want = {};
	want.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	EXPECT_EQ(std::memcmp(&k, &want, sizeof(k)), 0);
}

TEST(VcpuEvents, ShowAPendingExceptionAsInjectedToo)
{
	Events e;
	e.raise(gp);
	const kvm_vcpu_events k = taken(e, KVM_X86_SHADOW_INT_STI);
	EXPECT_EQ(k.exception.injected, 1);
	EXPECT_EQ(k.exception.pending, 1);
	EXPECT_EQ(k.exception.nr, 13);
	EXPECT_EQ(k.exception.has_error_code, 1);
	EXPECT_EQ(k.exception.error_code, 0x18u);
	EXPECT_EQ(k.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
	EXPECT_EQ(k.exception_has_payload, 0);
}

TEST(VcpuEvents, HideSoftwareEvents)
{
	Events e;
	kvm_vcpu_events software = {};
	software.interrupt.injected = software.interrupt.soft = 1;
	software.interrupt.nr = 0x80;
	ASSERT_TRUE(e.set(software).ok());
	EXPECT_FALSE(e.any()) << "left to the instruction";
	e.requeue_software({SoftwareEvent::By::interrupt, 0x80, 2, 0});
	e.raise(Exception::plain(Vector::bp));
	const kvm_vcpu_events k = taken(e);
	EXPECT_EQ(k.exception.injected | k.exception.pending, 0);
	EXPECT_EQ(k.interrupt.injected | k.interrupt.soft, 0);
}

TEST(VcpuEvents, SurviveTheRoundTrip)
{
	Events e;
	e.raise(gp);
	e.queue_interrupt(0x41);
	e.queue_nmi();
	e.mask_nmi();
	const kvm_vcpu_events k = taken(e, 3);
	Events f;
	const auto r = f.set(k);
	ASSERT_TRUE(r.ok());
	EXPECT_TRUE(r.peek().has_shadow);
	EXPECT_EQ(r.peek().shadow, 3);
	EXPECT_TRUE(f.injected()); /* the ABI cannot tell it from a pending one */
	EXPECT_EQ(f.exception().vector, Vector::gp);
	EXPECT_EQ(f.exception().error, 0x18u);
	EXPECT_EQ(f.interrupt(), 0x41);
	EXPECT_EQ(f.nmi_pending(), 1u);
	EXPECT_TRUE(f.nmi_masked() && !f.nmi_injected());
}

TEST(VcpuEvents, ObeyTheirFlags)
{
	Events e;
	e.queue_nmi();
	kvm_vcpu_events k = {};
	k.nmi.pending = 0;
	k.interrupt.shadow = 1;
	const auto r = e.set(k);
	ASSERT_TRUE(r.ok());
	EXPECT_FALSE(r.peek().has_shadow);
	EXPECT_EQ(e.nmi_pending(), 1u);
	k.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	ASSERT_TRUE(e.set(k).ok());
	EXPECT_EQ(e.nmi_pending(), 0u);
	k.nmi.pending = 255;
	ASSERT_TRUE(e.set(k).ok());
	EXPECT_EQ(e.nmi_pending(), 2u);
}

TEST(VcpuEvents, RefuseUnknownFlagsAndCapabilitiesNotOffered)
{
	for (unsigned b = 0; b < 32; ++b) {
		Events e;
		kvm_vcpu_events k = {};
		k.flags = 1u << b;
		EXPECT_EQ(e.set(k).error(), b < 4 ? Errc::ok : Errc::inval) << b;
	}
	static_assert(KVM_VCPUEVENT_VALID_PAYLOAD == 16 && KVM_VCPUEVENT_VALID_SMM == 8);
}

TEST(VcpuEvents, RefuseVectorsThatAreNoException)
{
	for (unsigned nr = 0; nr < 256; ++nr) {
		Events e;
		kvm_vcpu_events k = {};
		k.exception.nr = u8(nr);
		EXPECT_TRUE(e.set(k).ok());
		k.exception.injected = 1;
		EXPECT_EQ(e.set(k).ok(), nr < 32 && nr != 2) << nr;
	}
}

TEST(VcpuEvents, ARefusedCallChangesNothing)
{
	Events e;
	e.raise(gp);
	kvm_vcpu_events k = {};
	k.exception.injected = 1;
	k.exception.nr = 99;
	k.nmi.masked = 1;
	EXPECT_EQ(e.set(k).error(), Errc::inval);
	EXPECT_TRUE(e.raised());
	EXPECT_FALSE(e.nmi_masked());
}

TEST(VcpuEvents, TakeAVcpuOutsideSmmAlone)
{
	Events e;
	kvm_vcpu_events k = {};
	k.flags = KVM_VCPUEVENT_VALID_SMM;
	EXPECT_TRUE(e.set(k).ok());
	k.smi.smm = 1;
	EXPECT_EQ(e.set(k).error(), Errc::inval);
	k.smi.smm = 0, k.smi.pending = 1;
	EXPECT_EQ(e.set(k).error(), Errc::inval);
}

TEST(VcpuEvents, APendingOneWithoutThePayloadFlagIsIgnored)
{
	Events e;
	kvm_vcpu_events k = {};
	k.exception.pending = 1;
	k.exception.nr = 200; /* so its number does not matter */
	EXPECT_TRUE(e.set(k).ok());
	EXPECT_FALSE(e.any());
}
