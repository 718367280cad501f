/* SPDX-License-Identifier: GPL-2.0-only */
/* What one call of the emulator came to, and what its caller owes it. */
#pragma once
#include "arch/x86/cpu/regs.hpp"

namespace kx::emulate {

struct Outcome {
	enum class Kind : u8 {
		done,	    /* Registers and memory are complete. An interrupt shadow ends. */
		retry,	    /* Enter the guest again: a REP paused between iterations, or nothing was done. */
		fault,	    /* Deliver `exception`; it is a fault: the pushed RFLAGS has RF set. */
		mmio_read,  /* Ask for len bytes at gpa, then answer_read(). Registers are as before. */
		mmio_write, /* Hand out len bytes of data for gpa, then write_taken(). Registers are as
			       after, but for the next iteration of a REP. */
		port_in,    /* Fill port_data() with count elements of len bytes, then port_done().
			       Registers are as before. */
		port_out,   /* port_data() holds count elements of len bytes; then port_done().
			       Registers are as after. */
		unhandled,  /* No such instruction here: Emulation::bytes() has what was fetched. */
		error,	    /* The host could not reach guest memory (Ram::failed). */
	};
	/* RFLAGS.TF was set when the instruction (or this iteration of a REP) began: #DB with DR6.BS
	 * is due now. With done and retry only. Of a task switch: the new task's T flag, DR6.BT. */
	enum class Trap : u8 { none, single_step, task_switch };

	Kind kind;
	u8 len = 0;
	Trap trap = Trap::none;
	u16 port = 0;
	u32 count = 0;
	Gpa gpa{0};
	u64 data = 0; /* little-endian, bytes beyond len are 0 */
	Exception exception{};

	static constexpr Outcome done(Trap t) { return {.kind = Kind::done, .trap = t}; }
	static constexpr Outcome retry(Trap t = Trap::none) { return {.kind = Kind::retry, .trap = t}; }
	static constexpr Outcome fault(const Exception &e) { return {.kind = Kind::fault, .exception = e}; }
	static constexpr Outcome unhandled() { return {.kind = Kind::unhandled}; }
	static constexpr Outcome error() { return {.kind = Kind::error}; }
};

}
