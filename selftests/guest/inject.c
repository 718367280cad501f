// SPDX-License-Identifier: GPL-2.0-only
/* Interrupts, NMIs and exceptions that user space puts in, and when the guest takes them. */
#include "test.h"

#define IRQ 0x41
#define SLOT_GPA 0x10000000ul	/* memory the hypervisor has never mapped */
#define WINDOW 0x7000000000ul

static volatile struct {
	uint64_t irqs, nmis, exceptions, nested;
	uint64_t rip, error, cr2, vector, rflags, cs;
} got;

/* What came, one after the other. */
static volatile struct {
	uint64_t n, vector[4], rip[4];
} order;

VM_FIXTURE(inject)

static int inject(struct vcpu *v, uint32_t vector)
{
	struct kvm_interrupt irq = { .irq = vector };

	return ioctl(v->fd, KVM_INTERRUPT, &irq);
}

static void on_irq(struct guest_regs *regs)
{
	got.irqs++;
	got.vector = regs->vector;
	got.rip = regs->rip;
	got.rflags = regs->rflags;
	got.cs = regs->cs;
}

static void on_nmi(struct guest_regs *regs)
{
	got.nmis++;
	got.rip = regs->rip;
}

static void on_exception(struct guest_regs *regs)
{
	got.exceptions++;
	got.vector = regs->vector;
	got.error = regs->error;
	got.rip = regs->rip;
	got.cr2 = read_cr2();
}

static void set_handler(struct vm *vm, int vector, void (*fn)(struct guest_regs *regs))
{
	G(vm, guest_handlers)[vector] = fn;
}

/* sti, then nops; the labels tell where the window opened. */
extern char sti_here[], sti_shadow[], sti_open[], sti_end[];
static void guest_sti(void)
{
	ucall_sync(1);
	asm volatile(".globl sti_here, sti_shadow, sti_open, sti_end\n"
		     "sti_here: sti\n"
		     "sti_shadow: nop\n"
		     "sti_open: nop; nop; nop\n"
		     "sti_end: cli");
	ucall_sync(2);
}

TEST_F(inject, the_interrupt_window_opens_one_instruction_after_sti)
{
	struct kvm_run *run = self->v->run;
	uint64_t rip;

	vcpu_call(self->v, guest_sti);
	run->request_interrupt_window = 1;
	EXPECT_EQ(1, vcpu_sync(self->v));
	EXPECT_EQ(0, run->ready_for_interrupt_injection);
	EXPECT_EQ(0, run->if_flag);
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(1, run->ready_for_interrupt_injection);
	EXPECT_EQ(1, run->if_flag);
	rip = vcpu_rip(self->v);
	EXPECT_LE((uintptr_t)sti_open, rip);
	EXPECT_LE(rip, (uintptr_t)sti_end);
	/* An open window is reported again and again, without progress. */
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(rip, vcpu_rip(self->v));
	run->request_interrupt_window = 0;
	EXPECT_EQ(2, vcpu_sync(self->v));
	EXPECT_EQ(0, run->if_flag);
}

static void guest_sti_read(void)
{
	uint32_t r;

	asm volatile("sti; movl (%1), %0; movl 8(%1), %0; cli" : "=&r"(r) : "r"(MMIO_GPA));
	asm volatile("sti; inl $0x42, %%eax; inl $0x43, %%eax; cli" : : : "eax");
}

TEST_F(inject, an_exit_in_the_shadow_of_sti_is_not_ready_for_an_interrupt)
{
	struct kvm_run *run = self->v->run;
	struct kvm_vcpu_events e;

	vcpu_call(self->v, guest_sti_read);
	for (int i = 0; i < 4; i++) {
		vcpu_expect(self->v, i < 2 ? KVM_EXIT_MMIO : KVM_EXIT_IO);
		EXPECT_EQ(1, run->if_flag);
		EXPECT_EQ(i & 1, run->ready_for_interrupt_injection);
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		EXPECT_EQ(!(i & 1), !!e.interrupt.shadow);
	}
	vcpu_finish(self->v);
}

TEST_F(inject, nobody_asks_for_a_window_so_none_is_reported)
{
	vcpu_call(self->v, guest_sti);
	EXPECT_EQ(1, vcpu_sync(self->v));
	EXPECT_EQ(2, vcpu_sync(self->v));
}

TEST_F(inject, an_interrupt_is_taken_once_at_the_instruction_it_interrupts)
{
	struct kvm_run *run = self->v->run;
	uint64_t rip;

	set_handler(self->vm, IRQ, on_irq);
	vcpu_call(self->v, guest_sti);
	EXPECT_EQ(1, vcpu_sync(self->v));
	run->request_interrupt_window = 1;
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	run->request_interrupt_window = 0;
	rip = vcpu_rip(self->v);
	ASSERT_OK(inject(self->v, IRQ));
	EXPECT_EQ(2, vcpu_sync(self->v));
	EXPECT_EQ(1, G(self->vm, got).irqs);
	EXPECT_EQ(IRQ, G(self->vm, got).vector);
	EXPECT_EQ(rip, G(self->vm, got).rip);
	EXPECT_EQ(RFLAGS_IF, G(self->vm, got).rflags & RFLAGS_IF);
	EXPECT_EQ(SEL_CODE64, G(self->vm, got).cs);
}

extern char stepped[];
static void on_step(struct guest_regs *regs)
{
	got.exceptions++;
	got.nested = got.irqs;
	regs->rflags &= ~RFLAGS_TF;
}

static void guest_step_over_out(void)
{
	guest_handlers[VEC_DB] = on_step;
	guest_handlers[IRQ] = on_irq;
	asm volatile("pushfq; orq $0x300, (%%rsp); popfq\n"
		     "outb %%al, $0x42\n"
		     ".globl stepped\nstepped: nop; cli" : : : "memory", "cc");
	GUEST_EQ(1, got.exceptions);
	GUEST_EQ(0, got.nested);
	GUEST_EQ(1, got.irqs);
	GUEST_EQ((uintptr_t)stepped, got.rip);
}

TEST_F(inject, an_interrupt_waits_for_the_handler_of_an_exception_that_comes_first)
{
	vcpu_call(self->v, guest_step_over_out);
	vcpu_expect(self->v, KVM_EXIT_IO);
	EXPECT_EQ(1, self->v->run->ready_for_interrupt_injection);
	ASSERT_OK(inject(self->v, IRQ));
	vcpu_finish(self->v);
}

/* KVM_SET_REGS does not. */
static void take_back_exception(struct vcpu *v)
{
	struct kvm_vcpu_events e;

	CHECK(!ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e), "KVM_GET_VCPU_EVENTS");
	e.exception.injected = 0;
	CHECK(!ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e), "KVM_SET_VCPU_EVENTS");
}

TEST_F(inject, a_failed_entry_delivers_nothing)
{
	struct kvm_run *run = self->v->run;
	struct kvm_vcpu_events e;
	struct kvm_regs r;

	if (!on_intel())
		SKIP(return, "VMRUN checks none of what KVM_SET_REGS and KVM_SET_SREGS let through");
	set_handler(self->vm, IRQ, on_irq);
	for (int taken_back = 0; taken_back < 2; taken_back++) {
		vcpu_call(self->v, guest_sti);
		EXPECT_EQ(1, vcpu_sync(self->v));
		run->request_interrupt_window = 1;
		vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
		run->request_interrupt_window = 0;
		ASSERT_OK(inject(self->v, IRQ));
		vcpu_get(self->v, &r);
		r.rflags |= RFLAGS_VM;
		vcpu_set(self->v, &r);
		vcpu_expect(self->v, KVM_EXIT_FAIL_ENTRY);
		r.rflags &= ~RFLAGS_VM;
		vcpu_set(self->v, &r);
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		EXPECT_EQ(1, e.interrupt.injected);
		EXPECT_EQ(IRQ, e.interrupt.nr);
		e.interrupt.injected = !taken_back;
		ASSERT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
		EXPECT_EQ(2, vcpu_sync(self->v));
		EXPECT_EQ(1, G(self->vm, got).irqs);
	}
}

TEST_F(inject, an_event_that_the_processor_refuses_is_a_failed_entry)
{
	struct kvm_vcpu_events e;
	struct kvm_regs r;

	if (!on_tcg())
		SKIP(return, "only QEMU's TCG refuses one that KVM_SET_VCPU_EVENTS lets through");
	vcpu_call(self->v, guest_sti);
	EXPECT_EQ(1, vcpu_sync(self->v));
	vcpu_complete(self->v);
	vcpu_get(self->v, &r);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.exception.injected = 1;
	e.exception.nr = 31;
	for (int i = 0; i < 2; i++) {
		ASSERT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
		vcpu_expect(self->v, KVM_EXIT_FAIL_ENTRY);
		EXPECT_EQ(0xffffffff, self->v->run->fail_entry.hardware_entry_failure_reason);
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		EXPECT_EQ(1, e.exception.injected);
		EXPECT_EQ(31, e.exception.nr);
	}
	take_back_exception(self->v);
	vcpu_set(self->v, &r);	/* TCG has changed RIP */
	EXPECT_EQ(2, vcpu_sync(self->v));
}

static void guest_popf(void)
{
	ucall_sync(1);
	asm volatile("pushfq; orq $0x200, (%%rsp); popfq; nop; nop; cli" : : : "memory", "cc");
	ucall_sync(2);
	asm volatile("sti; mov %%ds, %%eax; mov %%ss, %%ecx\n"
		     "mov %%ecx, %%ss; nop\n"	/* an interrupt may not come between these two */
		     "nop; cli" : : : "eax", "ecx", "memory");
	ucall_sync(3);
}

TEST_F(inject, popf_opens_the_window_too)
{
	struct kvm_run *run = self->v->run;

	vcpu_call(self->v, guest_popf);
	EXPECT_EQ(1, vcpu_sync(self->v));
	run->request_interrupt_window = 1;
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	run->request_interrupt_window = 0;
	EXPECT_EQ(2, vcpu_sync(self->v));
	run->request_interrupt_window = 1;
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
}

static void guest_hlt_loop(void)
{
	for (;;) {
		asm volatile("sti; hlt; cli" : : : "memory");
		ucall_sync(got.irqs);
	}
}

TEST_F(inject, a_halted_guest_is_woken_by_an_interrupt)
{
	struct kvm_run *run = self->v->run;

	set_handler(self->vm, IRQ, on_irq);
	vcpu_call(self->v, guest_hlt_loop);
	for (uint64_t i = 1; i <= 20; i++) {
		vcpu_expect(self->v, KVM_EXIT_HLT);
		EXPECT_EQ(1, run->if_flag);
		EXPECT_EQ(1, run->ready_for_interrupt_injection);
		ASSERT_OK(inject(self->v, IRQ));
		EXPECT_EQ(i, vcpu_sync(self->v));
	}
}

static void guest_spin_if(void)
{
	asm volatile("sti");
	for (;;)
		asm volatile("pause" : : : "memory");
}

TEST_F(inject, a_thousand_interrupts_are_a_thousand_interrupts)
{
	struct kvm_run *run = self->v->run;

	if (on_tcg())
		SKIP(return, "QEMU's TCG now and then takes an interrupt twice that VMRUN injected");
	for (int i = 0x20; i < 0x100; i++)
		set_handler(self->vm, i, on_irq);
	vcpu_call(self->v, guest_spin_if);
	run->request_interrupt_window = 1;
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t vector = 0x20 + i % 0xe0;

		vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
		ASSERT_OK(inject(self->v, vector));
		/* It is taken before the window opens again. */
		vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
		ASSERT_EQ(i + 1, G(self->vm, got).irqs);
		ASSERT_EQ(vector, G(self->vm, got).vector);
	}
}

TEST_F(inject, an_interrupt_not_yet_taken_shows_in_the_state_and_is_taken_later)
{
	struct kvm_run *run = self->v->run;
	struct kvm_vcpu_events e;
	struct kvm_sregs s;

	set_handler(self->vm, IRQ, on_irq);
	vcpu_call(self->v, guest_spin_if);
	run->request_interrupt_window = 1;
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	vcpu_get_sregs(self->v, &s);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0, s.interrupt_bitmap[i]);
	EXPECT_ERRNO(EINVAL, inject(self->v, 256));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_INTERRUPT, NULL));
	ASSERT_OK(inject(self->v, IRQ));
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(1ul << (IRQ % 64), s.interrupt_bitmap[IRQ / 64]);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, e.interrupt.injected);
	EXPECT_EQ(IRQ, e.interrupt.nr);
	run->immediate_exit = 1;
	EXPECT_EQ(-EINTR, vcpu_try_run(self->v));
	run->immediate_exit = 0;
	EXPECT_EQ(0, G(self->vm, got).irqs);
	EXPECT_EQ(0, run->ready_for_interrupt_injection);
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(1, G(self->vm, got).irqs);
	/* The same through KVM_SET_SREGS and KVM_SET_VCPU_EVENTS. */
	vcpu_get_sregs(self->v, &s);
	s.interrupt_bitmap[IRQ / 64] = 1ul << (IRQ % 64);
	vcpu_set_sregs(self->v, &s);
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(2, G(self->vm, got).irqs);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.interrupt.injected = 1;
	e.interrupt.nr = IRQ;
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(3, G(self->vm, got).irqs);
}

TEST_F(inject, a_shadow_that_user_space_set_delays_the_window_by_one_instruction)
{
	struct kvm_run *run = self->v->run;
	struct kvm_vcpu_events e;
	struct kvm_regs r;
	uint64_t rip;

	if (on_old_tcg())
		SKIP(return, "QEMU 7.2 does not load the shadow on VMRUN");
	vcpu_call(self->v, guest_sti);
	EXPECT_EQ(1, vcpu_sync(self->v));
	vcpu_complete(self->v);
	vcpu_get(self->v, &r);
	r.rip = (uintptr_t)sti_shadow;
	r.rflags |= RFLAGS_IF;
	vcpu_set(self->v, &r);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	e.flags = KVM_VCPUEVENT_VALID_SHADOW;
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_NE(0, e.interrupt.shadow);
	run->request_interrupt_window = 1;
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	rip = vcpu_rip(self->v);
	EXPECT_LE((uintptr_t)sti_open, rip);
	EXPECT_LE(rip, (uintptr_t)sti_end);
}

/* Intel tells the two shadows apart, and only MOV SS's holds debug exceptions back: a step ends behind its instruction. */
static void on_step_at(struct guest_regs *regs)
{
	got.exceptions++;
	got.rip = regs->rip;
	regs->rflags &= ~RFLAGS_TF;
}

extern char mov_ss_shadow[], mov_ss_stepped[];
static void guest_mov_ss(void)
{
	ucall_sync(0);
	asm volatile(".globl mov_ss_shadow, mov_ss_stepped\n"
		     "mov_ss_shadow: cmc\n"
		     "mov_ss_stepped: nop; nop; cli" : : : "cc");
	ucall_sync(1);
}

TEST_F(inject, a_shadow_of_mov_ss_that_user_space_set_holds_a_step_back)
{
	struct kvm_vcpu_events e;
	struct kvm_regs r;

	for (int events_first = 0; events_first < 2; events_first++) {
		set_handler(self->vm, VEC_DB, on_step_at);
		vcpu_call(self->v, guest_mov_ss);
		EXPECT_EQ(0, vcpu_sync(self->v));
		vcpu_complete(self->v);
		vcpu_get(self->v, &r);
		r.rip = (uintptr_t)mov_ss_shadow;
		r.rflags |= RFLAGS_IF | RFLAGS_TF;
		if (!events_first)
			vcpu_set(self->v, &r);
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		e.interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS;
		e.flags = KVM_VCPUEVENT_VALID_SHADOW;
		ASSERT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
		if (events_first)
			vcpu_set(self->v, &r);
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		EXPECT_EQ(KVM_X86_SHADOW_INT_MOV_SS | (on_intel() ? 0 : KVM_X86_SHADOW_INT_STI), e.interrupt.shadow);
		EXPECT_EQ(1, vcpu_sync(self->v));
		EXPECT_EQ(events_first + 1, G(self->vm, got).exceptions);
		EXPECT_EQ((uintptr_t)mov_ss_stepped, G(self->vm, got).rip);
	}
}

static void on_steps(struct guest_regs *regs)
{
	if (order.n < 4)
		order.rip[order.n] = regs->rip;
	if (++order.n == 3)
		regs->rflags &= ~RFLAGS_TF;
}

extern char mov_ss_cpuid[];
static void guest_steps_over_mov_ss(void)
{
	guest_handlers[VEC_DB] = on_steps;
	asm volatile("mov %%ss, %%ebx; pushfq; orq $0x100, (%%rsp); popfq\n"
		     "mov %%ebx, %%ss; cpuid\n"
		     ".globl mov_ss_cpuid\nmov_ss_cpuid: nop; nop; nop; nop"
		     : : "a"(0), "c"(0) : "rbx", "rdx", "memory", "cc");
	for (uint64_t i = 0; i < 3; i++)
		GUEST_EQ((uintptr_t)mov_ss_cpuid + i, order.rip[i]);
	GUEST_EQ(3, order.n);
}

TEST_F(inject, a_step_that_mov_ss_held_back_ends_once_behind_an_instruction_that_exits)
{
	if (on_tcg())
		SKIP(return, "QEMU's TCG does not hold a step back behind MOV SS");
	vcpu_call(self->v, guest_steps_over_mov_ss);
	vcpu_finish(self->v);
}

/* NMIs. */
static void guest_nop_loop(uint64_t n)
{
	ucall_sync(0);
	for (uint64_t i = 0; i < n; i++)
		asm volatile("nop");
	ucall_sync(got.nmis);
}

TEST_F(inject, an_nmi_is_taken_even_with_interrupts_off)
{
	set_handler(self->vm, VEC_NMI, on_nmi);
	vcpu_call(self->v, guest_nop_loop, 10);
	EXPECT_EQ(0, vcpu_sync(self->v));
	ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
	EXPECT_EQ(1, vcpu_sync(self->v));
}

static void on_nmi_talk(struct guest_regs *regs)
{
	uint64_t n = ++got.nmis;

	if (got.nested)
		got.exceptions++;	/* an NMI inside an NMI */
	got.nested = 1;
	if (n <= 2)
		ucall_sync(100 + n);
	for (int i = 0; i < 100; i++)
		asm volatile("nop");
	got.nested = 0;
}

TEST_F(inject, a_second_nmi_waits_for_the_iret_of_the_first)
{
	struct kvm_vcpu_events e;

	if (on_intel() && vmx_without("vnmi"))
		SKIP(return, "without virtual NMIs nobody sees the end of a handler that keeps interrupts off");
	set_handler(self->vm, VEC_NMI, on_nmi_talk);
	vcpu_call(self->v, guest_nop_loop, 1000);
	EXPECT_EQ(0, vcpu_sync(self->v));
	ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
	EXPECT_EQ(101, vcpu_sync(self->v));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, e.nmi.masked);
	EXPECT_EQ(0, e.nmi.pending);
	/* Two more are one more: the second is latched, the third has no place. */
	ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
	ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, e.nmi.pending);
	EXPECT_EQ(102, vcpu_sync(self->v));
	EXPECT_EQ(0, G(self->vm, got).exceptions);
	EXPECT_EQ(2, vcpu_sync(self->v));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(0, e.nmi.masked);
	EXPECT_EQ(0, e.nmi.pending);
	EXPECT_EQ(0, G(self->vm, got).exceptions);
}

static void guest_spin(void)
{
	for (;;)
		got.nested++;
}

/* Also where the hypervisor can only guess when a handler is over. */
TEST_F(inject, nmis_reach_a_guest_that_keeps_interrupts_off)
{
	struct runner r;

	set_handler(self->vm, VEC_NMI, on_nmi);
	vcpu_call(self->v, guest_spin);
	for (uint64_t n = 1; n <= 3; n++) {
		ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
		runner_start(&r, self->v, runner_spin);
		for (int i = 0; i < 5000 && G(self->vm, got).nmis < n; i++)
			usleep(1000);
		runner_stop(&r);
		EXPECT_EQ(n, G(self->vm, got).nmis);
	}
}

/* An NMI comes in the shadow of STI, and the instruction there exits. */
extern char shadowed_cpuid[], behind_cpuid[];
static void guest_shadowed_cpuid(void)
{
	ucall_sync(0);
	asm volatile(".globl shadowed_cpuid, behind_cpuid\n"
		     "shadowed_cpuid: cpuid\n"
		     "behind_cpuid: nop; nop" : : "a"(0), "c"(0) : "ebx", "edx", "memory");
	ucall_sync(1);
}

/* The vCPU stands on that CPUID, in the shadow of an STI, and an NMI waits. */
static struct kvm_regs nmi_in_a_shadow(struct vm *vm, struct vcpu *v)
{
	struct kvm_vcpu_events e;
	struct kvm_regs r;

	set_handler(vm, VEC_NMI, on_nmi);
	set_handler(vm, VEC_DB, on_exception);
	vcpu_call(v, guest_shadowed_cpuid);
	CHECK(vcpu_sync(v) == 0, "the guest's first message");
	vcpu_complete(v);
	vcpu_get(v, &r);
	r.rip = (uintptr_t)shadowed_cpuid;
	r.rflags |= RFLAGS_IF;
	r.rax = r.rcx = 0;
	vcpu_set(v, &r);
	CHECK(!ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e), "KVM_GET_VCPU_EVENTS");
	e.flags |= KVM_VCPUEVENT_VALID_SHADOW;
	e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	CHECK(!ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e), "KVM_SET_VCPU_EVENTS");
	CHECK(!ioctl(v->fd, KVM_NMI, 0), "KVM_NMI");
	return r;
}

static void expect_nmi_behind_cpuid(struct __test_metadata *_metadata, struct vm *vm, struct vcpu *v)
{
	EXPECT_EQ(1, vcpu_sync(v));
	EXPECT_EQ(1, G(vm, got).nmis);
	EXPECT_EQ(0, G(vm, got).exceptions);
	EXPECT_EQ((uintptr_t)behind_cpuid, G(vm, got).rip);
}

TEST_F(inject, an_nmi_in_a_shadow_is_taken_behind_an_instruction_that_exits)
{
	nmi_in_a_shadow(self->vm, self->v);
	expect_nmi_behind_cpuid(_metadata, self->vm, self->v);
}

/* KVM_RUN is interrupted with the NMI still waiting: nothing of how it waits may show, nor come again with the next try. */
TEST_F(inject, an_nmi_in_a_shadow_waits_through_signals)
{
	struct { struct kvm_signal_mask m; uint64_t set; } none = { .m = { .len = 8 } };
	struct kvm_regs before = nmi_in_a_shadow(self->vm, self->v), after;
	sigset_t block, old;

	kick_setup();
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	ASSERT_OK(pthread_sigmask(SIG_BLOCK, &block, &old));
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_SIGNAL_MASK, &none));
	for (int i = 0; i < 3; i++) {
		raise(SIGUSR1);
		EXPECT_EQ(-EINTR, vcpu_try_run(self->v));
		vcpu_get(self->v, &after);
		EXPECT_EQ(before.rip, after.rip);
		EXPECT_EQ(before.rflags, after.rflags);
	}
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_SIGNAL_MASK, NULL));
	ASSERT_OK(pthread_sigmask(SIG_SETMASK, &old, NULL));
	expect_nmi_behind_cpuid(_metadata, self->vm, self->v);
}

/* The step that an NMI waits for is nobody's to see, whatever the guest has left in DR6. */
/* On AMD the wait is a single step, which nobody may see, whatever the guest has left in DR6. */
TEST_F(inject, an_nmi_in_a_shadow_makes_no_debug_exception_of_what_the_guest_left_in_dr6)
{
	static const uint64_t left[] = { 0xf, 0x4001, 0x4000 };
	struct kvm_debugregs d;
	struct kvm_regs r;

	for (size_t i = 0; i < ARRAY_SIZE(left); i++) {
		G(self->vm, got).nmis = 0;
		r = nmi_in_a_shadow(self->vm, self->v);
		r.rip = (uintptr_t)behind_cpuid;
		vcpu_set(self->v, &r);
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_DEBUGREGS, &d));
		d.dr6 = 0xffff0ff0 | left[i];
		ASSERT_OK(ioctl(self->v->fd, KVM_SET_DEBUGREGS, &d));
		EXPECT_EQ(1, vcpu_sync(self->v));
		EXPECT_EQ(1, G(self->vm, got).nmis);
		EXPECT_EQ(0, G(self->vm, got).exceptions);
		EXPECT_EQ((uintptr_t)behind_cpuid + 1, G(self->vm, got).rip);
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_DEBUGREGS, &d));
		EXPECT_EQ(0xffff0ff0 | left[i], d.dr6);
	}
}

TEST_F(inject, nmis_that_come_faster_than_they_are_taken_are_merged)
{
	if (on_intel() && vmx_without("vnmi"))
		SKIP(return, "without virtual NMIs nobody sees the end of a handler that keeps interrupts off");
	set_handler(self->vm, VEC_NMI, on_nmi);
	vcpu_call(self->v, guest_nop_loop, 1000);
	EXPECT_EQ(0, vcpu_sync(self->v));
	for (int i = 0; i < 7; i++)
		ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
	/* One in service and one latched. */
	EXPECT_EQ(2, vcpu_sync(self->v));
}

static void on_irq_nmi(struct guest_regs *regs)
{
	on_irq(regs);
	ucall_sync(500);
}

TEST_F(inject, an_nmi_interrupts_an_interrupt_handler)
{
	struct kvm_run *run = self->v->run;

	set_handler(self->vm, VEC_NMI, on_nmi);
	set_handler(self->vm, IRQ, on_irq_nmi);
	vcpu_call(self->v, guest_spin_if);
	run->request_interrupt_window = 1;
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	ASSERT_OK(inject(self->v, IRQ));
	EXPECT_EQ(500, vcpu_sync(self->v));
	EXPECT_EQ(0, run->if_flag);
	ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
	vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(1, G(self->vm, got).nmis);
	EXPECT_EQ(1, G(self->vm, got).irqs);
}

/* Exceptions from outside. */
static void guest_wait(void)
{
	ucall_sync(1);
	asm volatile("nop");
	ucall_sync(2);
}

TEST_F(inject, exceptions_can_be_put_in_with_their_error_codes)
{
	static const struct { uint8_t vector, has_error; uint32_t error; } kinds[] = {
		{ VEC_UD, 0, 0 }, { VEC_GP, 1, 0x1230 }, { VEC_SS, 1, 0x18 }, { VEC_PF, 1, 0x7 },
		{ VEC_DE, 0, 0 }, { VEC_NP, 1, 0x8 }, { VEC_AC, 1, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct kvm_vcpu_events e;
		struct kvm_sregs s;
		uint64_t rip;

		set_handler(self->vm, kinds[i].vector, on_exception);
		vcpu_call(self->v, guest_wait);
		EXPECT_EQ(1, vcpu_sync(self->v));
		vcpu_complete(self->v);
		rip = vcpu_rip(self->v);
		vcpu_get_sregs(self->v, &s);
		s.cr2 = 0xabc000 + i;
		vcpu_set_sregs(self->v, &s);
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		e.exception.injected = 1;
		e.exception.nr = kinds[i].vector;
		e.exception.has_error_code = kinds[i].has_error;
		e.exception.error_code = kinds[i].error;
		ASSERT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
		EXPECT_EQ(2, vcpu_sync(self->v));
		EXPECT_EQ(i + 1, G(self->vm, got).exceptions);
		EXPECT_EQ(kinds[i].vector, G(self->vm, got).vector);
		EXPECT_EQ(kinds[i].error, G(self->vm, got).error);
		EXPECT_EQ(rip, G(self->vm, got).rip);
		EXPECT_EQ(0xabc000 + i, G(self->vm, got).cr2);
	}
}

/*
 * Delivery touches memory the hypervisor has not mapped yet, or cannot: the exit in the middle of
 * the delivery must not lose the event nor deliver it twice.
 */
static void use_idt(struct vcpu *v, uint64_t base)
{
	struct kvm_sregs s;

	vcpu_get_sregs(v, &s);
	s.idt.base = base;
	vcpu_set_sregs(v, &s);
}

static void guest_int(void)
{
	asm volatile("sti");
	for (;;) {
		ucall_sync(got.irqs + got.nmis + got.exceptions);
		asm volatile("nop");
	}
}

enum kind { BY_IRQ, BY_NMI, BY_EXCEPTION };

static void put_in(struct vcpu *v, enum kind kind)
{
	struct kvm_vcpu_events e;

	switch (kind) {
	case BY_IRQ:
		CHECK(!inject(v, IRQ), "KVM_INTERRUPT");
		break;
	case BY_NMI:
		CHECK(!ioctl(v->fd, KVM_NMI, 0), "KVM_NMI");
		break;
	case BY_EXCEPTION:
		CHECK(!ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e), "KVM_GET_VCPU_EVENTS");
		e.exception.injected = 1;
		e.exception.nr = VEC_UD;
		e.exception.has_error_code = 0;
		CHECK(!ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e), "KVM_SET_VCPU_EVENTS");
		break;
	}
}

static void set_handlers(struct vm *vm)
{
	set_handler(vm, IRQ, on_irq);
	set_handler(vm, VEC_NMI, on_nmi);
	set_handler(vm, VEC_UD, on_exception);
}

/* An exit in the middle of the delivery would tell what it was. */
static void map_idt(struct vcpu *v)
{
	set_handlers(v->vm);
	vcpu_call(v, guest_nop_loop, 1);
	vcpu_sync(v);
	put_in(v, BY_EXCEPTION);
	vcpu_sync(v);
	G(v->vm, got).exceptions = 0;
}

/* An NMI that user space hands over half delivered: its handler keeps the next one out. */
TEST_F(inject, an_nmi_put_in_as_injected_masks_the_next)
{
	struct kvm_vcpu_events e;

	if (on_intel() && vmx_without("vnmi"))
		SKIP(return, "without virtual NMIs nobody sees the end of a handler that keeps interrupts off");
	map_idt(self->v);
	set_handler(self->vm, VEC_NMI, on_nmi_talk);
	vcpu_call(self->v, guest_nop_loop, 1000);
	EXPECT_EQ(0, vcpu_sync(self->v));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.nmi.injected = 1;
	e.nmi.masked = 0;
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
	EXPECT_EQ(101, vcpu_sync(self->v));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, e.nmi.masked);
	EXPECT_EQ(0, e.nmi.injected);
	ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
	EXPECT_EQ(102, vcpu_sync(self->v));
	EXPECT_EQ(0, G(self->vm, got).exceptions);
	EXPECT_EQ(2, vcpu_sync(self->v));
	EXPECT_EQ(0, G(self->vm, got).exceptions);
}

/* KVM_RUN ends before the guest is entered, and user space looks at the events meanwhile. */
TEST_F(inject, an_nmi_that_a_signal_held_back_masks_the_next)
{
	struct { struct kvm_signal_mask m; uint64_t set; } none = { .m = { .len = 8 } };
	struct kvm_vcpu_events e;
	sigset_t block, old;

	if (on_intel() && vmx_without("vnmi"))
		SKIP(return, "without virtual NMIs nobody sees the end of a handler that keeps interrupts off");
	kick_setup();
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	map_idt(self->v);
	set_handler(self->vm, VEC_NMI, on_nmi_talk);
	vcpu_call(self->v, guest_nop_loop, 1000);
	EXPECT_EQ(0, vcpu_sync(self->v));
	vcpu_complete(self->v);
	ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
	ASSERT_OK(pthread_sigmask(SIG_BLOCK, &block, &old));
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_SIGNAL_MASK, &none));
	for (int i = 0; i < 2; i++) {
		raise(SIGUSR1);
		EXPECT_EQ(-EINTR, vcpu_try_run(self->v));
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		EXPECT_EQ(1, e.nmi.injected + e.nmi.pending);
	}
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_SIGNAL_MASK, NULL));
	ASSERT_OK(pthread_sigmask(SIG_SETMASK, &old, NULL));
	EXPECT_EQ(101, vcpu_sync(self->v));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, e.nmi.masked);
	ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
	EXPECT_EQ(102, vcpu_sync(self->v));
	EXPECT_EQ(2, vcpu_sync(self->v));
	EXPECT_EQ(0, G(self->vm, got).exceptions);
}

TEST_F(inject, an_event_whose_idt_is_not_yet_mapped_is_delivered_once)
{
	uint8_t *p = map_anon(60 * PAGE);

	madvise(p, 60 * PAGE, MADV_NOHUGEPAGE);
	vm_slot(self->vm, 1, 0, SLOT_GPA, 60 * PAGE, p);
	set_handlers(self->vm);
	vcpu_call(self->v, guest_int);
	EXPECT_EQ(0, vcpu_sync(self->v));
	for (uint64_t i = 0; i < 60; i++) {
		memcpy(p + i * PAGE, vm_hva(self->vm, IDT_GPA), PAGE);
		use_idt(self->v, SLOT_GPA + i * PAGE);
		vcpu_complete(self->v);
		put_in(self->v, (enum kind)(i % 3));
		ASSERT_EQ(i + 1, vcpu_sync(self->v));
	}
	EXPECT_EQ(20, G(self->vm, got).irqs);
	EXPECT_EQ(20, G(self->vm, got).nmis);
	EXPECT_EQ(20, G(self->vm, got).exceptions);
}

TEST_F(inject, an_event_whose_stack_is_not_yet_mapped_is_delivered_once)
{
	uint8_t *p = map_anon(60 * PAGE);

	madvise(p, 60 * PAGE, MADV_NOHUGEPAGE);
	vm_slot(self->vm, 1, 0, SLOT_GPA, 60 * PAGE, p);
	set_handlers(self->vm);
	vcpu_call(self->v, guest_int);
	EXPECT_EQ(0, vcpu_sync(self->v));
	for (uint64_t i = 0; i < 60; i++) {
		struct kvm_regs r;

		vcpu_complete(self->v);
		vcpu_get(self->v, &r);
		r.rsp = SLOT_GPA + (i + 1) * PAGE;
		vcpu_set(self->v, &r);
		put_in(self->v, (enum kind)(i % 3));
		ASSERT_EQ(i + 1, vcpu_sync(self->v));
	}
	EXPECT_EQ(20, G(self->vm, got).irqs);
	EXPECT_EQ(20, G(self->vm, got).nmis);
	EXPECT_EQ(20, G(self->vm, got).exceptions);
}

/* The page is mapped, and write-protected to be logged: the cheapest of all faults, in the middle of a delivery. */
TEST_F(inject, an_event_whose_stack_is_logged_is_delivered_once)
{
	uint8_t *p = map_anon(60 * PAGE);
	uint64_t bitmap = 0;
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &bitmap };

	madvise(p, 60 * PAGE, MADV_NOHUGEPAGE);
	memset(p, 1, 60 * PAGE);
	vm_slot(self->vm, 1, 0, SLOT_GPA, 60 * PAGE, p);
	set_handlers(self->vm);
	vcpu_call(self->v, guest_int);
	EXPECT_EQ(0, vcpu_sync(self->v));
	for (uint64_t i = 0; i < 120; i++) {
		struct kvm_regs r;

		if (i == 60)
			vm_slot(self->vm, 1, KVM_MEM_LOG_DIRTY_PAGES, SLOT_GPA, 60 * PAGE, p);
		vcpu_complete(self->v);
		vcpu_get(self->v, &r);
		r.rsp = SLOT_GPA + (i % 60 + 1) * PAGE;
		vcpu_set(self->v, &r);
		put_in(self->v, (enum kind)(i % 3));
		ASSERT_EQ(i + 1, vcpu_sync(self->v));
	}
	EXPECT_EQ(40, G(self->vm, got).irqs);
	EXPECT_EQ(40, G(self->vm, got).nmis);
	EXPECT_EQ(40, G(self->vm, got).exceptions);
	ASSERT_OK(ioctl(self->vm->fd, KVM_GET_DIRTY_LOG, &log));
	EXPECT_EQ((1ul << 60) - 1, bitmap);
}

TEST_F(inject, an_event_that_met_missing_host_memory_is_delivered_when_it_is_there)
{
	uint8_t *p = map_anon(30 * PAGE);

	madvise(p, 30 * PAGE, MADV_NOHUGEPAGE);
	vm_slot(self->vm, 1, 0, SLOT_GPA, 30 * PAGE, p);
	set_handlers(self->vm);
	vcpu_call(self->v, guest_int);
	EXPECT_EQ(0, vcpu_sync(self->v));
	for (uint64_t i = 0; i < 30; i++) {
		memcpy(p + i * PAGE, vm_hva(self->vm, IDT_GPA), PAGE);
		ASSERT_OK(mprotect(p + i * PAGE, PAGE, PROT_NONE));
		use_idt(self->v, SLOT_GPA + i * PAGE);
		vcpu_complete(self->v);
		put_in(self->v, (enum kind)(i % 3));
		ASSERT_EQ(-EFAULT, vcpu_try_run(self->v));
		ASSERT_EQ(-EFAULT, vcpu_try_run(self->v));
		ASSERT_OK(mprotect(p + i * PAGE, PAGE, PROT_READ | PROT_WRITE));
		ASSERT_EQ(i + 1, vcpu_sync(self->v));
	}
}

/* Software interrupts and exceptions into an IDT that is not mapped yet. */
static void guest_soft(void)
{
	for (;;) {
		asm volatile("int $0x42; int3; ud2" : : : "memory");
		ucall_sync(got.irqs * 10000 + got.exceptions);
	}
}

static void on_ud2(struct guest_regs *regs)
{
	on_exception(regs);
	regs->rip += 2;
}

TEST_F(inject, software_interrupts_whose_idt_is_not_yet_mapped_are_delivered_once)
{
	uint8_t *p = map_anon(60 * PAGE);
	struct kvm_sregs s;

	madvise(p, 60 * PAGE, MADV_NOHUGEPAGE);
	vm_slot(self->vm, 1, 0, SLOT_GPA, 60 * PAGE, p);
	set_handler(self->vm, 0x42, on_irq);
	set_handler(self->vm, VEC_BP, on_irq);
	set_handler(self->vm, VEC_UD, on_ud2);
	vcpu_call(self->v, guest_soft);
	for (uint64_t i = 0; i < 60; i++) {
		memcpy(p + i * PAGE, vm_hva(self->vm, IDT_GPA), PAGE);
		vcpu_get_sregs(self->v, &s);
		s.idt.base = SLOT_GPA + i * PAGE;
		vcpu_set_sregs(self->v, &s);
		ASSERT_EQ((2 * i + 2) * 10000 + i + 1, vcpu_sync(self->v));
	}
}

/*
 * An instruction that raises its own event keeps its place when an exit cuts the delivery short: whatever waits comes behind it,
 * and the handler returns behind it.
 */
static void on_order(struct guest_regs *regs)
{
	if (order.n < 4) {
		order.vector[order.n] = regs->vector;
		order.rip[order.n] = regs->rip;
	}
	order.n++;
}

extern char behind_int[], behind_int3[];
static void guest_sti_int(uint64_t rsp, uint64_t kind)
{
	if (kind == 0)
		asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; sti; int $0x42\n"
			     ".globl behind_int\nbehind_int: cli; mov %%rbx, %%rsp" : : "r"(rsp) : "rbx", "memory");
	else
		asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; sti; int3\n"
			     ".globl behind_int3\nbehind_int3: cli; mov %%rbx, %%rsp" : : "r"(rsp) : "rbx", "memory");
	ucall_sync(order.n);
}

TEST_F(inject, an_int_in_the_shadow_of_sti_whose_delivery_exits_comes_before_the_interrupt_that_waits)
{
	uintptr_t behind[2] = { (uintptr_t)behind_int, (uintptr_t)behind_int3 };
	struct kvm_run *run = self->v->run;
	uint8_t *p = map_anon(60 * PAGE);

	if (on_old_tcg())
		SKIP(return, "QEMU 7.2 does not load the shadow on VMRUN");
	madvise(p, 60 * PAGE, MADV_NOHUGEPAGE);
	vm_slot(self->vm, 1, 0, SLOT_GPA, 60 * PAGE, p);
	set_handler(self->vm, IRQ, on_order);
	set_handler(self->vm, 0x42, on_order);
	set_handler(self->vm, VEC_BP, on_order);
	for (uint64_t i = 0; i < 60; i++) {
		uint64_t kind = i % 2;

		G(self->vm, order).n = 0;
		vcpu_call(self->v, guest_sti_int, SLOT_GPA + (i + 1) * PAGE, kind);
		run->request_interrupt_window = 1;
		vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
		run->request_interrupt_window = 0;
		ASSERT_OK(inject(self->v, IRQ));
		ASSERT_EQ(2, vcpu_sync(self->v));
		ASSERT_EQ(kind == 1 ? VEC_BP : 0x42, G(self->vm, order).vector[0]);
		ASSERT_EQ(IRQ, G(self->vm, order).vector[1]);
		ASSERT_EQ(behind[kind], G(self->vm, order).rip[0]);
		ASSERT_EQ(behind[kind], G(self->vm, order).rip[1]);
	}
}

/* The exit comes when the gate is read, and the gate turns out not to be present. */
extern char int_absent[];
static void guest_int_absent(void)
{
	asm volatile(".globl int_absent\nint_absent: int $0x42" : : : "memory");
	ucall_sync(got.exceptions);
}

TEST_F(inject, a_fault_of_an_int_whose_delivery_exited_points_to_the_int)
{
	uint8_t *p = map_anon(20 * PAGE);

	madvise(p, 20 * PAGE, MADV_NOHUGEPAGE);
	vm_slot(self->vm, 1, 0, SLOT_GPA, 20 * PAGE, p);
	set_handler(self->vm, VEC_NP, on_ud2);
	for (uint64_t i = 0; i < 20; i++) {
		memcpy(p + i * PAGE, vm_hva(self->vm, IDT_GPA), PAGE);
		p[i * PAGE + 0x42 * 16 + 5] &= 0x7f;
		vcpu_call(self->v, guest_int_absent);
		use_idt(self->v, SLOT_GPA + i * PAGE);
		ASSERT_EQ(i + 1, vcpu_sync(self->v));
		EXPECT_EQ(VEC_NP, G(self->vm, got).vector);
		EXPECT_EQ(0x42 * 8 + 2, G(self->vm, got).error);
		EXPECT_EQ((uintptr_t)int_absent, G(self->vm, got).rip);
	}
}

/* It belongs to the instruction there: a vCPU that is put somewhere else has not begun it. */
extern char int_somewhere[];
static void guest_int_somewhere(uint64_t rsp)
{
	asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp\n"
		     ".globl int_somewhere\nint_somewhere: int $0x42\n"
		     "mov %%rbx, %%rsp" : : "r"(rsp) : "rbx", "memory");
	ucall_sync(order.n);
}

TEST_F(inject, an_int_whose_delivery_exited_is_over_when_user_space_moves_the_vcpu)
{
	uint8_t *p = map_anon(2 * PAGE);
	struct kvm_vcpu_events e;
	struct kvm_regs r;

	vm_slot(self->vm, 1, 0, SLOT_GPA, 2 * PAGE, p);
	set_handler(self->vm, 0x42, on_order);
	for (uint64_t moved = 0; moved < 2; moved++) {
		G(self->vm, order).n = 0;
		ASSERT_OK(mprotect(p, 2 * PAGE, PROT_NONE));
		vcpu_call(self->v, guest_int_somewhere, SLOT_GPA + 2 * PAGE);
		ASSERT_EQ(-EFAULT, vcpu_try_run(self->v));
		ASSERT_EQ(-EFAULT, vcpu_try_run(self->v));
		ASSERT_OK(mprotect(p, 2 * PAGE, PROT_READ | PROT_WRITE));
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		EXPECT_EQ(0, e.interrupt.injected | e.exception.injected);
		vcpu_get(self->v, &r);
		EXPECT_EQ((uintptr_t)int_somewhere, r.rip);
		r.rip += moved * 2;
		vcpu_set(self->v, &r);
		ASSERT_EQ(!moved, vcpu_sync(self->v));
		if (!moved)
			EXPECT_EQ((uintptr_t)int_somewhere + 2, G(self->vm, order).rip[0]);
	}
}

/* A debugger in user space gives the guest its own breakpoint: RIP is at the INT3, and the handler returns behind it. */
extern char int3_here[];
static void guest_int3_here(void)
{
	ucall_sync(0);
	asm volatile(".globl int3_here\nint3_here: int3" : : : "memory");
	ucall_sync(order.n);
}

TEST_F(inject, a_breakpoint_that_user_space_puts_in_returns_behind_the_int3)
{
	struct kvm_vcpu_events e;
	struct kvm_regs r;

	set_handler(self->vm, VEC_BP, on_order);
	vcpu_call(self->v, guest_int3_here);
	EXPECT_EQ(0, vcpu_sync(self->v));
	vcpu_complete(self->v);
	vcpu_get(self->v, &r);
	r.rip = (uintptr_t)int3_here;
	vcpu_set(self->v, &r);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.exception.injected = 1;
	e.exception.nr = VEC_BP;
	e.exception.has_error_code = 0;
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, vcpu_sync(self->v));
	EXPECT_EQ(VEC_BP, G(self->vm, order).vector[0]);
	EXPECT_EQ((uintptr_t)int3_here + 1, G(self->vm, order).rip[0]);
}

/* Where there is no memory at all, no instruction can be emulated instead. */
static void guest_ud_on_stack(uint64_t rsp)
{
	asm volatile("mov %0, %%rsp; ud2" : : "r"(rsp) : "memory");
}

static void expect_delivery_error(struct __test_metadata *_metadata, struct vcpu *v, uint64_t event)
{
	struct kvm_run *run = v->run;

	vcpu_expect(v, KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(KVM_INTERNAL_ERROR_DELIVERY_EV, run->internal.suberror);
	EXPECT_LE(4, run->internal.ndata);
	EXPECT_EQ(event, run->internal.data[0] & 0x800007ff);
}

TEST_F(inject, an_event_whose_stack_or_idt_is_no_memory_is_an_internal_error)
{
	uint64_t ud2;

	set_handlers(self->vm);
	for (int i = 0; i < 3; i++) {
		vcpu_call(self->v, guest_ud_on_stack, MMIO_GPA + 0x800);
		expect_delivery_error(_metadata, self->v, 0x80000306);
		ud2 = vcpu_rip(self->v);
		EXPECT_EQ(0, memcmp(vm_hva(self->vm, ud2), "\x0f\x0b", 2));
		take_back_exception(self->v);
	}
	vcpu_call(self->v, guest_int);
	EXPECT_EQ(0, vcpu_sync(self->v));
	use_idt(self->v, MMIO_GPA);
	vcpu_complete(self->v);
	put_in(self->v, BY_IRQ);
	expect_delivery_error(_metadata, self->v, 0x80000000 | IRQ);
	/* Nothing is lost. */
	use_idt(self->v, IDT_GPA);
	EXPECT_EQ(1, vcpu_sync(self->v));
	EXPECT_EQ(1, G(self->vm, got).irqs);
	EXPECT_EQ(0, G(self->vm, got).exceptions);
}

/* Debug exceptions of the guest itself. */
static void on_db(struct guest_regs *regs)
{
	uint64_t dr6;

	asm volatile("mov %%db6, %0" : "=r"(dr6));
	got.exceptions++;
	got.rip = regs->rip;
	got.error = dr6;
	asm volatile("mov %0, %%db6" : : "r"(0xffff0ff0ul));
	if (got.nested && !--got.nested)
		regs->rflags &= ~RFLAGS_TF;
	regs->rflags |= RFLAGS_RF;
}

extern char tf_end[], bp_here[], wp_after[];
static volatile uint64_t watched;

static void guest_debug(void)
{
	guest_handlers[VEC_DB] = on_db;
	guest_handlers[VEC_BP] = on_exception;
	got.nested = 5;
	asm volatile("pushfq; orq $0x100, (%%rsp); popfq\n"
		     "nop; nop; cpuid; nop\n"
		     ".globl tf_end\ntf_end: nop; nop; nop"
		     : : "a"(0), "c"(0) : "rbx", "rdx", "memory", "cc");
	GUEST_EQ(5, got.exceptions);
	GUEST_EQ(1 << 14, got.error & 1 << 14);
	GUEST_EQ((uintptr_t)tf_end + 1, got.rip);
	got.exceptions = 0;
	asm volatile("int3; .globl bp_here\nbp_here:" : : : "memory");
	GUEST_EQ(1, got.exceptions);
	GUEST_EQ((uintptr_t)bp_here, got.rip);
	ucall_sync(1);
	/* A data breakpoint: DR1, four bytes, on writes. */
	got.exceptions = 0;
	asm volatile("mov %0, %%db1; mov %1, %%db7" : : "r"(&watched), "r"(0x400ul | 2 << 2 |
		     0xdul << 20));
	asm volatile("movl $5, %0; .globl wp_after\nwp_after: nop" : "=m"(watched) : : "memory");
	GUEST_EQ(1, got.exceptions);
	GUEST_EQ((uintptr_t)wp_after, got.rip);
	GUEST_EQ(2, got.error & 0xf);
	asm volatile("mov %0, %%db7" : : "r"(0x400ul));
	ucall_sync(2);
}

TEST_F(inject, the_guest_debugs_itself)
{
	vcpu_call(self->v, guest_debug);
	EXPECT_EQ(1, vcpu_sync(self->v));
	EXPECT_EQ(2, vcpu_sync(self->v));
	vcpu_finish(self->v);
}

/* CR8. */
static void guest_cr8(void)
{
	GUEST_EQ(0, read_cr8());
	write_cr8(9);		/* up: no exit */
	GUEST_EQ(9, read_cr8());
	ucall_sync(1);
	GUEST_EQ(4, read_cr8());	/* user space has changed it */
	write_cr8(3);		/* down: an exit */
	GUEST_EQ(3, read_cr8());
	write_cr8(3);
	ucall_sync(2);
	GUEST_TRY("mov %0, %%cr8", : : "r"(16ul));
	GUEST_EQ(VEC_GP, guest_vector());
	GUEST_EQ(3, read_cr8());
}

TEST_F(inject, lowering_cr8_is_an_exit_and_raising_it_is_not)
{
	struct kvm_run *run = self->v->run;
	struct kvm_sregs s;

	vcpu_call(self->v, guest_cr8);
	EXPECT_EQ(1, vcpu_sync(self->v));
	EXPECT_EQ(9, run->cr8);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(9, s.cr8);
	run->cr8 = 4;
	vcpu_expect(self->v, KVM_EXIT_SET_TPR);
	EXPECT_EQ(3, run->cr8);
	EXPECT_EQ(2, vcpu_sync(self->v));
	EXPECT_EQ(3, run->cr8);
	run->cr8 = 16;
	EXPECT_EQ(-EINVAL, vcpu_try_run(self->v));
	run->cr8 = 3;
	vcpu_finish(self->v);
}

GUEST_TEST_MAIN
