/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/mce.hpp"
#include "cxxrt/nospec.hpp"

namespace kx {

namespace {

enum Register : unsigned { ctl, status, addr, misc };

constexpr u64 all = ~u64{0};
constexpr u64 ctl2_valid = bit(30) | ones(14, 0); /* CMCI enable and threshold */
constexpr u32 ctl_end = msr::IA32_MC0_CTL + 4 * max_mce_banks,
	      ctl2_end = msr::IA32_MC0_CTL2 + max_mce_banks;

constexpr bool is_bank(u32 i) { return i >= msr::IA32_MC0_CTL && i < ctl_end; }
constexpr bool is_ctl2(u32 i) { return i >= msr::IA32_MC0_CTL2 && i < ctl2_end; }

/* Zero or all ones. But Linux clears bit 10 of bank 4 for an old northbridge, and UnixWare bit 0 of
 * bank 1: neither shall fault. */
constexpr bool valid_ctl(u64 v) { return v == 0 || (v | bit(10) | bit(0)) == all; }

}

Errc MceBanks::setup(u64 cap, CpuVendor host)
{
	const u64 banks = cap & mcg::count;
	if (banks == 0 || banks > max_mce_banks ||
	    (cap & ~(supported_mce_cap | mcg::count | mcg::ext_count)))
		return Errc::inval;
	if (cap & mcg::ctl_p)
		ctl_ = all;
	for (unsigned i = 0; i < banks; ++i)
		banks_[i][Register::ctl] = all;
	cap_ = is_amd_like(host) ? cap & (mcg::count | mcg::ctl_p) : cap;
	return Errc::ok;
}

bool MceBanks::is_mce(u32 i)
{
	return is_bank(i) || is_ctl2(i) || i == msr::IA32_MCG_CAP || i == msr::IA32_MCG_STATUS ||
	       i == msr::IA32_MCG_CTL || i == msr::P5_MC_ADDR || i == msr::P5_MC_TYPE;
}

Result<u64> MceBanks::read(u32 index, MsrBy by) const
{
	switch (index) {
	case msr::P5_MC_ADDR:
	case msr::P5_MC_TYPE:
		return u64{0};
	case msr::IA32_MCG_CAP:
		return cap_;
	case msr::IA32_MCG_STATUS:
		return status_;
	case msr::IA32_MCG_CTL:
		if (!(cap_ & mcg::ctl_p) && by == MsrBy::guest)
			return Errc::inval;
		return ctl_;
	default:
		break;
	}
	const unsigned count = cap_ & mcg::count;
	if (is_ctl2(index)) {
		const unsigned n = index - msr::IA32_MC0_CTL2;
		if (n >= count || (!(cap_ & mcg::cmci_p) && by == MsrBy::guest))
			return Errc::inval;
		return ctl2_[index_nospec<max_mce_banks>(n)];
	}
	const unsigned n = (index - msr::IA32_MC0_CTL) / 4;
	if (!is_bank(index) || n >= count)
		return Errc::inval;
	return banks_[index_nospec<max_mce_banks>(n)][index % 4];
}

Errc MceBanks::write(u32 index, u64 value, MsrBy by, MciStatus may)
{
	if (index == msr::IA32_MCG_STATUS) {
		status_ = value;
		return Errc::ok;
	}
	if (index == msr::IA32_MCG_CTL) {
		/* A register that is not there takes a zero from a VMM that restores everything. */
		if (!(cap_ & mcg::ctl_p) && (value || by == MsrBy::guest))
			return Errc::inval;
		if (value != 0 && value != all)
			return Errc::inval;
		ctl_ = value;
		return Errc::ok;
	}
	const unsigned count = cap_ & mcg::count;
	if (is_ctl2(index)) {
		const unsigned n = index - msr::IA32_MC0_CTL2;
		if (n >= count || (!(cap_ & mcg::cmci_p) && (value || by == MsrBy::guest)) ||
		    (value & ~ctl2_valid))
			return Errc::inval;
		ctl2_[index_nospec<max_mce_banks>(n)] = value;
		return Errc::ok;
	}
	const unsigned n = (index - msr::IA32_MC0_CTL) / 4;
	if (!is_bank(index) || n >= count)
		return Errc::inval;
	if (index % 4 == Register::ctl && !valid_ctl(value))
		return Errc::inval;
	if (index % 4 == Register::status && value && by == MsrBy::guest &&
	    may == MciStatus::only_zero)
		return Errc::inval;
	banks_[index_nospec<max_mce_banks>(n)][index % 4] = value;
	return Errc::ok;
}

/* What is logged and signalled, and what overwrites what: SDM vol. 3 §16.3.2.2, §16.6 */
Result<MceEvent> MceBanks::report(const kvm_x86_mce &e, MceEnabled enabled)
{
	using namespace mci_status;
	if (e.bank >= (cap_ & mcg::count) || !(e.status & valid))
		return Errc::inval;
	u64 (&bank)[4] = banks_[e.bank % max_mce_banks];
	const auto log = [&](u64 overflowed) {
		bank[Register::status] = e.status | overflowed;
		bank[Register::addr] = e.addr;
		bank[Register::misc] = e.misc;
	};
	const u64 overflowed = bank[Register::status] & valid ? overflow : 0;

	if (!(e.status & uncorrected)) {
		/* Corrected: it does not displace an uncorrected one. */
		if (overflowed && (bank[Register::status] & uncorrected))
			bank[Register::status] |= overflow;
		else
			log(overflowed);
		return MceEvent::none;
	}
	/* Uncorrected, and nothing has to be done about it. Its CMCI is the VMM's local APIC's. */
	if (!e.mcg_status && !(e.status & (context_corrupt | signaled | action_required))) {
		log(0);
		status_ = e.mcg_status;
		return MceEvent::none;
	}
	/* Reporting is switched off. */
	if (((cap_ & mcg::ctl_p) && ctl_ != all) || bank[Register::ctl] != all)
		return MceEvent::none;
	if ((status_ & mcg_in_progress) || enabled == MceEnabled::no)
		return MceEvent::shutdown;
	log(overflowed);
	status_ = e.mcg_status;
	return MceEvent::machine_check;
}

static_assert(msr::IA32_MC0_CTL % 4 == 0, "a bank's register is the number's low bits");

}
