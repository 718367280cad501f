/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM_RUN and the ioctls around it, as a VMM sees them, on a processor that runs a script. */
#include <cerrno>
#include <cstring>
#include <thread>
#include "cpu_record_ryzen.hpp"
#include "fake_vendor.hpp"
#include "vm_processors.hpp"

using namespace kx;
using namespace kx::test;

namespace kx::test {
using EveryVendor = On<SelfContained, InACache>;
}

namespace {

/* Whose vCPU the thread has loaded. */
struct {
	void (*in)(void *, unsigned);
	void (*out)(void *);
} scheduler;

constexpr u64 work = KX_THREAD_WORK;

template <class Traits> struct Run : testing::Test {
	using V = FakeVendor<Traits>;
	using K = Exit::Kind;
	using Fixture = Run;
	System system;
	std::unique_ptr<Host> host = host_of(ryzen::raw);
	Vm<V> *vm = nullptr;
	Vcpu<V> *cpu = nullptr;
	kvm_run *run = nullptr;
	alignas(page_size) u8 ram[4 * page_size] = {};

	Run()
	{
		host->virt.pku = host->virt.xsaves = false;
		host->make_caps();
		system.cpuid = host->cpuid;
		system.caps = host->caps;
		system.limits = msr_limits(host->caps, host->view(), host->virt, 0);
		system.limits.tsc_aux = true;
		system.mmu.pml = Traits::logs;
		sys = &system;
		scheduler = {[](void *v, unsigned c) { static_cast<Vcpu<V> *>(v)->sched_in(c); },
			     [](void *v) { static_cast<Vcpu<V> *>(v)->sched_out(); }};
		hosted::this_thread() = {};
		V::log.clear();
		V::drains = 0;
		auto fd = Vm<V>::create(0);
		EXPECT_TRUE(fd.ok());
		vm = static_cast<Vm<V> *>(hosted::file_of(fd.peek()));
		const long n = vm->ioctl(KVM_CREATE_VCPU, 0);
		EXPECT_GE(n, 0);
		cpu = static_cast<Vcpu<V> *>(hosted::file_of(int(n)));
		run = static_cast<kvm_run *>(cpu->page(0));
	}
	~Run() override
	{
		EXPECT_TRUE(cpu->hw.done()) << "the guest did not get as far as the test's script";
		EXPECT_FALSE(Traits::needs_loading && cpu->hw.loaded());
		EXPECT_EQ(hosted::this_thread().fpu, nullptr);
		EXPECT_EQ(cpu->mode.relaxed(), CpuMode::outside);
		EXPECT_EQ(hosted::locks_held(), 0u);
		vm->close(); /* the vCPU's file */
		vm->close();
		hosted::run_deferred();
		sys = nullptr;
	}

	/* --- the VMM */
	long ioctl(unsigned cmd, const void *arg) { return cpu->ioctl(cmd, reinterpret_cast<unsigned long>(arg)); }
	long ioctl(unsigned cmd) { return cpu->ioctl(cmd, 0); }
	long enter() { return ioctl(KVM_RUN); }
	/* KVM_RUN, for that reason. */
	void expect_exit(u32 why)
	{
		run->exit_reason = ~0u;
		EXPECT_EQ(enter(), 0);
		EXPECT_EQ(run->exit_reason, why);
	}
	kvm_regs regs()
	{
		kvm_regs r{};
		EXPECT_EQ(ioctl(KVM_GET_REGS, &r), 0);
		return r;
	}
	void set_regs(const kvm_regs &r) { EXPECT_EQ(ioctl(KVM_SET_REGS, &r), 0); }
	void set_rip(u64 rip)
	{
		kvm_regs r = regs();
		r.rip = rip;
		set_regs(r);
	}
	void set_rflags(u64 v)
	{
		kvm_regs r = regs();
		r.rflags = v;
		set_regs(r);
	}
	kvm_vcpu_events events()
	{
		kvm_vcpu_events e{};
		EXPECT_EQ(ioctl(KVM_GET_VCPU_EVENTS, &e), 0);
		return e;
	}
	/* Behind an STI. */
	void in_shadow()
	{
		kvm_vcpu_events e = events();
		e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
		e.flags = KVM_VCPUEVENT_VALID_SHADOW;
		EXPECT_EQ(ioctl(KVM_SET_VCPU_EVENTS, &e), 0);
	}
	void interrupt(u32 vector)
	{
		const kvm_interrupt i{vector};
		EXPECT_EQ(ioctl(KVM_INTERRUPT, &i), 0);
	}
	void nmi() { EXPECT_EQ(ioctl(KVM_NMI), 0); }
	u8 *port_data() { return static_cast<u8 *>(cpu->page(KVM_PIO_PAGE_OFFSET)); }
	void signal()
	{
		hosted::this_thread().signal = true;
		hosted::this_thread().flags |= work;
	}
	void no_signal()
	{
		hosted::this_thread().signal = false;
		hosted::this_thread().flags &= ~work;
	}

	/* --- the guest's part */
	void then(Exit e, std::function<void()> look = {}) { cpu->hw.then(std::move(e), std::move(look)); }
	void halts() { then({.kind = K::hlt, .length = 1}); }
	const Entry &entry(size_t n) const { return cpu->hw.entries.at(n); }
	size_t entered() const { return cpu->hw.entries.size(); }
	static constexpr u64 device = 0xd0000;
	/* MOV AX, [BX], and MOV [BX], AX, BX a device's register */
	Exit load() { return {.kind = K::mmio, .gpa = device, .bytes = {0x8b, 0x07}}; }
	Exit store() { return {.kind = K::mmio, .gpa = device, .code = pferr::write, .bytes = {0x89, 0x07}}; }
	void point_at_device(u64 rax)
	{
		kvm_sregs s{};
		EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
		s.ds.base = device;
		s.ds.selector = device >> 4;
		EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
		kvm_regs r = regs();
		r.rbx = 0;
		r.rax = rax;
		set_regs(r);
	}
};

#define TEST_RUN(suite, title)                                                                                   \
	KX_TEST_ON(Run, suite, title, EveryVendor, using typename Run<P>::V; using typename Run<P>::K;           \
		   using Run<P>::vm; using Run<P>::cpu; using Run<P>::run; using Run<P>::ram; using Run<P>::ioctl;\
		   using Run<P>::enter; using Run<P>::expect_exit; using Run<P>::regs; using Run<P>::set_regs;   \
		   using Run<P>::set_rip; using Run<P>::set_rflags; using Run<P>::events; using Run<P>::interrupt; using Run<P>::in_shadow;\
		   using Run<P>::nmi; using Run<P>::port_data; using Run<P>::signal; using Run<P>::no_signal;    \
		   using Run<P>::then; using Run<P>::halts; using Run<P>::entry; using Run<P>::entered;          \
		   using Run<P>::load; using Run<P>::store; using Run<P>::point_at_device; using Run<P>::device;)

}

extern "C" {
void kxc_sched_in(void *owner, unsigned cpu) { scheduler.in(owner, cpu); }
void kxc_sched_out(void *owner) { scheduler.out(owner); }
}

/* --- exits to the VMM, and back */

TEST_RUN(Exits, HltIsReportedWithRipBehindIt)
{
	set_rip(0x100);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(regs().rip, 0x101u);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0x101u);
}

TEST_RUN(Exits, WhatEveryExitFills)
{
	set_rflags(rflags::fixed | rflags::intf);
	run->cr8 = 5;
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(0).cr8, 5u);
	EXPECT_EQ(run->cr8, 5u);
	EXPECT_EQ(run->if_flag, 1);
	EXPECT_EQ(run->ready_for_interrupt_injection, 1);
	EXPECT_EQ(run->apic_base, 0xfee00900u);
	set_rflags(rflags::fixed);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(run->if_flag, 0);
	EXPECT_EQ(run->ready_for_interrupt_injection, 0);
}

TEST_RUN(Exits, InTakesItsValueAtTheNextRun)
{
	for (const u8 size : {1, 2, 4}) {
		kvm_regs r = regs();
		r.rax = 0x1122'3344'5566'7788;
		r.rip = 0x100;
		set_regs(r);
		then({.kind = K::in, .port = 0x3f8, .size = size});
		expect_exit(KVM_EXIT_IO);
		EXPECT_EQ(run->io.direction, KVM_EXIT_IO_IN);
		EXPECT_EQ(run->io.port, 0x3f8);
		EXPECT_EQ(run->io.size, size);
		EXPECT_EQ(run->io.count, 1u);
		EXPECT_EQ(run->io.data_offset, page_size * KVM_PIO_PAGE_OFFSET);
		EXPECT_EQ(regs().rip, 0x100u) << "the instruction is not over";
		EXPECT_EQ(regs().rax, r.rax);
		const u32 answer = 0xa1b2c3d4;
		std::memcpy(port_data(), &answer, 4);
		halts();
		expect_exit(KVM_EXIT_HLT);
		EXPECT_EQ(cpu->hw.last().rip, 0x102u);
		const u64 want = size == 1 ? 0x1122'3344'5566'77d4 : size == 2 ? 0x1122'3344'5566'c3d4 : 0xa1b2c3d4;
		EXPECT_EQ(regs().rax, want);
	}
}

TEST_RUN(Exits, OutGivesItsValueAndEndsAtTheNextRun)
{
	kvm_regs r = regs();
	r.rax = 0x1122'3344;
	r.rip = 0x100;
	set_regs(r);
	then({.kind = K::out, .port = 0x80, .size = 4});
	expect_exit(KVM_EXIT_IO);
	EXPECT_EQ(run->io.direction, KVM_EXIT_IO_OUT);
	u32 v;
	std::memcpy(&v, port_data(), 4);
	EXPECT_EQ(v, 0x11223344u);
	EXPECT_EQ(regs().rip, 0x100u);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0x102u);
	EXPECT_EQ(regs().rax, r.rax);
}

TEST_RUN(Exits, APortAccessIsOverWhenTheVmmMovedRip)
{
	for (const K kind : {K::in, K::out}) {
		kvm_regs r = regs();
		r.rax = 0x55;
		r.rip = 0x100;
		set_regs(r);
		then({.kind = kind, .port = 0x92});
		expect_exit(KVM_EXIT_IO);
		r.rip = 0xfff0;
		set_regs(r);
		port_data()[0] = 0xaa;
		halts();
		expect_exit(KVM_EXIT_HLT);
		EXPECT_EQ(cpu->hw.last().rip, 0xfff0u);
		EXPECT_EQ(regs().rax, 0x55u);
	}
}

TEST_RUN(Exits, RipIsBehindAnOutToPort7eAtOnce)
{
	set_rip(0x100);
	then({.kind = K::out, .port = 0x7e});
	expect_exit(KVM_EXIT_IO);
	EXPECT_EQ(regs().rip, 0x102u);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0x102u);
}

TEST_RUN(Exits, ADeviceReadIsAnsweredAtTheNextRun)
{
	set_rip(0x100);
	point_at_device(0xffff'ffff);
	then(load());
	expect_exit(KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.phys_addr, device);
	EXPECT_EQ(run->mmio.len, 2u);
	EXPECT_EQ(run->mmio.is_write, 0);
	EXPECT_EQ(regs().rip, 0x100u);
	run->mmio.data[0] = 0x34;
	run->mmio.data[1] = 0x12;
	run->mmio.data[2] = 0xee; /* not asked for */
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0x102u);
	EXPECT_EQ(regs().rax, 0xffff'1234u);
}

TEST_RUN(Exits, ADeviceWriteGivesItsValue)
{
	set_rip(0x100);
	point_at_device(0xabcd);
	then(store());
	expect_exit(KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.phys_addr, device);
	EXPECT_EQ(run->mmio.len, 2u);
	EXPECT_EQ(run->mmio.is_write, 1);
	EXPECT_EQ(run->mmio.data[0], 0xcd);
	EXPECT_EQ(run->mmio.data[1], 0xab);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0x102u);
}

TEST_RUN(Exits, ADeviceReadIsOverWhenTheVmmMovedRip)
{
	set_rip(0x100);
	point_at_device(0x77);
	then(load());
	expect_exit(KVM_EXIT_MMIO);
	set_rip(0xfff0);
	run->mmio.data[0] = 1;
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0xfff0u);
	EXPECT_EQ(regs().rax, 0x77u);
}

TEST_RUN(Exits, ATripleFaultIsAShutdown)
{
	then({.kind = K::fault, .raised = Exception::coded(Vector::gp, 0)});
	then({.kind = K::fault, .raised = Exception::coded(Vector::gp, 0), .cut_exception = Exception::coded(Vector::gp, 0)});
	then({.kind = K::fault, .raised = Exception::coded(Vector::gp, 0), .cut_exception = Exception::coded(Vector::df, 0)});
	expect_exit(KVM_EXIT_SHUTDOWN);
	ASSERT_EQ(entered(), 3u);
	EXPECT_EQ(entry(1).exception->vector, Vector::gp);
	EXPECT_EQ(entry(2).exception->vector, Vector::df);
}

TEST_RUN(Exits, WhatTheEmulatorCannotDoIsToldWithTheBytes)
{
	point_at_device(0);
	then({.kind = K::mmio, .gpa = device, .bytes = {0xd8, 0x07}}); /* FADD */
	expect_exit(KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(run->internal.suberror, unsigned(KVM_INTERNAL_ERROR_EMULATION));
	EXPECT_EQ(run->emulation_failure.insn_bytes[0], 0xd8);
}

/* --- ends of KVM_RUN */

TEST_RUN(Ends, ImmediateExitIsEintrWithoutAnEntry)
{
	run->immediate_exit = 1;
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(entered(), 0u);
}

TEST_RUN(Ends, ImmediateExitCompletesWhatWasBegun)
{
	set_rip(0x100);
	then({.kind = K::in, .port = 0x60});
	expect_exit(KVM_EXIT_IO);
	port_data()[0] = 0x5a;
	run->immediate_exit = 1;
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(regs().rip, 0x102u);
	EXPECT_EQ(u8(regs().rax), 0x5a);
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(regs().rip, 0x102u) << "once";
	EXPECT_EQ(entered(), 1u);
}

TEST_RUN(Ends, ASignalBeforeTheEntryIsEintr)
{
	signal();
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(run->exit_reason, unsigned(KVM_EXIT_INTR));
	EXPECT_EQ(entered(), 0u);
	no_signal();
	halts();
	expect_exit(KVM_EXIT_HLT);
}

TEST_RUN(Ends, ASignalInTheGuestIsEintr)
{
	then({.kind = K::interrupt}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(run->exit_reason, unsigned(KVM_EXIT_INTR));
}

TEST_RUN(Ends, AnExitToTheVmmIsNotLostToASignal)
{
	then({.kind = K::in, .port = 0x60}, [this] { signal(); });
	expect_exit(KVM_EXIT_IO);
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(regs().rip, u64{0xfff2});
}

TEST_RUN(Ends, OtherWorkIsDoneAndTheGuestGoesOnWhereTheThreadIsNow)
{
	then({.kind = K::interrupt}, [] {
		hosted::this_thread().flags |= work;
		hosted::this_thread().next_cpu = 2;
	});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(hosted::this_thread().worked, 1u);
	EXPECT_EQ(entry(0).cpu, 0u);
	EXPECT_EQ(entry(1).cpu, 2u);
	EXPECT_EQ(cpu->cpu.relaxed(), 2u);
}

TEST_RUN(Ends, TheFpuComesBackBeforeTheGuestIsEntered)
{
	hosted::this_thread().flags |= KX_THREAD_NEED_FPU;
	halts();
	expect_exit(KVM_EXIT_HLT); /* the fake looks at the flag */
	EXPECT_EQ(hosted::this_thread().worked, 0u);
}

TEST_RUN(Ends, TheSignalMaskCountsInTheGuestAlone)
{
	struct {
		u32 len;
		u8 set[8];
	} __attribute__((packed)) mask = {8, {0x10}};
	EXPECT_EQ(ioctl(KVM_SET_SIGNAL_MASK, &mask), 0);
	hosted::this_thread().blocked = 7;
	u64 inside = 0;
	then({.kind = K::hlt}, [&inside] { inside = hosted::this_thread().blocked; });
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(inside, 0x10u);
	EXPECT_EQ(hosted::this_thread().blocked, 7u);
	mask.len = 4;
	EXPECT_EQ(ioctl(KVM_SET_SIGNAL_MASK, &mask), -EINVAL);
}

TEST_RUN(Ends, BadFieldsOfKvmRunAreRefused)
{
	run->kvm_valid_regs = 1;
	EXPECT_EQ(enter(), -EINVAL);
	run->kvm_valid_regs = 0;
	run->kvm_dirty_regs = 1;
	EXPECT_EQ(enter(), -EINVAL);
	run->kvm_dirty_regs = 0;
	run->cr8 = 16;
	EXPECT_EQ(enter(), -EINVAL);
	EXPECT_EQ(run->cr8, 0u);
	EXPECT_EQ(cpu->ioctl(KVM_RUN, 1), -EINVAL);
	EXPECT_EQ(entered(), 0u);
	halts();
	expect_exit(KVM_EXIT_HLT);
}

TEST_RUN(Ends, VirtualizationSwitchedOffKillsTheVm)
{
	then({.kind = K::off});
	EXPECT_EQ(enter(), -EIO);
	EXPECT_TRUE(vm->dead());
	EXPECT_EQ(enter(), -EIO);
	kvm_regs r;
	EXPECT_EQ(ioctl(KVM_GET_REGS, &r), -EIO);
	EXPECT_EQ(vm->ioctl(KVM_CHECK_EXTENSION, KVM_CAP_HLT), -EIO);
	EXPECT_EQ(entered(), 1u);
}

TEST_RUN(Ends, AVmThatDiesMeanwhileIsNotEnteredAgain)
{
	then({.kind = K::interrupt}, [this] {
		vm->die("the test says so", 0, 0);
		cpu->requests.or_with(request::leave);
	});
	EXPECT_EQ(enter(), -EIO);
	EXPECT_EQ(entered(), 1u);
}

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
	then({.kind = K::fault, .raised = Exception::page_fault(pferr::write, 0x1234)});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).exception->vector, Vector::pf);
	kvm_sregs s;
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	EXPECT_EQ(s.cr2, 0x1234u);
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

TEST_RUN(Events, KvmSetRegsForgetsAnException)
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

/* --- in the guest */

TEST_RUN(Fast, ExitsGoStraightBackIn)
{
	for (int i = 0; i < 10; ++i)
		then({.kind = K::again});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entered(), 11u);
	EXPECT_EQ(cpu->hw.stays, 1u);
}

TEST_RUN(Fast, ALongRunOfThemLetsInterruptsIn)
{
	for (unsigned i = 0; i < max_fast_exits + 10; ++i)
		then({.kind = K::again});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(cpu->hw.stays, 2u);
}

TEST_RUN(Fast, StopsForWork)
{
	then({.kind = K::again}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(entered(), 1u);
}

TEST_RUN(Fast, StopsForRequests)
{
	then({.kind = K::again}, [this] { cpu->ask(request::flush_tlb); });
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(cpu->hw.stays, 2u);
	EXPECT_TRUE(entry(1).flushed);
}

TEST_RUN(Fast, AnInstructionIsDoneInTheGuest)
{
	set_rip(0x100);
	then({.kind = K::cpuid});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0x102u);
	EXPECT_EQ(cpu->hw.stays, 1u);
}

TEST_RUN(Fast, WhatItRaisesGoesIn)
{
	set_rip(0x100);
	set_rflags(rflags::fixed | rflags::tf);
	then({.kind = K::cpuid}); /* single-stepped */
	then({.kind = K::hlt}, [this] { cpu->hw.guest_sets_rflags(rflags::fixed); });
	expect_exit(KVM_EXIT_HLT);
	ASSERT_TRUE(entry(1).exception);
	EXPECT_EQ(entry(1).exception->vector, Vector::db);
	EXPECT_EQ(entry(1).rip, 0x102u);
	EXPECT_FALSE(entry(1).rflags & rflags::rf) << "a trap";
	kvm_debugregs d{};
	EXPECT_EQ(ioctl(KVM_GET_DEBUGREGS, &d), 0);
	EXPECT_TRUE(d.dr6 & dr6::bs);
}

TEST_RUN(Flush, IsDoneBeforeTheNextEntry)
{
	halts();
	vm->flush_all_vcpus();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(0).flushed);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_FALSE(entry(1).flushed) << "once";
}

TEST_RUN(Flush, WaitsForAVcpuInTheGuestToLeave)
{
	std::atomic<bool> over{false};
	std::thread other;
	then({.kind = K::interrupt}, [&] {
		other = std::thread{[&] {
			hosted::this_thread().cpu = 1;
			vm->flush_all_vcpus();
			over = true;
		}};
		while (!hosted::interrupt_waits())
			std::this_thread::yield();
		EXPECT_FALSE(over) << "while the guest still translates as before";
	});
	halts();
	expect_exit(KVM_EXIT_HLT);
	other.join();
	EXPECT_TRUE(entry(1).flushed);
}

/* --- what the processor logs */

TEST_RUN(Log, IsDrainedAtEachStay)
{
	then({.kind = K::interrupt});
	for (int i = 0; i < 3; ++i)
		then({.kind = K::again});
	halts();
	expect_exit(KVM_EXIT_HLT); /* the fake looks at where */
	EXPECT_EQ(V::drains, V::logs_writes ? 2u : 0u);
}

TEST_RUN(Log, IsTheVmmsDirtyLog)
{
	if (!V::logs_writes)
		return;
	const kvm_userspace_memory_region r{0, KVM_MEM_LOG_DIRTY_PAGES, 0, sizeof ram, reinterpret_cast<u64>(ram)};
	EXPECT_EQ(vm->ioctl(KVM_SET_USER_MEMORY_REGION, reinterpret_cast<unsigned long>(&r)), 0);
	u64 bits = ~u64{0};
	kvm_dirty_log log{};
	log.dirty_bitmap = &bits;
	long got = -1;
	std::thread other;
	then({.kind = K::interrupt}, [&] {
		V::log = {2 * page_size};
		other = std::thread{[&] {
			hosted::this_thread().cpu = 1;
			got = -long(vm->memory.get_dirty_log(log));
		}};
		while (!hosted::interrupt_waits())
			std::this_thread::yield();
	});
	halts();
	expect_exit(KVM_EXIT_HLT);
	other.join();
	EXPECT_EQ(got, 0);
	EXPECT_EQ(bits, u64{1} << 2);
}

/* --- state */

TEST_RUN(State, EveryIoctlReachesIt)
{
	const unsigned loads = cpu->hw.loads;
	kvm_regs r{};
	kvm_sregs s{};
	kvm_fpu f{};
	kvm_debugregs d{};
	kvm_vcpu_events e{};
	kvm_xcrs x{};
	kvm_mp_state m{};
	alignas(8) static u8 xsave[4096];
	const std::pair<unsigned, void *> all[] = {
		{KVM_GET_REGS, &r}, {KVM_SET_REGS, &r}, {KVM_GET_SREGS, &s}, {KVM_SET_SREGS, &s}, {KVM_GET_FPU, &f},
		{KVM_SET_FPU, &f}, {KVM_GET_DEBUGREGS, &d}, {KVM_SET_DEBUGREGS, &d}, {KVM_GET_VCPU_EVENTS, &e},
		{KVM_SET_VCPU_EVENTS, &e}, {KVM_GET_XSAVE, xsave}, {KVM_SET_XSAVE, xsave}, {KVM_GET_XCRS, &x},
		{KVM_SET_XCRS, &x}, {KVM_GET_MP_STATE, &m}, {KVM_SET_MP_STATE, &m}, {KVM_NMI, nullptr},
	};
	for (const auto &[cmd, arg] : all)
		EXPECT_EQ(ioctl(cmd, arg), 0) << std::hex << cmd;
	struct {
		kvm_msrs head{};
		kvm_msr_entry list[4] = {};
	} msrs;
	const u32 which[] = {0x10, 0x277, 0xc0000080, 0xc0000102};
	msrs.head.nmsrs = 4;
	for (unsigned i = 0; i < 4; ++i)
		msrs.list[i].index = which[i];
	EXPECT_EQ(ioctl(KVM_GET_MSRS, &msrs), 4);
	EXPECT_EQ(ioctl(KVM_SET_MSRS, &msrs), 4);
	EXPECT_EQ(cpu->hw.loads - loads, V::state_needs_loading ? std::size(all) + 2 : 0u);
	EXPECT_EQ(ioctl(0xae00 + 0xff), -ENOTTY);
	EXPECT_EQ(ioctl(KVM_GET_REGS), -EFAULT);
}

TEST_RUN(State, WhatIsSetIsWhatRuns)
{
	kvm_regs r = regs();
	r.rip = 0x4000;
	r.rflags = 0;
	r.r15 = 15;
	set_regs(r);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(0).rip, 0x4000u);
	EXPECT_EQ(entry(0).rflags, rflags::fixed);
	EXPECT_EQ(regs().r15, 15u);
	kvm_sregs s{};
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	s.interrupt_bitmap[0] = u64{1} << 0x31;
	EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
	set_rflags(rflags::fixed | rflags::intf);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).interrupt, 0x31);
	EXPECT_TRUE(entry(1).flushed);
}

TEST_RUN(State, IsOfItsOwnAddressSpace)
{
	long r = 0;
	std::thread{[&] { r = enter(); }}.join(); /* a thread of the hosted seam has one of its own */
	EXPECT_EQ(r, -EIO);
}

TEST_RUN(State, TheFpuIsTheGuestsOwn)
{
	kvm_fpu f{}, back{};
	f.fcw = 0x37f;
	f.xmm[3][0] = 0x42;
	EXPECT_EQ(ioctl(KVM_SET_FPU, &f), 0);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(ioctl(KVM_GET_FPU, &back), 0);
	EXPECT_EQ(back.fcw, 0x37f);
	EXPECT_EQ(back.xmm[3][0], 0x42);
}

/* Also where the VMM's CPUID says that addresses are wider than any. */
TEST_RUN(State, PageDirectoryPointersAreLoadedWithTheRegisters)
{
	if (!V::keeps_pdptes)
		return; /* walks read them from memory */
	struct {
		kvm_cpuid2 head{};
		kvm_cpuid_entry2 list[2] = {};
	} c;
	c.head.nent = 2;
	c.list[0].function = 0x80000000;
	c.list[0].eax = 0x80000008;
	c.list[1].function = 0x80000008;
	c.list[1].eax = 40;
	const u64 table = 0x1000, wide = u64{1} << 60 | 0x5001, plain = 0x6001;
	const kvm_userspace_memory_region slot{0, 0, 0, sizeof ram, reinterpret_cast<u64>(ram)};
	EXPECT_EQ(vm->ioctl(KVM_SET_USER_MEMORY_REGION, reinterpret_cast<unsigned long>(&slot)), 0);
	const auto loaded = [&](u64 value) {
		std::memcpy(&ram[table], &value, sizeof value);
		kvm_sregs s{};
		EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
		s.cr0 = cr0::pe | cr0::pg | cr0::et;
		s.cr3 = table;
		s.cr4 = cr4::pae;
		s.efer = 0;
		EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
		typename V::Cpu &hw = cpu->hw;
		return hw.kept_pdpte(0);
	};
	EXPECT_EQ(ioctl(KVM_SET_CPUID2, &c), 0);
	EXPECT_EQ(loaded(plain), plain);
	EXPECT_EQ(loaded(wide), 0u) << "a reserved bit";
	c.list[1].eax = 0xff;
	EXPECT_EQ(ioctl(KVM_SET_CPUID2, &c), 0);
	EXPECT_EQ(loaded(wide), wide);
}

TEST_RUN(State, CpuidIsNotChangedAfterARun)
{
	struct {
		kvm_cpuid2 head{};
		kvm_cpuid_entry2 list[1] = {};
	} c;
	c.head.nent = 1;
	c.list[0].eax = 1;
	EXPECT_EQ(ioctl(KVM_SET_CPUID2, &c), 0);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(ioctl(KVM_SET_CPUID2, &c), 0) << "the same again";
	c.list[0].eax = 2;
	EXPECT_EQ(ioctl(KVM_SET_CPUID2, &c), -EINVAL);
}
