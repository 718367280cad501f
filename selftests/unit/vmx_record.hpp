/* SPDX-License-Identifier: GPL-2.0-only */
/* The VMX capability MSRs of processors, real, composed and emulated. */
#pragma once
#include "arch/x86/vmx/caps.hpp"

namespace kx::test {

/* IA32_VMX_BASIC to IA32_VMX_VMFUNC; 0: not there, or not in the record. */
struct VmxMsrs {
	const char *name;
	u64 value[18];

	constexpr u64 at(u32 msr) const { return msr >= 0x480 && msr <= 0x491 ? value[msr - 0x480] : 0; }
};

/* Recorded on real processors. Only the numbers come from the sources named. */

/* Xeon X5482, neither extended page tables nor «true» MSRs:
 * VirtualBox, VMM/VMMR3/cpus/Intel_Xeon_X5482_3_20GHz.h */
inline constexpr VmxMsrs penryn{"Penryn", {
	0x5a08000000000d, 0x3f00000016, 0xf7f9fffe0401e172, 0x3ffff00036dff, 0x3fff000011ff,
	0x403c0, 0x80000021, 0xffffffff, 0x2000, 0x27ff,
	0x2c, 0x4100000000, 0,
	0, 0, 0, 0, 0,
}};
/* Core i7-2635QM: VirtualBox, Intel_Core_i7_2635QM.h */
inline constexpr VmxMsrs sandy_bridge{"Sandy Bridge", {
	0xda040000000010, 0x7f00000016, 0xfff9fffe0401e172, 0x7fffff00036dff, 0xffff000011ff,
	0x100401e5, 0x80000021, 0xffffffff, 0x2000, 0x627ff,
	0x2a, 0xff00000000, 0xf0106114141,
	0x7f00000016, 0xfff9fffe04006172, 0x7fffff00036dfb, 0xffff000011fb, 0,
}};
/* InstLatx64, GenuineIntel00306A9_IvyBridge_CPUID.txt */
inline constexpr VmxMsrs ivy_bridge{"Ivy Bridge", {
	0xda040000000010, 0x7f00000016, 0xfff9fffe0401e172, 0x7fffff00036dff, 0xffff000011ff,
	0x100401e5, 0x80000021, 0xffffffff, 0x2000, 0x1727ff,
	0x2a, 0x8ff00000000, 0xf0106114141,
	0x7f00000016, 0xfff9fffe04006172, 0x7fffff00036dfb, 0xffff000011fb, 0,
}};
/* Celeron N3150, an Atom: InstLatx64, GenuineIntel00406C3_Braswell_CPUID.txt */
inline constexpr VmxMsrs braswell{"Braswell", {
	0xda040000000002, 0x7f00000016, 0xfff9fffe0401e172, 0x7fffff00036dff, 0xffff000011ff,
	0x481e6, 0x80000021, 0xffffffff, 0x2000, 0x1027ff,
	0x2e, 0x28ef00000000, 0xf0106114141,
	0x7f00000016, 0xfff9fffe04006172, 0x7fffff00036dfb, 0xffff000011fb, 0,
}};
/* Core i7-4770: InstLatx64, GenuineIntel00306C3_Haswell_CPUID.txt */
inline constexpr VmxMsrs haswell{"Haswell", {
	0xda040000000012, 0x7f00000016, 0xfff9fffe0401e172, 0x7fffff00036dff, 0xffff000011ff,
	0x300481e5, 0x80000021, 0xffffffff, 0x2000, 0x1767ff,
	0x2a, 0x7cff00000000, 0xf0106334141,
	0x7f00000016, 0xfff9fffe04006172, 0x7fffff00036dfb, 0xffff000011fb, 0,
}};
/* Core M 5Y70: Bochs' source, cpu/cpudb/intel/broadwell_ult.txt, the dump of the real one */
inline constexpr VmxMsrs broadwell{"Broadwell", {
	0xda040000000012, 0x7f00000016, 0xfff9fffe0401e172, 0x7fffff00036dff, 0xffff000011ff,
	0x300481e5, 0x80000021, 0xffffffff, 0x2000, 0x3767ff,
	0x2a, 0x57cff00000000, 0xf0106334141,
	0x7f00000016, 0xfff9fffe04006172, 0x7fffff00036dfb, 0xffff000011fb, 0,
}};
/* Core i7-6700K: VirtualBox, Intel_Core_i7_6700K.h */
inline constexpr VmxMsrs skylake{"Skylake", {
	0xda040000000004, 0x7f00000016, 0xfff9fffe0401e172, 0x1ffffff00036dff, 0x3ffff000011ff,
	0x7004c1e7, 0x80000021, 0xffffffff, 0x2000, 0x3727ff,
	0x2e, 0x1ffcff00000000, 0xf0106334141,
	0x7f00000016, 0xfff9fffe04006172, 0x1ffffff00036dfb, 0x3ffff000011fb, 1,
}};
/* Core i7-7800X, the server's core: corei7_skylake-x.txt, as above */
inline constexpr VmxMsrs skylake_x{"Skylake-X", {
	0xda040000000004, 0xff00000016, 0xfff9fffe0401e172, 0x1ffffff00036dff, 0x3ffff000011ff,
	0x7004c1e7, 0x80000021, 0xffffffff, 0x2000, 0x3727ff,
	0x2e, 0x25d3fff00000000, 0xf0106734141,
	0xff00000016, 0xfff9fffe04006172, 0x1ffffff00036dfb, 0x3ffff000011fb, 0,
}};
/* Core i3-8121U: corei3_cnl.txt, as above */
inline constexpr VmxMsrs cannon_lake{"Cannon Lake", {
	0xda040000000004, 0x7f00000016, 0xfff9fffe0401e172, 0x1ffffff00036dff, 0x3ffff000011ff,
	0x7004c1e7, 0x80000021, 0xffffffff, 0x2000, 0x772fff,
	0x2e, 0x25f3cff00000000, 0xf0106734141,
	0x7f00000016, 0xfff9fffe04006172, 0x1ffffff00036dfb, 0x3ffff000011fb, 0,
}};
/* Core i7-1065G7: corei7_icelake-u.txt, as above */
inline constexpr VmxMsrs ice_lake{"Ice Lake", {
	0xda050000000013, 0xff00000016, 0xfff9fffe0401e172, 0x37fffff00036dff, 0x6ffff000011ff,
	0x7004c1e7, 0x80000021, 0xffffffff, 0x2000, 0x772fff,
	0x2e, 0x335fbfff00000000, 0xf0106734141,
	0xff00000016, 0xfff9fffe04006172, 0x37fffff00036dfb, 0x6ffff000011fb, 0,
}};
/* Core i5-1135G7: tigerlake.txt, as above */
inline constexpr VmxMsrs tiger_lake{"Tiger Lake", {
	0x1da050000000013, 0xff00000016, 0xfffbfffe0401e172, 0x137fffff00036dff, 0x16ffff000011ff,
	0x7004c1e7, 0x80000021, 0xffffffff, 0x2000, 0xff2fff,
	0x2e, 0x35f3fff00000000, 0xf0106f34141,
	0xff00000016, 0xfffbfffe04006172, 0x137fffff00036dfb, 0x16ffff000011fb, 0,
}};
/* Core Ultra 5 245K: arrow_lake.txt, as above */
inline constexpr VmxMsrs arrow_lake{"Arrow Lake", {
	0x3da060000000015, 0xff00000016, 0xfffbfffe0401e172, 0xff7fffff00036dff, 0x7effff000011ff,
	0x7004c1e7, 0x80000021, 0xffffffff, 0x2000, 0x1bf76fff,
	0x2e, 0xc75f7fff00000000, 0xf0106f34141,
	0xff00000016, 0xfffbfffe04006172, 0xff7fffff00036dfb, 0x7effff000011fb, 0,
}};

/*
 * Composed from a published feature list, not recorded: QEMU's target/i386/cpu.c, the CPU model named.
 * What is always one comes from SDM vol. 3 appendix A (the default1 classes, the bits fixed in CR0); size and
 * revision of the VMCS are made up.
 */
struct VmxFeatures {
	u32 pin, proc2, cr4;
	u64 misc, ept_vpid;
};
constexpr VmxMsrs composed(const char *name, const VmxFeatures &f)
{
	constexpr u64 pin1 = 0x16, proc1 = 0x0401e172, exit1 = 0x36dff, entry1 = 0x11ff;
	constexpr u64 true_proc1 = proc1 & ~bit(15) & ~bit(16), true_exit1 = exit1 & ~bit(2),
		      true_entry1 = entry1 & ~bit(2);
	/* The same in all of the lists. */
	constexpr u64 proc = 0xfff9fffe, exit = exit1 | 0x7c9200, entry = entry1 | 0xe200;
	const u64 pin = pin1 | f.pin;
	return {name, {bit(55) | bit(54) | u64{6} << 50 | u64{1024} << 32 | 1,
		       pin << 32 | pin1, proc << 32 | proc1, exit << 32 | exit1, entry << 32 | entry1,
		       f.misc, 0x80000021, 0xffffffff, 0x2000, f.cr4,
		       0x2e, u64{f.proc2} << 32, f.ept_vpid,
		       pin << 32 | pin1, proc << 32 | true_proc1, exit << 32 | true_exit1, entry << 32 | true_entry1,
		       0}};
}
/* "Nehalem": no unrestricted guest */
inline constexpr VmxMsrs nehalem = composed("Nehalem", {0x69, 0x7f, 0x27ff, 0x40, 0xf0106134041});
/* "Westmere" */
inline constexpr VmxMsrs westmere = composed("Westmere", {0x69, 0xff, 0x27ff, 0x60, 0xf0106134041});
/* "Cascadelake-Server" */
inline constexpr VmxMsrs cascade_lake =
	composed("Cascade Lake", {0xe9, 0x37bff, 0x7727ff, 0x20000060, 0xf0106334041});
/* "SapphireRapids": five levels */
inline constexpr VmxMsrs sapphire_rapids =
	composed("Sapphire Rapids", {0xe9, 0x137bff, 0x773fff, 0x20000060, 0xf01063340c1});

/* What Bochs 3.0 as scripts/get-bochs builds it answers to RDMSR in a boot sector, by cpu model. */

inline constexpr VmxMsrs bochs_penryn{"Bochs core2_penryn_t9600", {
	0xd810000000002b, 0x3f00000016, 0xf7f9fffe0401e172, 0x4003ffff00036dff, 0x3fff000011ff,
	0x401e0, 0x80000021, 0xffffffff, 0x2000, 0x427ff,
	0x50, 0x4100000000, 0,
	0x3f00000016, 0xf7f9fffe04006172, 0x4003ffff00036dfb, 0x3fff000011fb, 0,
}};
inline constexpr VmxMsrs bochs_lynnfield{"Bochs corei5_lynnfield_750", {
	0xd810000000002b, 0x7f00000016, 0xfff9fffe0401e172, 0x407fffff00036dff, 0xffff000011ff,
	0x401e0, 0x80000021, 0xffffffff, 0x2000, 0x67ff,
	0x50, 0x7f00000000, 0xf0106114141,
	0x7f00000016, 0xfff9fffe04006172, 0x407fffff00036dfb, 0xffff000011fb, 0,
}};
inline constexpr VmxMsrs bochs_arrandale{"Bochs corei5_arrandale_m520", {
	0xd810000000002b, 0x7f00000016, 0xfff9fffe0401e172, 0x407fffff00036dff, 0xffff000011ff,
	0x401e0, 0x80000021, 0xffffffff, 0x2000, 0x67ff,
	0x50, 0xff00000000, 0xf0106114141,
	0x7f00000016, 0xfff9fffe04006172, 0x407fffff00036dfb, 0xffff000011fb, 0,
}};
inline constexpr VmxMsrs bochs_sandy_bridge{"Bochs corei7_sandy_bridge_2600k", {
	0xd810000000002b, 0x7f00000016, 0xfff9fffe0401e172, 0x407fffff00036dff, 0xffff000011ff,
	0x401e0, 0x80000021, 0xffffffff, 0x2000, 0x627ff,
	0x50, 0xef00000000, 0xf0106114141,
	0x7f00000016, 0xfff9fffe04006172, 0x407fffff00036dfb, 0xffff000011fb, 0,
}};
inline constexpr VmxMsrs bochs_ivy_bridge{"Bochs corei7_ivy_bridge_3770k", {
	0xd810000000002b, 0x7f00000016, 0xfff9fffe0401e172, 0x407fffff00036dff, 0xffff000011ff,
	0x401e0, 0x80000021, 0xffffffff, 0x2000, 0x1727ff,
	0x50, 0x8ff00000000, 0xf0106114141,
	0x7f00000016, 0xfff9fffe04006172, 0x407fffff00036dfb, 0xffff000011fb, 0,
}};
inline constexpr VmxMsrs bochs_haswell{"Bochs corei7_haswell_4770", {
	0xd810000000002b, 0x7f00000016, 0xfff9fffe0401e172, 0x407fffff00036dff, 0xffff000011ff,
	0x200401e0, 0x80000021, 0xffffffff, 0x2000, 0x1727ff,
	0x50, 0x47fff00000000, 0xf0106334141,
	0x7f00000016, 0xfff9fffe04006172, 0x407fffff00036dfb, 0xffff000011fb, 1,
}};
inline constexpr VmxMsrs bochs_broadwell{"Bochs broadwell_ult", {
	0xd810000000002b, 0x7f00000016, 0xfff9fffe0401e172, 0x407fffff00036dff, 0xffff000011ff,
	0x200401e0, 0x80000021, 0xffffffff, 0x2000, 0x3727ff,
	0x50, 0x57fff00000000, 0xf0106334141,
	0x7f00000016, 0xfff9fffe04006172, 0x407fffff00036dfb, 0xffff000011fb, 1,
}};
inline constexpr VmxMsrs bochs_skylake_x{"Bochs corei7_skylake_x", {
	0xd810000000002b, 0xff00000016, 0xfff9fffe0401e172, 0x407fffff00036dff, 0xffff000011ff,
	0x600401e0, 0x80000021, 0xffffffff, 0x2000, 0x3727ff,
	0x50, 0x2577fff00000000, 0xf0106734141,
	0xff00000016, 0xfff9fffe04006172, 0x407fffff00036dfb, 0xffff000011fb, 1,
}};
inline constexpr VmxMsrs bochs_sapphire_rapids{"Bochs sapphire_rapids", {
	0xd8100000000004, 0xff00000016, 0xfffbfffe0401e172, 0xe07fffff00036dff, 0x40ffff000011ff,
	0x600401e0, 0x80000021, 0xffffffff, 0x2000, 0x1773fff,
	0x50, 0x6d77fff00000000, 0xf0106734141,
	0xff00000016, 0xfffbfffe04006172, 0xe07fffff00036dfb, 0x40ffff000011fb, 1,
}};
inline constexpr VmxMsrs bochs_arrow_lake{"Bochs arrow_lake", {
	0xd8100000000004, 0xff00000016, 0xfffbfffe0401e172, 0xe07fffff00036dff, 0x40ffff000011ff,
	0x600401e0, 0x80000021, 0xffffffff, 0x2000, 0x9772fff,
	0x50, 0x6d77fff00000000, 0xf0106734141,
	0xff00000016, 0xfffbfffe04006172, 0xe07fffff00036dfb, 0x40ffff000011fb, 1,
}};

inline constexpr const VmxMsrs *every_vmx[] = {
	&penryn, &nehalem, &westmere, &sandy_bridge, &ivy_bridge, &braswell, &haswell, &broadwell,
	&skylake, &skylake_x, &cascade_lake, &cannon_lake, &ice_lake, &tiger_lake,
	&sapphire_rapids, &arrow_lake, &bochs_penryn, &bochs_lynnfield, &bochs_arrandale,
	&bochs_sandy_bridge, &bochs_ivy_bridge, &bochs_haswell, &bochs_broadwell, &bochs_skylake_x,
	&bochs_sapphire_rapids, &bochs_arrow_lake,
};

}
