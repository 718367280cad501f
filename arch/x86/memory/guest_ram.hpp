/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/mmu/walker.hpp"
#include "memslots.hpp"

namespace kx {

/*
 * One space of guest-physical memory as the emulator, the page walker and ioctls reach it: by the VMM's own
 * mapping.
 * An object is one SRCU read section: the slots stay while it lives, and a memslot ioctl that removes or
 * moves one does not return before it ends. Make one for a run of accesses, not for longer.
 *
 * Errc::fault: no slot there, or a write to a read-only one, or the VMM's memory is not accessible.
 * An access may cross pages and slots; a failed one may have done its first part. All may sleep.
 */
class [[nodiscard]] GuestRam {
	Memslots &slots_;
	SlotHint &hint_;
	const Space space_;
	SrcuRead srcu_;

	const Memslot *slot_of(Gfn g) { return Memslots::find(*slots_.current(space_, srcu_), hint_, g); }
	void written(Gpa, size_t n);

public:
	GuestRam(Memslots &slots, Space space, SlotHint &hint)
		: slots_{slots}, hint_{hint}, space_{space}, srcu_{slots.srcu()}
	{
	}

	Errc read(Gpa, void *to, size_t n);
	Errc write(Gpa, const void *from, size_t n);
	/* The GuestMemory policy of GuestWalker. Naturally aligned, single-copy atomic. */
	Result<u64> read64(Gpa);
	Result<u32> read32(Gpa);
	/* n = 1, 2, 4 or 8, naturally aligned. */
	GuestSwap cmpxchg(Gpa, unsigned n, u64 *old, u64 now);

	enum class Backing : u8 { none, readonly, ram };
	Backing backing(Gpa);
	Result<Hva> hva(Gfn); /* Errc::fault when there is no slot */
	/* Of the slots: while it is the same, so is every hva(). */
	u64 generation() const { return slots_.current(space_, srcu_)->generation; }
};
static_assert(GuestMemory<GuestRam>);

}
