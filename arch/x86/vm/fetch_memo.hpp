/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/cpu/control_regs.hpp"
#include "arch/x86/memory/guest_ram.hpp"
#include "cxxrt/span.hpp"

namespace kx {

/*
 * How the last instruction was fetched: the guest's page-table entries that led to it, where they are in
 * the VMM's memory, and what stood in them. A driver's loop on a device register is fetched again and again
 * by the same entries; to look whether they, and the bytes, still are what they were is a third of the work
 * of walking and decoding, and proves the same: a walk reads nothing else. (Under PAE paging it does: the
 * four entries CR3 points to. Such walks are not kept.) Places are linear addresses: RIP alone names no place.
 */
class FetchMemo {
	static constexpr unsigned max_levels = 5;
	Hva at_[max_levels] = {Hva{0}, Hva{0}, Hva{0}, Hva{0}, Hva{0}};
	u64 entry_[max_levels] = {};
	Hva code_{0};
	u64 linear_ = 0, cr3_ = 0, cr0_ = 0, cr4_ = 0, efer_ = 0, generation_ = 0;
	u8 levels_ = 0;
	bool usable_ = false;

	bool same_place(u64 linear, const ControlRegs &r, u64 generation) const
	{
		return usable_ && linear == linear_ && r.cr3 == cr3_ && r.cr0 == cr0_ && r.cr4 == cr4_ && r.efer == efer_ &&
		       generation == generation_;
	}

public:
	/* GuestMemory that watches a walk. */
	class Watch {
		FetchMemo &memo_;
		GuestRam &ram_;

	public:
		Watch(FetchMemo &m, GuestRam &ram) : memo_{m}, ram_{ram}
		{
			m.usable_ = true;
			m.levels_ = 0;
			m.generation_ = ram.generation(); /* before the walk: slots may change during it */
		}
		Result<u64> read64(Gpa p)
		{
			auto v = ram_.read64(p);
			const auto page = ram_.hva(p.frame());
			if (!v.ok() || !page.ok() || memo_.levels_ == max_levels) {
				memo_.usable_ = false;
			} else {
				memo_.at_[memo_.levels_] = page.peek() + p.offset();
				memo_.entry_[memo_.levels_++] = v.peek();
			}
			return v;
		}
		/* 32-bit paging is not worth it. */
		Result<u32> read32(Gpa p)
		{
			memo_.usable_ = false;
			return ram_.read32(p);
		}
		/* An accessed bit was set: the entry is not what was read. */
		GuestSwap cmpxchg(Gpa p, unsigned n, u64 *old, u64 now)
		{
			memo_.usable_ = false;
			return ram_.cmpxchg(p, n, old, now);
		}
	};

	/* The walk that was watched led to `code`, where the instruction begins; two pages are one too many. */
	void keep(u64 linear, Gpa code, const ControlRegs &r, GuestRam &ram)
	{
		const auto page = ram.hva(code.frame());
		usable_ = usable_ && page.ok() && code.offset() <= page_size - 15;
		if (!usable_)
			return;
		code_ = page.peek() + code.offset();
		linear_ = linear, cr3_ = r.cr3, cr0_ = r.cr0, cr4_ = r.cr4, efer_ = r.efer;
	}

	void forget() { usable_ = false; }

	/* Would fetching there give these bytes again? */
	bool holds(u64 linear, const ControlRegs &r, GuestRam &ram, Span<const u8> bytes) const
	{
		if (!same_place(linear, r, ram.generation()))
			return false;
		for (unsigned i = 0; i < levels_; ++i) {
			u64 now;
			if (kx_read_user_u64(at_[i].raw(), &now) || now != entry_[i])
				return false;
		}
		u64 now[2] = {}, then[2] = {};
		if (bytes.size() > sizeof now || kx_copy_from_user(now, code_.raw(), bytes.size()))
			return false;
		__builtin_memcpy(then, bytes.data(), bytes.size());
		return now[0] == then[0] && now[1] == then[1];
	}
};
static_assert(GuestMemory<FetchMemo::Watch>);

}
