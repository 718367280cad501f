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

Merge Events::settle()
{
	if (!raised())
		return Merge::queued;
	const Merge m = injected() ? merge(injected_.vector, new_.vector) : Merge::queued;
	if (m == Merge::shutdown) {
		forget_new_exception();
		return m;
	}
	/* Where they do not merge, the new one goes first: the old one's instruction runs again. */
	if (m == Merge::double_fault)
		new_ = Exception::coded(Vector::df, 0);
	drop(exception_injected | software_under_way);
	return m;
}

void Events::inject_exception()
{
	injected_ = {new_.vector, new_.has_error, new_.error};
	drop(new_exception | payload);
	add(exception_injected);
}

void Events::requeue_interrupt(u8 vector)
{
	interrupt_ = vector;
	add(interrupt_waits);
}

void Events::queue_interrupt(u8 vector) { requeue_interrupt(vector); }

void Events::queue_nmi()
{
	/* One in service and one latched; while one is in service, just the latch. */
	const u8 limit = nmi_masked_ || nmi_injected() ? 1 : 2;
	nmi_pending_ = nmi_pending_ + 1 < limit ? u8(nmi_pending_ + 1) : limit;
}

void Events::inject_nmi()
{
	if (nmi_pending_)
		--nmi_pending_;
	nmi_masked_ = true;
	add(nmi_under_way);
}

void Events::take_delivery()
{
	switch (delivery_) {
	case Delivery::none: break;
	case Delivery::exception: drop(exception_injected); break;
	case Delivery::nmi: drop(nmi_under_way); break;
	case Delivery::interrupt: drop(interrupt_waits); break;
	case Delivery::software: drop(software_under_way); break;
	}
	delivery_ = Delivery::none;
}

void Events::get(kvm_vcpu_events &out, u8 shadow) const
{
	out = {};
	/* One is told of. The caller has settled what is new: an injected one beside it has given way. */
	const InjectedException x = raised() ? InjectedException{new_.vector, new_.has_error, new_.error} : injected_;
	/* What an instruction raises has no length in this structure: left out, the instruction raises it
	 * anew. Without the payload capability, pending and injected are one to a VMM. */
	out.exception.injected = !is_software(x.vector) && (raised() || injected());
	out.exception.pending = !is_software(x.vector) && raised();
	out.exception.nr = u8(x.vector);
	out.exception.has_error_code = x.has_error;
	out.exception.error_code = x.error;

	out.interrupt.injected = interrupt_queued();
	out.interrupt.nr = interrupt_;
	out.interrupt.shadow = shadow;

	out.nmi.injected = nmi_injected();
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

	forget_new_exception();
	drop(exception_injected | interrupt_waits | nmi_under_way | software_under_way);
	injected_ = {Vector(in.exception.nr), in.exception.has_error_code != 0, in.exception.error_code};
	interrupt_ = in.interrupt.nr;
	/* An INT n is left to the instruction here as well. */
	const bool hardware = in.interrupt.injected && !in.interrupt.soft;
	add((in.exception.injected ? exception_injected : 0u) | (hardware ? interrupt_waits : 0u) |
	    (in.nmi.injected ? nmi_under_way : 0u));

	if (in.flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		nmi_pending_ = in.nmi.pending < 2 ? in.nmi.pending : 2;
	nmi_masked_ = in.nmi.masked;

	return Set{(in.flags & KVM_VCPUEVENT_VALID_SHADOW) != 0, in.interrupt.shadow};
}

}
