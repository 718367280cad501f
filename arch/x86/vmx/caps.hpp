/* SPDX-License-Identifier: GPL-2.0-only */
/* What this processor's VMX can do, and which controls come of it. SDM vol. 3 appendix A. Pure. */
#pragma once
#include "cxxrt/bits.hpp"

namespace kx::vmx {

namespace hwmsr {
inline constexpr u32 feature_control = 0x3a, sysenter_cs = 0x174, sysenter_esp = 0x175, sysenter_eip = 0x176, pat = 0x277,
		     basic = 0x480, pin = 0x481, proc = 0x482, exit = 0x483, entry = 0x484, misc = 0x485,
		     cr0_fixed0 = 0x486, cr0_fixed1 = 0x487, cr4_fixed0 = 0x488, cr4_fixed1 = 0x489, proc2 = 0x48b,
		     ept_vpid = 0x48c, true_pin = 0x48d, true_proc = 0x48e, true_exit = 0x48f, true_entry = 0x490,
		     arch_capabilities = 0x10a, tsx_ctrl = 0x122, pebs_enable = 0x3f1,
		     efer = 0xc0000080, gs_base = 0xc0000101, kernel_gs_base = 0xc0000102;
/* Of IA32_FEATURE_CONTROL */
inline constexpr u64 locked = bit(0), vmx_outside_smx = bit(2);
/* Of IA32_ARCH_CAPABILITIES, and of IA32_TSX_CTRL */
inline constexpr u64 has_tsx_ctrl = bit(7), tsx_rtm_disable = bit(0);
}

namespace pin {
inline constexpr u32 external_interrupt = bit(0), nmi = bit(3), virtual_nmi = bit(5), preemption_timer = bit(6);
}
namespace proc {
inline constexpr u32 interrupt_window = bit(2), tsc_offset = bit(3), hlt = bit(7), invlpg = bit(9), mwait = bit(10),
		     rdpmc = bit(11), rdtsc = bit(12), cr3_load = bit(15), cr3_store = bit(16), cr8_load = bit(19),
		     cr8_store = bit(20), tpr_shadow = bit(21), nmi_window = bit(22), mov_dr = bit(23),
		     unconditional_io = bit(24), io_bitmaps = bit(25), monitor_trap = bit(27), msr_bitmaps = bit(28),
		     monitor = bit(29), pause = bit(30), secondary = u32(bit(31));
}
namespace proc2 {
inline constexpr u32 ept = bit(1), rdtscp = bit(3), vpid = bit(5), wbinvd = bit(6), unrestricted = bit(7),
		     pause_loop = bit(10), rdrand = bit(11), invpcid = bit(12), encls = bit(15), rdseed = bit(16),
		     pml = bit(17), xsaves = bit(20);
}
namespace exit_control {
inline constexpr u32 save_debug = bit(2), host_64 = bit(9), load_pat = bit(19), load_efer = bit(21);
}
namespace entry_control {
inline constexpr u32 load_debug = bit(2), ia32e = bit(9), load_pat = bit(14), load_efer = bit(15);
}
namespace ept_cap {
inline constexpr u64 levels4 = bit(6), levels5 = bit(7), write_back = bit(14), pages_2m = bit(16), pages_1g = bit(17),
		     invept = bit(20), accessed_dirty = bit(21), invept_single = bit(25), invept_all = bit(26),
		     invvpid = bit(32), invvpid_all = bit(42);
}

/* The MSRs as read on one CPU. pin, proc, exit and entry are the «true» ones where the CPU has these. */
struct CapMsrs {
	u64 basic = 0, pin = 0, proc = 0, proc2 = 0, exit = 0, entry = 0, misc = 0, ept_vpid = 0;
	u64 cr0_fixed0 = 0, cr0_fixed1 = 0, cr4_fixed0 = 0, cr4_fixed1 = 0;
	constexpr bool operator==(const CapMsrs &) const = default;
};

/* Rdmsr is any callable u32 -> u64; MSRs that do not exist are not asked for. */
template <class Rdmsr> constexpr CapMsrs read_caps(Rdmsr rdmsr)
{
	CapMsrs m;
	m.basic = rdmsr(hwmsr::basic);
	const bool has_true = m.basic & bit(55);
	m.pin = rdmsr(has_true ? hwmsr::true_pin : hwmsr::pin);
	m.proc = rdmsr(has_true ? hwmsr::true_proc : hwmsr::proc);
	m.exit = rdmsr(has_true ? hwmsr::true_exit : hwmsr::exit);
	m.entry = rdmsr(has_true ? hwmsr::true_entry : hwmsr::entry);
	m.misc = rdmsr(hwmsr::misc);
	m.cr0_fixed0 = rdmsr(hwmsr::cr0_fixed0);
	m.cr0_fixed1 = rdmsr(hwmsr::cr0_fixed1);
	m.cr4_fixed0 = rdmsr(hwmsr::cr4_fixed0);
	m.cr4_fixed1 = rdmsr(hwmsr::cr4_fixed1);
	if (m.proc >> 32 & proc::secondary)
		m.proc2 = rdmsr(hwmsr::proc2);
	if (m.proc2 >> 32 & (proc2::ept | proc2::vpid))
		m.ept_vpid = rdmsr(hwmsr::ept_vpid);
	return m;
}

/* What the administrator switched off. Module parameters named as the in-tree module's. */
struct Switches {
	bool vpid = true, ept_ad = true, unrestricted = true, vnmi = true, pml = true, tpr_shadow = true;
};

struct Caps {
	u32 revision = 0;
	/* Controls every vCPU begins with. */
	u32 pin = 0, proc = 0, proc2 = 0, exit = 0, entry = 0;
	/* Controls of proc2 that the CPUID of a guest decides about, as far as they are there. */
	u32 proc2_by_cpuid = 0;
	bool vpid = false, ept_ad = false, ept_5_levels = false, ept_1g = false, invept_single = false,
	     unrestricted = false, vnmi = false, tpr_shadow = false, pat = false, pause_loop = false, pml = false,
	     preemption_timer = false;
	u64 cr0_fixed0 = 0, cr0_fixed1 = 0, cr4_fixed0 = 0, cr4_fixed1 = 0;
	constexpr bool operator==(const Caps &) const = default;
};

/* Why a processor cannot be used. */
enum class Lacks : u8 { nothing, vmcs_format, pin, proc, proc2, exit, entry, ept };
const char *text(Lacks);

struct Negotiated {
	Lacks lacks = Lacks::nothing;
	u64 bits = 0; /* the missing ones, or those it insists on that nobody here knows */
	Caps caps;
};
Negotiated negotiate(const CapMsrs &, const Switches & = {});

}
