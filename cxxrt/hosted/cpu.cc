/* SPDX-License-Identifier: GPL-2.0-only */
/* Preemption, interrupts, guest mode and kicks. */
#include "state.hpp"
#include "thread.hpp"

namespace kx::hosted {

namespace {

struct Cpu {
	std::atomic<unsigned> phase{0}; /* odd: interrupts are off */
	std::atomic<bool> kicked{false};
};
Cpu cpus[hosted_cpus];
thread_local unsigned kick_mask;
thread_local bool kicking;
thread_local Thread thread;

Cpu &here() { return cpus[thread.cpu]; }

void off()
{
	if (context.irqs_off)
		fail("interrupts are off already");
	if (!context.preempt_off)
		fail("interrupts go off with preemption on");
	context.irqs_off = true;
	++here().phase;
}
void on()
{
	if (!context.irqs_off)
		fail("interrupts are on already");
	if (context.in_guest)
		fail("interrupts go on in a guest's context");
	context.irqs_off = false;
	here().kicked = false;
	++here().phase;
}

/* Returns when that CPU has taken the interrupt. */
void interrupt(unsigned cpu)
{
	Cpu &c = cpus[cpu];
	c.kicked = true;
	const unsigned phase = c.phase;
	if (phase & 1)
		wait_until([&c, phase] { return c.phase != phase; });
	else
		c.kicked = false;
}

}

Thread &this_thread() { return thread; }
bool interrupts_off() { return context.irqs_off; }
bool preemption_off() { return context.preempt_off; }
bool in_guest_context() { return context.in_guest; }
bool interrupt_waits() { return here().kicked; }

}

using namespace kx::hosted;

extern "C" {

unsigned kx_preempt_off(void)
{
	++context.preempt_off;
	return thread.cpu;
}
void kx_preempt_on(void)
{
	if (!context.preempt_off || context.irqs_off)
		fail("preemption goes on where it is, or without interrupts");
	--context.preempt_off;
}
void kx_irq_off(void) { off(); }
void kx_irq_on(void) { on(); }

void kx_guest_enter(void)
{
	if (!context.irqs_off || context.in_guest)
		fail("kx_guest_enter with interrupts on, or in a guest");
	context.in_guest = true;
}
void kx_guest_out(void)
{
	if (!context.in_guest)
		fail("out of a guest that was not entered");
	context.in_guest = false;
}
void kx_guest_interrupts(void) { on(); }
void kx_guest_leave(void)
{
	kx_guest_out();
	on();
}

void kx_kick_cpu(unsigned cpu)
{
	if (cpus[cpu].phase & 1) /* else it is taken at once */
		cpus[cpu].kicked = true;
}
void kx_kick_begin(void)
{
	kx_preempt_off();
	if (kicking)
		fail("kicks are collected already");
	kicking = true;
	kick_mask = 0;
}
void kx_kick_add(unsigned cpu)
{
	if (!kicking || cpu >= hosted_cpus)
		fail("a kick without a beginning, or of no CPU");
	kick_mask |= 1u << cpu;
}
void kx_kick_end(void)
{
	if (!kicking || context.irqs_off)
		fail("kicks end that never began, or with interrupts off");
	for (unsigned c = 0; c < hosted_cpus; ++c)
		if (kick_mask >> c & 1)
			interrupt(c);
	kicking = false;
	kx_preempt_on();
}

}
