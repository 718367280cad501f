/* SPDX-License-Identifier: GPL-2.0-only */
/* Events and task switches: what goes in at an entry, in which order, and what stays. */
#include "vm_run.hpp"

using namespace kx;
using namespace kx::test;

/* --- events */

TEST_RUN(Events, AnInterruptGoesInOnce)
{
	set_rflags(rflags::fixed | rflags::intf);
	interrupt(0x31);
	EXPECT_EQ(events().interrupt.injected, 1);
	EXPECT_EQ(events().interrupt.nr, 0x31);
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(0).interrupt, 0x31);
	EXPECT_TRUE(entry(1).quiet());
	EXPECT_EQ(events().interrupt.injected, 0);
	const kvm_interrupt bad{256};
	EXPECT_EQ(ioctl(KVM_INTERRUPT, &bad), -EINVAL);
}

TEST_RUN(Events, AnNmiGoesInOnceAndMasksTheNext)
{
	nmi();
	EXPECT_EQ(events().nmi.pending, 1);
	then({.kind = K::interrupt}, [this] { cpu->events.queue_nmi(); });
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).nmi);
	EXPECT_TRUE(entry(1).quiet()) << "in the handler";
	EXPECT_TRUE(cpu->hw.nmi_window());
	EXPECT_EQ(events().nmi.masked, 1);
	EXPECT_EQ(events().nmi.pending, 1);
	cpu->events.unmask_nmi(); /* its IRET */
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(2).nmi);
}

TEST_RUN(Events, AnNmiWaitsForTheShadowToEnd)
{
	in_shadow();
	EXPECT_NE(events().interrupt.shadow, 0);
	nmi();
	then({.kind = K::cpuid});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).quiet());
	EXPECT_TRUE(cpu->hw.nmi_window());
	EXPECT_TRUE(entry(1).nmi) << "the instruction that exited was the one of the shadow";
}

TEST_RUN(Events, AnInterruptCutShortGoesInAgain)
{
	set_rflags(rflags::fixed | rflags::intf);
	interrupt(0x31);
	for (int i = 0; i < 3; ++i)
		then({.kind = K::interrupt, .cut_interrupt = 0x31});
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	for (unsigned i = 0; i < 4; ++i)
		EXPECT_EQ(entry(i).interrupt, 0x31);
	EXPECT_TRUE(entry(4).quiet());
}

TEST_RUN(Events, AnNmiCutShortGoesInAgain)
{
	nmi();
	then({.kind = K::interrupt, .cut_nmi = true});
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).nmi && entry(1).nmi);
	EXPECT_TRUE(entry(2).quiet());
}

TEST_RUN(Events, AnNmiThatTheVmmHandsOverInjectedMasksTheNext)
{
	kvm_vcpu_events e = events();
	e.nmi.injected = 1;
	e.nmi.masked = 0;
	EXPECT_EQ(ioctl(KVM_SET_VCPU_EVENTS, &e), 0);
	nmi();
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).nmi);
	EXPECT_TRUE(entry(1).quiet());
	EXPECT_TRUE(events().nmi.masked && events().nmi.pending);
}

TEST_RUN(Events, ADeliveryThatMeetsNoMemoryIsAnErrorAndIsNotLost)
{
	set_rflags(rflags::fixed | rflags::intf);
	interrupt(0x31);
	then({.kind = K::mmio, .gpa = this->device, .code = pfec::write, .cut_interrupt = 0x31});
	expect_exit(KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_DELIVERY_EV);
	EXPECT_EQ(run->internal.ndata, 5u);
	EXPECT_EQ(run->internal.data[0], 0x31u);
	EXPECT_EQ(run->internal.data[3], this->device);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).interrupt, 0x31);
}

namespace {

constexpr SoftwareEvent int33{SoftwareEvent::By::interrupt, 33, 2, 0};

}

TEST_RUN(Events, AnIntCutShortGoesInAgainBeforeAllThatWaits)
{
	set_rflags(rflags::fixed | rflags::intf);
	in_shadow();
	then({.kind = K::interrupt, .cut_software = int33}, [this] {
		cpu->events.queue_interrupt(32);
		cpu->events.queue_nmi();
		cpu->hw.guest_sets_shadow(InterruptShadow::none); /* not every processor keeps it */
	});
	then({.kind = K::interrupt, .cut_software = int33});
	then({.kind = K::interrupt});
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	for (unsigned i : {1, 2}) {
		ASSERT_TRUE(entry(i).software);
		EXPECT_EQ(entry(i).software->vector, 33);
		EXPECT_EQ(entry(i).software->length, 2);
		EXPECT_FALSE(entry(i).interrupt);
	}
	EXPECT_EQ(entry(3).interrupt, 32);
	EXPECT_TRUE(entry(4).nmi);
}

TEST_RUN(Events, AnIntCutShortIsOverWhereItsInstructionIsNot)
{
	set_rip(0x100);
	then({.kind = K::interrupt, .cut_software = int33}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(events().interrupt.injected, 0) << "the structure has no length";
	set_rip(0x100); /* as a VMM that only looks does */
	EXPECT_EQ(enter(), -EINTR);
	kvm_sregs s{};
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	s.cs.base = 0x10000; /* the same RIP in another segment */
	EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
	no_signal();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(1).quiet());
}

TEST_RUN(Events, AnIntCutShortIsHeldBackBySignals)
{
	then({.kind = K::interrupt, .cut_software = int33}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(cpu->hw.dropped, 1u);
	no_signal();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(1).software);
}

TEST_RUN(Events, AFaultOfAnIntTakesItsPlace)
{
	then({.kind = K::fault, .raised = Exception::coded(Vector::ac, 0), .cut_software = int33});
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	ASSERT_TRUE(entry(1).exception);
	EXPECT_EQ(entry(1).exception->vector, Vector::ac);
	EXPECT_TRUE(entry(2).quiet()) << "the handler returns to the INT";
}

TEST_RUN(Events, AnIntThatMeetsNoMemoryIsAnErrorAndIsNotLost)
{
	then({.kind = K::mmio, .gpa = this->device, .code = pfec::write, .cut_software = int33});
	expect_exit(KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_DELIVERY_EV);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(1).software);
}

TEST_RUN(Events, AnExceptionCutShortGoesInAgainWithItsCode)
{
	const Exception gp = Exception::coded(Vector::gp, 0x18);
	then({.kind = K::fault, .raised = gp});
	then({.kind = K::interrupt, .cut_exception = gp});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).quiet());
	for (unsigned i : {1, 2}) {
		ASSERT_TRUE(entry(i).exception);
		EXPECT_EQ(entry(i).exception->vector, Vector::gp);
		EXPECT_TRUE(entry(i).exception->has_error);
		EXPECT_EQ(entry(i).exception->error, 0x18u);
		EXPECT_TRUE(entry(i).rflags & rflags::rf);
	}
}

TEST_RUN(Events, AFaultOfADeliveryDoublesIt)
{
	const Exception gp = Exception::coded(Vector::gp, 0);
	then({.kind = K::fault, .raised = gp});
	then({.kind = K::fault, .raised = Exception::coded(Vector::np, 8), .cut_exception = gp});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(2).exception->vector, Vector::df);
}

TEST_RUN(Events, APageFaultSetsCr2)
{
	then({.kind = K::fault, .raised = Exception::page_fault(pfec::write, 0x1234)});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).exception->vector, Vector::pf);
	kvm_sregs s;
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	EXPECT_EQ(s.cr2, 0x1234u);
}

TEST_RUN(Events, NothingOfANewExceptionIsDoneBeforeItGoesIn)
{
	then({.kind = K::fault, .raised = Exception::page_fault(pfec::write, 0x1234)}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_TRUE(cpu->events.raised());
	cpu->events.forget_new_exception(); /* somebody has turned it away */
	kvm_sregs s;
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	EXPECT_EQ(s.cr2, 0u);
	no_signal();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(1).quiet());
}

TEST_RUN(Events, AVmmSeesThePayloadOfAnExceptionThatWaits)
{
	then({.kind = K::fault, .raised = Exception::page_fault(pfec::write, 0x1234)}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	kvm_sregs s;
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	EXPECT_EQ(s.cr2, 0x1234u);
	s.cr2 = 0x5678; /* and what it sets then is not set back */
	EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
	no_signal();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).exception->vector, Vector::pf);
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	EXPECT_EQ(s.cr2, 0x5678u);
	then({.kind = K::fault, .raised = Exception::debug(dr6::bs | 2)}, [this] { signal(); });
	kvm_debugregs d;
	EXPECT_EQ(ioctl(KVM_GET_DEBUGREGS, &d), 0);
	d.dr6 |= 1;
	d.dr7 |= dr7::gd;
	EXPECT_EQ(ioctl(KVM_SET_DEBUGREGS, &d), 0);
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(ioctl(KVM_GET_DEBUGREGS, &d), 0);
	EXPECT_EQ(d.dr6, dr6::active_low | dr6::bs | 2);
	EXPECT_FALSE(d.dr7 & dr7::gd);
	no_signal();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(3).exception->vector, Vector::db);
}

TEST_RUN(Events, AVmmSeesTheDoubleFaultThatWaits)
{
	then({.kind = K::fault, .raised = Exception::coded(Vector::np, 8),
	      .cut_exception = Exception::coded(Vector::gp, 0)}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(events().exception.nr, u8(Vector::df));
	EXPECT_EQ(events().exception.injected, 1);
	no_signal();
	then({.kind = K::fault, .raised = Exception::plain(Vector::ud),
	      .cut_exception = Exception::coded(Vector::df, 0)});
	expect_exit(KVM_EXIT_SHUTDOWN);
	EXPECT_EQ(entry(1).exception->vector, Vector::df);
}

TEST_RUN(Events, OneAtATimeTheExceptionFirst)
{
	then({.kind = K::fault}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	no_signal();
	nmi();
	then({.kind = K::interrupt});
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).exception->vector, Vector::ud);
	EXPECT_TRUE(entry(2).nmi);
	EXPECT_TRUE(entry(3).quiet());
}

TEST_RUN(Events, AnInterruptThatTheVmmHasAcknowledgedGoesBeforeANewNmi)
{
	set_rflags(rflags::fixed | rflags::intf);
	interrupt(0x31);
	nmi();
	then({.kind = K::interrupt});
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(0).interrupt, 0x31);
	EXPECT_TRUE(entry(0).kicked) << "the NMI does not wait for an exit of the guest's";
	EXPECT_TRUE(entry(1).nmi);
	EXPECT_FALSE(entry(1).kicked);
	EXPECT_TRUE(entry(2).quiet());
}

TEST_RUN(Events, TheSecondOfTwoNmisFollowsTheFirst)
{
	nmi();
	nmi();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).nmi);
	EXPECT_FALSE(entry(0).kicked) << "the first masks it";
	EXPECT_TRUE(cpu->hw.nmi_window());
}

TEST_RUN(Events, AnExceptionHalfDeliveredGoesBeforeANewNmiAndAnInterrupt)
{
	kvm_vcpu_events e = events();
	e.exception.injected = 1;
	e.exception.nr = u8(Vector::ud);
	e.interrupt.injected = 1;
	e.interrupt.nr = 0x31;
	e.nmi.pending = 1;
	e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	EXPECT_EQ(ioctl(KVM_SET_VCPU_EVENTS, &e), 0);
	halts();
	expect_exit(KVM_EXIT_HLT);
	ASSERT_TRUE(entry(0).exception);
	EXPECT_EQ(entry(0).exception->vector, Vector::ud);
	EXPECT_EQ(events().nmi.pending, 1);
	EXPECT_EQ(events().exception.injected, 0);
	EXPECT_EQ(events().interrupt.injected, 1);
}

TEST_RUN(Events, AnInterruptWaitsForTheHandlerOfAnExceptionThatCameMeanwhile)
{
	set_rflags(rflags::fixed | rflags::intf | rflags::tf);
	then({.kind = K::out, .port = 0x80});
	expect_exit(KVM_EXIT_IO);
	EXPECT_EQ(run->ready_for_interrupt_injection, 1);
	interrupt(0x31);
	then({.kind = K::interrupt}, [this] { cpu->hw.guest_sets_rflags(rflags::fixed); });
	then({.kind = K::cpuid});
	then({.kind = K::window}, [this] { cpu->hw.guest_sets_rflags(rflags::fixed | rflags::intf); });
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	ASSERT_TRUE(entry(1).exception);
	EXPECT_EQ(entry(1).exception->vector, Vector::db) << "the step over the OUT";
	EXPECT_TRUE(entry(1).window);
	for (unsigned i : {2, 3})
		EXPECT_TRUE(entry(i).quiet() && entry(i).window);
	EXPECT_EQ(entry(4).interrupt, 0x31);
	EXPECT_TRUE(entry(5).quiet());
}

TEST_RUN(Events, AnInterruptDoesNotGoIntoAGuestThatIsClosedToIt)
{
	interrupt(0x31);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).quiet() && entry(0).window);
	EXPECT_EQ(events().interrupt.injected, 1);
	nmi();
	then({.kind = K::interrupt}, [this] { cpu->hw.guest_sets_rflags(rflags::fixed | rflags::intf); });
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(1).nmi) << "it is open to NMIs";
	EXPECT_EQ(entry(2).interrupt, 0x31);
	EXPECT_TRUE(entry(3).quiet());
}

TEST_RUN(Events, AFailedEntryDeliversNothing)
{
	set_rflags(rflags::fixed | rflags::intf);
	interrupt(0x31);
	then({.kind = K::refused});
	expect_exit(KVM_EXIT_FAIL_ENTRY);
	EXPECT_EQ(entry(0).interrupt, 0x31);
	EXPECT_EQ(events().interrupt.injected, 1);
	then({.kind = K::refused});
	expect_exit(KVM_EXIT_FAIL_ENTRY);
	EXPECT_EQ(entry(1).interrupt, 0x31);
	kvm_vcpu_events e = events();
	e.interrupt.injected = 0;
	EXPECT_EQ(ioctl(KVM_SET_VCPU_EVENTS, &e), 0);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(2).quiet());
}

TEST_RUN(Events, AnNmiHalfDeliveredGoesBeforeAnInterrupt)
{
	kvm_vcpu_events e = events();
	e.nmi.injected = e.nmi.masked = 1;
	e.interrupt.injected = 1;
	e.interrupt.nr = 0x31;
	e.flags = 0;
	EXPECT_EQ(ioctl(KVM_SET_VCPU_EVENTS, &e), 0);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).nmi && !entry(0).interrupt);
}

TEST_RUN(Events, WorkBetweenInjectionAndEntryDropsItAndKeepsIt)
{
	set_rflags(rflags::fixed | rflags::intf);
	hosted::this_thread().flags |= work;
	interrupt(0x31);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(cpu->hw.dropped, 1u);
	EXPECT_EQ(entry(0).interrupt, 0x31);
	hosted::this_thread().flags |= work;
	nmi();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(cpu->hw.dropped, 2u);
	EXPECT_TRUE(entry(1).nmi);
}

TEST_RUN(Events, ASignalBetweenInjectionAndEntryLosesNothing)
{
	signal();
	nmi();
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(events().nmi.injected, 1);
	no_signal();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).nmi);
}

TEST_RUN(Events, KvmSetRegsForgetsANewException)
{
	then({.kind = K::fault}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(events().exception.injected, 1);
	set_rip(0x100);
	no_signal();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(1).quiet());
}

TEST_RUN(Events, KvmSetRegsKeepsAnExceptionWhoseDeliveryWasCutShort)
{
	then({.kind = K::interrupt, .cut_exception = Exception::coded(Vector::gp, 8)}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	set_rip(0x100);
	EXPECT_EQ(events().exception.injected, 1);
	no_signal();
	halts();
	expect_exit(KVM_EXIT_HLT);
	ASSERT_TRUE(entry(1).exception);
	EXPECT_EQ(entry(1).exception->vector, Vector::gp);
	EXPECT_EQ(entry(1).exception->error, 8u);
}

TEST_RUN(Events, AnInterruptOfKvmSetSregsTakesThePlaceOfAnother)
{
	set_rflags(0x202);
	interrupt(0x20);
	kvm_sregs s{};
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	EXPECT_EQ(s.interrupt_bitmap[0], bit(0x20));
	s.interrupt_bitmap[0] = bit(0x31);
	EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(0).interrupt, 0x31);
}

/* --- task switches: what they come of is over with them */

namespace {

constexpr u16 task_code = 8, task_data = 0x10, task_old = 0x18, task_new = 0x20;
constexpr u32 task_gdt = 0x100, task_a = 0x200, task_b = 0x300;

/* Two tasks in protected mode; the second begins at 0x1234 with interrupts off. */
template <class T> void two_tasks(T &t)
{
	const auto put = [&t](u32 at, u64 v, unsigned n) { std::memcpy(&t.ram[at], &v, n); };
	const kvm_userspace_memory_region slot{0, 0, 0, sizeof t.ram, reinterpret_cast<u64>(t.ram)};
	EXPECT_EQ(t.vm->ioctl(KVM_SET_USER_MEMORY_REGION, reinterpret_cast<unsigned long>(&slot)), 0);
	put(task_gdt + task_code, 0x00cf9b000000ffff, 8);
	put(task_gdt + task_data, 0x00cf93000000ffff, 8);
	put(task_gdt + task_old, 0x00008b0000000067 | task_a << 16, 8);
	put(task_gdt + task_new, 0x0000890000000067 | task_b << 16, 8);
	put(task_b + 32, 0x1234, 4);
	put(task_b + 56, 0x3000, 4);
	for (unsigned i = 0; i < 6; ++i)
		put(task_b + 72 + i * 4, Seg(i) == Seg::cs ? task_code : task_data, 4);
	kvm_sregs s{};
	EXPECT_EQ(t.ioctl(KVM_GET_SREGS, &s), 0);
	s.cr0 = cr0::pe | cr0::et;
	s.gdt = {.base = task_gdt, .limit = 0x27, .padding = {}};
	s.cs = {.base = 0, .limit = ~0u, .selector = task_code, .type = 11, .present = 1, .dpl = 0, .db = 1, .s = 1,
		.l = 0, .g = 1, .avl = 0, .unusable = 0, .padding = 0};
	s.ds = s.es = s.fs = s.gs = s.ss = s.cs;
	for (kvm_segment *d : {&s.ds, &s.es, &s.fs, &s.gs, &s.ss})
		d->selector = task_data, d->type = 3;
	s.tr = s.cs;
	s.tr.base = task_a, s.tr.limit = 0x67, s.tr.selector = task_old, s.tr.s = 0;
	EXPECT_EQ(t.ioctl(KVM_SET_SREGS, &s), 0);
}
emulate::TaskSwitch through_gate(std::optional<u32> error = {})
{
	return {.by = emulate::TaskSwitch::By::gate, .selector = task_new, .return_rip = 0x77, .flags = rflags::fixed,
		.external = true, .has_error = error.has_value(), .error = error.value_or(0)};
}

}

TEST_RUN(Task, AnInterruptThroughAGateIsTakenByTheSwitch)
{
	two_tasks(*this);
	set_rflags(rflags::fixed | rflags::intf);
	interrupt(0x31);
	then({.kind = K::task, .cut_interrupt = 0x31, .task = through_gate(), .came_of = Events::Delivery::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0x1234u);
	EXPECT_TRUE(entry(1).quiet());
	EXPECT_EQ(entry(1).rflags, rflags::fixed | rflags::nt);
	EXPECT_EQ(events().interrupt.injected, 0);
	kvm_sregs s{};
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	EXPECT_EQ(s.tr.selector, task_new);
	EXPECT_TRUE(s.cr0 & cr0::ts);
}

TEST_RUN(Task, AnIntThroughAGateIsTakenByTheSwitch)
{
	two_tasks(*this);
	emulate::TaskSwitch t = through_gate();
	t.external = false;
	then({.kind = K::task, .cut_software = int33, .task = t, .came_of = Events::Delivery::software});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0x1234u);
	EXPECT_TRUE(entry(1).quiet());
	EXPECT_FALSE(cpu->events.any());
}

TEST_RUN(Task, AnNmiThroughAGateMasksTheNextUntilIret)
{
	two_tasks(*this);
	nmi();
	then({.kind = K::task, .cut_nmi = true, .task = through_gate(), .came_of = Events::Delivery::nmi});
	emulate::TaskSwitch back = through_gate();
	back.by = emulate::TaskSwitch::By::iret;
	back.selector = task_old;
	then({.kind = K::task, .task = back}, [this] {
		EXPECT_TRUE(cpu->events.nmi_masked() && !cpu->events.nmi_injected());
		cpu->events.queue_nmi();
	});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).nmi && entry(1).quiet() && entry(2).nmi);
	EXPECT_EQ(entry(2).rip, 0x77u);
}

TEST_RUN(Task, AnExceptionThroughAGateHasItsCodeOnTheStack)
{
	two_tasks(*this);
	const Exception gp = Exception::coded(Vector::gp, 0x18);
	then({.kind = K::fault, .raised = gp});
	then({.kind = K::task, .cut_exception = gp, .task = through_gate(0x18), .came_of = Events::Delivery::exception});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(2).quiet());
	EXPECT_EQ(regs().rsp, 0x2ffcu);
	EXPECT_EQ(ram[0x2ffc], 0x18);
}

TEST_RUN(Task, AFaultOfTheSwitchMeetsTheExceptionThatCausedIt)
{
	two_tasks(*this);
	ram[task_b + 84] = task_old; /* DS */
	const Exception gp = Exception::coded(Vector::gp, 0);
	then({.kind = K::task, .cut_exception = gp, .task = through_gate(), .came_of = Events::Delivery::exception});
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	ASSERT_TRUE(entry(1).exception);
	EXPECT_EQ(entry(1).exception->vector, Vector::df);
	EXPECT_EQ(entry(1).rip, 0x1234u);
	EXPECT_TRUE(entry(2).quiet());
}

TEST_RUN(Task, AFaultOfTheSwitchGoesInAloneWhenAnInterruptCausedIt)
{
	two_tasks(*this);
	ram[task_b + 84] = task_old; /* DS */
	then({.kind = K::task, .cut_interrupt = 0x31, .task = through_gate(), .came_of = Events::Delivery::interrupt});
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	ASSERT_TRUE(entry(1).exception);
	EXPECT_EQ(entry(1).exception->vector, Vector::ts);
	EXPECT_EQ(entry(1).exception->error, task_old | 1u);
	EXPECT_TRUE(entry(2).quiet());
}

TEST_RUN(Task, WhatCannotBeSwitchedToIsLookedAtAgainWithItsEvent)
{
	two_tasks(*this);
	ram[task_gdt + task_new + 5] = 0;
	set_rflags(rflags::fixed | rflags::intf);
	then({.kind = K::task, .cut_interrupt = 0x31, .task = through_gate(), .came_of = Events::Delivery::interrupt});
	then({.kind = K::interrupt});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).interrupt, 0x31);
	EXPECT_NE(entry(1).rip, 0x1234u);
	EXPECT_TRUE(entry(2).quiet());
}

TEST_RUN(Window, OpensWhenTheGuestCanTakeAnInterrupt)
{
	run->request_interrupt_window = 1;
	then({.kind = K::interrupt});
	then({.kind = K::window}, [this] { cpu->hw.guest_sets_rflags(rflags::fixed | rflags::intf); });
	expect_exit(KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_TRUE(entry(0).window && entry(1).window);
	EXPECT_EQ(run->ready_for_interrupt_injection, 1);
	run->request_interrupt_window = 0;
	interrupt(0x31);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(2).interrupt, 0x31);
	EXPECT_FALSE(entry(2).window);
}

TEST_RUN(Window, IsNotOpenInTheShadow)
{
	in_shadow();
	set_rflags(rflags::fixed | rflags::intf);
	run->request_interrupt_window = 1;
	then({.kind = K::interrupt});
	halts(); /* ends the shadow, but exits by itself */
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(run->ready_for_interrupt_injection, 1);
}

TEST_RUN(Window, IsAskedForBesideAnInterruptThatGoesIn)
{
	set_rflags(rflags::fixed | rflags::intf);
	run->request_interrupt_window = 1;
	interrupt(0x31);
	then({.kind = K::interrupt});
	expect_exit(KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(entry(0).interrupt, 0x31);
	EXPECT_TRUE(entry(0).window);
}

TEST_RUN(Window, IsNotOpenWhileSomethingIsHalfDelivered)
{
	set_rflags(rflags::fixed | rflags::intf);
	run->request_interrupt_window = 1;
	interrupt(0x31);
	then({.kind = K::interrupt, .cut_interrupt = 0x31});
	then({.kind = K::interrupt});
	expect_exit(KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(entered(), 2u) << "when the interrupt was through";
}
