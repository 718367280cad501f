/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM_RUN and the ioctls around it, as a VMM sees them. */
#include "vm_run.hpp"

using namespace kx;
using namespace kx::test;

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
	EXPECT_EQ(hosted::this_thread().really_blocked, 0u);
	mask.len = 4;
	EXPECT_EQ(ioctl(KVM_SET_SIGNAL_MASK, &mask), -EINVAL);
}

TEST_RUN(Ends, KillAndStopAreNotBlockedInTheGuest)
{
	struct {
		u32 len;
		u64 set;
	} __attribute__((packed)) mask = {8, ~u64{0}};
	EXPECT_EQ(ioctl(KVM_SET_SIGNAL_MASK, &mask), 0);
	u64 inside = 0;
	then({.kind = K::hlt}, [&inside] { inside = hosted::this_thread().blocked; });
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(inside, ~(bit(8) | bit(18)));
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

TEST_RUN(Suspend, ATscThatStartsAnewHasStoodStillForTheGuest)
{
	const u64 was = cpu->hw.tsc_offset;
	halts();
	expect_exit(KVM_EXIT_HLT);
	kx_tsc_lost += 1000;
	hosted::this_thread().resumed = true;
	then({.kind = K::interrupt}, [this, was] { EXPECT_EQ(cpu->hw.tsc_offset, was + 1000); });
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(cpu->hw.tsc_offset, was + 1000);
}

TEST_RUN(Ends, AMachineCheckIsTakenBeforeAnythingElseRuns)
{
	hosted::this_thread().machine_checks = 0;
	then({.kind = K::machine_check}, [] { EXPECT_EQ(hosted::this_thread().machine_checks, 0u); });
	then({.kind = K::interrupt}, [] { EXPECT_EQ(hosted::this_thread().machine_checks, 1u); });
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(hosted::this_thread().machine_checks, 1u);
}

TEST_RUN(Ends, AMachineCheckThatTookTheGuestsStateShutsItDown)
{
	hosted::this_thread().machine_check_is_fatal = true;
	then({.kind = K::machine_check});
	expect_exit(KVM_EXIT_SHUTDOWN);
	EXPECT_EQ(entered(), 1u);
	hosted::this_thread().machine_check_is_fatal = false;
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

/* One that spins, or goes from fast exit to fast exit, is not left to it. */
TEST_RUN(Ends, ADyingVmTakesItsVcpusOutOfTheGuest)
{
	then({.kind = K::again}, [this] {
		std::thread{[this] {
			hosted::this_thread().cpu = 1;
			vm->die("the test says so", 0, 0);
		}}.join();
		EXPECT_TRUE(hosted::interrupt_waits());
	});
	EXPECT_EQ(enter(), -EIO);
	EXPECT_EQ(entered(), 1u);
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
	then({.kind = K::again}, [this] { cpu->ask(request::flush_all); });
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
	then({.kind = K::interrupt}, [] { V::log = {page_size}; });
	for (int i = 0; i < 3; ++i)
		then({.kind = K::again}, [] { V::log = {page_size}; });
	halts();
	expect_exit(KVM_EXIT_HLT); /* the fake looks at where */
	EXPECT_EQ(V::drains, V::logs_writes ? 2u : 0u);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(V::drains, V::logs_writes ? 2u : 0u) << "nothing logged, nothing to do";
}

/* Its interrupt has been taken, the vCPU is out of the guest, and the log is not drained yet. */
TEST_RUN(Log, AReaderWaitsForWhoIsDraining)
{
	if (!V::logs_writes)
		return;
	const kvm_userspace_memory_region r{0, KVM_MEM_LOG_DIRTY_PAGES, 0, sizeof ram, reinterpret_cast<u64>(ram)};
	EXPECT_EQ(vm->ioctl(KVM_SET_USER_MEMORY_REGION, reinterpret_cast<unsigned long>(&r)), 0);
	u64 bits = ~u64{0};
	kvm_dirty_log log{};
	log.dirty_bitmap = &bits;
	std::atomic<bool> over{false};
	std::thread other;
	V::draining = [&] {
		other = std::thread{[&] {
			hosted::this_thread().cpu = 1;
			EXPECT_EQ(vm->memory.get_dirty_log(Space::normal, log), Errc::ok);
			over = true;
		}};
		std::this_thread::sleep_for(std::chrono::milliseconds{20});
		EXPECT_FALSE(over);
	};
	then({.kind = K::interrupt}, [] { V::log = {3 * page_size}; });
	halts();
	expect_exit(KVM_EXIT_HLT);
	other.join();
	EXPECT_EQ(bits, u64{1} << 3);
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
			got = -long(vm->memory.get_dirty_log(Space::normal, log));
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

/* What was read is written. */
template <class State, class T> void take_back(T &t, unsigned get, unsigned set)
{
	State s{};
	EXPECT_EQ(t.ioctl(get, &s), 0) << std::hex << get;
	EXPECT_EQ(t.ioctl(set, &s), 0) << std::hex << set;
}

/* A code segment with L set, which nobody looks at outside long mode. */
TEST_RUN(State, WhatWasReadIsTakenBack)
{
	for (const bool d : {false, true}) {
		then({.kind = K::hlt, .length = 1}, [this, d] {
			Segment cs = cpu->hw.segment(Seg::cs);
			cs.l = true;
			cs.db = d;
			cpu->hw.set_segment(Seg::cs, cs);
			cpu->hw.set_cr0(cpu->hw.cr0() | cr0::pe);
		});
		expect_exit(KVM_EXIT_HLT);
		take_back<kvm_regs>(*this, KVM_GET_REGS, KVM_SET_REGS);
		take_back<kvm_sregs>(*this, KVM_GET_SREGS, KVM_SET_SREGS);
		take_back<kvm_fpu>(*this, KVM_GET_FPU, KVM_SET_FPU);
		take_back<kvm_xcrs>(*this, KVM_GET_XCRS, KVM_SET_XCRS);
		take_back<kvm_debugregs>(*this, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS);
		take_back<kvm_vcpu_events>(*this, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS);
		take_back<kvm_mp_state>(*this, KVM_GET_MP_STATE, KVM_SET_MP_STATE);
		kvm_clock_data clock{};
		EXPECT_EQ(vm->ioctl(KVM_GET_CLOCK, reinterpret_cast<unsigned long>(&clock)), 0);
		EXPECT_EQ(vm->ioctl(KVM_SET_CLOCK, reinterpret_cast<unsigned long>(&clock)), 0);
		const long khz = ioctl(KVM_GET_TSC_KHZ);
		EXPECT_EQ(cpu->ioctl(KVM_SET_TSC_KHZ, static_cast<unsigned long>(khz)), 0);
	}
}

/* --- machine checks of the VMM */

TEST_RUN(MachineCheck, OfTheVmmGoesIntoTheGuest)
{
	u64 cap = 10 | mcg::ctl_p | mcg::ser_p;
	EXPECT_EQ(ioctl(KVM_X86_SETUP_MCE, &cap), 0);
	kvm_sregs s{};
	EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
	s.cr4 |= cr4::mce;
	EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
	kvm_x86_mce e{};
	e.status = bit(63) | bit(61) | bit(57), e.mcg_status = bit(2), e.bank = 4;
	EXPECT_EQ(ioctl(KVM_X86_SET_MCE, &e), 0);
	halts();
	expect_exit(KVM_EXIT_HLT);
	ASSERT_TRUE(entry(0).exception);
	EXPECT_EQ(entry(0).exception->vector, Vector::mc);
	EXPECT_FALSE(entry(0).exception->has_error);
	EXPECT_EQ(ioctl(KVM_X86_SET_MCE, &e), 0) << "a second one in the handler of the first";
	expect_exit(KVM_EXIT_SHUTDOWN);
	e.bank = 10;
	EXPECT_EQ(ioctl(KVM_X86_SET_MCE, &e), -EINVAL);
	EXPECT_EQ(ioctl(KVM_X86_SET_MCE), -EFAULT);
}

/* --- what the VM says of itself */

/* Each capability with an ioctl that must be there with it; bare ones say something of others. */
TEST_RUN(Promises, EveryCapabilityHasItsIoctl)
{
	struct Of {
		unsigned vm = 0, vcpu = 0;
	};
	const std::map<unsigned, Of> known{
		{KVM_CAP_HLT, {}}, {KVM_CAP_MMU_SHADOW_CACHE_CONTROL, {KVM_SET_NR_MMU_PAGES}},
		{KVM_CAP_USER_MEMORY, {KVM_SET_USER_MEMORY_REGION}}, {KVM_CAP_SET_TSS_ADDR, {KVM_SET_TSS_ADDR}},
		{KVM_CAP_EXT_CPUID, {0, KVM_SET_CPUID2}}, {KVM_CAP_NR_VCPUS, {}}, {KVM_CAP_NR_MEMSLOTS, {}},
		{KVM_CAP_MP_STATE, {0, KVM_GET_MP_STATE}}, {KVM_CAP_COALESCED_MMIO, {KVM_REGISTER_COALESCED_MMIO}},
		{KVM_CAP_SYNC_MMU, {}}, {KVM_CAP_DESTROY_MEMORY_REGION_WORKS, {}}, {KVM_CAP_USER_NMI, {0, KVM_NMI}},
		{KVM_CAP_IRQ_ROUTING, {KVM_SET_GSI_ROUTING}}, {KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, {}},
		{KVM_CAP_MCE, {0, KVM_X86_SET_MCE}}, {KVM_CAP_IOEVENTFD, {KVM_IOEVENTFD}},
		{KVM_CAP_SET_IDENTITY_MAP_ADDR, {KVM_SET_IDENTITY_MAP_ADDR}}, {KVM_CAP_ADJUST_CLOCK, {KVM_SET_CLOCK}},
		{KVM_CAP_INTERNAL_ERROR_DATA, {}}, {KVM_CAP_VCPU_EVENTS, {0, KVM_GET_VCPU_EVENTS}},
		{KVM_CAP_DEBUGREGS, {0, KVM_GET_DEBUGREGS}}, {KVM_CAP_XSAVE, {0, KVM_GET_XSAVE}},
		{KVM_CAP_XCRS, {0, KVM_GET_XCRS}}, {KVM_CAP_GET_TSC_KHZ, {0, KVM_GET_TSC_KHZ}},
		{KVM_CAP_MAX_VCPUS, {}}, {KVM_CAP_READONLY_MEM, {}}, {KVM_CAP_CHECK_EXTENSION_VM, {KVM_CHECK_EXTENSION}},
		{KVM_CAP_IOEVENTFD_NO_LENGTH, {KVM_IOEVENTFD}}, {KVM_CAP_IOEVENTFD_ANY_LENGTH, {KVM_IOEVENTFD}},
		{KVM_CAP_MAX_VCPU_ID, {}}, {KVM_CAP_IMMEDIATE_EXIT, {}}, {KVM_CAP_GET_MSR_FEATURES, {}},
		{KVM_CAP_COALESCED_PIO, {KVM_UNREGISTER_COALESCED_MMIO}},
		{KVM_CAP_BINARY_STATS_FD, {}}, /* a file: the tests of statistics have it */
	};
	for (unsigned cap = 0; cap < 400; ++cap) {
		const auto it = known.find(cap);
		if (it == known.end()) {
			EXPECT_EQ(vm->ioctl(KVM_CHECK_EXTENSION, cap), 0) << cap << " is promised: by what?";
			continue;
		}
		EXPECT_GT(vm->ioctl(KVM_CHECK_EXTENSION, cap), 0) << cap;
		if (it->second.vm)
			EXPECT_NE(vm->ioctl(it->second.vm, 0), -ENOTTY) << cap;
		if (it->second.vcpu)
			EXPECT_NE(ioctl(it->second.vcpu), -ENOTTY) << cap;
	}
}

/* KVM's bounds and default of what it may spend on shadow pages. */
TEST_RUN(Promises, MmuPagesAreAFiftiethOfMemoryUnlessTheVmmSays)
{
	EXPECT_EQ(vm->ioctl(KVM_GET_NR_MMU_PAGES, 0), 0);
	const auto region = [this](u64 size) {
		const kvm_userspace_memory_region r{0, 0, 0, size, reinterpret_cast<u64>(ram)};
		EXPECT_EQ(vm->ioctl(KVM_SET_USER_MEMORY_REGION, reinterpret_cast<unsigned long>(&r)), 0);
	};
	region(sizeof ram);
	EXPECT_EQ(vm->ioctl(KVM_GET_NR_MMU_PAGES, 0), 64);
	region(0);
	region(u64{64} << 20);
	EXPECT_EQ(vm->ioctl(KVM_GET_NR_MMU_PAGES, 0), (64 << 20) / 4096 / 50);
	EXPECT_EQ(vm->ioctl(KVM_SET_NR_MMU_PAGES, 63), -EINVAL);
	EXPECT_EQ(vm->ioctl(KVM_SET_NR_MMU_PAGES, 64), 0);
	EXPECT_EQ(vm->ioctl(KVM_GET_NR_MMU_PAGES, 0), 64);
	region(0);
	region(u64{128} << 20);
	EXPECT_EQ(vm->ioctl(KVM_GET_NR_MMU_PAGES, 0), 64);
}

/* --- the clock */

namespace {

template <class T> kvm_clock_data clock_of(T &t)
{
	kvm_clock_data d{};
	EXPECT_EQ(t.vm->ioctl(KVM_GET_CLOCK, reinterpret_cast<unsigned long>(&d)), 0);
	return d;
}
/* The vCPU's, by KVM_SET_MSRS. */
template <class C> void set_tsc(C &cpu, u64 value)
{
	struct {
		kvm_msrs head{};
		kvm_msr_entry tsc{};
	} m;
	m.head.nmsrs = 1;
	m.tsc.index = 0x10;
	m.tsc.data = value;
	EXPECT_EQ(cpu.ioctl(KVM_SET_MSRS, reinterpret_cast<unsigned long>(&m)), 1);
}

}

TEST_RUN(Clock, ItsThreeTimesAreOfOneMoment)
{
	const kvm_clock_data first = clock_of(*this);
	EXPECT_EQ(first.flags, clock_flags);
	for (unsigned i = 0; i < 1000; ++i) {
		const kvm_clock_data d = clock_of(*this);
		EXPECT_EQ(d.realtime - d.clock, first.realtime - first.clock);
		EXPECT_EQ(d.host_tsc, 2 * (d.realtime - hosted::booted_at));
	}
}

TEST_RUN(Clock, IsAloneWhereTheHostsIsNotItsTsc)
{
	hosted::keep_time_by_tsc(false);
	const kvm_clock_data d = clock_of(*this);
	hosted::keep_time_by_tsc(true);
	EXPECT_EQ(d.flags | d.realtime | d.host_tsc, 0u);
	EXPECT_GT(d.clock, 0u);
	EXPECT_LE(d.clock, clock_of(*this).clock);
}

TEST_RUN(Clock, IsStableWhileAllVcpusHaveOneTsc)
{
	EXPECT_EQ(vm->ioctl(KVM_CREATE_VCPU, 0), -EEXIST);
	EXPECT_EQ(clock_of(*this).flags, clock_flags) << "one that is not there has no TSC";
	const long fd = vm->ioctl(KVM_CREATE_VCPU, 1);
	ASSERT_GE(fd, 0);
	auto &other = *static_cast<Vcpu<V> *>(hosted::file_of(int(fd)));
	EXPECT_EQ(clock_of(*this).flags, clock_flags);
	const u64 hour = u64{7'200'000'000'000};
	set_tsc(*cpu, hour);
	EXPECT_EQ(clock_of(*this).flags, 0u);
	set_tsc(other, hour);
	EXPECT_EQ(clock_of(*this).flags, clock_flags);
	vm->close(); /* its file */
}

/* Neither of the first two KVM_RUNs gets into the guest. */
TEST_RUN(State, CpuidIsFreeUntilTheGuestHasRun)
{
	struct {
		kvm_cpuid2 head{};
		kvm_cpuid_entry2 list[1] = {};
	} c;
	c.head.nent = 1;
	run->immediate_exit = 1;
	EXPECT_EQ(enter(), -EINTR);
	run->immediate_exit = 0;
	c.list[0].eax = 1;
	EXPECT_EQ(ioctl(KVM_SET_CPUID2, &c), 0);
	signal();
	EXPECT_EQ(enter(), -EINTR);
	no_signal();
	c.list[0].eax = 2;
	EXPECT_EQ(ioctl(KVM_SET_CPUID2, &c), 0);
	then({.kind = K::again}, [this] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	no_signal();
	c.list[0].eax = 3;
	EXPECT_EQ(ioctl(KVM_SET_CPUID2, &c), -EINVAL);
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
