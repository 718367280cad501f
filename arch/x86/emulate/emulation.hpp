/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/emulate/decode.hpp"
#include "arch/x86/emulate/insn.hpp"
#include "arch/x86/emulate/machine.hpp"
#include "arch/x86/emulate/outcome.hpp"
#include "arch/x86/emulate/pending_access.hpp"
#include "arch/x86/emulate/replay_log.hpp"
#include "arch/x86/emulate/write_queue.hpp"
#include "cxxrt/span.hpp"

namespace kx::emulate {

template <Machine M> class Memory;
template <Machine M> class Executor;

/* One instruction under emulation: all that outlives a call, embedded in the vCPU. Beginning
 * another resets what that one uses, and nothing else. */
class Emulation {
	template <Machine M> friend class Memory;
	template <Machine M> friend class Executor;

	Outcome::Trap trap_ = Outcome::Trap::none; /* owed when the writes are out */
	bool whole_ = false; /* what was committed is the instruction, not one iteration of it */
	bool decoded_ = false; /* insn_ is what code_ says */
	u16 port_count_ = 0;
	Mode mode_;
	Insn insn_{};
	u64 rip_ = 0;
	u64 after_ = 0; /* RIP as it was committed */
	Hint hint_;
	ReplayLog log_;
	WriteQueue writes_;
	CodeBytes code_{};

public:
	/* This instruction's, or one that the vCPU made without the emulator: beginning another drops either. */
	PendingAccess pending;

	/* A request to device or VMM is out. */
	bool in_progress() const { return pending.kind() != PendingAccess::Kind::none; }
	/* Forget it: reset, or state loaded by the VMM. */
	void drop() { pending.drop(); }
	/* What was fetched of the instruction begun last. */
	Span<const u8> bytes() const { return {code_.bytes, code_.count}; }
};
static_assert(sizeof(Emulation) <= 352);

}
