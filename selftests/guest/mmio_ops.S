/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Instructions with a memory operand at (%rdi), each as a function of (address, struct op_state *),
 * and a table of them: mmio_ops.c runs each on RAM and on MMIO and compares.
 * OP group, operand size, reads, writes, flags that are defined, instruction
 */
#define MOV 0
#define ALU 1
#define BITS 2
#define SHIFT 3
#define MULDIV 4
#define LOCKED 5
#define VECTOR 6
#define MISC 7
#define RARE 8

/* CF 1, PF 4, AF 10, ZF 40, SF 80, OF 800: what the manuals define or leave unchanged. */
#define ALL 0x8d5
#define LOGIC 0x8c5
#define BITTEST 0x041
#define SHIFT1 0x8c5
#define SHIFTN 0x0c5
#define ROTATEN 0x0d5
#define MUL 0x801
#define ZERO 0x040

.macro OP group:req, size:req, reads:req, writes:req, flags:req, insn:req
	.pushsection .text
1:	movups	40(%rsi), %xmm0
	mov	0(%rsi), %rax
	mov	8(%rsi), %rbx
	mov	16(%rsi), %rcx
	mov	24(%rsi), %rdx
	pushq	32(%rsi)
	popfq
	mov	%rsi, %r8
	\insn
	mov	%rax, 0(%r8)
	mov	%rbx, 8(%r8)
	mov	%rcx, 16(%r8)
	mov	%rdx, 24(%r8)
	movups	%xmm0, 40(%r8)
	pushfq
	popq	32(%r8)
	ret
	.popsection
	.pushsection .rodata.str1.1, "aMS", @progbits, 1
2:	.asciz	"\insn"
	.popsection
	.quad	1b, 2b
	.long	\group, \size, \reads, \writes, \flags, 0
.endm

/* One form in all four operand sizes: OP4 group, reads, writes, flags, mnemonic, before, after */
.macro OP4 group:req, reads:req, writes:req, flags:req, op:req, src:req
	.ifc	\src, reg
	OP \group, 1, \reads, \writes, \flags, "\op\()b %bl, (%rdi)"
	OP \group, 2, \reads, \writes, \flags, "\op\()w %bx, (%rdi)"
	OP \group, 4, \reads, \writes, \flags, "\op\()l %ebx, (%rdi)"
	OP \group, 8, \reads, \writes, \flags, "\op\()q %rbx, (%rdi)"
	.endif
	.ifc	\src, load
	OP \group, 1, \reads, \writes, \flags, "\op\()b (%rdi), %bl"
	OP \group, 2, \reads, \writes, \flags, "\op\()w (%rdi), %bx"
	OP \group, 4, \reads, \writes, \flags, "\op\()l (%rdi), %ebx"
	OP \group, 8, \reads, \writes, \flags, "\op\()q (%rdi), %rbx"
	.endif
	.ifc	\src, imm
	OP \group, 1, \reads, \writes, \flags, "\op\()b $0x5a, (%rdi)"
	OP \group, 2, \reads, \writes, \flags, "\op\()w $0x1234, (%rdi)"
	OP \group, 4, \reads, \writes, \flags, "\op\()l $0x89abcdef, (%rdi)"
	OP \group, 8, \reads, \writes, \flags, "\op\()q $-0x76543210, (%rdi)"
	.endif
	.ifc	\src, imm8
	OP \group, 2, \reads, \writes, \flags, "\op\()w $-5, (%rdi)"
	OP \group, 4, \reads, \writes, \flags, "\op\()l $-5, (%rdi)"
	OP \group, 8, \reads, \writes, \flags, "\op\()q $0x70, (%rdi)"
	.endif
	.ifc	\src, none
	OP \group, 1, \reads, \writes, \flags, "\op\()b (%rdi)"
	OP \group, 2, \reads, \writes, \flags, "\op\()w (%rdi)"
	OP \group, 4, \reads, \writes, \flags, "\op\()l (%rdi)"
	OP \group, 8, \reads, \writes, \flags, "\op\()q (%rdi)"
	.endif
	.ifc	\src, five
	OP \group, 1, \reads, \writes, \flags, "\op\()b $5, (%rdi)"
	OP \group, 2, \reads, \writes, \flags, "\op\()w $5, (%rdi)"
	OP \group, 4, \reads, \writes, \flags, "\op\()l $5, (%rdi)"
	OP \group, 8, \reads, \writes, \flags, "\op\()q $5, (%rdi)"
	.endif
	.ifc	\src, cl
	OP \group, 1, \reads, \writes, \flags, "movb $3, %cl; \op\()b %cl, (%rdi)"
	OP \group, 2, \reads, \writes, \flags, "movb $3, %cl; \op\()w %cl, (%rdi)"
	OP \group, 4, \reads, \writes, \flags, "movb $0x23, %cl; \op\()l %cl, (%rdi)"
	OP \group, 8, \reads, \writes, \flags, "movb $0x43, %cl; \op\()q %cl, (%rdi)"
	.endif
.endm

	.pushsection .rodata
	.balign 8
	.globl	mmio_ops, mmio_ops_end
mmio_ops:
	OP4 MOV, 0, 1, ALL, mov, reg
	OP4 MOV, 1, 0, ALL, mov, load
	OP4 MOV, 0, 1, ALL, mov, imm
	OP MOV, 1, 0, 1, ALL, "movb %bh, (%rdi)"
	OP MOV, 1, 1, 0, ALL, "movb (%rdi), %ch"
	OP MOV, 1, 1, 0, ALL, "movzbw (%rdi), %bx"
	OP MOV, 1, 1, 0, ALL, "movzbl (%rdi), %ebx"
	OP MOV, 1, 1, 0, ALL, "movzbq (%rdi), %rbx"
	OP MOV, 2, 1, 0, ALL, "movzwl (%rdi), %ebx"
	OP MOV, 2, 1, 0, ALL, "movzwq (%rdi), %rbx"
	OP MOV, 1, 1, 0, ALL, "movsbw (%rdi), %bx"
	OP MOV, 1, 1, 0, ALL, "movsbl (%rdi), %ebx"
	OP MOV, 1, 1, 0, ALL, "movsbq (%rdi), %rbx"
	OP MOV, 2, 1, 0, ALL, "movswl (%rdi), %ebx"
	OP MOV, 2, 1, 0, ALL, "movswq (%rdi), %rbx"
	OP MOV, 4, 1, 0, ALL, "movslq (%rdi), %rbx"
	OP MOV, 4, 0, 1, ALL, "movnti %ebx, (%rdi)"
	OP MOV, 8, 0, 1, ALL, "movnti %rbx, (%rdi)"
	OP MOV, 4, 0, 1, ALL, "movbe %ebx, (%rdi)"
	OP MOV, 8, 0, 1, ALL, "movbe %rbx, (%rdi)"
	OP MOV, 4, 1, 0, ALL, "movbe (%rdi), %ebx"
	OP MOV, 8, 1, 0, ALL, "movbe (%rdi), %rbx"
	OP MOV, 2, 0, 1, ALL, "movw %ds, (%rdi)"

	.irp op, add, adc, sub, sbb
	OP4 ALU, 1, 1, ALL, \op, reg
	OP4 ALU, 1, 0, ALL, \op, load
	OP4 ALU, 1, 1, ALL, \op, imm
	OP4 ALU, 1, 1, ALL, \op, imm8
	.endr
	.irp op, and, or, xor
	OP4 ALU, 1, 1, LOGIC, \op, reg
	OP4 ALU, 1, 0, LOGIC, \op, load
	OP4 ALU, 1, 1, LOGIC, \op, imm
	OP4 ALU, 1, 1, LOGIC, \op, imm8
	.endr
	OP4 ALU, 1, 0, ALL, cmp, reg
	OP4 ALU, 1, 0, ALL, cmp, load
	OP4 ALU, 1, 0, ALL, cmp, imm
	OP4 ALU, 1, 0, ALL, cmp, imm8
	OP4 ALU, 1, 0, LOGIC, test, reg
	OP4 ALU, 1, 0, LOGIC, test, imm
	.irp op, inc, dec, not, neg
	OP4 ALU, 1, 1, ALL, \op, none
	.endr

	.irp op, bts, btr, btc
	OP BITS, 2, 1, 1, BITTEST, "\op\()w $5, (%rdi)"
	OP BITS, 4, 1, 1, BITTEST, "\op\()l $31, (%rdi)"
	OP BITS, 4, 1, 1, BITTEST, "\op\()l $37, (%rdi)"
	OP BITS, 8, 1, 1, BITTEST, "\op\()q $63, (%rdi)"
	OP BITS, 2, 1, 1, BITTEST, "mov $21, %ecx; \op\()w %cx, (%rdi)"
	OP BITS, 4, 1, 1, BITTEST, "mov $71, %ecx; \op\()l %ecx, (%rdi)"
	OP BITS, 8, 1, 1, BITTEST, "mov $71, %ecx; \op\()q %rcx, (%rdi)"
	OP BITS, 2, 1, 1, BITTEST, "mov $-3, %ecx; \op\()w %cx, (%rdi)"
	OP BITS, 4, 1, 1, BITTEST, "mov $-35, %ecx; \op\()l %ecx, (%rdi)"
	OP BITS, 8, 1, 1, BITTEST, "mov $-67, %rcx; \op\()q %rcx, (%rdi)"
	.endr
	OP BITS, 4, 1, 0, BITTEST, "btl $6, (%rdi)"
	OP BITS, 8, 1, 0, BITTEST, "btq $43, (%rdi)"
	OP BITS, 4, 1, 0, BITTEST, "mov $40, %ecx; btl %ecx, (%rdi)"
	OP BITS, 8, 1, 0, BITTEST, "mov $-1, %rcx; btq %rcx, (%rdi)"
	OP BITS, 2, 1, 0, ZERO, "bsfw (%rdi), %bx"
	OP BITS, 4, 1, 0, ZERO, "bsfl (%rdi), %ebx"
	OP BITS, 8, 1, 0, ZERO, "bsfq (%rdi), %rbx"
	OP BITS, 4, 1, 0, ZERO, "bsrl (%rdi), %ebx"
	OP BITS, 8, 1, 0, ZERO, "bsrq (%rdi), %rbx"
	.irp cc, o, no, c, nc, z, nz, be, a, s, ns, p, np, l, ge, le, g
	OP BITS, 1, 0, 1, ALL, "set\cc (%rdi)"
	.endr
	.irp cc, o, no, c, nc, z, nz, be, a, s, ns, p, np, l, ge, le, g
	OP BITS, 4, 1, 0, ALL, "cmov\cc (%rdi), %ebx"
	.endr
	OP BITS, 2, 1, 0, ALL, "cmovz (%rdi), %bx"
	OP BITS, 8, 1, 0, ALL, "cmovz (%rdi), %rbx"

	.irp op, rol, ror, rcl, rcr
	OP4 SHIFT, 1, 1, ALL, \op, none
	OP4 SHIFT, 1, 1, ROTATEN, \op, five
	OP4 SHIFT, 1, 1, ROTATEN, \op, cl
	.endr
	.irp op, shl, shr, sar
	OP4 SHIFT, 1, 1, SHIFT1, \op, none
	OP4 SHIFT, 1, 1, SHIFTN, \op, five
	OP4 SHIFT, 1, 1, SHIFTN, \op, cl
	.endr
	.irp op, shld, shrd
	OP SHIFT, 2, 1, 1, SHIFTN, "\op\()w $5, %bx, (%rdi)"
	OP SHIFT, 4, 1, 1, SHIFTN, "\op\()l $5, %ebx, (%rdi)"
	OP SHIFT, 8, 1, 1, SHIFTN, "\op\()q $5, %rbx, (%rdi)"
	OP SHIFT, 4, 1, 1, SHIFTN, "movb $7, %cl; \op\()l %cl, %ebx, (%rdi)"
	OP SHIFT, 8, 1, 1, SHIFTN, "movb $7, %cl; \op\()q %cl, %rbx, (%rdi)"
	.endr

	OP4 MULDIV, 1, 0, MUL, mul, none
	OP4 MULDIV, 1, 0, MUL, imul, none
	OP MULDIV, 2, 1, 0, MUL, "imulw (%rdi), %bx"
	OP MULDIV, 4, 1, 0, MUL, "imull (%rdi), %ebx"
	OP MULDIV, 8, 1, 0, MUL, "imulq (%rdi), %rbx"
	OP MULDIV, 4, 1, 0, MUL, "imull $-7, (%rdi), %ebx"
	OP MULDIV, 8, 1, 0, MUL, "imulq $0x12345, (%rdi), %rbx"
	OP MULDIV, 1, 1, 0, 0, "movzbl %al, %eax; divb (%rdi)"
	OP MULDIV, 2, 1, 0, 0, "xor %edx, %edx; divw (%rdi)"
	OP MULDIV, 4, 1, 0, 0, "xor %edx, %edx; divl (%rdi)"
	OP MULDIV, 8, 1, 0, 0, "xor %edx, %edx; divq (%rdi)"
	OP MULDIV, 1, 1, 0, 0, "and $0x3f, %eax; idivb (%rdi)"
	OP MULDIV, 2, 1, 0, 0, "and $0x3fff, %eax; cwtd; idivw (%rdi)"
	OP MULDIV, 4, 1, 0, 0, "movzwl %ax, %eax; cltd; idivl (%rdi)"
	OP MULDIV, 8, 1, 0, 0, "movzwl %ax, %eax; cqto; idivq (%rdi)"

	OP4 LOCKED, 1, 1, ALL, xchg, reg
	OP4 LOCKED, 1, 1, ALL, xadd, reg
	OP4 LOCKED, 1, 1, ALL, "lock xadd", reg
	OP4 LOCKED, 1, 1, ALL, "lock add", reg
	OP4 LOCKED, 1, 1, ALL, "lock sbb", imm
	OP4 LOCKED, 1, 1, LOGIC, "lock or", reg
	OP4 LOCKED, 1, 1, LOGIC, "lock and", imm
	OP4 LOCKED, 1, 1, ALL, "lock neg", none
	OP4 LOCKED, 1, 1, ALL, "lock dec", none
	OP LOCKED, 4, 1, 1, BITTEST, "lock btsl $9, (%rdi)"
	OP LOCKED, 8, 1, 1, BITTEST, "lock btrq $40, (%rdi)"
	/* Equal only with the inputs that make rax the memory's value; see mmio_ops.c on writes. */
	OP4 LOCKED, 1, 1, ALL, cmpxchg, reg
	OP4 LOCKED, 1, 1, ALL, "lock cmpxchg", reg
	OP LOCKED, 8, 1, 1, ALL, "cmpxchg8b (%rdi)"
	OP LOCKED, 8, 1, 1, ALL, "lock cmpxchg8b (%rdi)"
	OP LOCKED, 8, 1, 1, ALL, "mov (%r8), %eax; mov 4(%r8), %edx; lock cmpxchg8b (%rdi)"

	OP VECTOR, 16, 0, 1, ALL, "movups %xmm0, (%rdi)"
	OP VECTOR, 16, 1, 0, ALL, "movups (%rdi), %xmm0"
	OP VECTOR, 16, 0, 1, ALL, "movaps %xmm0, (%rdi)"
	OP VECTOR, 16, 1, 0, ALL, "movaps (%rdi), %xmm0"
	OP VECTOR, 16, 0, 1, ALL, "movupd %xmm0, (%rdi)"
	OP VECTOR, 16, 1, 0, ALL, "movupd (%rdi), %xmm0"
	OP VECTOR, 16, 0, 1, ALL, "movapd %xmm0, (%rdi)"
	OP VECTOR, 16, 1, 0, ALL, "movapd (%rdi), %xmm0"
	OP VECTOR, 16, 0, 1, ALL, "movdqu %xmm0, (%rdi)"
	OP VECTOR, 16, 1, 0, ALL, "movdqu (%rdi), %xmm0"
	OP VECTOR, 16, 0, 1, ALL, "movdqa %xmm0, (%rdi)"
	OP VECTOR, 16, 1, 0, ALL, "movdqa (%rdi), %xmm0"
	OP VECTOR, 16, 0, 1, ALL, "movntps %xmm0, (%rdi)"
	OP VECTOR, 16, 0, 1, ALL, "movntpd %xmm0, (%rdi)"
	OP VECTOR, 16, 0, 1, ALL, "movntdq %xmm0, (%rdi)"
	OP VECTOR, 16, 0, 1, ALL, "movdqa %xmm0, %xmm9; movdqu %xmm9, (%rdi)"
	OP VECTOR, 16, 1, 0, ALL, "movdqu (%rdi), %xmm14; movdqa %xmm14, %xmm0"
	OP RARE, 8, 1, 0, ALL, "movq (%rdi), %mm3; movq2dq %mm3, %xmm0; emms"
	OP RARE, 8, 0, 1, ALL, "movdq2q %xmm0, %mm3; movq %mm3, (%rdi); emms"

	OP MISC, 2, 1, 0, ALL, "pushw (%rdi); popw %bx"
	OP MISC, 8, 1, 0, ALL, "pushq (%rdi); popq %rbx"
	OP MISC, 2, 0, 1, ALL, "pushw %bx; popw (%rdi)"
	OP MISC, 8, 0, 1, ALL, "pushq %rbx; popq (%rdi)"
	OP MISC, 1, 1, 0, ALL, "mov %rdi, %rbx; mov $0, %al; xlatb; mov $1, %ebx"
	OP RARE, 2, 0, 1, ALL, "smsw (%rdi)"
	OP RARE, 2, 0, 1, ALL, "fninit; fnstcw (%rdi)"
	OP RARE, 2, 0, 1, ALL, "fninit; fnstsw (%rdi)"
	OP MISC, 1, 1, 0, ALL, "mov %rdi, %rsi; lodsb"
	OP MISC, 2, 1, 0, ALL, "mov %rdi, %rsi; lodsw"
	OP MISC, 4, 1, 0, ALL, "mov %rdi, %rsi; lodsl"
	OP MISC, 8, 1, 0, ALL, "mov %rdi, %rsi; lodsq"
	OP MISC, 1, 0, 1, ALL, "stosb"
	OP MISC, 2, 0, 1, ALL, "stosw"
	OP MISC, 4, 0, 1, ALL, "stosl"
	OP MISC, 8, 0, 1, ALL, "stosq"
	OP MISC, 1, 1, 0, ALL, "scasb"
	OP MISC, 4, 1, 0, ALL, "scasl"
	OP MISC, 8, 1, 0, ALL, "scasq"
	OP MISC, 4, 1, 0, ALL, "mov %r8, %rsi; cmpsl"
	OP MISC, 1, 1, 0, ALL, "mov %rdi, %rsi; mov %r8, %rdi; cmpsb"
mmio_ops_end:
	.popsection
	.section .note.GNU-stack, "", @progbits
