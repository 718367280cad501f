/* SPDX-License-Identifier: GPL-2.0-only */
/* A VM with one vCPU on a processor that runs a script, driven as a VMM does. For one source file of a program. */
#pragma once
#include <cerrno>
#include <cstring>
#include <thread>
#include "cpu_record_ryzen.hpp"
#include "fake_vendor.hpp"
#include "vm_processors.hpp"

namespace kx::test {

using EveryVendor = On<SelfContained, InACache>;

/* Whose vCPU the thread has loaded. */
inline struct {
	void (*in)(void *, unsigned);
	void (*out)(void *);
} scheduler;

inline constexpr u64 work = KX_THREAD_WORK;

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
		V::draining = {};
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
		const CpuMode m = cpu->mode.relaxed();
		EXPECT_TRUE(m == CpuMode::new_born || m == CpuMode::outside);
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
	Exit store() { return {.kind = K::mmio, .gpa = device, .code = pfec::write, .bytes = {0x89, 0x07}}; }
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
inline __attribute__((used)) void kxc_sched_in(void *owner, unsigned cpu) { kx::test::scheduler.in(owner, cpu); }
inline __attribute__((used)) void kxc_sched_out(void *owner) { kx::test::scheduler.out(owner); }
}
