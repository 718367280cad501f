// SPDX-License-Identifier: GPL-2.0-only
/* The thread that runs a vCPU: its CPU, its signals, its way into guest mode and back. */
#include <linux/cpumask.h>
#include <linux/entry-kvm.h>
#include <linux/kvm_host.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#include <trace/events/ipi.h>	/* smp_send_reschedule traces */
#endif
#include <asm/debugreg.h>
#include <asm/nospec-branch.h>
#include "glue.h"

static void sched_in(struct preempt_notifier *pn, int cpu)
{
	kxc_sched_in(container_of(pn, struct kx_thread, pn)->owner, cpu);
}

static void sched_out(struct preempt_notifier *pn, struct task_struct *next)
{
	kxc_sched_out(container_of(pn, struct kx_thread, pn)->owner);
}

static struct preempt_ops preempt_ops = { .sched_in = sched_in, .sched_out = sched_out };

void kx_thread_init(void *t, void *owner)
{
	struct kx_thread *thread = t;

	preempt_notifier_init(&thread->pn, &preempt_ops);
	thread->owner = owner;
}

void kx_thread_load(void *t)
{
	struct kx_thread *thread = t;
	int cpu = get_cpu();

	preempt_notifier_register(&thread->pn);
	kxc_sched_in(thread->owner, cpu);
	put_cpu();
}

void kx_thread_put(void *t)
{
	struct kx_thread *thread = t;

	preempt_disable();
	kxc_sched_out(thread->owner);
	preempt_notifier_unregister(&thread->pn);
	preempt_enable();
}

const unsigned long *kx_thread_flags(void)
{
	return &current_thread_info()->flags;
}

/* The kernel's helper reports a signal into the vCPU structure of the in-tree module. It gets one
 * that nobody reads: all vCPUs store the same constant there. */
static struct kvm_vcpu *nobody;

int kx_thread_handle_work(void)
{
	return xfer_to_guest_mode_handle_work(nobody);
}

unsigned int kx_preempt_off(void)
{
	return get_cpu();
}

void kx_preempt_on(void)
{
	preempt_enable();
}

void kx_irq_off(void)
{
	local_irq_disable();
}

void kx_irq_on(void)
{
	local_irq_enable();
}

/* From here RCU may ignore this CPU: nothing instrumented until kx_guest_leave. */
notrace void kx_guest_enter(void)
{
	guest_timing_enter_irqoff();
	guest_state_enter_irqoff();
}

static __always_inline void guest_out(void)
{
	guest_state_exit_irqoff();
	/* An exit leaves DR7 with nothing enabled, whoever used the registers. */
	if (hw_breakpoint_active())
		hw_breakpoint_restore();
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	/* The guest's predictions must not reach the VMM: VMSCAPE. */
	if (cpu_feature_enabled(X86_FEATURE_IBPB_EXIT_TO_USER))
		this_cpu_write(x86_ibpb_exit_to_user, true);
#endif
}

static __always_inline void guest_interrupts(void)
{
	/* The interrupt that ended guest mode is taken here, while the tick still counts as guest time. */
	local_irq_enable();
	asm volatile("nop" : : : "memory");
	local_irq_disable();
	guest_timing_exit_irqoff();
	local_irq_enable();
}

notrace void kx_guest_leave(void)
{
	guest_out();
	guest_interrupts();
}

notrace void kx_guest_out(void)
{
	guest_out();
}

void kx_guest_interrupts(void)
{
	guest_interrupts();
}

void kx_kick_cpu(unsigned int cpu)
{
	smp_send_reschedule(cpu);
}

static DEFINE_PER_CPU(cpumask_var_t, kick_mask);

/* Between begin and end preemption is off. */
void kx_kick_begin(void)
{
	get_cpu();
	cpumask_clear(this_cpu_cpumask_var_ptr(kick_mask));
}

void kx_kick_add(unsigned int cpu)
{
	cpumask_set_cpu(cpu, this_cpu_cpumask_var_ptr(kick_mask));
}

static void ack(void *unused)
{
}

void kx_kick_end(void)
{
	struct cpumask *mask = this_cpu_cpumask_var_ptr(kick_mask);

	if (!cpumask_empty(mask))
		smp_call_function_many(mask, ack, NULL, 1);
	put_cpu();
}

int kx_call_on(unsigned int cpu, void (*fn)(void *arg), void *arg)
{
	return smp_call_function_single(cpu, fn, arg, 1);
}

/* Its own mask stays in real_blocked, as sigtimedwait() has it: a signal in there is kept for the handler even
 * where it would be ignored, and is not taken for the end of the process. */
void kx_sigmask_enter(const kx_u64 *set)
{
	sigset_t to;

	memcpy(&to, set, sizeof(to));
	sigprocmask(SIG_SETMASK, &to, &current->real_blocked);
}

void kx_sigmask_leave(void)
{
	sigprocmask(SIG_SETMASK, &current->real_blocked, NULL);
	sigemptyset(&current->real_blocked);
}

static void free_all(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		free_cpumask_var(per_cpu(kick_mask, cpu));
	if (nobody)
		free_page((unsigned long)nobody->run);
	kvfree(nobody);
}

int kx_thread_module_init(void)
{
	int cpu;

	nobody = kvzalloc(sizeof(*nobody), GFP_KERNEL);
	if (!nobody)
		return -ENOMEM;
	nobody->run = (void *)get_zeroed_page(GFP_KERNEL);
	if (!nobody->run)
		goto fail;
	for_each_possible_cpu(cpu)
		if (!zalloc_cpumask_var_node(per_cpu_ptr(&kick_mask, cpu), GFP_KERNEL, cpu_to_node(cpu)))
			goto fail;
	preempt_notifier_inc();
	return 0;
fail:
	free_all();
	return -ENOMEM;
}

void kx_thread_module_exit(void)
{
	preempt_notifier_dec();
	free_all();
}
