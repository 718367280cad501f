/* SPDX-License-Identifier: GPL-2.0-only */
/* Walks of the tables a guest wrote, as its CPU does them. */
#pragma once
#include "cxxrt/result.hpp"
#include "guest_format.hpp"
#include "permission.hpp"

namespace kx {

enum class GuestSwap : u8 { stored, differs, readonly, fault };

template <class M>
concept GuestMemory = requires(M &m, Gpa p, unsigned n, u64 *old, u64 now) {
	{ m.read64(p) } -> std::same_as<Result<u64>>;
	{ m.read32(p) } -> std::same_as<Result<u32>>;
	{ m.cmpxchg(p, n, old, now) } -> std::same_as<GuestSwap>; /* differs: *old is what stands there */
};

/* Where the guest's tables begin. */
struct GuestTables {
	u64 cr3 = 0;
	const u64 *pdptes = nullptr; /* four, as the CPU keeps them: PAE paging alone */
};

struct WalkResult {
	bool ok;
	u32 error = 0;			/* of the page fault, when not ok */
	Gpa gpa{0};
	u8 page_bits = page_shift;	/* log2 of the page's size */
	Access access = Access::all;	/* what its entries allow together */
	static constexpr WalkResult fault(u32 e) { return {.ok = false, .error = e}; }
};

template <GuestFormat G> class GuestWalker {
	static constexpr unsigned levels = unsigned(G::top) + 1;
	static constexpr unsigned entry_bytes = sizeof(typename G::Entry);
	struct Step {
		Gpa at{0};
		u64 entry = 0;
	};

	template <GuestMemory M> static Result<u64> load(M &mem, Gpa p)
	{
		if constexpr (entry_bytes == 8) {
			return mem.read64(p);
		} else {
			const Result<u32> r = mem.read32(p);
			if (!r.ok())
				return r.error();
			return u64{r.peek()};
		}
	}
	static u32 error(const GuestRole &g, const WalkRequest &r, u32 why)
	{
		const u32 fetch = g.smep || (g.nx && (g.pae || g.long_mode)) ? pfec::fetch : 0;
		return why | (r.access & (pfec::write | pfec::user | fetch));
	}

	/* A at every level, D at the leaf of a write: only now that nothing refuses the access. */
	enum class Marks : u8 { set, moved, lost };
	template <GuestMemory M> static Marks mark(M &mem, const WalkRequest &r, const Step *path, Level leaf)
	{
		for (Level l = G::top;; l = below(l)) {
			const Step &s = path[unsigned(l)];
			u64 bits = gpte::accessed;
			if (l == leaf && r.access & pfec::write)
				bits |= gpte::dirty;
			if ((s.entry & bits) != bits) {
				u64 old = s.entry;
				switch (mem.cmpxchg(s.at, entry_bytes, &old, s.entry | bits)) {
				case GuestSwap::stored:
				case GuestSwap::readonly: break; /* tables in ROM are walked as they are */
				case GuestSwap::differs: return Marks::moved;
				case GuestSwap::fault: return Marks::lost;
				}
			}
			if (l == leaf)
				return Marks::set;
		}
	}

public:
	/* A walk that finds an entry changed under it starts over; a guest that keeps changing it gets a page
	 * fault it has no use for. */
	static constexpr unsigned max_rounds = 64;

	template <GuestMemory M>
	static WalkResult walk(M &mem, const GuestRole &g, const WalkCaps &c, const GuestTables &tables, Gva gva,
			       const WalkRequest &r)
	{
		const u64 va = G::top < Level::top4 ? u32(gva.raw()) : gva.raw();
		u64 root = tables.cr3 & (entry_bytes == 4 ? ones(31, 12) : ones(51, 12));
		if constexpr (requires { requires G::pae; }) {
			const u64 pdpte = tables.pdptes[va >> 30 & 3];
			if (!(pdpte & gpte::present))
				return WalkResult::fault(error(g, r, 0));
			root = pdpte & ones(51, 12);
		}
		Step path[levels];
		for (unsigned round = 0; round < max_rounds; ++round) {
			u64 table = root, allowed = gpte::write | gpte::user, denied = 0;
			Level l = G::top;
			for (;; l = below(l)) {
				const unsigned shift = page_shift + unsigned(l) * G::index_bits;
				Step &s = path[unsigned(l)];
				s.at = Gpa{table + (va >> shift & (bit(G::index_bits) - 1)) * entry_bytes};
				const Result<u64> e = load(mem, s.at);
				if (!e.ok() || !(e.peek() & gpte::present))
					return WalkResult::fault(error(g, r, 0));
				s.entry = e.peek();
				if (s.entry & G::rsvd(s.entry, l, g, c))
					return WalkResult::fault(error(g, r, pfec::present | pfec::rsvd));
				allowed &= s.entry;
				denied |= s.entry;
				if (G::leaf(s.entry, l, g))
					break;
				table = s.entry & (entry_bytes == 4 ? ones(31, 12) : ones(51, 12));
			}
			const u64 leaf = path[unsigned(l)].entry;
			const Access access = Access::read | (allowed & gpte::write ? Access::write : Access::none) |
					      (allowed & gpte::user ? Access::user : Access::none) |
					      (denied & gpte::nx ? Access::none : Access::exec);
			const u32 pk = key_refuses(g, r, access, G::key(leaf)) ? pfec::pk : 0;
			if (pk || guest_permissions.refuses(g, r, access))
				return WalkResult::fault(error(g, r, pfec::present | pk));
			switch (mark(mem, r, path, l)) {
			case Marks::set: {
				const unsigned bits = page_shift + unsigned(l) * G::index_bits;
				return {.ok = true, .gpa = Gpa{G::page(leaf, l, c) | (va & (bit(bits) - 1))},
					.page_bits = u8(bits), .access = access};
			}
			case Marks::lost: return WalkResult::fault(error(g, r, 0));
			case Marks::moved: break;
			}
		}
		return WalkResult::fault(error(g, r, 0));
	}
};

/* By the role's own paging; without paging every address is its own translation. */
template <GuestMemory M>
WalkResult walk_guest(M &mem, const GuestRole &g, const WalkCaps &c, const GuestTables &t, Gva gva,
		      const WalkRequest &r)
{
	switch (paging_of(g)) {
	case GuestPaging::none: break;
	case GuestPaging::legacy32: return GuestWalker<Guest32>::walk(mem, g, c, t, gva, r);
	case GuestPaging::pae: return GuestWalker<GuestPae>::walk(mem, g, c, t, gva, r);
	case GuestPaging::level4: return GuestWalker<Guest4>::walk(mem, g, c, t, gva, r);
	case GuestPaging::level5: return GuestWalker<Guest5>::walk(mem, g, c, t, gva, r);
	}
	return {.ok = true, .gpa = Gpa{gva.raw()}};
}

}
