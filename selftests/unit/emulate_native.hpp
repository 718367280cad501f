/* SPDX-License-Identifier: GPL-2.0-only */
/* Runs one instruction on the real CPU, with every register of the test's choosing, and says what
 * it left or how it faulted. 64-bit user space; needs AVX. */
#pragma once
#include "cxxrt/addr.hpp"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <cstdlib>
#include <cstring>

namespace kx::test {

struct NativeContext {
	u64 gprs[16];
	u64 flags; /* offset 128 */
	u64 rip;
	u64 unused[2];
	u8 vectors[16][32]; /* offset 160 */
};

}

extern "C" {
extern kx::test::NativeContext native_context;
void native_enter();
void native_exit();
/* Clears EFLAGS.AC, which a handler inherits, before any compiled code runs. */
void native_signal(int, siginfo_t *, void *);
void native_on_signal(int, siginfo_t *, void *);
}
kx::test::NativeContext native_context;

asm(R"(
	.text
	.globl native_enter, native_exit, native_signal
native_signal:
	pushfq
	andl $~0x40000, (%rsp)
	popfq
	jmp native_on_signal
native_enter:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	pushfq
	mov %rsp, native_host_rsp(%rip)
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovdqu native_context + 160 + 32 * \n(%rip), %ymm\n
	.endr
	pushq native_context + 128(%rip)
	popfq
	mov native_context(%rip), %rax
	mov native_context + 8(%rip), %rcx
	mov native_context + 16(%rip), %rdx
	mov native_context + 24(%rip), %rbx
	mov native_context + 32(%rip), %rsp
	mov native_context + 40(%rip), %rbp
	mov native_context + 48(%rip), %rsi
	mov native_context + 56(%rip), %rdi
	mov native_context + 64(%rip), %r8
	mov native_context + 72(%rip), %r9
	mov native_context + 80(%rip), %r10
	mov native_context + 88(%rip), %r11
	mov native_context + 96(%rip), %r12
	mov native_context + 104(%rip), %r13
	mov native_context + 112(%rip), %r14
	mov native_context + 120(%rip), %r15
	jmp *native_context + 136(%rip)
native_exit:
	mov %rax, native_context(%rip)
	mov %rcx, native_context + 8(%rip)
	mov %rdx, native_context + 16(%rip)
	mov %rbx, native_context + 24(%rip)
	mov %rsp, native_context + 32(%rip)
	mov %rbp, native_context + 40(%rip)
	mov %rsi, native_context + 48(%rip)
	mov %rdi, native_context + 56(%rip)
	mov %r8, native_context + 64(%rip)
	mov %r9, native_context + 72(%rip)
	mov %r10, native_context + 80(%rip)
	mov %r11, native_context + 88(%rip)
	mov %r12, native_context + 96(%rip)
	mov %r13, native_context + 104(%rip)
	mov %r14, native_context + 112(%rip)
	mov %r15, native_context + 120(%rip)
	mov native_host_rsp(%rip), %rsp
	pushfq
	popq native_context + 128(%rip)
	popfq
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovdqu %ymm\n, native_context + 160 + 32 * \n(%rip)
	.endr
	vzeroupper
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret
	.bss
	.balign 8
native_host_rsp:
	.zero 8
	.text
)");

namespace kx::test {

struct NativeFault {
	bool taken;
	unsigned vector;
	u32 error;
	u64 cr2;
};

class NativeCpu {
	static inline sigjmp_buf back_;
	static inline NativeFault fault_;
	u8 *code_;

	friend void ::native_on_signal(int, siginfo_t *, void *);
	static void on_signal(void *u)
	{
		const auto &g = static_cast<ucontext_t *>(u)->uc_mcontext.gregs;
		constexpr int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
					   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
		for (int i = 0; i < 16; i++)
			native_context.gprs[i] = u64(g[order[i]]);
		native_context.flags = u64(g[REG_EFL]);
		native_context.rip = u64(g[REG_RIP]);
		fault_ = {true, unsigned(g[REG_TRAPNO]), u32(g[REG_ERR]), u64(g[REG_CR2])};
		siglongjmp(back_, 1);
	}

public:
	/* A page of code within reach of 32-bit displacements. */
	NativeCpu()
	{
		code_ = static_cast<u8 *>(mmap(nullptr, page_size, PROT_READ | PROT_WRITE | PROT_EXEC,
					       MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
		static u8 *stack = static_cast<u8 *>(mmap(nullptr, 1 << 17, PROT_READ | PROT_WRITE,
							  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		stack_t alt{};
		alt.ss_sp = stack;
		alt.ss_size = 1 << 17;
		sigaltstack(&alt, nullptr);
		struct sigaction sa {};
		sa.sa_sigaction = native_signal;
		sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
		for (const int s : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP})
			sigaction(s, &sa, nullptr);
	}
	~NativeCpu() { munmap(code_, page_size); }
	NativeCpu(const NativeCpu &) = delete;

	static bool usable() { return __builtin_cpu_supports("avx"); }
	u8 *code() { return code_; }
	/* Where it continues if the instruction does not branch: the way back, for any registers. */
	void prepare(const u8 *insn, unsigned length)
	{
		memcpy(code_, insn, length);
		constexpr unsigned slot = 64; /* aligned, for EFLAGS.AC */
		const u64 out = reinterpret_cast<u64>(&native_exit);
		const u8 jump[6] = {0xff, 0x25, u8(slot - length - 6), 0, 0, 0};
		memcpy(code_ + length, jump, 6);
		memcpy(code_ + slot, &out, 8);
	}
	NativeFault run(NativeContext &c)
	{
		fault_ = {};
		native_context = c;
		native_context.rip = reinterpret_cast<u64>(code_);
		if (!sigsetjmp(back_, 1))
			native_enter();
		c = native_context;
		return fault_;
	}
};

}

void native_on_signal(int, siginfo_t *, void *u) { kx::test::NativeCpu::on_signal(u); }
