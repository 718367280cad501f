/* SPDX-License-Identifier: GPL-2.0-only */
/* Instructions the core executes itself. Privileged ones trap in the hosted build: nobody calls them there. */
#pragma once
#include "arch/x86/cpu/cpuid_regs.hpp"
#include "cxxrt/bits.hpp"

namespace kx::insn {

inline CpuidRegs cpuid(u32 leaf, u32 subleaf)
{
	CpuidRegs r;
	asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}

/* For MSRs that are known to exist. */
inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;
	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return lo | u64{hi} << 32;
}

inline void wrmsr(u32 msr, u64 v)
{
	asm volatile("wrmsr" : : "c"(msr), "a"(u32(v)), "d"(u32(v >> 32)) : "memory");
}

inline u64 rdtsc()
{
	u32 lo, hi;
	asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | u64{hi} << 32;
}

inline void xsetbv(u32 index, u64 v)
{
	asm volatile("xsetbv" : : "c"(index), "a"(u32(v)), "d"(u32(v >> 32)));
}

inline u32 rdpkru()
{
	u32 v, d;
	asm volatile(".byte 0x0f, 0x01, 0xee" : "=a"(v), "=d"(d) : "c"(0));
	return v;
}

inline void wrpkru(u32 v)
{
	asm volatile(".byte 0x0f, 0x01, 0xef" : : "a"(v), "c"(0), "d"(0));
}

inline u64 read_cr4()
{
	u64 v;
	asm volatile("mov %%cr4, %0" : "=r"(v));
	return v;
}

inline void write_cr4(u64 v) { asm volatile("mov %0, %%cr4" : : "r"(v) : "memory"); }

inline u64 read_cr2()
{
	u64 v;
	asm volatile("mov %%cr2, %0" : "=r"(v));
	return v;
}

inline void write_cr2(u64 v) { asm volatile("mov %0, %%cr2" : : "r"(v)); }

inline u64 read_cr3()
{
	u64 v;
	asm volatile("mov %%cr3, %0" : "=r"(v));
	return v;
}

template <unsigned N> inline void write_dr(u64 v)
{
	static_assert(N < 4 || N == 7);
	if constexpr (N == 0)
		asm volatile("mov %0, %%db0" : : "r"(v));
	else if constexpr (N == 1)
		asm volatile("mov %0, %%db1" : : "r"(v));
	else if constexpr (N == 2)
		asm volatile("mov %0, %%db2" : : "r"(v));
	else if constexpr (N == 3)
		asm volatile("mov %0, %%db3" : : "r"(v));
	else
		asm volatile("mov %0, %%db7" : : "r"(v));
}

inline void stgi() { asm volatile("stgi" : : : "memory"); }

/* The instruction at label 1 may fault where virtualization was switched off under us (reboot, crash):
 * the exception table goes on behind it. The numbers are the kernel's EX_TYPE_DEFAULT and its layout. */
#define KX_FAULT_OK "2:\n.pushsection __ex_table, \"a\"\n.balign 4\n.long 1b - .\n.long 2b - .\n.long 1\n.popsection\n"

inline void vmsave(u64 pa) { asm volatile("1: vmsave %%rax\n" KX_FAULT_OK : : "a"(pa) : "memory"); }

}
