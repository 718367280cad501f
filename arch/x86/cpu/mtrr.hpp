/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory type range registers and PAT: kept and checked. SDM vol. 3 §12.11, APM vol. 2 §7.7. */
#pragma once
#include "cxxrt/result.hpp"
#include "msr_index.hpp"

namespace kx {

inline constexpr unsigned variable_mtrrs = 8, fixed_mtrrs = 11;
inline constexpr u64 reset_pat = 0x0007040600070406;

/* UC, WC, WT, WP, WB. */
constexpr bool valid_mtrr_type(u64 t) { return t < 8 && (0x73 >> t & 1); }
/* Eight entries; also type 7 (UC-) but neither 2 nor 3. */
constexpr bool valid_pat(u64 v)
{
	return !(v & 0xf8f8f8f8f8f8f8f8) && (v | (v & 0x0202020202020202) << 1) == v;
}

class Mtrrs {
	u64 fixed_[fixed_mtrrs] = {};
	struct {
		u64 base, mask;
	} variable_[variable_mtrrs] = {};
	u64 default_type_ = 0;

public:
	/* Two registers per range, then the fixed ones and the default type; not PAT. */
	static bool is_mtrr(u32 index);
	/* is_mtrr(index) or IA32_MTRRCAP; inval for anything else. */
	Result<u64> read(u32 index, u64 reserved_gpa) const;
	/* inval: bad type or reserved bit. IA32_MTRRCAP is read-only. */
	Errc write(u32 index, u64 value, u64 reserved_gpa);
};

}
