/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest code for modes.c. What starts at a label NAME and ends at NAME_end is copied to REAL_GPA
 * (0xa000) and run with CS = 0; the rest runs where it is linked.
 * Messages are those of guest.h: OUT of EAX to 0x3f0, with numbers in EDI, ESI, ECX.
 */
#define REAL 0xa000

	.text
	.code16

.macro SAY16
	movl	$2, %eax
	movw	$0x3f0, %dx
	outl	%eax, %dx
.endm

/* Segment registers, stack, near and far control transfer. */
	.globl	real_segments, real_segments_end
real_segments:
	movw	$0x2000, %ax
	movw	%ax, %ds
	movw	$0x3000, %ax
	movw	%ax, %es
	movw	$0x3800, %ax
	movw	%ax, %ss
	movw	$0x8000, %sp
	movw	$0x4000, %ax
	movw	%ax, %fs
	movw	$0x1111, 0x10
	movw	$0x2222, %es:0x10
	movw	$0x4444, %fs:0x10
	pushw	$0x3333			/* 0x38000 + 0x7ffe */
	movw	%sp, %bp
	movw	(%bp), %cx		/* bp: through ss */
	movzwl	%cx, %ecx
	xorl	%edi, %edi
	movw	%ss, %di
	xorl	%esi, %esi
	movw	%sp, %si
	SAY16
	popw	%ax
	lcall	$0x900, $(1f - real_segments + REAL - 0x9000)
	jmp	2f
1:	xorl	%ecx, %ecx		/* here cs is 0x900 */
	movw	%cs, %cx
	lret
2:	ljmp	$0x980, $(3f - real_segments + REAL - 0x9800)
3:	xorl	%edi, %edi
	movw	%cs, %di
	pushw	$0
	pushw	$(4f - real_segments + REAL)
	lret
4:	xorl	%esi, %esi
	movw	%cs, %si
	lds	%cs:(5f - real_segments + REAL), %bx
	movw	%ds, %ax
	shll	$16, %ebx
	movw	%ax, %bx
	addl	%ebx, %esi
	SAY16
	hlt
	.balign	4
5:	.word	0x5678, 0x1234
real_segments_end:

/* Interrupts through the vector table at 0: INT n, INT3, divide error, invalid opcode. */
	.globl	real_ints, real_ints_end
real_ints:
	movw	$(1f - real_ints + REAL), 0x21 * 4
	movw	$0, 0x21 * 4 + 2
	movw	$(2f - real_ints + REAL), 0
	movw	$0, 2
	movw	$(3f - real_ints + REAL), 6 * 4
	movw	$0, 6 * 4 + 2
	movw	$(1f - real_ints + REAL), 3 * 4
	movw	$0, 3 * 4 + 2
	xorl	%edi, %edi
	xorl	%esi, %esi
	xorl	%ecx, %ecx
	sti
	int	$0x21
	int3
	pushfw
	popw	%ax
	movzwl	%ax, %ecx		/* IF is on again */
	xorw	%ax, %ax
	xorw	%bx, %bx
	divw	%bx			/* two bytes */
	ud2
	SAY16
	hlt
1:	incl	%edi
	pushfw
	popw	%ax
	testw	$0x200, %ax		/* IF is off in the handler */
	jz	4f
	addl	$0x1000, %edi
4:	iret
2:	addl	$0x10, %esi
	jmp	5f
3:	addl	$0x1, %esi
5:	movw	%sp, %bp
	addw	$2, (%bp)		/* both instructions have two bytes */
	iret
real_ints_end:

/* Real to protected, back to real with big segments, to protected, to long mode. */
	.globl	climb, climb_end
climb:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %ss
	movw	$0x9ff0, %sp
	movl	$1, %edi
	movl	%cr0, %esi
	SAY16
	lgdtl	climb_gdtr - climb + REAL
	movl	%cr0, %eax
	andl	$0x9fffffff, %eax	/* caches on */
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$0x18, $(1f - climb + REAL)	/* SEL_CODE32 */
	.code32
1:	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$0x9ff0, %esp
	movl	$2, %edi
	movl	%cr0, %esi
	movl	$2, %eax
	movw	$0x3f0, %dx
	outl	%eax, %dx
	ljmp	$0x20, $(2f - climb + REAL)	/* SEL_CODE16 */
	.code16
2:	movl	%cr0, %eax
	andl	$~1, %eax
	movl	%eax, %cr0
	ljmp	$0, $(3f - climb + REAL)
3:	xorw	%ax, %ax
	movw	%ax, %ss
	/* ds still has the 4 GiB limit: 32-bit addresses work in real mode. */
	movl	$0x200000, %ebx
	addr32 movl $0xb16b00b5, (%ebx)
	addr32 movl (%ebx), %ecx
	movl	$3, %edi
	movl	%cr0, %esi
	SAY16
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$0x18, $(4f - climb + REAL)
	.code32
4:	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$0x9ff0, %esp
	movl	%cr4, %eax
	orl	$0x20, %eax
	movl	%eax, %cr4
	movl	climb_cr3 - climb + REAL, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000000, %eax
	movl	%eax, %cr0
	/* Compatibility mode: still 32-bit code. */
	movl	$0xc0000080, %ecx
	rdmsr
	movl	%eax, %esi
	movl	$4, %edi
	movl	$2, %eax
	movw	$0x3f0, %dx
	outl	%eax, %dx
	ljmp	$0x08, $(5f - climb + REAL)	/* SEL_CODE64 */
	.code64
5:	movl	$0x9ff0, %esp
	movabs	$0x123456789abcdef0, %rdi
	pushq	%rdi
	popq	%rsi
	movl	$5, %edi
	movl	$2, %eax
	movw	$0x3f0, %dx
	outl	%eax, %dx
	/* And down again: paging off needs compatibility mode. */
	pushq	$0x18
	pushq	$(6f - climb + REAL)
	lretq
	.code32
6:	movl	%cr0, %eax
	andl	$0x7fffffff, %eax
	movl	%eax, %cr0
	movl	$0xc0000080, %ecx
	rdmsr
	movl	%eax, %esi
	andl	$~0x100, %eax
	wrmsr
	movl	$6, %edi
	movl	$2, %eax
	movw	$0x3f0, %dx
	outl	%eax, %dx
	hlt
	.balign	8
climb_gdtr:
	.word	0xff
	.long	0x1000			/* GDT_GPA */
	.globl	climb_cr3
climb_cr3:
	.long	0
climb_end:

	.code32
/* Protected mode: exceptions through the 32-bit IDT, far calls, CPL 3 and back. */
	.globl	prot_exceptions
prot_exceptions:
	movl	$guest_cpus, %ebx
	movl	$0, 48(%ebx)
	movl	$1f, 8(%ebx)
	int3
1:	movl	16(%ebx), %edi
	movl	$2f, 8(%ebx)
	ud2
2:	movl	16(%ebx), %esi
	movl	$3f, 8(%ebx)
	int	$0x77
3:	movl	16(%ebx), %ecx
	call	say32
	movl	$4f, 8(%ebx)
	movw	$0xfff8, %ax
	movw	%ax, %es		/* beyond the GDT: #GP with the selector */
4:	movl	16(%ebx), %edi
	movl	24(%ebx), %esi
	movl	48(%ebx), %ecx
	call	say32
	hlt

	.globl	prot_far
prot_far:
	lcall	$0x18, $1f
	xorl	%edi, %edi
	movw	%cs, %di
	jmp	2f
1:	movl	$0x77, %esi
	lret
2:	/* A 16-bit code segment whose base is here: SEL_FREE, made by the test. */
	lcall	$0x48, $(prot_far16 - prot_far)
	call	say32
	hlt
	.code16
prot_far16:
	movw	$0xffff, %cx		/* 16-bit default operand size */
	addw	$2, %cx
	movzwl	%cx, %ecx
	lretl
	.code32

/* To CPL 3 by IRET; back by INT 0x50, whose gate and whose handler this is. */
	.globl	prot_ring3, prot_ring3_back
prot_ring3:
	/* QEMU's TCG knows only a TSS that the guest has loaded itself. */
	movw	$0x60, %ax
	ltr	%ax
	pushl	$0x33			/* SEL_UDATA */
	pushl	$0x108000
	pushl	$0x3002			/* IOPL 3: OUT is allowed */
	pushl	$0x43			/* SEL_UCODE32 */
	pushl	$1f
	iret
1:	xorl	%edi, %edi
	movw	%cs, %di
	movl	%esp, %esi
	xorl	%ecx, %ecx
	call	say32
	movw	$0x33, %ax
	movw	%ax, %ds
	int	$0x50
	hlt
prot_ring3_back:
	movw	$0x10, %ax
	movw	%ax, %ds
	xorl	%edi, %edi
	movw	%cs, %di
	movl	12(%esp), %esi		/* the caller's esp */
	movl	4(%esp), %ecx		/* and cs */
	call	say32
	hlt

say32:	movl	$2, %eax
	movw	$0x3f0, %dx
	outl	%eax, %dx
	ret

/* Paging in 32-bit mode: reads and writes at addresses the test has chosen, one after another. */
	.globl	prot_paging
prot_paging:
	movl	$guest_cpus, %ebx
1:	movl	$2, %eax	/* ask: the answer is in edi (address) and esi (operation) */
	movw	$0x3f0, %dx
	outl	%eax, %dx
	movl	$-1, 16(%ebx)
	movl	$4f, 8(%ebx)
	xorl	%ecx, %ecx
	cmpl	$0, %esi
	je	2f
	cmpl	$1, %esi
	je	3f
	cmpl	$2, %esi
	je	5f
	cmpl	$3, %esi
	je	6f
	cmpl	$4, %esi
	je	7f
	movl	%edi, %cr3
	jmp	4f
2:	movl	(%edi), %ecx
	jmp	4f
3:	movl	$0xabcd1234, (%edi)
	jmp	4f
5:	call	*%edi
	jmp	4f
7:	movl	%ebp, (%edi)
	jmp	4f
6:	invlpg	(%edi)
4:	movl	$0, 8(%ebx)
	jmp	1b
	.section .note.GNU-stack, "", @progbits
