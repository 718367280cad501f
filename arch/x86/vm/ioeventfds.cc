// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vm/ioeventfds.hpp"
#include "cxxrt/alloc.hpp"

namespace kx {

namespace {
constexpr u32 known_flags = (1u << kvm_ioeventfd_flag_nr_max) - 1;

constexpr Bus bus_of(u32 flags)
{
	return flags & KVM_IOEVENTFD_FLAG_PIO		    ? Bus::pio
	       : flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY ? Bus::ccw
							    : Bus::mmio;
}

constexpr bool well_formed(const kvm_ioeventfd &r)
{
	switch (r.len) {
	case 0:
		if (r.flags & KVM_IOEVENTFD_FLAG_DATAMATCH)
			return false;
		break;
	case 1: case 2: case 4: case 8: break;
	default: return false;
	}
	return r.addr + r.len >= r.addr && !(r.flags & ~known_flags);
}
}

u32 IoEventFds::Set::after(const Entry &o) const
{
	u32 lo = 0, hi = n;
	while (lo < hi) {
		const u32 mid = (lo + hi) / 2;
		const Entry &m = e[mid];
		if (m.bus < o.bus || (m.bus == o.bus && m.at <= o.at))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

IoEventFds::~IoEventFds()
{
	if (Set *s = set_.relaxed()) {
		for (const Entry &e : *s)
			kx_eventfd_put(e.eventfd);
		kx_free(s);
	}
	if (srcu_made_)
		srcu_.destroy();
}

IoEventFds::Set *IoEventFds::make(u32 n)
{
	auto *s = static_cast<Set *>(kx_vzalloc(sizeof(Set) + n * sizeof(Entry)));
	if (s)
		s->n = n;
	return s;
}

void IoEventFds::replace(Set *next)
{
	Set *const was = set_.exchange(next);
	srcu_.synchronize();
	kx_free(was);
}

Errc IoEventFds::change(const kvm_ioeventfd &r)
{
	const bool assign = !(r.flags & KVM_IOEVENTFD_FLAG_DEASSIGN);
	if (assign && !well_formed(r))
		return Errc::inval;
	Entry e{.at = r.addr, .match = r.datamatch, .len = r.len, .bus = bus_of(r.flags),
		.any_value = !(r.flags & KVM_IOEVENTFD_FLAG_DATAMATCH), .eventfd = nullptr};
	if (const int err = kx_eventfd_get(r.fd, &e.eventfd))
		return Errc(-err);
	const Errc done = assign ? add(e) : remove(e);
	if (!assign || done != Errc::ok) /* what was added keeps its reference */
		kx_eventfd_put(e.eventfd);
	return done;
}

Errc IoEventFds::add(const Entry &added)
{
	if (!srcu_made_) {
		KX_CHECK(srcu_.init());
		srcu_made_ = true;
	}
	const Set *const s = set_.relaxed();
	const u32 n = s ? s->n : 0;
	const u32 at = s ? s->after(added) : 0;
	for (u32 i = at; i-- > 0 && s->e[i].same_place(added);)
		if (s->e[i].collides(added))
			return Errc::exist;
	Set *next = make(n + 1);
	if (!next)
		return Errc::nomem;
	for (u32 i = 0; i < n; ++i)
		next->e[i < at ? i : i + 1] = s->e[i];
	next->e[at] = added;
	replace(next);
	return Errc::ok;
}

Errc IoEventFds::remove(const Entry &gone)
{
	const Set *const s = set_.relaxed();
	u32 at = s ? s->after(gone) : 0;
	do {
		if (!at || !s->e[at - 1].same_place(gone))
			return Errc::noent;
	} while (!(s->e[--at] == gone));
	Set *next = nullptr;
	if (s->n > 1) {
		next = make(s->n - 1);
		if (!next)
			return Errc::nomem;
		for (u32 i = 0; i < next->n; ++i)
			next->e[i] = s->e[i < at ? i : i + 1];
	}
	void *const its = s->e[at].eventfd;
	replace(next);
	kx_eventfd_put(its);
	return Errc::ok;
}

Taken IoEventFds::signal(Bus bus, u64 at, const void *data, u32 len)
{
	u64 value = 0;
	__builtin_memcpy(&value, data, len);
	const Entry here{.at = at, .match = 0, .len = 0, .bus = bus, .any_value = true, .eventfd = nullptr};
	SrcuRead reading{srcu_};
	const Set *const s = set_.acquire();
	if (!s)
		return Taken::no;
	const u32 end = s->after(here);
	u32 first = end;
	while (first && s->e[first - 1].same_place(here))
		--first;
	for (u32 i = first; i < end; ++i) {
		if (s->e[i].takes(value, len)) {
			kx_eventfd_signal(s->e[i].eventfd);
			return Taken::yes;
		}
	}
	return Taken::no;
}

}
