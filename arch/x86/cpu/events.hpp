/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What waits to be delivered to a vCPU. «New» is an exception that nothing has come of yet: its payload stays
 * with it, it has met no other, and whoever may turn it away can still be asked. «Injected» was handed to the
 * CPU, which left before it was through: it goes in again, before anything new. The two are of different types,
 * and settle() is the one way from the first to the guest: there they merge into #DF or shutdown, APM vol. 2
 * §8.2.9, SDM vol. 3 §6.15. One event goes in at an entry, the others stay.
 */
#pragma once
#include <linux/kvm.h>
#include "cxxrt/result.hpp"
#include "regs.hpp"

namespace kx {

enum class Merge : u8 {
	queued,	      /* the new one is delivered next */
	double_fault, /* #DF took the place of both */
	shutdown,     /* a third one: the VM resets */
};

/* The exception that was being delivered against the new one. */
Merge merge(Vector first, Vector second);
constexpr bool is_software(Vector v) { return v == Vector::bp || v == Vector::of; }

/* No payload: that was in its register before it went in the first time. */
struct InjectedException {
	Vector vector = Vector::de;
	bool has_error = false;
	u32 error = 0;
};

/* INT n, INT3 or INTO, which an exit cut short: RIP is at the instruction still, and so it is for a fault of the
 * delivery; the handler returns behind it. Executed again it would let something else come between, from behind a
 * shadow that is over. It is the instruction's: a vCPU that is put somewhere else has not begun it. */
struct SoftwareEvent {
	enum class By : u8 { interrupt, exception }; /* INT n; INT3, INTO */
	By by = By::interrupt;
	u8 vector = 0;
	u8 length = 0;
	u64 at = 0; /* the instruction's linear address */
};

class Events {
public:
	enum class Delivery : u8 { none, exception, nmi, interrupt, software };

private:
	/* What there is, so that one look tells whether there is anything. */
	static constexpr unsigned new_exception = 1, payload = 2, /* of the new one: not yet where the handler looks */
		exception_injected = 4, interrupt_waits = 8, nmi_under_way = 16, shutdown = 32, software_under_way = 64;
	u8 have_ = 0;
	u8 nmi_pending_ = 0; /* at most two: one being handled, one latched */
	bool nmi_masked_ = false;
	Delivery delivery_ = Delivery::none; /* in the CPU's hands, from before an entry until behind it */
	u8 interrupt_ = 0;
	InjectedException injected_;
	Exception new_{};
	SoftwareEvent software_;

	void drop(unsigned w) { have_ = u8(have_ & ~w); }
	void add(unsigned w) { have_ = u8(have_ | w); }

public:
	void reset() { *this = Events{}; }

	/* A new exception, in place of one that nothing has come of: that one's instruction runs again. */
	void raise(const Exception &e)
	{
		new_ = e;
		add(new_exception | (e.vector == Vector::pf || e.vector == Vector::db ? payload : 0u));
	}
	bool raised() const { return have_ & new_exception; }
	const Exception &new_exception_raised() const { return new_; }
	/* Whose payload is not yet where the handler looks; the caller puts it there. */
	bool take_payload()
	{
		const bool owed = have_ & payload;
		drop(payload);
		return owed;
	}
	/* The new one, that nobody has turned away, meets the one that was being delivered. On shutdown it is gone. */
	Merge settle();
	/* It goes into the CPU now. */
	void inject_exception();
	/* One half delivered stays: it is of the past, whatever the registers are. */
	void forget_new_exception() { drop(new_exception | payload); }

	/* Delivery was cut short by an exit (EXITINTINFO, IDT-vectoring): first thing to go in
	 * again. The caller has cleared what was injected (take_delivery). */
	void requeue(const InjectedException &e)
	{
		injected_ = e;
		add(exception_injected);
	}
	void requeue_interrupt(u8 vector);
	void requeue_nmi() { add(nmi_under_way); }
	void requeue_software(const SoftwareEvent &e)
	{
		software_ = e;
		add(software_under_way);
	}
	void forget_software() { drop(software_under_way); }

	/* KVM_INTERRUPT with the APIC in user space, which has asked whether the guest can take it:
	 * it goes in as soon as the guest still can, in place of whatever interrupt waited. */
	void queue_interrupt(u8 vector);
	void queue_nmi();
	/* One latched NMI goes in: it becomes injected and masks the next. */
	void inject_nmi();

	/* That one of the injected goes into the CPU now. */
	void deliver(Delivery d) { delivery_ = d; }
	bool delivering() const { return delivery_ != Delivery::none; }
	/* After an exit: it arrived, unless it is queued again by requeue*. */
	void take_delivery();
	/* No entry came of it: it is still to be delivered. */
	void drop_delivery() { delivery_ = Delivery::none; }

	/* A third exception: the VM resets. */
	void shut_down() { add(shutdown); }
	bool take_shutdown()
	{
		const bool s = have_ & shutdown;
		drop(shutdown);
		return s;
	}

	bool injected() const { return have_ & exception_injected; }
	const InjectedException &exception() const { return injected_; }
	bool interrupt_queued() const { return have_ & interrupt_waits; }
	u8 interrupt() const { return interrupt_; }
	bool software_injected() const { return have_ & software_under_way; }
	const SoftwareEvent &software() const { return software_; }
	unsigned nmi_pending() const { return nmi_pending_; }
	bool nmi_injected() const { return have_ & nmi_under_way; }
	bool nmi_masked() const { return nmi_masked_; }
	void mask_nmi() { nmi_masked_ = true; }
	void unmask_nmi() { nmi_masked_ = false; }
	/* Something was half delivered and must go in first. */
	bool needs_reinjection() const
	{
		return have_ & (exception_injected | interrupt_waits | nmi_under_way | software_under_way);
	}
	bool any() const { return have_ | nmi_pending_; }

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
