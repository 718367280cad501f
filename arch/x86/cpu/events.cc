/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/events.hpp"

namespace kx {

namespace {

enum class Kind : u8 { benign, contributory, page_fault };

constexpr Kind kind_of(Vector v)
{
	switch (v) {
	case Vector::pf:
		return Kind::page_fault;
	case Vector::de:
	case Vector::ts:
	case Vector::np:
	case Vector::ss:
	case Vector::gp:
		return Kind::contributory;
	default:
		return Kind::benign;
	}
}

QueuedException as_queued(const Exception &e)
{
	QueuedException q;
	q.vector = e.vector;
	q.has_error = e.has_error;
	q.error = e.error;
	return q;
}

constexpr u32 known_flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
			    KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;

}

Merge merge(Vector first, Vector second)
{
	if (first == Vector::df)
		return Merge::shutdown;
	const Kind a = kind_of(first), b = kind_of(second);
	const bool doubled = (a == Kind::contributory && b == Kind::contributory) ||
			     (a == Kind::page_fault && b != Kind::benign);
	return doubled ? Merge::double_fault : Merge::queued;
}

Merge Events::queue(const Exception &e)
{
	/* Where they do not merge, the new one goes first: the old one's instruction runs again. */
	const Merge m = exception_.any() ? merge(exception_.vector, e.vector) : Merge::queued;
	if (m == Merge::shutdown)
		return m;
	exception_ = as_queued(m == Merge::double_fault ? Exception::coded(Vector::df, 0) : e);
	exception_.pending = true;
	return m;
}

Merge Events::requeue(const Exception &e)
{
	if (exception_.any())
		return queue(e);
	exception_ = as_queued(e);
	exception_.injected = true;
	return Merge::queued;
}

void Events::requeue_interrupt(u8 vector) { interrupt_ = {.injected = true, .vector = vector}; }

void Events::queue_interrupt(u8 vector) { requeue_interrupt(vector); }

void Events::queue_nmi()
{
	/* One in service and one latched; while one is in service, just the latch. */
	const u8 limit = nmi_masked_ || nmi_injected_ ? 1 : 2;
	nmi_pending_ = nmi_pending_ + 1 < limit ? u8(nmi_pending_ + 1) : limit;
}

void Events::inject_nmi()
{
	if (nmi_pending_)
		--nmi_pending_;
	nmi_injected_ = nmi_masked_ = true;
}

void Events::take_delivery()
{
	switch (delivery_) {
	case Delivery::none: break;
	case Delivery::exception: exception_.pending = exception_.injected = false; break;
	case Delivery::nmi: nmi_injected_ = false; break;
	case Delivery::interrupt: interrupt_.injected = false; break;
	}
	delivery_ = Delivery::none;
}

void Events::get(kvm_vcpu_events &out, u8 shadow) const
{
	out = {};
	/* A software exception has no length in this structure: left out, the instruction raises it
	 * anew. Without the payload capability, pending and injected are one to a VMM. */
	out.exception.injected = !is_software(exception_.vector) && exception_.any();
	out.exception.pending = !is_software(exception_.vector) && exception_.pending;
	out.exception.nr = u8(exception_.vector);
	out.exception.has_error_code = exception_.has_error;
	out.exception.error_code = exception_.error;

	out.interrupt.injected = interrupt_.injected && !interrupt_.soft;
	out.interrupt.nr = interrupt_.vector;
	out.interrupt.shadow = shadow;

	out.nmi.injected = nmi_injected_;
	out.nmi.pending = nmi_pending_ != 0;
	out.nmi.masked = nmi_masked_;
	out.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
}

Result<Events::Set> Events::set(const kvm_vcpu_events &in)
{
	/* Payloads and triple faults come with capabilities that are not offered; neither is SMM,
	 * but a VMM may say that the vCPU is not in it. */
	if (in.flags & ~known_flags)
		return Errc::inval;
	if ((in.flags & KVM_VCPUEVENT_VALID_SMM) && (in.smi.smm || in.smi.pending))
		return Errc::inval;
	if (in.exception.injected &&
	    (in.exception.nr > 31 || Vector(in.exception.nr) == Vector::nmi))
		return Errc::inval;

	exception_ = {};
	exception_.vector = Vector(in.exception.nr);
	exception_.injected = in.exception.injected;
	exception_.has_error = in.exception.has_error_code;
	exception_.error = in.exception.error_code;

	interrupt_ = {.injected = in.interrupt.injected != 0,
		      .soft = in.interrupt.soft != 0,
		      .vector = in.interrupt.nr};

	nmi_injected_ = in.nmi.injected;
	if (in.flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		nmi_pending_ = in.nmi.pending < 2 ? in.nmi.pending : 2;
	nmi_masked_ = in.nmi.masked;

	return Set{(in.flags & KVM_VCPUEVENT_VALID_SHADOW) != 0, in.interrupt.shadow};
}

}
