/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/emulate/machine.hpp"

namespace kx::emulate {

/* Where a processor stands: the same IP in another segment, or in another mode, is another place. */
struct Position {
	u64 rip = 0, linear = 0;
	Mode mode;
	constexpr bool operator==(const Position &) const = default;
};

/*
 * The access that is out, with the VMM or with a device. A processor has one at a time: one of the instruction
 * under emulation, or that of an IN or OUT, which needs no emulation.
 *
 * While the VMM has it, it may put the processor somewhere else (a reset, a snapshot), and then nothing is owed
 * to the instruction any more. VMMs also write back what they have read: so it is not the ioctl that tells, but
 * the position, noted before the first one that might change it. An access that nobody comes between pays
 * nothing for that.
 */
class PendingAccess {
public:
	enum class Kind : u8 {
		none,
		in, /* of IN and OUT: RIP and registers are as before */
		out,
		mmio_read,  /* nothing of the instruction has happened yet */
		mmio_write, /* registers are committed; pieces of the write queue are out */
		string_in,  /* registers are as before */
		string_out, /* registers are committed */
	};

private:
	Kind kind_ = Kind::none;
	bool noted_ = false;
	u8 size_ = 0;
	u64 next_rip_ = 0;
	Position at_;

public:
	Kind kind() const { return kind_; }
	void ask(Kind k)
	{
		kind_ = k;
		noted_ = false;
	}
	/* Of IN or OUT. */
	void ask(Kind k, u8 size, u64 next_rip)
	{
		ask(k);
		size_ = size;
		next_rip_ = next_rip;
	}
	u8 size() const { return size_; }
	u64 next_rip() const { return next_rip_; }

	/* It is answered, or nobody waits for it any more: reset, state loaded by the VMM. */
	void drop() { kind_ = Kind::none; }

	/* The state is within the VMM's reach from here on. */
	bool to_be_noted() const { return kind_ != Kind::none && !noted_; }
	void note(const Position &p)
	{
		at_ = p;
		noted_ = true;
	}
	bool noted() const { return noted_; }
	bool left(const Position &now) const { return at_ != now; }
};

}
