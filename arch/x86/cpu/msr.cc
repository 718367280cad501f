/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/msr.hpp"

namespace kx {

namespace {

namespace misc_enable {
constexpr u64 perfmon = bit(7), bts_unavailable = bit(11), pebs_unavailable = bit(12);
constexpr u64 read_only = bts_unavailable | pebs_unavailable;
}
constexpr u64 platform_cpuid_fault = bit(31), enable_cpuid_fault = bit(0);
constexpr u64 hwcr_status_writable = bit(18);
/* Accepted and dropped: ignore the TLB flush filter, IGNNE, the TLB cache. APM vol. 2 §3.2.10 */
constexpr u64 hwcr_dropped = bit(3) | bit(6) | bit(8);
namespace vm_cr {
constexpr u64 valid = 0x1f, lock = bit(3), svm_disable = bit(4);
}
constexpr u64 default_tsc_ratio = u64{1} << 32;

constexpr bool in(u32 i, u32 first, u32 last) { return i >= first && i <= last; }

/* Counters of processors before architectural performance monitoring. Guests poke them without
 * asking CPUID, so they read zero and take anything. */
constexpr bool is_old_pmu(u32 i)
{
	return in(i, msr::PERF_EVTSEL0, msr::PERF_CTR3) || in(i, msr::IA32_PMC0, msr::IA32_PMC1) ||
	       in(i, msr::IA32_PERFEVTSEL0, msr::IA32_PERFEVTSEL1);
}

/* What in-tree KVM has in its lists whatever the guest has: a VMM that learned them there may read these, and
 * write zero. */
constexpr bool is_placeholder(u32 i)
{
	return in(i, msr::IA32_PMC0, msr::IA32_PMC7) ||
	       in(i, msr::IA32_PERFEVTSEL0, msr::IA32_PERFEVTSEL7) ||
	       in(i, msr::EXT_PERF_CTL0, msr::EXT_PERF_CTR5) ||
	       in(i, msr::IA32_FIXED_CTR0, msr::IA32_FIXED_CTR2) || i == msr::IA32_PERF_CAPABILITIES ||
	       in(i, msr::IA32_FIXED_CTR_CTRL, msr::IA32_PERF_GLOBAL_OVF_CTRL);
}

/* The block that belongs to MTRRs, PAT and MCi_CTL2; numbers in it that name none of them fault. */
constexpr bool is_mtrr_block(u32 i) { return in(i, 0x200, 0x2ff); }

u64 reset_ucode(CpuVendor vendor) { return is_amd_like(vendor) ? 0x01000065 : 0x100000000; }

}

MsrFile::MsrFile(const MsrLimits &limits, Boot role)
	: apic_base_{apic_base::reset_address | apic_base::enable |
		     (role == Boot::bootstrap ? apic_base::bsp : 0)},
	  misc_enable_{misc_enable::read_only}, platform_info_{platform_cpuid_fault},
	  ucode_{reset_ucode(limits.vendor)}, arch_capabilities_{limits.arch_capabilities}
{
}

Errc MsrFile::set_apic_base(u64 v, const CpuidTable &cpuid)
{
	KX_CHECK(check_apic_base(apic_base_, v, MsrBy::host, cpuid));
	apic_base_ = v;
	return Errc::ok;
}

Result<u64> MsrFile::read_cold(u32 index, MsrBy by, const MsrContext &c) const
{
	const bool host = by == MsrBy::host;
	switch (index) {
	case msr::IA32_APIC_BASE:
		return apic_base_;
	case msr::IA32_PAT:
		return pat_;
	case msr::IA32_MISC_ENABLE:
		return misc_enable_;
	case msr::IA32_BIOS_SIGN_ID:
		return ucode_;
	case msr::IA32_XSS:
		if (!host && !c.cpuid.has(Feature::xsaves))
			return Errc::inval;
		return xss_;
	case msr::IA32_ARCH_CAPABILITIES:
		if (!host && !c.cpuid.has(Feature::arch_capabilities))
			return Errc::inval;
		return arch_capabilities_;
	case msr::PLATFORM_INFO:
		return platform_info_;
	case msr::MISC_FEATURES_ENABLES:
		return misc_features_;
	case msr::IA32_POWER_CTL:
		return power_ctl_;
	case msr::HWCR:
		return hwcr_;
	case msr::DE_CFG:
		if (!is_amd_like(c.limits.vendor))
			break;
		return de_cfg_;
	case msr::OSVW_ID_LENGTH:
	case msr::OSVW_STATUS:
		if (!c.cpuid.has(Feature::osvw))
			return Errc::inval;
		return index == msr::OSVW_STATUS ? osvw_status_ : osvw_length_;
	case msr::VM_HSAVE_PA:
		return hsave_pa_;
	case msr::VM_CR:
		if (!is_amd_like(c.limits.vendor))
			break;
		return vm_cr_;
	case msr::TSC_RATIO:
		if (!is_amd_like(c.limits.vendor))
			break;
		if (!host)
			return Errc::inval;
		return default_tsc_ratio;
	case msr::IC_CFG:
		if (!is_amd_like(c.limits.vendor))
			break;
		/* Way-access filter bits that Bulldozer's Linux workaround looks for. */
		return c.cpuid.family() == 0x15 && c.cpuid.model() >= 2 && c.cpuid.model() < 0x20
			       ? u64{0x1e}
			       : u64{0};
	case msr::IA32_TSC_DEADLINE: /* of a local APIC that is not in the kernel */
		return u64{0};
	case msr::KVM_WALL_CLOCK_OLD:
	case msr::KVM_SYSTEM_TIME_OLD:
		/* VMMs save and restore these two without asking whether there is a paravirtual
		 * clock. */
		if (!host)
			break;
		return u64{0};

	/* Things guests look at without asking whether they are there. */
	case msr::IA32_PLATFORM_ID: case msr::EBL_CR_POWERON: case msr::SYSCFG: case msr::TSEG_ADDR:
	case msr::TSEG_MASK: case msr::INT_PENDING: case msr::NB_CFG: case msr::MMIO_CFG_BASE:
	case msr::BU_CFG2: case msr::IA32_PERF_CTL: case msr::DC_CFG: case msr::TW_CFG:
	case msr::EX_CFG: case msr::RAPL_POWER_UNIT: case msr::PP0_ENERGY_STATUS:
	case msr::PP1_ENERGY_STATUS: case msr::PKG_ENERGY_STATUS: case msr::DRAM_ENERGY_STATUS:
		return u64{0};
	case msr::FSB_FREQ: /* 166 MHz */
		return u64{3};
	case msr::EBC_FREQUENCY_ID: /* ratio 1: somebody divides by it */
		return bit(24);
	case msr::IA32_PERF_STATUS: /* 1000 per tick, a multiplier of 4 in its own field */
		return 1000 | u64{4} << 40;
	case msr::CLK_CTL: /* the ramp time Linux expects of a K7 */
		return u64{0x20000000};
	case msr::BBL_CR_CTL3: /* an L2 of 256 KiB, configured and on */
		return u64{0xbe702111};
	default:
		break;
	}
	if (MceBanks::is_mce(index))
		return mce_.read(index, by);
	if (index == msr::IA32_MTRRCAP || is_mtrr_block(index))
		return mtrrs_.read(index, c.cpuid.reserved_gpa());
	if (is_old_pmu(index) || (host && is_placeholder(index)))
		return u64{0};
	if (in(index, msr::X2APIC_FIRST, msr::X2APIC_LAST))
		return Errc::inval;
	if (c.limits.unknown == UnknownMsr::ignore)
		return u64{0};
	return Errc::noent;
}

Result<MsrEffect> MsrFile::write_misc_enable(u64 value, MsrBy by)
{
	if (by == MsrBy::guest) {
		if ((misc_enable_ ^ value) & misc_enable::read_only)
			return Errc::inval;
		value = (value & ~misc_enable::perfmon) | (misc_enable_ & misc_enable::perfmon);
	}
	misc_enable_ = value;
	return MsrEffect::none;
}

Result<MsrEffect> MsrFile::write_hwcr(u64 value)
{
	value &= ~hwcr_dropped;
	if (value == hwcr_status_writable)
		hwcr_ = value;
	else if (value != 0)
		return Errc::inval;
	return MsrEffect::none;
}

Result<MsrEffect> MsrFile::write_vm_cr(u64 value, u64 efer)
{
	if (value & ~vm_cr::valid)
		return Errc::inval;
	u64 may = vm_cr::valid;
	if (vm_cr_ & vm_cr::svm_disable)
		may &= ~(vm_cr::lock | vm_cr::svm_disable);
	vm_cr_ = (vm_cr_ & ~may) | (value & may);
	if ((vm_cr_ & vm_cr::svm_disable) && (efer & efer::svme))
		return Errc::inval;
	return MsrEffect::none;
}

Result<MsrEffect> MsrFile::write_cold(u32 index, u64 value, MsrBy by, const MsrContext &c)
{
	const bool host = by == MsrBy::host;
	const bool amd = is_amd_like(c.limits.vendor);
	switch (index) {
	case msr::IA32_APIC_BASE:
		KX_CHECK(check_apic_base(apic_base_, value, by, c.cpuid));
		apic_base_ = value;
		return MsrEffect::apic_base;
	case msr::IA32_PAT:
		if (!valid_pat(value))
			return Errc::inval;
		pat_ = value;
		return MsrEffect::pat;
	case msr::IA32_MISC_ENABLE:
		return write_misc_enable(value, by);
	case msr::IA32_BIOS_SIGN_ID:
		if (host)
			ucode_ = value; /* a guest's zero before CPUID means «load the revision» */
		return MsrEffect::none;
	case msr::IA32_XSS:
		if ((!host && !c.cpuid.has(Feature::xsaves)) || (value & ~c.caps.xss()))
			return Errc::inval;
		xss_ = value;
		return MsrEffect::xss;
	case msr::IA32_ARCH_CAPABILITIES:
		if (!host)
			return Errc::inval;
		arch_capabilities_ = value;
		return MsrEffect::none;
	case msr::PLATFORM_INFO:
		if (!host || (!(value & platform_cpuid_fault) && cpuid_faults()))
			return Errc::inval;
		platform_info_ = value;
		return MsrEffect::none;
	case msr::MISC_FEATURES_ENABLES:
		if ((value & ~enable_cpuid_fault) ||
		    (value && !(platform_info_ & platform_cpuid_fault)))
			return Errc::inval;
		misc_features_ = value;
		return MsrEffect::misc_features;
	case msr::IA32_POWER_CTL:
		power_ctl_ = value;
		return MsrEffect::none;
	case msr::HWCR:
		return write_hwcr(value);
	case msr::DE_CFG:
		if (!amd)
			break;
		if ((value & ~c.limits.de_cfg) || (!host && value != c.limits.de_cfg))
			return Errc::inval;
		de_cfg_ = value;
		return MsrEffect::none;
	case msr::OSVW_ID_LENGTH:
	case msr::OSVW_STATUS:
		if (!c.cpuid.has(Feature::osvw))
			return Errc::inval;
		(index == msr::OSVW_STATUS ? osvw_status_ : osvw_length_) = value;
		return MsrEffect::none;
	case msr::VM_HSAVE_PA:
		if (amd && !host && ((value & ones(11, 0)) || !c.cpuid.legal_gpa(value)))
			return Errc::inval;
		if (amd)
			hsave_pa_ = value & ~ones(11, 0);
		return MsrEffect::none;
	case msr::VM_CR:
		if (!amd)
			break;
		return write_vm_cr(value, c.regs.efer);
	case msr::TSC_RATIO:
		if (!amd)
			break;
		if (!host || (value != 0 && value != default_tsc_ratio))
			return Errc::inval;
		return MsrEffect::none;
	case msr::MMIO_CFG_BASE:
		if (value)
			return Errc::inval;
		return MsrEffect::none;
	case msr::KVM_WALL_CLOCK_OLD:
	case msr::KVM_SYSTEM_TIME_OLD:
		/* Zero switches off what never was on; anything else is a clock we lack. */
		if (!host)
			break;
		if (value)
			return Errc::inval;
		return MsrEffect::none;
	case msr::VM_IGNNE:
		if (!amd)
			break;
		return MsrEffect::none;
	case msr::NB_CFG: case msr::IA32_BIOS_UPDT_TRIG: case msr::PATCH_LOADER: case msr::BU_CFG2:
	case msr::DC_CFG: case msr::TW_CFG: case msr::EX_CFG: case msr::CLK_CTL:
	case msr::BBL_CR_CTL3: case msr::IA32_TSC_DEADLINE:
		return MsrEffect::none;
	default:
		break;
	}
	if (index == msr::IA32_MCG_STATUS || index == msr::IA32_MCG_CTL ||
	    index >= msr::IA32_MC0_CTL2)
		if (MceBanks::is_mce(index)) {
			const bool any = c.cpuid.is_amd_like() && (hwcr_ & hwcr_status_writable);
			KX_CHECK(mce_.write(index, value, by,
					    any ? MciStatus::any : MciStatus::only_zero));
			return MsrEffect::none;
		}
	if (is_mtrr_block(index)) {
		KX_CHECK(mtrrs_.write(index, value, c.cpuid.reserved_gpa()));
		return MsrEffect::mtrr;
	}
	if (is_old_pmu(index) || (host && value == 0 && is_placeholder(index)))
		return MsrEffect::none;
	if (in(index, msr::X2APIC_FIRST, msr::X2APIC_LAST))
		return Errc::inval;
	if (c.limits.unknown == UnknownMsr::ignore)
		return MsrEffect::none;
	return Errc::noent;
}

}
