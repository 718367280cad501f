/* SPDX-License-Identifier: GPL-2.0-only */
/* Instructions on devices, from the exit to the VMM and back: what KVM_RUN makes of the emulator. */
#include "vm_run.hpp"

using namespace kx;
using namespace kx::test;

namespace {

template <class T> void ram_at_0(T &t)
{
	const kvm_userspace_memory_region slot{0, 0, 0, sizeof t.ram, reinterpret_cast<u64>(t.ram)};
	EXPECT_EQ(t.vm->ioctl(KVM_SET_USER_MEMORY_REGION, reinterpret_cast<unsigned long>(&slot)), 0);
}

template <class T, class F> void change_sregs(T &t, F change)
{
	kvm_sregs s{};
	EXPECT_EQ(t.ioctl(KVM_GET_SREGS, &s), 0);
	change(s);
	EXPECT_EQ(t.ioctl(KVM_SET_SREGS, &s), 0);
}

/* Protected mode, ring 3. */
void user_mode(kvm_sregs &s)
{
	s.cr0 |= cr0::pe;
	s.cs.dpl = s.ss.dpl = 3;
}

/* REP with that count, from or to a device. */
template <class T> void repeat(T &t, u64 count, u64 flags = rflags::fixed | rflags::intf)
{
	change_sregs(t, [](kvm_sregs &s) {
		s.ds.base = s.es.base = T::device;
		s.ds.selector = s.es.selector = T::device >> 4;
	});
	kvm_regs r = t.regs();
	r.rip = 0x100, r.rdx = r.rsi = r.rdi = 0, r.rcx = count, r.rflags = flags;
	t.set_regs(r);
}
template <class T> Exit rep_stos() { return {.kind = Exit::Kind::mmio, .gpa = T::device, .code = pfec::write, .bytes = {0xf3, 0xaa}}; }
template <class T> Exit rep_lods() { return {.kind = Exit::Kind::mmio, .gpa = T::device, .bytes = {0xf3, 0xac}}; }

/* One of each form an access can be out in, and what its answer leaves behind. */
struct Form {
	const char *name;
	Exit exit;
	u32 why;
	u64 rip = 0xfff2, rax = 0, rcx = 1, rdi = 0;
};
std::vector<Form> forms(u64 device)
{
	using K = Exit::Kind;
	return {
		{"OUT", {.kind = K::out, .port = 0xcf9}, KVM_EXIT_IO},
		{"IN", {.kind = K::in, .port = 0xcf9}, KVM_EXIT_IO, 0xfff2, 0xaa},
		{"OUTS", {.kind = K::outs, .port = 0xcf9, .bytes = {0x26, 0x6e}}, KVM_EXIT_IO}, /* ES: */
		{"INS", {.kind = K::ins, .port = 0xcf9, .bytes = {0x6c}}, KVM_EXIT_IO, 0xfff1, 0, 1, 1},
		{"REP INS", {.kind = K::ins, .port = 0xcf9, .bytes = {0xf3, 0x6c}}, KVM_EXIT_IO, 0xfff2, 0, 0, 1},
		{"MOV AL, [BX]", {.kind = K::mmio, .gpa = device, .bytes = {0x8a, 0x07}}, KVM_EXIT_MMIO, 0xfff2, 0xaa},
		{"MOV [BX], AL", {.kind = K::mmio, .gpa = device, .code = pfec::write, .bytes = {0x88, 0x07}}, KVM_EXIT_MMIO},
	};
}
/* There, with segments and registers for all of them. */
template <class T> void begin_access(T &t, const Form &f)
{
	change_sregs(t, [](kvm_sregs &s) {
		s.cs.base = 0x1000, s.cs.selector = 0x100;
		s.ds.base = T::device, s.ds.selector = T::device >> 4;
		s.es.base = s.es.selector = 0;
	});
	kvm_regs r{};
	r.rip = 0xfff0, r.rdx = 0xcf9, r.rcx = 1, r.rflags = rflags::fixed;
	t.set_regs(r);
	t.ram[0] = 0;
	t.then(f.exit);
	t.expect_exit(f.why);
	t.port_data()[0] = t.run->mmio.data[0] = 0xaa;
}

}

/* The second is fetched with what was remembered of the first. */
TEST_RUN(Devices, TheSameIpInAnotherSegmentIsAnotherInstruction)
{
	ram_at_0(*this);
	const u8 one[] = {0x89, 0x07}, two[] = {0x89, 0x0f}; /* mov [bx], ax; mov [bx], cx */
	std::memcpy(&ram[0x1100], one, sizeof one);
	std::memcpy(&ram[0x2100], two, sizeof two);
	point_at_device(0xaaaa);
	kvm_regs r = regs();
	r.rcx = 0xcccc;
	set_regs(r);
	for (const u64 base : {0x1000, 0x2000, 0x1000}) {
		kvm_sregs s{};
		EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
		s.cs.base = base;
		s.cs.selector = u16(base >> 4);
		EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
		set_rip(0x100);
		then({.kind = K::mmio, .gpa = device, .code = pfec::write});
		expect_exit(KVM_EXIT_MMIO);
		EXPECT_EQ(run->mmio.data[0], base == 0x1000 ? 0xaa : 0xcc);
	}
}

/* The fault names an entry of the guest's tables: not where the operand is, at the same offset in its page. */
TEST_RUN(Devices, AFaultOfTheWalkIsNotWhereTheOperandIs)
{
	ram_at_0(*this);
	ram[0] = 0x77;
	kvm_regs r = regs();
	r.rbx = 0, r.rax = 0;
	set_regs(r);
	then({.kind = K::mmio, .gpa = device, .of = FaultOf::walk, .bytes = {0x8b, 0x07}});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(regs().rax, 0x77u);
}

/* Nor is the page that was to be executed. */
TEST_RUN(Devices, AFetchIsNotWhereTheOperandIs)
{
	ram_at_0(*this);
	ram[0] = 0x77;
	kvm_regs r = regs();
	r.rbx = 0, r.rax = 0;
	set_regs(r);
	then({.kind = K::mmio, .gpa = device, .code = pfec::fetch, .bytes = {0x8b, 0x07}});
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(regs().rax, 0x77u);
}

/* A user's load from a page it may only read has exited; the store that another CPU has put there since nobody
 * has checked. */
TEST_RUN(Devices, AStoreNeedsTheRightToWriteWhateverExited)
{
	ram_at_0(*this);
	const u32 pde = 0x2000 | 7, pte = device | 5;
	std::memcpy(&ram[0x1000], &pde, sizeof pde);
	std::memcpy(&ram[0x2000 + (device >> page_shift) * sizeof pte], &pte, sizeof pte);
	change_sregs(*this, [](kvm_sregs &s) {
		user_mode(s);
		s.cr0 |= cr0::pg | cr0::wp;
		s.cr3 = 0x1000;
		for (kvm_segment *g : {&s.cs, &s.ds, &s.ss, &s.es}) {
			g->base = 0, g->limit = 0xffffffff;
			g->g = g->db = g->s = g->present = 1;
		}
	});
	kvm_regs r = regs();
	r.rip = 0x100, r.rbx = device, r.rflags = rflags::fixed;
	set_regs(r);
	then({.kind = K::mmio, .gpa = device, .bytes = {0x89, 0x03}});
	then({.kind = K::hlt, .length = 1}, [this] { EXPECT_EQ(cpu->hw.cr2(), device); });
	expect_exit(KVM_EXIT_HLT);
	ASSERT_TRUE(entry(1).exception);
	EXPECT_EQ(entry(1).exception->vector, Vector::pf);
	EXPECT_EQ(entry(1).exception->error, u32(pfec::present | pfec::write | pfec::user));
}

/* A store to a device has exited; the OUTSB that another CPU has put there since nobody has checked. */
TEST_RUN(Devices, APortIsNotReachedByAnotherExit)
{
	ram_at_0(*this);
	change_sregs(*this, user_mode);
	kvm_regs r = regs();
	r.rip = 0x100, r.rdx = 0x64, r.rsi = r.rdi = 0x10, r.rflags = rflags::fixed;
	set_regs(r);
	for (const u8 code : {0x6e, 0x6c}) {
		then({.kind = K::mmio, .gpa = device, .code = pfec::write, .bytes = {code}});
		halts();
		expect_exit(KVM_EXIT_HLT);
		set_rip(0x100);
	}
	EXPECT_EQ(regs().rsi, 0x10u);
	EXPECT_EQ(regs().rdi, 0x10u);
}

TEST_RUN(Devices, APortIsReachedByWhatExitedForIt)
{
	ram_at_0(*this);
	kvm_regs r = regs();
	r.rip = 0x100, r.rdx = 0x64, r.rsi = r.rdi = 0x10, r.rflags = rflags::fixed;
	set_regs(r);
	const struct {
		K exit;
		u16 port;
		u8 size;
		std::vector<u8> code;
		bool allowed;
	} cases[] = {
		{K::outs, 0x64, 1, {0x6e}, true},	{K::ins, 0x64, 1, {0x6c}, true},
		{K::outs, 0x64, 2, {0x6f}, true},	{K::ins, 0x64, 4, {0x66, 0x6d}, true},
		{K::outs, 0x64, 1, {0x6f}, false},	{K::outs, 0x64, 2, {0x66, 0x6f}, false},
		{K::ins, 0x64, 1, {0x6e}, false},	{K::outs, 0x64, 1, {0x6c}, false},
		{K::outs, 0x65, 1, {0x6e}, false},
	};
	for (const auto &c : cases) {
		set_rip(0x100);
		then({.kind = c.exit, .port = c.port, .size = c.size, .bytes = c.code});
		if (!c.allowed)
			halts();
		expect_exit(c.allowed ? KVM_EXIT_IO : KVM_EXIT_HLT);
	}
}

/* What comes behind the first element has been allowed with it. */
TEST_RUN(Devices, ARepGoesOnWithItsPort)
{
	ram_at_0(*this);
	kvm_regs r = regs();
	r.rip = 0x100, r.rdx = 0x64, r.rsi = 0x10, r.rcx = 3, r.rflags = rflags::fixed;
	set_regs(r);
	then({.kind = K::outs, .port = 0x64, .size = 1, .bytes = {0xf3, 0x6e}});
	for (unsigned i = 0; i < 3; ++i)
		expect_exit(KVM_EXIT_IO);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(regs().rcx, 0u);
}

TEST_RUN(Devices, ARepPausesForAnInterrupt)
{
	repeat(*this, 2000);
	then(rep_stos<Run<P>>());
	expect_exit(KVM_EXIT_MMIO);
	EXPECT_EQ(run->ready_for_interrupt_injection, 1);
	interrupt(0x20);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).interrupt, 0x20);
	EXPECT_EQ(regs().rcx, 1999u);
}

TEST_RUN(Devices, ARepPausesForAnNmi)
{
	repeat(*this, 2000, rflags::fixed);
	then(rep_lods<Run<P>>());
	expect_exit(KVM_EXIT_MMIO);
	nmi();
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(1).nmi);
	EXPECT_EQ(regs().rcx, 1999u);
}

TEST_RUN(Devices, ARepPausesForTheInterruptWindow)
{
	repeat(*this, 2000);
	then(rep_stos<Run<P>>());
	expect_exit(KVM_EXIT_MMIO);
	run->request_interrupt_window = 1;
	then({.kind = K::window});
	expect_exit(KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_TRUE(entry(1).window);
	EXPECT_EQ(regs().rcx, 1999u);
}

TEST_RUN(Devices, ARepGoesOnWhileTheWindowIsShut)
{
	repeat(*this, 2, rflags::fixed);
	then(rep_stos<Run<P>>());
	expect_exit(KVM_EXIT_MMIO);
	run->request_interrupt_window = 1;
	expect_exit(KVM_EXIT_MMIO);
	EXPECT_EQ(entered(), 1u);
	halts();
	expect_exit(KVM_EXIT_HLT);
}

/* STI keeps interrupts out for one element, not for all of them. */
TEST_RUN(Devices, AnElementEndsTheShadow)
{
	repeat(*this, 2000);
	in_shadow();
	then(rep_stos<Run<P>>());
	expect_exit(KVM_EXIT_MMIO);
	EXPECT_EQ(run->ready_for_interrupt_injection, 1);
}

TEST_RUN(Devices, AnElementThatIsReadEndsTheShadow)
{
	repeat(*this, 2000);
	in_shadow();
	then(rep_lods<Run<P>>());
	expect_exit(KVM_EXIT_MMIO);
	EXPECT_EQ(run->ready_for_interrupt_injection, 0);
	run->request_interrupt_window = 1;
	then({.kind = K::window});
	expect_exit(KVM_EXIT_IRQ_WINDOW_OPEN);
}

TEST_RUN(Devices, ARepEndsForAnImmediateExit)
{
	repeat(*this, 2000);
	then(rep_stos<Run<P>>());
	expect_exit(KVM_EXIT_MMIO);
	run->immediate_exit = 1;
	EXPECT_EQ(enter(), -EINTR);
	EXPECT_EQ(regs().rcx, 1999u);
}

/* The VMM has loaded another state, at the same RIP: the instruction was of the old one. */
TEST_RUN(Devices, ARequestIsOverInAnotherMode)
{
	point_at_device(0xaaaa);
	set_rip(0x100);
	then(load());
	expect_exit(KVM_EXIT_MMIO);
	run->mmio.data[0] = 0x55;
	change_sregs(*this, user_mode);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(entry(1).rip, 0x100u);
	EXPECT_EQ(regs().rax, 0xaaaau);
}

TEST_RUN(Devices, ARepIsOverInAnotherMode)
{
	ram_at_0(*this);
	repeat(*this, 2000);
	then(rep_stos<Run<P>>());
	expect_exit(KVM_EXIT_MMIO);
	change_sregs(*this, user_mode);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(regs().rcx, 1999u);

	repeat(*this, 2000);
	then({.kind = K::ins, .size = 1, .bytes = {0xf3, 0x6c}});
	expect_exit(KVM_EXIT_IO);
	change_sregs(*this, [](kvm_sregs &s) { s.ss.dpl = 0; });
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(regs().rcx, 2000u);
}

TEST_RUN(Devices, NothingIsLeftOfACountThatTheVmmMadeZero)
{
	ram_at_0(*this);
	repeat(*this, 4);
	change_sregs(*this, [](kvm_sregs &s) { s.es.base = s.es.selector = 0; });
	then({.kind = K::ins, .size = 1, .bytes = {0xf3, 0x6c}});
	expect_exit(KVM_EXIT_IO);
	port_data()[0] = 0x77;
	kvm_regs r = regs();
	r.rcx = 0;
	set_regs(r);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(regs().rcx, 0u);
	EXPECT_EQ(entry(1).rip, 0x102u);
	EXPECT_EQ(ram[0], 0);
}

/* A reset, with its first instruction at the IP of the one that is out. */
TEST_RUN(Devices, AnAccessIsOverAtTheSameIpInAnotherSegment)
{
	ram_at_0(*this);
	for (const Form &f : forms(device)) {
		SCOPED_TRACE(f.name);
		begin_access(*this, f);
		change_sregs(*this, [](kvm_sregs &s) {
			s.cs.base = 0xffff0000, s.cs.selector = 0xf000;
			s.ds.base = s.ds.selector = 0;
		});
		kvm_regs r{};
		r.rip = 0xfff0, r.rflags = rflags::fixed;
		set_regs(r);
		halts();
		expect_exit(KVM_EXIT_HLT);
		EXPECT_EQ(cpu->hw.last().rip, 0xfff0u);
		EXPECT_TRUE(cpu->hw.last().quiet());
		EXPECT_EQ(regs().rax, 0u);
		EXPECT_EQ(regs().rdi, 0u);
		EXPECT_EQ(ram[0], 0);
	}
}

TEST_RUN(Devices, ADeviceIsNotWrittenByAnInstructionThatIsOver)
{
	begin_access(*this, {"INC [BX]", {.kind = K::mmio, .gpa = device, .code = pfec::write, .bytes = {0xfe, 0x07}}, KVM_EXIT_MMIO});
	EXPECT_EQ(run->mmio.is_write, 0);
	change_sregs(*this, [](kvm_sregs &s) { s.cs.base = 0xffff0000, s.cs.selector = 0xf000; });
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_EQ(cpu->hw.last().rip, 0xfff0u);
}

/* As in another segment; the same in another mode. */
TEST_RUN(Devices, APortAccessIsOverInAnotherMode)
{
	for (const Form &f : {forms(device)[0], forms(device)[1]}) {
		SCOPED_TRACE(f.name);
		begin_access(*this, f);
		change_sregs(*this, user_mode);
		halts();
		expect_exit(KVM_EXIT_HLT);
		EXPECT_EQ(cpu->hw.last().rip, 0xfff0u);
		EXPECT_EQ(regs().rax, 0u);
		change_sregs(*this, [](kvm_sregs &s) {
			s.cr0 &= ~cr0::pe;
			s.cs.dpl = s.ss.dpl = 0;
		});
	}
}

/* VMMs read all state and write it back while an access is theirs. */
TEST_RUN(Devices, AnAccessIsCompletedWhereItWasWithTheSameStateAgain)
{
	ram_at_0(*this);
	for (const Form &f : forms(device)) {
		SCOPED_TRACE(f.name);
		begin_access(*this, f);
		const kvm_regs r = regs();
		change_sregs(*this, [](kvm_sregs &) {});
		set_regs(r);
		change_sregs(*this, [](kvm_sregs &s) { s.cs.base = 0xffff0000; });
		change_sregs(*this, [](kvm_sregs &s) { s.cs.base = 0x1000; });
		halts();
		expect_exit(KVM_EXIT_HLT);
		EXPECT_EQ(cpu->hw.last().rip, f.rip);
		EXPECT_EQ(regs().rax, f.rax);
		EXPECT_EQ(regs().rcx, f.rcx);
		EXPECT_EQ(regs().rdi, f.rdi);
		EXPECT_EQ(ram[0], f.rdi ? 0xaa : 0);
	}
}

/* A store that was complete but for its trap, and a vCPU that was reset meanwhile. */
TEST_RUN(Devices, AResetOwesNothingToTheInstructionBefore)
{
	point_at_device(0);
	kvm_regs r = regs();
	r.rip = 0x100, r.rflags = rflags::fixed | rflags::tf;
	set_regs(r);
	then(store());
	expect_exit(KVM_EXIT_MMIO);
	set_rip(0xfff0);
	set_rflags(rflags::fixed);
	in_shadow();
	then({.kind = K::again}, [&] { EXPECT_EQ(cpu->hw.interrupt_shadow(), InterruptShadow::sti); });
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(entry(1).quiet());
	EXPECT_EQ(entry(1).rip, 0xfff0u);
}

TEST_RUN(Devices, CoalescedZonesAreAThousandOnEachBus)
{
	const auto zone = [&](unsigned cmd, u64 at, u32 size, u32 pio) {
		const kvm_coalesced_mmio_zone z{at, size, {pio}};
		return vm->ioctl(cmd, reinterpret_cast<unsigned long>(&z));
	};
	for (u32 pio : {0, 1}) {
		for (unsigned i = 0; i < 1000; ++i)
			EXPECT_EQ(zone(KVM_REGISTER_COALESCED_MMIO, device, ~0u, pio), 0);
		EXPECT_EQ(zone(KVM_REGISTER_COALESCED_MMIO, device, 4, pio), -ENOSPC);
	}
	/* In none of them, as KVM counts: a size below 0, an end below the start. */
	EXPECT_EQ(zone(KVM_UNREGISTER_COALESCED_MMIO, device, 0x80000000, 0), 0);
	EXPECT_EQ(zone(KVM_UNREGISTER_COALESCED_MMIO, -u64{4}, 8, 0), 0);
	EXPECT_EQ(zone(KVM_REGISTER_COALESCED_MMIO, device, 4, 0), -ENOSPC);
	EXPECT_EQ(zone(KVM_UNREGISTER_COALESCED_MMIO, device, 4, 0), 0);
	EXPECT_EQ(zone(KVM_REGISTER_COALESCED_MMIO, device, 4, 0), 0);
	EXPECT_EQ(zone(KVM_REGISTER_COALESCED_MMIO, device, 4, 1), -ENOSPC);
}
