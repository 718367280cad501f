// SPDX-License-Identifier: GPL-2.0-only
#include <gtest/gtest.h>
#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <vector>
#include "arch/x86/vm/device_bus.hpp"
#include "cxxrt/hosted/hosted.hpp"

using namespace kx;

namespace {

constexpr u32 match = KVM_IOEVENTFD_FLAG_DATAMATCH, pio = KVM_IOEVENTFD_FLAG_PIO, deassign = KVM_IOEVENTFD_FLAG_DEASSIGN;

struct Eventfd {
	int fd;
	hosted::EventFd &state = hosted::make_eventfd(&fd);
	u64 take() { return std::exchange(state.signals, 0); }
};

struct Devices {
	std::unique_ptr<DeviceBus> e = std::make_unique<DeviceBus>();
	VcpuBase cpu{0};

	Devices() { EXPECT_EQ(e->init(), Errc::ok); }
	Errc change(const Eventfd &f, u64 at, u32 len, u32 flags = 0, u64 value = 0)
	{
		kvm_ioeventfd r{};
		r.datamatch = value, r.addr = at, r.len = len, r.fd = f.fd, r.flags = flags;
		return e->change_eventfd(r);
	}
	Errc add_zone(u64 at, u32 size, Bus bus = Bus::mmio) { return e->add_zone({at, size, {bus == Bus::pio}}); }
	Errc remove_zones(u64 at, u32 size, Bus bus = Bus::mmio) { return e->remove_zones({at, size, {bus == Bus::pio}}); }
	Taken write(u64 at, u64 value, u32 len, Bus bus = Bus::mmio) { return e->write(cpu, bus, at, &value, len); }
	/* The one entry of the ring, taken out. */
	kvm_coalesced_mmio take()
	{
		auto &r = *static_cast<kvm_coalesced_mmio_ring *>(e->ring_page());
		constexpr u32 size = (page_size - sizeof r) / sizeof(kvm_coalesced_mmio);
		EXPECT_EQ((r.first + 1) % size, r.last);
		const kvm_coalesced_mmio was = r.coalesced_mmio[r.first];
		r.first = r.last;
		return was;
	}
	bool ring_is_empty() const
	{
		const auto &r = *static_cast<kvm_coalesced_mmio_ring *>(e->ring_page());
		return r.first == r.last;
	}
};

}

TEST(DeviceBus, GivesAnEventfdWritesOfTheirPlaceLengthAndValue)
{
	Devices e;
	Eventfd a, b, any;
	EXPECT_EQ(e.write(0x1000, 7, 4), Taken::no);
	ASSERT_EQ(e.change(a, 0x1000, 4, match, 7), Errc::ok);
	ASSERT_EQ(e.change(b, 0x1000, 4, match, 8), Errc::ok);
	ASSERT_EQ(e.change(any, 0x1008, 0), Errc::ok);
	EXPECT_EQ(e.write(0x1000, 7, 4), Taken::yes);
	EXPECT_EQ(e.write(0x1000, 8, 4), Taken::yes);
	EXPECT_EQ(e.write(0x1000, 9, 4), Taken::no);
	EXPECT_EQ(e.write(0x1000, 7, 8), Taken::no);
	EXPECT_EQ(e.write(0x1000, 7, 4, Bus::pio), Taken::no);
	EXPECT_EQ(e.write(0x1001, 7, 4), Taken::no);
	for (u32 len : {1, 2, 4, 8})
		EXPECT_EQ(e.write(0x1008, 99, len), Taken::yes);
	EXPECT_EQ(a.take(), 1u);
	EXPECT_EQ(b.take(), 1u);
	EXPECT_EQ(any.take(), 4u);
}

TEST(DeviceBus, ComparesAllOfTheMatchWithWhatWasWritten)
{
	Devices e;
	Eventfd a;
	ASSERT_EQ(e.change(a, 0, 2, match, 0x10007), Errc::ok);
	EXPECT_EQ(e.write(0, 7, 2), Taken::no);
	EXPECT_EQ(e.write(0, 0x10007, 2), Taken::no) << "two bytes can never be that";
}

TEST(DeviceBus, RefusesEventfdsThatKvmRefuses)
{
	Devices e;
	Eventfd a, b;
	EXPECT_EQ(e.change(a, 0, 3), Errc::inval);
	EXPECT_EQ(e.change(a, 0, 16), Errc::inval);
	EXPECT_EQ(e.change(a, 0, 0, match), Errc::inval);
	EXPECT_EQ(e.change(a, ~u64{0} - 2, 4), Errc::inval);
	EXPECT_EQ(e.change(a, ~u64{0} - 4, 4), Errc::ok);
	EXPECT_EQ(e.change(a, 0, 4, 32), Errc::inval);
	kvm_ioeventfd r{};
	r.len = 4, r.fd = -1;
	EXPECT_EQ(e.e->change_eventfd(r), Errc::badf);
	ASSERT_EQ(e.change(a, 0x10, 4, match, 1), Errc::ok);
	EXPECT_EQ(e.change(b, 0x10, 4, match, 1), Errc::exist);
	EXPECT_EQ(e.change(b, 0x10, 4), Errc::exist);
	EXPECT_EQ(e.change(b, 0x10, 0), Errc::exist);
	EXPECT_EQ(e.change(b, 0x10, 4, match, 2), Errc::ok);
	EXPECT_EQ(e.change(b, 0x10, 2), Errc::ok);
	EXPECT_EQ(e.change(b, 0x10, 4, pio), Errc::ok);
	EXPECT_EQ(e.change(b, 0x10, 4, match | deassign, 1), Errc::noent) << "another's";
	EXPECT_EQ(e.change(a, 0x10, 4, deassign), Errc::noent) << "it has a value";
	EXPECT_EQ(e.change(a, 0x10, 4, match | deassign, 3), Errc::noent);
	EXPECT_EQ(e.change(a, 0x10, 4, match | deassign, 1), Errc::ok);
	EXPECT_EQ(e.change(a, 0x10, 4, match | deassign, 1), Errc::noent);
	EXPECT_EQ(a.state.references, 1) << "what was refused holds nothing";
	e.e.reset();
	EXPECT_EQ(a.state.references, 0);
	EXPECT_EQ(b.state.references, 0);
}

TEST(DeviceBus, CoalescesWhatLiesInAZoneWhole)
{
	Devices d;
	ASSERT_EQ(d.add_zone(0x1000, 8), Errc::ok);
	for (const auto &[at, len] : {std::pair<u64, u32>{0x1000, 8}, {0x1000, 1}, {0x1004, 4}, {0x1007, 1}}) {
		EXPECT_EQ(d.write(at, 0x1122334455667788, len), Taken::yes);
		const kvm_coalesced_mmio e = d.take();
		EXPECT_EQ(e.phys_addr, at);
		EXPECT_EQ(e.len, len);
		EXPECT_EQ(e.data[0], 0x88);
		EXPECT_EQ(e.pio, 0u);
	}
	for (const auto &[at, len] : {std::pair<u64, u32>{0xfff, 1}, {0xfff, 8}, {0x1001, 8}, {0x1008, 1}, {~u64{0}, 2}})
		EXPECT_EQ(d.write(at, 0, len), Taken::no);
	EXPECT_EQ(d.write(0x1000, 0, 4, Bus::pio), Taken::no);
	ASSERT_EQ(d.add_zone(0x80, 2, Bus::pio), Errc::ok);
	EXPECT_EQ(d.write(0x80, 7, 2, Bus::pio), Taken::yes);
	EXPECT_EQ(d.take().pio, 1u);
	EXPECT_EQ(d.write(0x80, 7, 4, Bus::pio), Taken::no);
	EXPECT_EQ(d.write(0x80, 7, 2), Taken::no);
	EXPECT_TRUE(d.ring_is_empty());
}

TEST(DeviceBus, FindsAZoneThatBeginsFarBefore)
{
	Devices d;
	Eventfd f;
	ASSERT_EQ(d.add_zone(0x1000, 0x1000), Errc::ok);
	ASSERT_EQ(d.add_zone(0x1100, 0x10), Errc::ok);
	ASSERT_EQ(d.add_zone(0x1200, 0), Errc::ok);
	ASSERT_EQ(d.change(f, 0x1300, 4, match, 5), Errc::ok);
	for (const u64 at : {0x1000, 0x110c, 0x1110, 0x1200, 0x1300, 0x1ffc}) {
		EXPECT_EQ(d.write(at, 1, 4), Taken::yes);
		EXPECT_EQ(d.take().phys_addr, at);
	}
	EXPECT_EQ(d.write(0x1ffd, 1, 4), Taken::no);
	EXPECT_EQ(d.write(0x1300, 5, 4), Taken::yes);
	EXPECT_EQ(f.take(), 1u);
	EXPECT_TRUE(d.ring_is_empty()) << "the eventfd comes first";
	EXPECT_EQ(d.remove_zones(0x1800, 4), Errc::ok) << "the one that holds it";
	EXPECT_EQ(d.write(0x1800, 1, 4), Taken::no);
	EXPECT_EQ(d.write(0x110c, 1, 4), Taken::yes);
	d.take();
	EXPECT_EQ(d.write(0x1110, 1, 4), Taken::no);
	EXPECT_EQ(d.write(0x1300, 5, 4), Taken::yes);
	EXPECT_EQ(f.take(), 1u);
}

/* Against a list that is searched from its beginning. */
TEST(DeviceBus, AgreesWithANaiveListOfZones)
{
	std::mt19937 rng{2};
	Devices d;
	std::vector<std::pair<u64, u32>> model;
	unsigned taken = 0, removed = 0;
	for (int i = 0; i < 20000; ++i) {
		const u64 at = rng() % 64 + (rng() % 16 ? 0 : ~u64{0} - 63);
		const u32 size = rng() % 12;
		const unsigned what = rng() % 8;
		const auto holds = [](const std::pair<u64, u32> &z, u64 a, u32 n) {
			return z.first <= a && a + n >= a && a + n <= z.first + z.second;
		};
		if (what == 0 && model.size() < 12) {
			ASSERT_EQ(d.add_zone(at, size), Errc::ok);
			model.push_back({at, size});
		} else if (what == 1) {
			ASSERT_EQ(d.remove_zones(at, size), Errc::ok);
			removed += std::erase_if(model, [&](const auto &z) { return holds(z, at, size); });
		} else {
			const u32 len = 1u << rng() % 4;
			const bool hit = std::any_of(model.begin(), model.end(), [&](const auto &z) { return holds(z, at, len); });
			ASSERT_EQ(d.write(at, 1, len), hit ? Taken::yes : Taken::no) << at << ' ' << len;
			if (hit)
				d.take(), ++taken;
		}
	}
	EXPECT_GT(taken, 1000u);
	EXPECT_GT(removed, 100u);
}

/* Likewise. */
TEST(DeviceBus, AgreesWithANaiveListOfEventfds)
{
	struct One {
		u64 at, value;
		u32 len, flags;
		unsigned fd;
		bool places(const One &o) const { return at == o.at && ((flags ^ o.flags) & pio) == 0; }
	};
	std::mt19937 rng{1};
	Devices e;
	std::vector<Eventfd> fds(8);
	std::vector<One> model;
	const u32 lengths[] = {0, 1, 2, 4, 8};
	unsigned taken = 0, collided = 0, removed = 0;
	for (int i = 0; i < 20000; ++i) {
		One o{.at = rng() % 8, .value = rng() % 3, .len = lengths[rng() % 5], .flags = rng() % 2 ? pio : 0,
		      .fd = unsigned(rng() % fds.size())};
		if (o.len && rng() % 2)
			o.flags |= match;
		const unsigned what = rng() % 8;
		if (what == 0) {
			bool clash = false;
			for (const One &m : model)
				clash |= m.places(o) && (!m.len || !o.len || (m.len == o.len &&
					 (!(m.flags & match) || !(o.flags & match) || m.value == o.value)));
			ASSERT_EQ(e.change(fds[o.fd], o.at, o.len, o.flags, o.value), clash ? Errc::exist : Errc::ok);
			collided += clash;
			if (!clash)
				model.push_back(o);
		} else if (what == 1) {
			const auto it = std::find_if(model.begin(), model.end(), [&](const One &m) {
				return m.places(o) && m.len == o.len && m.flags == o.flags && m.fd == o.fd &&
				       (!(m.flags & match) || m.value == o.value);
			});
			ASSERT_EQ(e.change(fds[o.fd], o.at, o.len, o.flags | deassign, o.value),
				  it == model.end() ? Errc::noent : Errc::ok);
			if (it != model.end())
				model.erase(it), ++removed;
		} else if (o.len) {
			const One *hit = nullptr;
			for (const One &m : model)
				if (!hit && m.places(o) && (!m.len || (m.len == o.len && (!(m.flags & match) || m.value == o.value))))
					hit = &m;
			ASSERT_EQ(e.write(o.at, o.value, o.len, o.flags & pio ? Bus::pio : Bus::mmio),
				  hit ? Taken::yes : Taken::no);
			for (unsigned f = 0; f < fds.size(); ++f)
				ASSERT_EQ(fds[f].take(), hit && hit->fd == f);
			taken += !!hit;
		}
	}
	EXPECT_GT(taken, 1000u);
	EXPECT_GT(collided, 100u);
	EXPECT_GT(removed, 10u);
}

TEST(DeviceBus, IsAsBeforeWhenThereIsNoMemory)
{
	const auto before = hosted::live_allocations();
	{
		Devices e;
		Eventfd a, b;
		hosted::fail_allocation(1);
		EXPECT_EQ(e.change(a, 0, 4), Errc::nomem);
		hosted::fail_allocation(0);
		ASSERT_EQ(e.change(a, 0, 4), Errc::ok);
		ASSERT_EQ(e.change(b, 8, 4), Errc::ok);
		hosted::fail_allocation(1);
		EXPECT_EQ(e.change(b, 16, 4), Errc::nomem);
		ASSERT_EQ(e.add_zone(0x100, 16), Errc::ok);
		hosted::fail_allocation(1);
		EXPECT_EQ(e.add_zone(0x200, 16), Errc::nomem);
		hosted::fail_allocation(1);
		EXPECT_EQ(e.remove_zones(0x100, 4), Errc::nomem);
		hosted::fail_allocation(0);
		EXPECT_EQ(e.write(0x100, 1, 4), Taken::yes);
		EXPECT_EQ(e.write(0x200, 1, 4), Taken::no);
		hosted::fail_allocation(1);
		EXPECT_EQ(e.change(b, 8, 4, deassign), Errc::nomem);
		hosted::fail_allocation(0);
		EXPECT_EQ(e.write(8, 1, 4), Taken::yes);
		EXPECT_EQ(e.write(16, 1, 4), Taken::no);
		EXPECT_EQ(b.state.references, 1);
	}
	EXPECT_EQ(hosted::live_allocations(), before);
}
