// SPDX-License-Identifier: GPL-2.0-only
/* The guest's side: exception entry, and what follows when a guest function returns. */
#include "guest.h"
#include "vm.h"

struct guest_cpu guest_cpus[MAX_VCPUS];
void (*volatile guest_handlers[256])(struct guest_regs *regs);

#define USER_END 0x80	/* its gate is the kernel's: INT from CPL 3 is a #GP with this error */

void guest_exception(struct guest_regs *regs);
void guest_user_enter(uint64_t fn, uint64_t a, uint64_t b, uint64_t rsp, uint64_t *save);
void guest_user_leave(uint64_t rsp) __attribute__((noreturn));
extern char guest_user_return[];

uint64_t guest_user(void *fn, uint64_t a, uint64_t b)
{
	struct guest_cpu *cpu = guest_self();
	uint64_t rsp = STACK_GPA + cpu->id * STACK_SIZE + STACK_SIZE / 4 - 8;

	wr64(rsp, (uintptr_t)guest_user_return);
	guest_user_enter((uintptr_t)fn, a, b, rsp, &cpu->user_rsp);
	/* QEMU 7.2 takes the entries for twice as long. */
	if (cpu->vector == VEC_GP &&
	    (cpu->error == USER_END * 8 + 2 || cpu->error == USER_END * 16 + 2))
		cpu->vector = NO_EXC;
	return cpu->vector;
}

void guest_return(void)
{
	for (;;)
		ucall(UCALL_DONE, 0, 0, 0, 0);
}

void guest_exception(struct guest_regs *regs)
{
	struct guest_cpu *cpu = guest_self();

	cpu->cr2 = read_cr2();
	if (guest_handlers[regs->vector]) {
		guest_handlers[regs->vector](regs);
		return;
	}
	cpu->count++;
	cpu->vector = regs->vector;
	cpu->error = regs->error;
	cpu->rip = regs->rip;
	if ((regs->cs & 3) && cpu->user_rsp)
		guest_user_leave(cpu->user_rsp);
	if (!cpu->resume)
		ucall(UCALL_EXC, regs->vector, regs->error, regs->rip, cpu->cr2);
	regs->rip = cpu->resume;
	cpu->resume = 0;
}

/*
 * One stub of 16 bytes for each vector. Vectors without an error code push a zero. The 32-bit
 * stubs keep nothing: they record into guest_cpus[0] and go on at its resume address.
 */
asm(".pushsection .text\n"
    ".macro STUB vec\n"
    "	.balign 16\n"
    "	.if \\vec == 8 || (\\vec >= 10 && \\vec <= 14) || \\vec == 17 || \\vec == 21\n"
    "	.else\n"
    "	pushq $0\n"
    "	.endif\n"
    "	pushq $\\vec\n"
    "	jmp guest_entry\n"
    ".endm\n"
    ".balign 16\n"
    ".globl guest_stubs\n"
    "guest_stubs:\n"
    ".set vec, 0\n"
    ".rept 256\n"
    "	STUB vec\n"
    "	.set vec, vec + 1\n"
    ".endr\n"
    ".balign 16\n"
    "guest_entry:\n"
    "	push %rax; push %rbx; push %rcx; push %rdx; push %rsi; push %rdi; push %rbp\n"
    "	push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15\n"
    "	cld\n"
    "	mov %rsp, %rdi\n"
    "	mov %rsp, %rbp\n"
    "	and $-16, %rsp\n"
    "	call guest_exception\n"
    "	mov %rbp, %rsp\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8\n"
    "	pop %rbp; pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rbx; pop %rax\n"
    "	add $16, %rsp\n"
    "	iretq\n"
    /* rdi fn, rsi and rdx arguments, rcx stack, r8 where to keep ours */
    "guest_user_enter:\n"
    "	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "	mov %rsp, (%r8)\n"
    "	pushq $0x33\n"			/* SEL_UDATA */
    "	push %rcx\n"
    "	pushfq\n"
    "	pushq $0x3b\n"			/* SEL_UCODE64 */
    "	push %rdi\n"
    "	mov %rsi, %rdi\n"
    "	mov %rdx, %rsi\n"
    "	iretq\n"
    "guest_user_leave:\n"
    "	mov %rdi, %rsp\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "	ret\n"
    "guest_user_return:\n"
    "	int $0x80\n"
    ".code32\n"
    ".macro STUB32 vec\n"
    "	.balign 16\n"
    "	.if \\vec == 8 || (\\vec >= 10 && \\vec <= 14) || \\vec == 17 || \\vec == 21\n"
    "	.else\n"
    "	pushl $0\n"
    "	.endif\n"
    "	pushl $\\vec\n"
    "	jmp guest_entry32\n"
    ".endm\n"
    ".balign 16\n"
    ".globl guest_stubs32\n"
    "guest_stubs32:\n"
    ".set vec, 0\n"
    ".rept 256\n"
    "	STUB32 vec\n"
    "	.set vec, vec + 1\n"
    ".endr\n"
    ".balign 16\n"
    /* Stack: vector, error, eip, cs, eflags. */
    "guest_entry32:\n"
    "	push %eax\n"
    "	mov 4(%esp), %eax\n"
    "	mov %eax, %ss:guest_cpus + 16\n"	/* vector */
    "	mov 8(%esp), %eax\n"
    "	mov %eax, %ss:guest_cpus + 24\n"	/* error */
    "	mov %cr2, %eax\n"
    "	mov %eax, %ss:guest_cpus + 32\n"
    "	mov 12(%esp), %eax\n"
    "	mov %eax, %ss:guest_cpus + 40\n"	/* rip */
    "	incl %ss:guest_cpus + 48\n"
    "	mov %ss:guest_cpus + 8, %eax\n"		/* resume */
    "	test %eax, %eax\n"
    "	jz 1f\n"
    "	mov %eax, 12(%esp)\n"
    "	movl $0, %ss:guest_cpus + 8\n"
    "	pop %eax\n"
    "	add $8, %esp\n"
    "	iret\n"
    "1:	mov 4(%esp), %edi\n"
    "	mov 8(%esp), %esi\n"
    "	mov 12(%esp), %ecx\n"
    "	mov $4, %eax\n"				/* UCALL_EXC */
    "	mov $0x3f0, %edx\n"
    "	outl %eax, %dx\n"
    "	jmp 1b\n"
    ".code64\n"
    ".popsection\n");
