/* SPDX-License-Identifier: GPL-2.0-only */
/* Machine-check registers. SDM vol. 3 §16.3, APM vol. 2 §9.3. */
#pragma once
#include <linux/kvm.h>
#include "apic_base.hpp"
#include "msr_index.hpp"

namespace kx {

inline constexpr unsigned max_mce_banks = 32;

namespace mcg {
inline constexpr u64 count = 0xff, ctl_p = bit(8), cmci_p = bit(10), ext_count = 0xff0000,
		     ser_p = bit(24);
}
namespace mci_status {
inline constexpr u64 valid = bit(63), overflow = bit(62), uncorrected = bit(61), context_corrupt = bit(57),
		     signaled = bit(56), action_required = bit(55);
}
inline constexpr u64 mcg_in_progress = bit(2); /* MCG_STATUS.MCIP */

/* KVM_X86_GET_MCE_CAP_SUPPORTED */
inline constexpr u64 supported_mce_cap = mcg::ctl_p | mcg::ser_p;

/* May the guest write MCi_STATUS? HWCR[McStatusWrEn]. */
enum class MciStatus : u8 { only_zero, any };

/* CR4.MCE; without it a machine check shuts the processor down. */
enum class MceEnabled : u8 { no, yes };
/* What the processor does of an error it finds in a bank. */
enum class MceEvent : u8 { none, machine_check, shutdown };

class MceBanks {
	u64 cap_ = max_mce_banks, status_ = 0, ctl_ = 0;
	u64 banks_[max_mce_banks][4] = {}; /* CTL, STATUS, ADDR, MISC */
	u64 ctl2_[max_mce_banks] = {};

public:
	/* KVM_X86_SETUP_MCE; on AMD MCG_CAP has nothing above CTL_P. */
	Errc setup(u64 cap, CpuVendor host);
	static bool is_mce(u32 index);
	Result<u64> read(u32 index, MsrBy by) const;
	Errc write(u32 index, u64 value, MsrBy by, MciStatus status);
	/* KVM_X86_SET_MCE: an error as the hardware would report it. */
	Result<MceEvent> report(const kvm_x86_mce &e, MceEnabled enabled);
	u64 cap() const { return cap_; }
};

}
