// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vmx/host.hpp"
#include "arch/x86/cpu/insn.hpp"
#include "arch/x86/cpu/regs.hpp"

namespace kx::vmx {

constinit Host host;

namespace {

struct [[gnu::packed]] TableRegister {
	u16 limit;
	u64 base;
};

u64 gdt_base()
{
	TableRegister t;
	asm volatile("sgdt %0" : "=m"(t));
	return t.base;
}

u64 idt_base()
{
	TableRegister t;
	asm volatile("sidt %0" : "=m"(t));
	return t.base;
}

u16 task_register()
{
	u16 v;
	asm volatile("str %0" : "=rm"(v));
	return v;
}

/* A system descriptor of 16 bytes. SDM vol. 3 §7.2.3 */
u64 descriptor_base(u64 gdt, u16 selector)
{
	const u32 *d = reinterpret_cast<const u32 *>(gdt + (selector & ~7u));
	return d[0] >> 16 | u64{d[1] & 0xff} << 16 | (d[1] & 0xff000000) | u64{d[2]} << 32;
}

/* The firmware, or the kernel, has locked it with VMX on; who finds it open does so. */
Errc open_by_firmware(unsigned cpu)
{
	u64 v = 0;
	if (kx_rdmsr_safe(hwmsr::feature_control, &v))
		return Errc::ok; /* an emulator without the register */
	if (!(v & hwmsr::locked)) {
		insn::wrmsr(hwmsr::feature_control, v | hwmsr::vmx_outside_smx | hwmsr::locked);
		return Errc::ok;
	}
	if (v & hwmsr::vmx_outside_smx)
		return Errc::ok;
	kx_log(3, "VMX is locked off by the firmware (IA32_FEATURE_CONTROL, CPU)", v, cpu);
	return Errc::perm;
}

bool has_tsx_ctrl()
{
	const CpuidRegs leaf7 = insn::cpuid(0, 0).eax >= 7 ? insn::cpuid(7, 0) : CpuidRegs{};
	constexpr u32 rtm = bit(11), arch_capabilities = bit(29);
	return (leaf7.ebx & rtm) && (leaf7.edx & arch_capabilities) &&
	       (insn::rdmsr(hwmsr::arch_capabilities) & hwmsr::has_tsx_ctrl);
}

Errc not_in_use(unsigned cpu)
{
	if (!(insn::read_cr4() & cr4::vmxe))
		return Errc::ok;
	kx_log(3, "another hypervisor has VMX on; unload it first (CPU)", cpu, 0);
	return Errc::busy;
}

}

Errc Host::init()
{
	if (!(insn::cpuid(1, 0).ecx & bit(5)))
		return Errc::nodev;
	KX_CHECK(open_by_firmware(0));
	KX_CHECK(not_in_use(0));
	msrs_ = read_caps([](u32 m) { return insn::rdmsr(m); });
	const Negotiated n = negotiate(msrs_, {.vpid = kx_params.vpid,
					       .ept_ad = kx_params.eptad,
					       .unrestricted = kx_params.unrestricted_guest,
					       .vnmi = kx_params.vnmi,
					       .pml = kx_params.pml,
					       .tpr_shadow = kx_params.flexpriority});
	if (n.lacks != Lacks::nothing) {
		kx_log(3, text(n.lacks), n.bits, 0);
		return Errc::nodev;
	}
	caps_ = n.caps;
	ept_levels_ = caps_.ept_5_levels && kx_phys_bits() > 48 ? 5 : 4;
	const int flush = kx_vmx_prepare();
	if (flush < 0)
		return Errc(-flush);
	flush_ = flush;
	flushes_runs_ = flush && !flushes_always();
	perf_ = kx_perf_present();
	switches_tsx_ = has_tsx_ctrl();
	if (switches_tsx_)
		tsx_ctrl_ = insn::rdmsr(hwmsr::tsx_ctrl);
	split_locks_ = kx_split_locks_detected() ? SplitLocks::detected : SplitLocks::unseen;

	asm volatile("mov %%cr0, %0" : "=r"(common_.cr0));
	common_.cr0 &= ~cr0::ts;
	common_.pat = insn::rdmsr(hwmsr::pat);
	common_.efer = insn::rdmsr(hwmsr::efer);
	common_.idtr_base = idt_base();
	common_.sysenter_cs = u32(insn::rdmsr(hwmsr::sysenter_cs));
	common_.sysenter_eip = insn::rdmsr(hwmsr::sysenter_eip);
	common_.tr = task_register();

	nr_ = kx_nr_cpus();
	cpus_ = static_cast<HostCpu *>(kx_vzalloc(nr_ * sizeof(HostCpu)));
	bool ok = cpus_;
	for (unsigned i = 0; ok && i < nr_; ++i) {
		auto *c = ::new (&cpus_[i]) HostCpu{};
		auto region = Page<VmcsRegion>::make();
		ok = region.ok();
		if (!ok)
			break;
		c->vmxon = move(region).take();
		c->vmxon->revision = caps_.revision;
		c->id = i;
		c->vpids = TagPool{0x10000};
	}
	if (!ok) {
		destroy();
		return Errc::nomem;
	}
	return Errc::ok;
}

void Host::destroy()
{
	for (unsigned i = 0; cpus_ && i < nr_; ++i)
		cpus_[i].~HostCpu();
	kx_free(cpus_);
	cpus_ = nullptr;
	kx_vmx_unprepare();
}

Errc Host::online(unsigned n)
{
	HostCpu &c = cpus_[n];
	KX_CHECK(open_by_firmware(n));
	KX_CHECK(not_in_use(n));
	if (!(read_caps([](u32 m) { return insn::rdmsr(m); }) == msrs_)) {
		kx_log(3, "VMX capabilities differ from those of the first CPU (CPU)", n, 0);
		return Errc::inval;
	}
	c.gs_base = insn::rdmsr(hwmsr::gs_base);
	c.gdtr_base = gdt_base();
	c.tr_base = descriptor_base(c.gdtr_base, common_.tr);
	c.sysenter_esp = insn::rdmsr(hwmsr::sysenter_esp);
	kx_vmxe_set();
	if (!vmxon(phys_of(c.vmxon.get()).raw())) {
		kx_vmxe_clear();
		kx_log(3, "VMXON failed (CPU)", n, 0);
		return Errc::io;
	}
	/* Whatever a hypervisor before us has left. */
	invept(Invalidate::all, 0);
	c.vpids.restart();
	c.current = nullptr;
	c.on = true;
	return Errc::ok;
}

void Host::offline(unsigned n)
{
	HostCpu &c = cpus_[n];
	if (!c.on)
		return;
	Vmcs::clear_all(c);
	c.on = false;
	vmxoff();
	kx_vmxe_clear();
}

/* NMI context: the CPU is known by its GS base. */
void Host::emergency()
{
	const u64 cr4 = insn::read_cr4();
	if (!(cr4 & cr4::vmxe) || !cpus_)
		return;
	const u64 here = insn::rdmsr(hwmsr::gs_base);
	for (unsigned i = 0; i < nr_; ++i)
		if (cpus_[i].on && cpus_[i].gs_base == here) {
			Vmcs::clear_all_in_nmi(cpus_[i]);
			vmxoff();
			insn::write_cr4(cr4 & ~cr4::vmxe);
			break;
		}
}

}
