/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest code for tasks.c: 32-bit. NAME is where the first task begins, which leaves by one instruction and
 * says so at NAME_back; task_b is the other task. Messages are those of guest.h.
 */
	.text
	.code32

.macro SAY
	movl	$2, %eax
	movw	$0x3f0, %dx
	outl	%eax, %dx
.endm

.macro FIRST name, code:vararg
	.globl	\name, \name\()_back
\name:
	movw	$0x60, %ax		/* SEL_TSS: QEMU's TCG knows only a TSS that the guest has loaded itself */
	ltr	%ax
	movl	$0xa1, %edi
	movl	$0xa2, %esi
	movl	$0xa3, %ecx
	movl	$0xa4, %ebx
	\code
\name\()_back:
	SAY
	hlt
.endm

FIRST task_call, lcall $0x48, $0
FIRST task_call16, lcall $0x50, $0
FIRST task_jump, ljmp $0x48, $0
FIRST task_int, int $0x50
FIRST task_ud, ud2
FIRST task_gp, movw %cs:task_beyond, %es
task_beyond:
	.word	0xfff8

/* Interrupts are open, and come any number of times. */
	.globl	task_wait, task_wait_end
task_wait:
	movw	$0x60, %ax
	ltr	%ax
	SAY
	sti
1:	nop
	jmp	1b
task_wait_end:

	.globl	task_b, task_b_again, task_b_jump, task_b_error
task_b:	SAY
	iret
task_b_again:
	jmp	task_b
task_b_jump:
	SAY
	ljmp	$0x60, $0
task_b_error:
	popl	%ecx
	jmp	task_b

/* Copied below 64 KiB, to be run in 16-bit segments. */
	.code16
	.globl	task_16, task_16_end, task_vm86, task_vm86_end
task_16:
	SAY
	iret
task_16_end:
task_vm86:
	movw	%ss, %ax
	movw	%ds, %bx
	ud2
task_vm86_end:
	.section .note.GNU-stack, "", @progbits
