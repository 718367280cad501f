/* SPDX-License-Identifier: GPL-2.0-only */
/* Recorded processors through the negotiation of VMX controls, and what becomes of single bits of them. */
#pragma once
#include <gtest/gtest.h>
#include <set>
#include <vector>
#include "vmx_record.hpp"

namespace kx::test {

using namespace vmx;

/* A MSR that the processor does not have is a fault. */
inline CapMsrs read(const VmxMsrs &cpu)
{
	return read_caps([&cpu](u32 msr) {
		EXPECT_NE(cpu.at(msr), 0u) << cpu.name << ": RDMSR " << std::hex << msr;
		return cpu.at(msr);
	});
}

inline bool has_ept(const VmxMsrs &cpu) { return cpu.at(0x48b) >> 32 & proc2::ept; }

inline std::vector<const VmxMsrs *> with_ept()
{
	std::vector<const VmxMsrs *> v;
	for (const VmxMsrs *cpu : every_vmx)
		if (has_ept(*cpu))
			v.push_back(cpu);
	return v;
}

inline constexpr unsigned nr_switches = 6;
inline Switches switches_of(unsigned n)
{
	return {.vpid = !(n & 1), .ept_ad = !(n & 2), .unrestricted = !(n & 4), .vnmi = !(n & 8), .pml = !(n & 16),
		.tpr_shadow = !(n & 32)};
}

/*
 * What a control word may be made of, told a second time: the manual's default1 class, what cannot be done without, and
 * what is used where it is there. The capability MSR's two halves are turned bit by bit.
 */
struct Control {
	const char *name;
	u64 CapMsrs::*msr;
	u32 Caps::*word;
	Lacks lacks;
	std::set<unsigned> default1, required, used, only_offered; /* the last: must be there, are off to begin with */
	bool known(unsigned b) const { return default1.count(b) || required.count(b) || used.count(b); }
	bool needed(unsigned b) const { return required.count(b) || only_offered.count(b); }
};
inline const Control controls[] = {
	{"pin", &CapMsrs::pin, &Caps::pin, Lacks::pin, {1, 2, 4}, {0, 3}, {5}, {}},
	{"proc", &CapMsrs::proc, &Caps::proc, Lacks::proc, {1, 4, 5, 6, 8, 13, 14, 15, 16, 26},
	 {3, 7, 10, 11, 19, 23, 24, 28, 29, 31}, {21}, {2}},
	{"proc2", &CapMsrs::proc2, &Caps::proc2, Lacks::proc2, {}, {1}, {5, 6, 7, 10, 15}, {}},
	{"exit", &CapMsrs::exit, &Caps::exit, Lacks::exit, {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 16, 17},
	 {2, 9, 21}, {19}, {}},
	{"entry", &CapMsrs::entry, &Caps::entry, Lacks::entry, {0, 1, 2, 3, 4, 5, 6, 7, 8, 12}, {2, 15}, {14}, {9}},
};

inline u64 forced(u64 msr, unsigned b) { return msr | bit(b) | bit(b + 32); }
inline u64 denied(u64 msr, unsigned b) { return msr & ~(bit(b) | bit(b + 32)); }

inline ::testing::AssertionResult refused(const Negotiated &n, Lacks why, u64 bits)
{
	if (n.lacks == why && n.bits == bits && n.caps == Caps{})
		return ::testing::AssertionSuccess();
	return ::testing::AssertionFailure() << "lacks " << unsigned(n.lacks) << " bits " << std::hex << n.bits
					     << (n.caps == Caps{} ? "" : ", and yet has caps");
}
inline ::testing::AssertionResult accepted(const Negotiated &n)
{
	if (n.lacks == Lacks::nothing && n.bits == 0)
		return ::testing::AssertionSuccess();
	return ::testing::AssertionFailure() << "lacks " << unsigned(n.lacks) << " bits " << std::hex << n.bits;
}

/* One that has everything we use but the exits of SGX. */
inline CapMsrs full()
{
	CapMsrs m = read(arrow_lake);
	m.ept_vpid |= ept_cap::levels5;
	return m;
}

}
