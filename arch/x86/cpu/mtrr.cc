/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/mtrr.hpp"
#include "cxxrt/bits.hpp"
#include "cxxrt/nospec.hpp"

namespace kx {

namespace {

constexpr u64 capabilities = bit(10) | bit(8) | variable_mtrrs; /* write-combining, fixed ranges */
constexpr u32 variable_end = msr::IA32_MTRR_PHYSBASE0 + 2 * variable_mtrrs;

constexpr bool is_variable(u32 index)
{
	return index >= msr::IA32_MTRR_PHYSBASE0 && index < variable_end;
}

/* Place in fixed_, or -1: one of 64 KiB, two of 16 KiB, eight of 4 KiB units. */
constexpr int fixed_place(u32 index)
{
	if (index == msr::IA32_MTRR_FIX64K_00000)
		return 0;
	if (index == msr::IA32_MTRR_FIX16K_80000 || index == msr::IA32_MTRR_FIX16K_A0000)
		return int(1 + index - msr::IA32_MTRR_FIX16K_80000);
	if (index >= msr::IA32_MTRR_FIX4K_C0000 && index <= msr::IA32_MTRR_FIX4K_F8000)
		return int(3 + index - msr::IA32_MTRR_FIX4K_C0000);
	return -1;
}

constexpr bool valid_fixed(u64 v)
{
	for (unsigned i = 0; i < 8; ++i)
		if (!valid_mtrr_type(v >> (8 * i) & 0xff))
			return false;
	return true;
}

}

bool Mtrrs::is_mtrr(u32 index)
{
	return is_variable(index) || fixed_place(index) >= 0 || index == msr::IA32_MTRR_DEF_TYPE;
}

Result<u64> Mtrrs::read(u32 index, u64 reserved_gpa) const
{
	if (index == msr::IA32_MTRRCAP)
		return capabilities;
	if (index == msr::IA32_MTRR_DEF_TYPE)
		return default_type_;
	if (const int i = fixed_place(index); i >= 0)
		return fixed_[index_nospec(unsigned(i), fixed_mtrrs)];
	if (!is_variable(index))
		return Errc::inval;
	const auto &r = variable_[index_nospec<variable_mtrrs>((index - msr::IA32_MTRR_PHYSBASE0) / 2)];
	return (index & 1 ? r.mask : r.base) & ~reserved_gpa;
}

Errc Mtrrs::write(u32 index, u64 value, u64 reserved_gpa)
{
	if (index == msr::IA32_MTRR_DEF_TYPE) {
		if ((value & ~(bit(11) | bit(10) | 0xff)) || !valid_mtrr_type(value & 0xff))
			return Errc::inval;
		default_type_ = value;
		return Errc::ok;
	}
	if (const int i = fixed_place(index); i >= 0) {
		if (!valid_fixed(value))
			return Errc::inval;
		fixed_[index_nospec(unsigned(i), fixed_mtrrs)] = value;
		return Errc::ok;
	}
	if (!is_variable(index))
		return Errc::inval;
	auto &r = variable_[index_nospec<variable_mtrrs>((index - msr::IA32_MTRR_PHYSBASE0) / 2)];
	if (index & 1) {
		if (value & (reserved_gpa | ones(10, 0)))
			return Errc::inval;
		r.mask = value;
	} else {
		if ((value & (reserved_gpa | ones(11, 8))) || !valid_mtrr_type(value & 0xff))
			return Errc::inval;
		r.base = value;
	}
	return Errc::ok;
}

}
