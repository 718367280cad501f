/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The world switch of VMX. SDM vol. 3 chapters 27, 28.
 *
 * enum Launch kx_vmx_enter(struct switch *s)
 *
 * Called with interrupts off, the VMCS current; returns with interrupts off. 0: guest mode was entered
 * and left, or the entry failed with an exit reason. 1: VMLAUNCH or VMRESUME was refused. 2: it faulted
 * (VMX was switched off under us: reboot or crash). The layout of the switch is in vmx/cpu.hpp, which
 * asserts these offsets.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/unwind_hints.h>
#include "../cpu/gprs.h"

#define HOST_RSP 128
#define SPEC_CTRL 136		/* u32: the guest's */
#define SPEC_INTERCEPTED 140	/* u8: the guest cannot have changed it */
#define LAUNCHED 141		/* u8 */

#define FIELD_HOST_RSP 0x6c14

#ifndef CLEAR_CPU_BUFFERS
#error "this kernel does not say how it keeps MDS, TAA and RFDS from guests"
#endif

.section .text, "ax"

SYM_FUNC_START(kx_vmx_enter)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi

	/* The thread's stack; the VMCS has it from the last time, if it was the same. */
	cmp	HOST_RSP(%rdi), %rsp
	je	1f
	mov	$FIELD_HOST_RSP, %eax
4:	vmwrite	%rsp, %rax
	mov	%rsp, HOST_RSP(%rdi)
1:
	/* SPEC_CTRL changes hands only where they differ; from here to the entry no return, no indirect branch. */
	ALTERNATIVE "jmp 10f", "", X86_FEATURE_MSR_SPEC_CTRL
	mov	SPEC_CTRL(%rdi), %eax
	cmp	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	je	10f
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
10:
	/* Into CF, which the moves below leave alone, and VERW too. */
	btw	$0, LAUNCHED(%rdi)
	mov	RAX(%rdi), %rax
	LOAD_GUEST_GPRS
	/* MDS, TAA, RFDS: as on the way to user space. The VM_ one is AMD's. */
	CLEAR_CPU_BUFFERS
	UNWIND_HINT_SAVE
	jnc	3f
2:	vmresume
	jmp	40f
3:	vmlaunch
	jmp	40f

	/* Here VM exits arrive, with RSP as it was at the entry. */
SYM_INNER_LABEL(kx_vmx_exit, SYM_L_GLOBAL)
	UNWIND_HINT_RESTORE
	ENDBR
	push	%rax
	mov	8(%rsp), %rax
	pop	RAX(%rax)
	STORE_GUEST_GPRS
	mov	%rax, %rdi
	xor	%ebx, %ebx		/* the result */

20:	xor	%eax, %eax
	CLEAR_GPRS

	FILL_RETURN_BUFFER %rcx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, X86_FEATURE_RSB_VMEXIT_LITE

	ALTERNATIVE "jmp 30f", "", X86_FEATURE_MSR_SPEC_CTRL
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	cmpb	$0, SPEC_INTERCEPTED(%rdi)
	jne	25f
	rdmsr
	mov	%eax, SPEC_CTRL(%rdi)
	/* With «legacy» IBRS the write is what protects the kernel from the guest's branch targets: it is
	 * done even if the value is the same. */
25:	mov	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	ALTERNATIVE "", "jmp 27f", X86_FEATURE_KERNEL_IBRS
	cmp	SPEC_CTRL(%rdi), %eax
	je	28f
27:	xor	%edx, %edx
	wrmsr
28:	/* Wrongly predicted, the write would be skipped. */
	lfence
30:
	CLEAR_BRANCH_HISTORY_VMEXIT
	mov	%ebx, %eax
	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET

	/* Refused: the registers hold the guest's values, and have to go. */
40:	mov	(%rsp), %rdi
	mov	$1, %ebx
	jmp	20b
	/* A fault: of VMWRITE the registers are the host's still, which does no harm. */
41:	mov	(%rsp), %rdi
	mov	$2, %ebx
	jmp	20b

	_ASM_EXTABLE(2b, 41b)
	_ASM_EXTABLE(3b, 41b)
	_ASM_EXTABLE(4b, 41b)
SYM_FUNC_END(kx_vmx_enter)
