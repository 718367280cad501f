// SPDX-License-Identifier: GPL-2.0-only
/* What a guest translates by: each way its registers change, the role that follows, and what is flushed for it. */
#include "vm_run.hpp"

using namespace kx;
using namespace kx::test;

namespace {

constexpr u64 kernel0 = cr0::pe | cr0::et | cr0::pg | cr0::wp;

template <class Traits> struct Paging : Run<Traits> {
	using Fixture = Paging;
	using Base = Run<Traits>;
	using Base::cpu, Base::run, Base::ram, Base::vm;

	Paging()
	{
		const kvm_userspace_memory_region slot{0, 0, 0, sizeof ram, reinterpret_cast<u64>(ram)};
		EXPECT_EQ(vm->ioctl(KVM_SET_USER_MEMORY_REGION, reinterpret_cast<unsigned long>(&slot)), 0);
		struct {
			kvm_cpuid2 head{};
			kvm_cpuid_entry2 list[4] = {};
		} c;
		c.head.nent = 4;
		c.list[0].function = 1;
		c.list[0].edx = 1u << 6 | 1u << 13;   /* PAE, PGE */
		c.list[1].function = 7;
		c.list[1].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		c.list[1].ebx = 1u << 7 | 1u << 20;   /* SMEP, SMAP */
		c.list[2].function = 0x80000001;
		c.list[2].edx = 1u << 20 | 1u << 29;  /* NX, LM */
		c.list[3].function = 0x80000008;
		c.list[3].eax = 40;
		EXPECT_EQ(this->ioctl(KVM_SET_CPUID2, &c), 0);
	}
	kvm_sregs sregs()
	{
		kvm_sregs s{};
		EXPECT_EQ(this->ioctl(KVM_GET_SREGS, &s), 0);
		return s;
	}
	void begin_in(u64 c0, u64 c4, u64 e, u64 c3 = 0x1000)
	{
		kvm_sregs s = sregs();
		s.cr0 = c0, s.cr3 = c3, s.cr4 = c4, s.efer = e;
		s.cs.l = e & efer::lma ? 1 : 0;
		EXPECT_EQ(this->ioctl(KVM_SET_SREGS, &s), 0);
		this->set_rip(0x100);
		this->halts();
		this->expect_exit(KVM_EXIT_HLT); /* what that owed is paid */
	}
	void begin_in_long_mode() { begin_in(kernel0, cr4::pae | cr4::pge, efer::lme | efer::lma | efer::nx); }

	/* One exit that changes registers, and the entry behind it: whether it flushed. */
	bool flushed_by(std::function<Next()> change)
	{
		this->then({.kind = Base::K::other, .handle = std::move(change)});
		this->halts();
		this->expect_exit(KVM_EXIT_HLT);
		return cpu->hw.last().flushed;
	}
	bool flushed_by_cr(unsigned cr, u64 value)
	{
		return flushed_by([this, cr, value] {
			cpu->hw.set_gpr(Gpr::rbx, value);
			return cpu->mov_to_cr(cr, Gpr::rbx, cpu->hw.rip() + 3);
		});
	}
	/* Asked where the state can be reached. */
	GuestRole role()
	{
		GuestRole r;
		flushed_by([&] {
			r = cpu->role();
			return Next::guest;
		});
		return r;
	}
	/* In the role as kept, and as the registers have it. */
	void expect_role(bool (*is)(const GuestRole &), bool want)
	{
		const GuestRole r = role();
		EXPECT_EQ(is(r), want);
		const kvm_sregs s = sregs();
		EXPECT_EQ(r, guest_role({s.cr0, s.cr3, s.cr4, s.efer}, {.smm = r.smm, .guest_mode = r.guest_mode}));
	}
};

#define TEST_PAGING(title)                                                                                       \
	KX_TEST_ON(Paging, Paging, title, EveryVendor, using typename Paging<P>::V; using typename Paging<P>::K; \
		   using Paging<P>::vm; using Paging<P>::cpu; using Paging<P>::run; using Paging<P>::ram;         \
		   using Paging<P>::ioctl; using Paging<P>::sregs; using Paging<P>::begin_in;                     \
		   using Paging<P>::begin_in_long_mode; using Paging<P>::flushed_by;                              \
		   using Paging<P>::flushed_by_cr; using Paging<P>::role; using Paging<P>::expect_role;           \
		   using Paging<P>::then; using Paging<P>::halts; using Paging<P>::expect_exit;                   \
		   using Paging<P>::entry; using Paging<P>::entered;)

bool paging(const GuestRole &r) { return r.paging; }
bool write_protect(const GuestRole &r) { return r.write_protect; }
bool smep(const GuestRole &r) { return r.smep; }
bool pae(const GuestRole &r) { return r.pae; }
bool nx(const GuestRole &r) { return r.nx; }
bool long_mode(const GuestRole &r) { return r.long_mode; }

}

TEST_PAGING(MovToCr0)
{
	begin_in(cr0::pe | cr0::et, 0, 0);
	EXPECT_TRUE(flushed_by_cr(0, kernel0)) << "CR0.PG";
	expect_role(paging, true);
	expect_role(write_protect, true);
	EXPECT_FALSE(flushed_by_cr(0, kernel0 & ~cr0::wp)) << "CR0.WP is in no TLB";
	expect_role(write_protect, false);
	EXPECT_FALSE(flushed_by_cr(0, kernel0 | cr0::ts));
	EXPECT_TRUE(flushed_by_cr(0, cr0::pe | cr0::et));
	expect_role(paging, false);
}

TEST_PAGING(MovToCr0BeginsAndEndsLongMode)
{
	begin_in(cr0::pe | cr0::et, cr4::pae, efer::lme);
	EXPECT_TRUE(flushed_by_cr(0, kernel0));
	EXPECT_TRUE(sregs().efer & efer::lma);
	expect_role(long_mode, true);
	EXPECT_TRUE(flushed_by_cr(0, cr0::pe | cr0::et));
	EXPECT_FALSE(sregs().efer & efer::lma);
	expect_role(long_mode, false);
}

TEST_PAGING(MovToCr3)
{
	begin_in_long_mode();
	EXPECT_TRUE(flushed_by_cr(3, 0x2000));
	EXPECT_TRUE(flushed_by_cr(3, 0x2000)) << "the same again: a flush and nothing else";
	EXPECT_EQ(sregs().cr3, 0x2000u);
	EXPECT_FALSE(flushed_by([this] { /* as with PCIDs, which this processor has not, and bit 63 */
		ControlRegs r = cpu->regs();
		r.cr3 = 0x3000;
		EXPECT_TRUE(cpu->set_control_regs({.regs = r, .tlb = TlbOwed::nothing}));
		return Next::guest;
	})) << "asked to keep it";
	EXPECT_EQ(sregs().cr3, 0x3000u);
}

TEST_PAGING(MovToCr4)
{
	begin_in_long_mode();
	EXPECT_TRUE(flushed_by_cr(4, cr4::pae));
	EXPECT_TRUE(flushed_by_cr(4, cr4::pae | cr4::smep)) << "SMEP set";
	expect_role(smep, true);
	EXPECT_FALSE(flushed_by_cr(4, cr4::pae)) << "and cleared: it allows more";
	expect_role(smep, false);
	EXPECT_FALSE(flushed_by_cr(4, cr4::pae | cr4::tsd));
	begin_in(cr0::pe | cr0::et, 0, 0);
	EXPECT_TRUE(flushed_by_cr(4, cr4::pae));
	expect_role(pae, true);
}

TEST_PAGING(WrmsrEfer)
{
	begin_in_long_mode();
	const auto efer_by = [&](u64 v) {
		return flushed_by([this, v] {
			cpu->hw.set_gpr(Gpr::rcx, msr::EFER);
			cpu->hw.set_gpr(Gpr::rax, u32(v));
			cpu->hw.set_gpr(Gpr::rdx, v >> 32);
			return cpu->wrmsr(cpu->hw.rip() + 2);
		});
	};
	expect_role(nx, true);
	EXPECT_FALSE(efer_by(efer::lme | efer::lma));
	EXPECT_EQ(sregs().efer, efer::lme | efer::lma);
	expect_role(nx, false);
	expect_role(long_mode, true);
}

TEST_PAGING(SetMsrsEfer)
{
	begin_in_long_mode();
	struct {
		kvm_msrs head{};
		kvm_msr_entry list[1] = {};
	} m;
	m.head.nmsrs = 1;
	m.list[0].index = msr::EFER;
	m.list[0].data = efer::lme | efer::lma;
	EXPECT_EQ(ioctl(KVM_SET_MSRS, &m), 1);
	expect_role(nx, false);
}

TEST_PAGING(SetSregs)
{
	begin_in_long_mode();
	expect_role(long_mode, true);
	kvm_sregs s = sregs();
	EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
	halts();
	expect_exit(KVM_EXIT_HLT);
	EXPECT_TRUE(cpu->hw.last().flushed) << "the VMM may have changed any of what they lead to";
	s.cr0 = cr0::pe | cr0::et, s.cr4 = 0, s.efer = 0, s.cs.l = 0;
	EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
	expect_role(long_mode, false);
	expect_role(paging, false);
}

TEST_PAGING(Lmsw)
{
	begin_in(cr0::et, 0, 0);
	EXPECT_FALSE(flushed_by([this] { return cpu->lmsw(cr0::pe | cr0::ts, cpu->hw.rip() + 3); }));
	EXPECT_EQ(sregs().cr0, cr0::pe | cr0::et | cr0::ts);
	EXPECT_EQ(role(), GuestRole{});
}

TEST_PAGING(Clts)
{
	begin_in(kernel0 | cr0::ts, cr4::pae, efer::lme | efer::lma);
	EXPECT_FALSE(flushed_by([this] { return cpu->clts(cpu->hw.rip() + 2); }));
	EXPECT_EQ(sregs().cr0, kernel0);
	begin_in(kernel0 | cr0::ts, cr4::pae, efer::lme | efer::lma);
	const u8 bytes[] = {0x0f, 0x06};
	EXPECT_FALSE(flushed_by([&] { return cpu->cr0_instruction({bytes, 2}); }));
	EXPECT_EQ(sregs().cr0, kernel0);
	expect_role(write_protect, true);
}

TEST_PAGING(Reset)
{
	begin_in_long_mode();
	EXPECT_TRUE(flushed_by([this] {
		cpu->reset_after_shutdown();
		return Next::guest;
	}));
	EXPECT_EQ(role(), GuestRole{});
	const kvm_sregs s = sregs();
	EXPECT_EQ(s.cr0, cr0::cd | cr0::nw | cr0::et);
	EXPECT_TRUE(!s.cr3 && !s.cr4 && !s.efer);
}

/* Bits that are the guest's own change under us: the role is that of the registers when it is asked for. */
TEST_PAGING(WhatTheGuestChangesWithoutAnExit)
{
	begin_in_long_mode();
	expect_role(write_protect, true);
	then({.kind = K::interrupt}, [this] { cpu->hw.guest_sets_cr0(kernel0 & ~cr0::wp); });
	halts();
	expect_exit(KVM_EXIT_HLT);
	expect_role(write_protect, false);
}

/* Law 3, and law 4: nothing of the guest's own paging asks for another root; SMM does, and finds it again. */
TEST_PAGING(OnlyAnotherSpaceAsksForAnotherRoot)
{
	begin_in(cr0::pe | cr0::et, 0, 0);
	const u64 normal = cpu->hw.last().root;
	EXPECT_NE(normal, 0u);
	flushed_by_cr(0, kernel0);
	flushed_by_cr(4, cr4::pge);
	EXPECT_EQ(cpu->hw.last().root, normal);
	EXPECT_EQ(cpu->mmu.stats.root_loads.get(), 1u);

	const auto enter = [&](bool smm) {
		const bool flushed = flushed_by([this, smm] {
			EXPECT_TRUE(cpu->set_context({.smm = smm}, {.regs = cpu->regs()}));
			return Next::guest;
		});
		EXPECT_FALSE(flushed) << "a switch is not a flush";
		EXPECT_EQ(role().smm, smm);
		return cpu->hw.last().root;
	};
	const u64 smm = enter(true);
	EXPECT_NE(smm, normal);
	EXPECT_EQ(cpu->mmu.space, Space::smm);
	for (int i = 0; i < 100; ++i) {
		EXPECT_EQ(enter(false), normal);
		EXPECT_EQ(enter(true), smm);
	}
	EXPECT_EQ(vm->memory.stats().roots_built.relaxed(), 2u);
	EXPECT_EQ(vm->memory.stats().mmu_constant_inits.relaxed(), 1u);
	EXPECT_TRUE(flushed_by([this] {
		cpu->reset_after_shutdown();
		return Next::guest;
	}));
	EXPECT_EQ(cpu->hw.last().root, normal) << "RESET ends it";
}
