/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The world switch of SVM. APM vol. 2 §15.5, §15.17 (GIF).
 *
 * u64 kx_svm_enter(struct svm_switch *s)
 *
 * Called with interrupts off; returns with interrupts off and GIF set. 0: guest mode was entered and
 * left. 1: one of SVM's instructions faulted (SVM was switched off under us: reboot or crash).
 * The layout of svm_switch is in svm/cpu.hpp, which asserts these offsets.
 */
#include <linux/linkage.h>
#include <linux/stringify.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include "../cpu/gprs.h"

#define VMCB_PA 128		/* RAX travels in the VMCB */
#define HOST_PA 136
#define SPEC_CTRL 144		/* u32: the guest's */
#define SPEC_INTERCEPTED 148	/* u8: the guest cannot have changed it */

#ifndef VM_CLEAR_CPU_BUFFERS
#error "this kernel does not say how it keeps TSA from guests"
#endif

.section .text, "ax"

SYM_FUNC_START(kx_svm_enter)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
8:	clgi

	/* SPEC_CTRL changes hands only where they differ; from here to VMRUN no return, no indirect branch. */
	ALTERNATIVE_2 "jmp 10f", "", X86_FEATURE_MSR_SPEC_CTRL, "jmp 10f", X86_FEATURE_V_SPEC_CTRL
	mov	SPEC_CTRL(%rdi), %eax
	cmp	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	je	10f
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
10:
#ifdef X86_BUG_DIV0
	ALTERNATIVE __stringify(mov VMCB_PA(%rdi), %rax), "jmp 50f", X86_BUG_DIV0
#else
	mov	VMCB_PA(%rdi), %rax
#endif
1:	vmload	%rax
	LOAD_GUEST_GPRS
	/* V_INTR_MASKING makes the host's IF decide about physical interrupts in the guest; GIF holds
	 * them back until VMRUN. */
	sti
	VM_CLEAR_CPU_BUFFERS
2:	vmrun	%rax
	cli
	/* The guest's RAX is in the VMCB: the register is ours. */
	mov	(%rsp), %rax
	STORE_GUEST_GPRS
	mov	%rax, %rdi
	mov	VMCB_PA(%rdi), %rax
3:	vmsave	%rax
	mov	HOST_PA(%rdi), %rax
4:	vmload	%rax			/* GS is the host's again: per-CPU data may be touched */

	CLEAR_GPRS
	xor	%ebx, %ebx		/* the result */
11:
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT

	ALTERNATIVE_2 "jmp 20f", "", X86_FEATURE_MSR_SPEC_CTRL, "jmp 20f", X86_FEATURE_V_SPEC_CTRL
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	cmpb	$0, SPEC_INTERCEPTED(%rdi)
	jne	15f
	rdmsr
	mov	%eax, SPEC_CTRL(%rdi)
15:	mov	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	cmp	SPEC_CTRL(%rdi), %eax
	je	20f
	xor	%edx, %edx
	wrmsr
20:
	/* RETBleed: return predictions trained by the guest are not used by a kernel with return thunks.
	 * May clobber RAX, RCX, RDX. */
#ifdef UNTRAIN_RET_VM
	UNTRAIN_RET_VM
#else
	UNTRAIN_RET
	/* SRSO; newer kernels have it in the macro above. */
	ALTERNATIVE "", "call entry_ibpb", X86_FEATURE_IBPB_ON_VMEXIT
#endif
9:	stgi
	mov	%ebx, %eax
30:	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET

	/* A fault before VMRUN finds the guest's FS/GS loaded or not; the host's image puts both right. If that
	 * faults as well SVM is gone, and with it nothing was loaded. What the guest may have left in SPEC_CTRL
	 * and in the predictors goes as after any exit. */
40:	cli
	mov	(%rsp), %rdi
	mov	HOST_PA(%rdi), %rax
5:	vmload	%rax
6:	CLEAR_GPRS
	mov	$1, %ebx
	jmp	11b
7:	mov	$1, %eax
	jmp	30b

#ifdef X86_BUG_DIV0
	/* The divider shows a guest the dividend that was there last, until it has divided again: CVE-2023-20588.
	 * GIF is clear, so that no handler divides behind this. */
50:	xor	%eax, %eax
	xor	%edx, %edx
	mov	$1, %ecx
	div	%ecx
	mov	VMCB_PA(%rdi), %rax
	jmp	1b
#endif

	_ASM_EXTABLE(1b, 40b)
	_ASM_EXTABLE(2b, 40b)
	_ASM_EXTABLE(3b, 40b)
	_ASM_EXTABLE(4b, 40b)
	_ASM_EXTABLE(5b, 6b)
	_ASM_EXTABLE(8b, 7b)
	_ASM_EXTABLE(9b, 7b)
SYM_FUNC_END(kx_svm_enter)
