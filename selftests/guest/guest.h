/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What guest code may use. It runs without a C library: nothing here calls one.
 * A guest talks to the test by OUT to UCALL_PORT; the test sees a struct ucall.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdint.h>

#define UCALL_PORT 0x3f0
#define UCALL_DONE 1	/* the guest function returned */
#define UCALL_SYNC 2	/* up to four numbers */
#define UCALL_ASSERT 3	/* line, expected, seen, text */
#define UCALL_EXC 4	/* an exception that nobody expected: struct guest_regs */

/* Offsets for the assembler of struct guest_cpu, which GS points to. */
#define GC_RESUME "8"
#define GC_VECTOR "16"

struct guest_cpu {
	uint64_t id;
	uint64_t resume;	/* where to go on after an exception that is expected */
	uint64_t vector;	/* the last one, or NO_EXC */
	uint64_t error;
	uint64_t cr2;
	uint64_t rip;
	uint64_t count;		/* of all exceptions and interrupts without a handler */
	uint64_t user_rsp;	/* where guest_user() waits */
};

struct guest_regs {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

#define NO_EXC ((uint64_t)-1)
enum { VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6,
       VEC_NM = 7, VEC_DF = 8, VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14,
       VEC_MF = 16, VEC_AC = 17, VEC_MC = 18, VEC_XM = 19 };

extern struct guest_cpu guest_cpus[];
extern void (*volatile guest_handlers[256])(struct guest_regs *regs);
extern char guest_stubs[], guest_stubs32[];	/* 256 of 16 bytes each */
void guest_return(void);

/*
 * Calls fn(a, b) at CPL 3, on a stack of its own. Returns the vector of the exception that ended
 * it, with the rest in guest_cpu; NO_EXC if fn returned.
 */
uint64_t guest_user(void *fn, uint64_t a, uint64_t b);

static inline void ucall(uint32_t kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	register uint64_t r8 asm("r8") = d;

	asm volatile("outl %%eax, %%dx" : : "a"(kind), "d"(UCALL_PORT), "D"(a), "S"(b), "c"(c),
		     "r"(r8) : "memory");
}

static inline void ucall_sync(uint64_t a)
{
	ucall(UCALL_SYNC, a, 0, 0, 0);
}

static inline void ucall_sync3(uint64_t a, uint64_t b, uint64_t c)
{
	ucall(UCALL_SYNC, a, b, c, 0);
}

#define GUEST_EQ(expected, seen) do { \
	uint64_t __e = (uint64_t)(expected), __s = (uint64_t)(seen); \
	if (__e != __s) \
		ucall(UCALL_ASSERT, __LINE__, __e, __s, (uintptr_t)(#expected " == " #seen)); \
} while (0)
#define GUEST_TRUE(cond) do { \
	if (!(cond)) \
		ucall(UCALL_ASSERT, __LINE__, 1, 0, (uintptr_t)(#cond)); \
} while (0)

/*
 * One instruction that may fault: GUEST_TRY("rdmsr", : "=a"(lo), "=d"(hi) : "c"(msr)).
 * Afterwards guest_vector() is the exception or NO_EXC.
 */
#define GUEST_TRY(insn, ...) \
	asm volatile("movq $771f, %%gs:" GC_RESUME "\n\tmovq $-1, %%gs:" GC_VECTOR "\n\t" \
		     insn "\n771:\tmovq $0, %%gs:" GC_RESUME "\n" __VA_ARGS__)
#define guest_vector() (((volatile struct guest_cpu *)guest_self())->vector)
#define guest_error() (((volatile struct guest_cpu *)guest_self())->error)
#define guest_cr2() (((volatile struct guest_cpu *)guest_self())->cr2)

static inline struct guest_cpu *guest_self(void)
{
	uint64_t id;

	asm volatile("movq %%gs:0, %0" : "=r"(id));
	return &guest_cpus[id];
}

static inline uint64_t rdmsr(uint32_t index)
{
	uint32_t lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index) : "memory");
	return lo | (uint64_t)hi << 32;
}

static inline void wrmsr(uint32_t index, uint64_t value)
{
	asm volatile("wrmsr" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
		     : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return lo | (uint64_t)hi << 32;
}

#define DEFINE_CR(n) \
static inline uint64_t read_cr##n(void) \
{ \
	uint64_t v; \
	asm volatile("mov %%cr" #n ", %0" : "=r"(v) : : "memory"); \
	return v; \
} \
static inline void write_cr##n(uint64_t v) \
{ \
	asm volatile("mov %0, %%cr" #n : : "r"(v) : "memory"); \
}
DEFINE_CR(0)
DEFINE_CR(2)
DEFINE_CR(3)
DEFINE_CR(4)
DEFINE_CR(8)

static inline void invlpg(uint64_t va)
{
	asm volatile("invlpg (%0)" : : "r"(va) : "memory");
}

static inline void cpu_relax(void)
{
	asm volatile("pause" : : : "memory");
}

#define DEFINE_MEM(bits) \
static inline uint##bits##_t rd##bits(uint64_t a) \
{ \
	return *(volatile uint##bits##_t *)a; \
} \
static inline void wr##bits(uint64_t a, uint##bits##_t v) \
{ \
	*(volatile uint##bits##_t *)a = v; \
}
DEFINE_MEM(8)
DEFINE_MEM(16)
DEFINE_MEM(32)
DEFINE_MEM(64)

static inline void outb(uint16_t port, uint8_t v)
{
	asm volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

#endif
