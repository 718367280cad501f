// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vm/device_bus.hpp"
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

u32 DeviceBus::Set::behind(Bus bus, u64 at, Kind kind) const
{
	u32 lo = 0, hi = n;
	while (lo < hi) {
		const u32 mid = (lo + hi) / 2;
		const Device &m = d[mid];
		if (m.bus != bus ? m.bus < bus : m.at != at ? m.at < at : m.kind <= kind)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

DeviceBus::~DeviceBus()
{
	if (Set *s = set_.relaxed()) {
		for (const Device &d : *s)
			if (d.kind == Kind::eventfd)
				kx_eventfd_put(d.eventfd);
		kx_free(s);
	}
	if (srcu_made_)
		srcu_.destroy();
}

DeviceBus::Set *DeviceBus::make(u32 n)
{
	auto *s = static_cast<Set *>(kx_vzalloc(sizeof(Set) + n * sizeof(Device)));
	if (s)
		s->n = n;
	return s;
}

void DeviceBus::replace(Set *next)
{
	for (u32 i = 0; next && i < next->n; ++i) {
		Device &d = next->d[i];
		d.reach = i && next->d[i - 1].bus == d.bus ? next->d[i - 1].reach : 0;
		/* (KVM's sum: nothing lies in a zone that goes round the end of memory) */
		if (d.kind == Kind::zone && d.at + d.size > d.reach)
			d.reach = d.at + d.size;
	}
	Set *const was = set_.exchange(next);
	srcu_.synchronize();
	kx_free(was);
}

Errc DeviceBus::add(const Device &added)
{
	if (!srcu_made_) {
		KX_CHECK(srcu_.init());
		srcu_made_ = true;
	}
	const Set *const s = set_.relaxed();
	const u32 n = s ? s->n : 0, at = s ? s->behind(added.bus, added.at, added.kind) : 0;
	Set *const next = make(n + 1);
	if (!next)
		return Errc::nomem;
	for (u32 i = 0; i < n; ++i)
		next->d[i < at ? i : i + 1] = s->d[i];
	next->d[at] = added;
	replace(next);
	return Errc::ok;
}

/* noent: none goes. */
template <class Goes> Errc DeviceBus::remove(Goes goes)
{
	const Set *const s = set_.relaxed();
	u32 stay = 0;
	if (s)
		for (const Device &d : *s)
			stay += !goes(d);
	if (!s || stay == s->n)
		return Errc::noent;
	Set *next = nullptr;
	if (stay) {
		next = make(stay);
		if (!next)
			return Errc::nomem;
		u32 to = 0;
		for (const Device &d : *s)
			if (!goes(d))
				next->d[to++] = d;
	}
	replace(next);
	return Errc::ok;
}

Errc DeviceBus::add_zone(const kvm_coalesced_mmio_zone &z)
{
	if (z.pio > 1)
		return Errc::inval;
	const Bus bus = z.pio ? Bus::pio : Bus::mmio;
	unsigned there = 0;
	if (const Set *s = set_.relaxed())
		for (const Device &d : *s)
			there += d.kind == Kind::zone && d.bus == bus;
	if (there == KVMXX_BUS_ZONES)
		return Errc::nospc;
	return add({.at = z.addr, .size = z.size, .bus = bus, .kind = Kind::zone});
}

Errc DeviceBus::remove_zones(const kvm_coalesced_mmio_zone &z)
{
	if (z.pio > 1)
		return Errc::inval;
	/* KVM's length has a sign, and no zone goes round the end of memory. */
	if (s32(z.size) < 0 || z.addr + z.size < z.addr)
		return Errc::ok;
	const Bus bus = z.pio ? Bus::pio : Bus::mmio;
	const Errc done = remove([&](const Device &d) {
		return d.kind == Kind::zone && d.bus == bus && d.at <= z.addr && z.addr + z.size <= d.at + d.size;
	});
	return done == Errc::noent ? Errc::ok : done;
}

Errc DeviceBus::change_eventfd(const kvm_ioeventfd &r)
{
	const bool assign = !(r.flags & KVM_IOEVENTFD_FLAG_DEASSIGN);
	if (assign && !well_formed(r))
		return Errc::inval;
	Device e{.at = r.addr, .match = r.datamatch, .size = r.len, .bus = bus_of(r.flags), .kind = Kind::eventfd,
		 .any_value = !(r.flags & KVM_IOEVENTFD_FLAG_DATAMATCH)};
	if (const int err = kx_eventfd_get(r.fd, &e.eventfd))
		return Errc(-err);
	Errc done;
	if (assign) {
		bool collides = false;
		if (const Set *s = set_.relaxed())
			for (u32 i = s->behind(e.bus, e.at, e.kind); i-- > 0 && s->d[i].same_place(e);)
				collides |= s->d[i].collides(e);
		done = collides ? Errc::exist : add(e);
	} else {
		done = remove([&](const Device &d) { return d.same_eventfd(e); }); /* one: two would have collided */
		if (done == Errc::ok)
			kx_eventfd_put(e.eventfd);
	}
	if (!assign || done != Errc::ok) /* what was added keeps its reference */
		kx_eventfd_put(e.eventfd);
	return done;
}

/* An eventfd at the very place comes first. Then any zone that holds the access: all lead to the same ring, so that it
 * is enough to know how far the farthest reaches of those that begin before. */
Taken DeviceBus::write_device(const VcpuBase &, Bus bus, u64 at, const void *data, u32 len)
{
	u64 value = 0;
	__builtin_memcpy(&value, data, len);
	SrcuRead reading{srcu_};
	const Set *const s = set_.acquire();
	if (!s)
		return Taken::no;
	const u32 behind = s->behind(bus, at, Kind::eventfd);
	if (!behind || s->d[behind - 1].bus != bus)
		return Taken::no;
	for (u32 i = behind; i-- > 0 && s->d[i].at == at && s->d[i].bus == bus && s->d[i].kind == Kind::eventfd;) {
		if (s->d[i].takes(value, len)) {
			kx_eventfd_signal(s->d[i].eventfd);
			return Taken::yes;
		}
	}
	const u64 end = at + len;
	if (end < at || end > s->d[behind - 1].reach)
		return Taken::no;
	return ring_.put(bus, at, data, len);
}

}
