/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What waits to be delivered to a vCPU. «Pending» is new; «injected» was handed to the CPU, which
 * left before it was through: it goes in again, before anything new. One of them goes in at an
 * entry, the others stay. Exceptions that meet merge into #DF or shutdown: APM vol. 2 §8.2.9, SDM
 * vol. 3 §6.15.
 */
#pragma once
#include <linux/kvm.h>
#include "cxxrt/result.hpp"
#include "regs.hpp"

namespace kx {

enum class Merge : u8 {
	queued,	      /* delivered next; for #PF the caller sets CR2 now */
	double_fault, /* #DF took the place of both */
	shutdown,     /* a third one: the VM resets */
};

/* The queued exception against the new one. */
Merge merge(Vector first, Vector second);
constexpr bool is_software(Vector v) { return v == Vector::bp || v == Vector::of; }

struct QueuedException {
	Vector vector = Vector::de;
	bool pending = false, injected = false, has_error = false;
	u32 error = 0;
	constexpr bool any() const { return pending || injected; }
};

struct QueuedInterrupt {
	bool injected = false;
	bool soft = false; /* INT n */
	u8 vector = 0;
};

class Events {
public:
	enum class Delivery : u8 { none, exception, nmi, interrupt };

private:
	QueuedException exception_;
	QueuedInterrupt interrupt_;
	u8 nmi_pending_ = 0; /* at most two: one being handled, one latched */
	bool nmi_injected_ = false, nmi_masked_ = false;
	Delivery delivery_ = Delivery::none; /* in the CPU's hands, from before an entry until behind it */

public:
	void reset() { *this = Events{}; }

	/* A new exception. On shutdown nothing is queued. */
	Merge queue(const Exception &e);
	/* Delivery was cut short by an exit (EXITINTINFO, IDT-vectoring): first thing to go in
	 * again. The caller has cleared what was injected (take_delivery). */
	Merge requeue(const Exception &e);
	void requeue_interrupt(u8 vector);
	void requeue_nmi() { nmi_injected_ = true; }

	/* KVM_INTERRUPT with the APIC in user space, which has asked whether the guest can take it:
	 * it goes in as soon as the guest still can, in place of whatever interrupt waited. */
	void queue_interrupt(u8 vector);
	void queue_nmi();
	/* One latched NMI goes in: it becomes injected and masks the next. */
	void inject_nmi();

	/* The pending exception goes into the CPU now. */
	void inject_exception() { exception_.pending = false, exception_.injected = true; }
	/* That one of the injected goes into the CPU now. */
	void deliver(Delivery d) { delivery_ = d; }
	bool delivering() const { return delivery_ != Delivery::none; }
	/* After an exit: it arrived, unless it is queued again by requeue*. */
	void take_delivery();
	/* No entry came of it: it is still to be delivered. */
	void drop_delivery() { delivery_ = Delivery::none; }

	const QueuedException &exception() const { return exception_; }
	const QueuedInterrupt &interrupt() const { return interrupt_; }
	unsigned nmi_pending() const { return nmi_pending_; }
	bool nmi_injected() const { return nmi_injected_; }
	bool nmi_masked() const { return nmi_masked_; }
	void mask_nmi() { nmi_masked_ = true; }
	void unmask_nmi() { nmi_masked_ = false; }
	/* Something was half delivered and must go in first. */
	bool needs_reinjection() const
	{
		return exception_.injected || interrupt_.injected || nmi_injected_;
	}
	bool any() const
	{
		return exception_.any() || interrupt_.injected || nmi_injected_ || nmi_pending_;
	}
	/* One half delivered stays: it is of the past, whatever the registers are. */
	void forget_new_exception() { exception_.pending = false; }

	/* KVM_GET_VCPU_EVENTS; shadow as KVM_X86_SHADOW_INT_*. */
	void get(kvm_vcpu_events &out, u8 shadow) const;
	struct Set {
		bool has_shadow = false; /* then the interrupt shadow becomes: */
		u8 shadow = 0;
	};
	/* KVM_SET_VCPU_EVENTS. inval: nothing changed. */
	Result<Set> set(const kvm_vcpu_events &in);
};

}
