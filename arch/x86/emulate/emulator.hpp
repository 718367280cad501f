/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The emulator's front: begin an instruction, then answer what it asks for until it says done,
 * retry, fault, unhandled or error.
 *
 *	for (Outcome o = begin(m, e, hint, port);; )
 *		switch (o.kind) {
 *		case mmio_read:  value = device or VMM;  o = answer_read(m, e, value);  break;
 *		case mmio_write: device or VMM;          o = write_taken(m, e);         break;
 *		case port_in: case port_out: ...;        o = port_done(m, e);           break;
 *		default: ...
 *		}
 *
 * Between two calls the vCPU may leave KVM_RUN; all that must survive is in the Emulation. If RIP or
 * the mode is another one then (the VMM loaded other state) the instruction is abandoned: retry.
 */
#pragma once
#include "arch/x86/emulate/fetch.hpp"

namespace kx::emulate {

/* Fetch, decode and execute the instruction at RIP. What was in progress is dropped. */
template <Machine M> Outcome begin(M &m, Emulation &e, Hint hint = {}, AllowedPort port = {})
{
	return Executor<M>{m, e}.begin(hint, port);
}

/* The value the device gave for the mmio_read asked last; only its low len bytes count. */
template <Machine M> Outcome answer_read(M &m, Emulation &e, u64 value) { return Executor<M>{m, e}.answer_read(value); }

/* The mmio_write handed out last was carried out. */
template <Machine M> Outcome write_taken(M &m, Emulation &e) { return Executor<M>{m, e}.write_taken(); }

/* port_data() was filled (port_in) or taken (port_out). The data of port_in is read once. */
template <Machine M> Outcome port_done(M &m, Emulation &e) { return Executor<M>{m, e}.port_done(); }

/* Step over the instruction at RIP, for a CPU that reports no next RIP: done has set RIP behind it
 * and cleared RF, as completing it would. Only the length is decoded: any instruction will do. */
template <Machine M> Outcome skip(M &m, Emulation &e) { return Executor<M>{m, e}.skip(); }

}
