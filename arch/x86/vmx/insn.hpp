/* SPDX-License-Identifier: GPL-2.0-only */
/* VMX instructions. SDM vol. 3 chapter 31. */
#pragma once
#include "arch/x86/cpu/insn.hpp"
#include "arch/x86/vmx/fields.hpp"

namespace kx::vmx {

/* In a reboot or crash VMX operation ends under everybody's feet and all of these become #UD. What a read then
 * returns is garbage, and a VM that is entered no more has to do with it. */
template <Field F> inline FieldValue<F> vmread()
{
	u64 v;
	asm volatile("1: vmread %1, %0\n" KX_FAULT_OK : "=r"(v) : "r"(u64(F)) : "cc");
	return FieldValue<F>(v);
}
template <Field F, class T>
	requires(sizeof(T) <= sizeof(FieldValue<F>))
inline void vmwrite(T v)
{
	asm volatile("1: vmwrite %0, %1\n" KX_FAULT_OK : : "rm"(u64(v)), "r"(u64(F)) : "cc");
}
/* Of a field chosen at run time, among those of one width. */
inline u64 vmread_at(Field f)
{
	u64 v;
	asm volatile("1: vmread %1, %0\n" KX_FAULT_OK : "=r"(v) : "r"(u64(f)) : "cc");
	return v;
}
inline void vmwrite_at(Field f, u64 v)
{
	asm volatile("1: vmwrite %0, %1\n" KX_FAULT_OK : : "rm"(v), "r"(u64(f)) : "cc");
}

inline void vmclear(u64 pa) { asm volatile("1: vmclear %0\n" KX_FAULT_OK : : "m"(pa) : "cc", "memory"); }
inline void vmptrld(u64 pa) { asm volatile("1: vmptrld %0\n" KX_FAULT_OK : : "m"(pa) : "cc", "memory"); }
inline void vmxoff() { asm volatile("1: vmxoff\n" KX_FAULT_OK : : : "cc", "memory"); }

/* false: refused, or a fault. */
inline bool vmxon(u64 pa)
{
	u8 failed = 1; /* stays so when the instruction faults */
	asm volatile("1: vmxon %1\n\tsetna %0\n" KX_FAULT_OK : "+qm"(failed) : "m"(pa) : "cc", "memory");
	return !failed;
}

struct InveptDescriptor {
	u64 ept_pointer, zero;
};
struct InvvpidDescriptor {
	u64 vpid, address;
};
enum class Invalidate : u64 { single = 1, all = 2 };

inline void invept(Invalidate type, u64 ept_pointer)
{
	const InveptDescriptor d{ept_pointer, 0};
	asm volatile("1: invept %0, %1\n" KX_FAULT_OK : : "m"(d), "r"(u64(type)) : "cc", "memory");
}
inline void invvpid(Invalidate type, u16 vpid)
{
	const InvvpidDescriptor d{vpid, 0};
	asm volatile("1: invvpid %0, %1\n" KX_FAULT_OK : : "m"(d), "r"(u64(type)) : "cc", "memory");
}

}
