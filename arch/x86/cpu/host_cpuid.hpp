/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The host's CPUID, read once at load. What does not depend on the CPU it was read on; the few
 * fields that do (APIC ids, sizes of the enabled XSAVE state) are recomputed by their users.
 */
#pragma once
#include "cpuid_regs.hpp"

namespace kx {

class HostCpuid {
	struct Entry {
		u32 leaf, subleaf;
		CpuidRegs regs;
	};
	static constexpr unsigned capacity = 192;
	Entry entries_[capacity] = {};
	unsigned used_ = 0;

	constexpr CpuidRegs add(u32 leaf, u32 subleaf, const CpuidRegs &r)
	{
		if (used_ < capacity)
			entries_[used_++] = {leaf, subleaf, r};
		return r;
	}

public:
	constexpr HostCpuid() = default;
	/* Read: a callable CpuidRegs(u32 leaf, u32 subleaf) that executes the instruction. In
	 * place: the object is too big for a kernel stack. */
	template <class Read> void capture(Read read)
	{
		used_ = 0;
		const u32 basic = add(0, 0, read(0, 0)).eax;
		for (u32 leaf = 1; leaf <= basic && leaf <= 0x1f; ++leaf)
			add_leaf(leaf, read);
		const u32 ext = add(0x80000000, 0, read(0x80000000, 0)).eax;
		for (u32 leaf = 0x80000001; leaf <= ext && leaf <= 0x80000021; ++leaf)
			add_leaf(leaf, read);
	}

	/* Zeros for a leaf the processor does not have, whatever its vendor makes of it. */
	CpuidRegs at(u32 leaf, u32 subleaf = 0) const;
	u32 max_basic() const { return at(0).eax; }
	/* 0 where the extended leaves do not exist. */
	u32 max_extended() const;
	CpuVendor vendor() const { return vendor_of(at(0)); }

private:
	template <class Read> void add_leaf(u32 leaf, Read &read)
	{
		const CpuidRegs first = add(leaf, 0, read(leaf, 0));
		switch (leaf) {
		case 4:
		case 0x8000001d: /* until a cache of type «none», which belongs to the list */
			for (u32 i = 1;
			     i < 16 && (i == 1 ? first.eax & 31 : at(leaf, i - 1).eax & 31); ++i)
				add(leaf, i, read(leaf, i));
			break;
		case 7:
			for (u32 i = 1; i <= first.eax && i <= 2; ++i)
				add(leaf, i, read(leaf, i));
			break;
		case 0xd:
			for (u32 i = 1; i < 64; ++i)
				if (const CpuidRegs r = read(leaf, i); r != CpuidRegs{})
					add(leaf, i, r);
			break;
		default:
			break;
		}
	}
};

}
