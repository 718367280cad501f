/* SPDX-License-Identifier: GPL-2.0-only */
#include "guest_ram.hpp"

namespace kx {

namespace {

/* How much of n bytes at p lies in the slot that holds p. */
size_t within(const Memslot &s, Gpa p, size_t n)
{
	const u64 left = Gpa{s.end()} - p;
	return n < left ? n : size_t(left);
}

Hva hva_at(const Memslot &s, Gpa p) { return s.hva_of(p.frame()) + p.offset(); }

}

void GuestRam::written(Gpa p, size_t n)
{
	if (!n)
		return;
	full_barrier();
	for (Gfn g = p.frame(); g <= (p + (n - 1)).frame(); g = g + 1)
		slots_.mark(space_, srcu_, hint_, g);
}

Errc GuestRam::read(Gpa p, void *to, size_t n)
{
	for (auto *at = static_cast<u8 *>(to); n;) {
		const Memslot *s = slot_of(p.frame());
		if (!s)
			return Errc::fault;
		const size_t some = within(*s, p, n);
		if (kx_copy_from_user(at, hva_at(*s, p).raw(), some))
			return Errc::fault;
		p = p + some, at += some, n -= some;
	}
	return Errc::ok;
}

Errc GuestRam::write(Gpa p, const void *from, size_t n)
{
	for (auto *at = static_cast<const u8 *>(from); n;) {
		const Memslot *s = slot_of(p.frame());
		if (!s || s->readonly)
			return Errc::fault;
		const size_t some = within(*s, p, n);
		const int failed = kx_copy_to_user(hva_at(*s, p).raw(), at, some);
		written(p, some); /* also what a failed copy may have done */
		if (failed)
			return Errc::fault;
		p = p + some, at += some, n -= some;
	}
	return Errc::ok;
}

Result<u64> GuestRam::read64(Gpa p)
{
	const Memslot *s = slot_of(p.frame());
	kx_u64 v;
	if (!s || kx_read_user_u64(hva_at(*s, p).raw(), &v))
		return Errc::fault;
	return u64{v};
}

Result<u32> GuestRam::read32(Gpa p)
{
	const Memslot *s = slot_of(p.frame());
	kx_u32 v;
	if (!s || kx_read_user_u32(hva_at(*s, p).raw(), &v))
		return Errc::fault;
	return u32{v};
}

GuestSwap GuestRam::cmpxchg(Gpa p, unsigned n, u64 *old, u64 now)
{
	const Memslot *s = slot_of(p.frame());
	if (!s)
		return GuestSwap::fault;
	if (s->readonly)
		return GuestSwap::readonly;
	kx_u64 seen = *old;
	const int r = kx_cmpxchg_user(hva_at(*s, p).raw(), n, &seen, now);
	*old = seen;
	if (r > 0)
		return GuestSwap::differs;
	if (r < 0)
		return GuestSwap::fault;
	written(p, n);
	return GuestSwap::stored;
}

GuestRam::Backing GuestRam::backing(Gpa p)
{
	const Memslot *s = slot_of(p.frame());
	return !s ? Backing::none : s->readonly ? Backing::readonly : Backing::ram;
}

Result<Hva> GuestRam::hva(Gfn g)
{
	const Memslot *s = slot_of(g);
	if (!s)
		return Errc::fault;
	return s->hva_of(g);
}

}
