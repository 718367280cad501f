/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include <compare>
#include <concepts>
#include <cstdint>
#include <cstddef>

namespace kx {

using u64 = std::uint64_t;
using u32 = std::uint32_t;
using u16 = std::uint16_t;
using u8 = std::uint8_t;
using s64 = std::int64_t;
using s32 = std::int32_t;
using std::size_t;

inline constexpr unsigned page_shift = 12;
inline constexpr u64 page_size = u64{1} << page_shift;

/* A number that belongs to exactly one address space. Spaces never mix: crossing from one to
 * another is a translation, and a translation is a function with a name. */
template <class Space> class Frame {
	u64 n_;

public:
	explicit constexpr Frame(u64 n) : n_{n} {}
	constexpr u64 raw() const { return n_; }
	constexpr Frame operator+(u64 pages) const { return Frame{n_ + pages}; }
	constexpr u64 operator-(Frame o) const { return n_ - o.n_; }
	constexpr Frame aligned_down(u64 pages) const { return Frame{n_ & ~(pages - 1)}; }
	constexpr auto operator<=>(const Frame &) const = default;
};

template <class Space> class Addr {
	u64 a_;

public:
	explicit constexpr Addr(u64 a) : a_{a} {}
	explicit constexpr Addr(Frame<Space> f) : a_{f.raw() << page_shift} {}
	constexpr u64 raw() const { return a_; }
	constexpr Frame<Space> frame() const { return Frame<Space>{a_ >> page_shift}; }
	constexpr u64 offset() const { return a_ & (page_size - 1); }
	constexpr Addr operator+(u64 bytes) const { return Addr{a_ + bytes}; }
	constexpr u64 operator-(Addr o) const { return a_ - o.a_; }
	constexpr auto operator<=>(const Addr &) const = default;
};

struct GuestPhys;
struct GuestVirt;
struct HostPhys;
struct HostVirt;
using Gpa = Addr<GuestPhys>;
using Gfn = Frame<GuestPhys>;
using Gva = Addr<GuestVirt>;
using Hpa = Addr<HostPhys>;
using Pfn = Frame<HostPhys>;
using Hva = Addr<HostVirt>; /* an address of the VMM's user space */

static_assert(!std::convertible_to<Gfn, Pfn> && !std::constructible_from<Pfn, Gfn>);

struct GfnRange {
	Gfn begin, end; /* half open */
	constexpr bool has(Gfn g) const { return begin <= g && g < end; }
	constexpr bool empty() const { return begin >= end; }
	constexpr u64 pages() const { return empty() ? 0 : end - begin; }
	constexpr bool operator==(const GfnRange &) const = default;
};

}
