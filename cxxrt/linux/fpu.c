// SPDX-License-Identifier: GPL-2.0-only
/* The guest's FPU through the kernel's guest-FPU interface. */
#include <asm/fpu/api.h>
#include <asm/fpu/xstate.h>
#include <asm/fpu/xcr.h>
#include <asm/pkru.h>
#include "glue.h"

int kx_fpu_init(void *f)
{
	return fpu_alloc_guest_fpstate(f) ? 0 : -ENOMEM;
}

void kx_fpu_destroy(void *f)
{
	fpu_free_guest_fpstate(f);
}

void kx_fpu_load(void *f)
{
	fpu_swap_kvm_fpstate(f, true);
}

void kx_fpu_save(void *f)
{
	fpu_swap_kvm_fpstate(f, false);
}

void kx_fpu_return(void)
{
	switch_fpu_return();
}

unsigned int kx_fpu_image_size(void *f)
{
	return ((struct fpu_guest *)f)->uabi_size;
}

/* The registers are the guest's while the thread is in KVM_RUN, unless a context switch or an interrupt's
 * use of the FPU put them aside. */
static void own_registers(void)
{
	fpregs_lock();
	fpregs_assert_state_consistent();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
}

#define EACH(op) \
	switch (n & 15) { \
	case 0: op(0); break; case 1: op(1); break; case 2: op(2); break; case 3: op(3); break; \
	case 4: op(4); break; case 5: op(5); break; case 6: op(6); break; case 7: op(7); break; \
	case 8: op(8); break; case 9: op(9); break; case 10: op(10); break; case 11: op(11); break; \
	case 12: op(12); break; case 13: op(13); break; case 14: op(14); break; case 15: op(15); break; \
	}
#define READ16(i) asm volatile("movups %%xmm" #i ", %0" : "=m"(*(u8 (*)[16])to))
#define READ32(i) asm volatile("vmovups %%ymm" #i ", %0" : "=m"(*(u8 (*)[32])to))
#define WRITE16(i) asm volatile("movups %0, %%xmm" #i : : "m"(*(const u8 (*)[16])from))
#define WRITE16Z(i) asm volatile("vmovups %0, %%xmm" #i : : "m"(*(const u8 (*)[16])from))
#define WRITE32(i) asm volatile("vmovups %0, %%ymm" #i : : "m"(*(const u8 (*)[32])from))

void kx_fpu_read_vector(unsigned int n, void *to, unsigned int bytes)
{
	own_registers();
	if (bytes == 32)
		EACH(READ32)
	else
		EACH(READ16)
	fpregs_unlock();
}

void kx_fpu_write_vector(unsigned int n, const void *from, unsigned int bytes, int zero_upper)
{
	own_registers();
	if (bytes == 32)
		EACH(WRITE32)
	else if (zero_upper)
		EACH(WRITE16Z)
	else
		EACH(WRITE16)
	fpregs_unlock();
}

/* 6.1's stable releases took the features over in 6.1.57. */
void kx_fpu_get(void *f, void *to, unsigned int bytes, kx_u64 features, kx_u32 pkru)
{
	fpu_copy_guest_fpstate_to_uabi(f, to, bytes, features, pkru);
}

int kx_fpu_set(void *f, const void *from, kx_u64 xcr0, kx_u32 *pkru)
{
	return fpu_copy_uabi_to_guest_fpstate(f, from, xcr0, pkru);
}

kx_u64 kx_fpu_host_xcr0(void)
{
	return boot_cpu_has(X86_FEATURE_OSXSAVE) ? xgetbv(XCR_XFEATURE_ENABLED_MASK) : 0;
}

/* Without permission requests a guest gets what needs none: no AMX tiles. */
kx_u64 kx_fpu_user_features(void)
{
	return kx_fpu_host_xcr0() & ~(XFEATURE_MASK_XTILE | XFEATURE_MASK_BNDREGS | XFEATURE_MASK_BNDCSR);
}

kx_u32 kx_host_pkru(void)
{
	return cpu_feature_enabled(X86_FEATURE_OSPKE) ? rdpkru() : 0;
}
