// SPDX-License-Identifier: GPL-2.0-only
#include <gtest/gtest.h>
#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <vector>
#include "arch/x86/vm/ioeventfds.hpp"
#include "cxxrt/hosted/hosted.hpp"

using namespace kx;

namespace {

constexpr u32 match = KVM_IOEVENTFD_FLAG_DATAMATCH, pio = KVM_IOEVENTFD_FLAG_PIO, deassign = KVM_IOEVENTFD_FLAG_DEASSIGN;

struct Eventfd {
	int fd;
	hosted::EventFd &state = hosted::make_eventfd(&fd);
	u64 take() { return std::exchange(state.signals, 0); }
};

struct Events {
	std::unique_ptr<IoEventFds> e = std::make_unique<IoEventFds>();
	Errc change(const Eventfd &f, u64 at, u32 len, u32 flags = 0, u64 value = 0)
	{
		kvm_ioeventfd r{};
		r.datamatch = value, r.addr = at, r.len = len, r.fd = f.fd, r.flags = flags;
		return e->change(r);
	}
	Taken write(u64 at, u64 value, u32 len, Bus bus = Bus::mmio) { return e->write(bus, at, &value, len); }
};

}

TEST(IoEventFds, TakeWritesOfTheirPlaceLengthAndValue)
{
	Events e;
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

TEST(IoEventFds, CompareAllOfTheMatchWithWhatWasWritten)
{
	Events e;
	Eventfd a;
	ASSERT_EQ(e.change(a, 0, 2, match, 0x10007), Errc::ok);
	EXPECT_EQ(e.write(0, 7, 2), Taken::no);
	EXPECT_EQ(e.write(0, 0x10007, 2), Taken::no) << "two bytes can never be that";
}

TEST(IoEventFds, RefuseWhatKvmRefuses)
{
	Events e;
	Eventfd a, b;
	EXPECT_EQ(e.change(a, 0, 3), Errc::inval);
	EXPECT_EQ(e.change(a, 0, 16), Errc::inval);
	EXPECT_EQ(e.change(a, 0, 0, match), Errc::inval);
	EXPECT_EQ(e.change(a, ~u64{0} - 2, 4), Errc::inval);
	EXPECT_EQ(e.change(a, ~u64{0} - 4, 4), Errc::ok);
	EXPECT_EQ(e.change(a, 0, 4, 32), Errc::inval);
	kvm_ioeventfd r{};
	r.len = 4, r.fd = -1;
	EXPECT_EQ(e.e->change(r), Errc::badf);
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

/* Against a list that is searched from its beginning. */
TEST(IoEventFds, AgreeWithANaiveList)
{
	struct One {
		u64 at, value;
		u32 len, flags;
		unsigned fd;
		bool places(const One &o) const { return at == o.at && ((flags ^ o.flags) & pio) == 0; }
	};
	std::mt19937 rng{1};
	Events e;
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

TEST(IoEventFds, AreAsBeforeWhenThereIsNoMemory)
{
	const auto before = hosted::live_allocations();
	{
		Events e;
		Eventfd a, b;
		hosted::fail_allocation(1);
		EXPECT_EQ(e.change(a, 0, 4), Errc::nomem);
		hosted::fail_allocation(0);
		ASSERT_EQ(e.change(a, 0, 4), Errc::ok);
		ASSERT_EQ(e.change(b, 8, 4), Errc::ok);
		hosted::fail_allocation(1);
		EXPECT_EQ(e.change(b, 16, 4), Errc::nomem);
		hosted::fail_allocation(1);
		EXPECT_EQ(e.change(b, 8, 4, deassign), Errc::nomem);
		hosted::fail_allocation(0);
		EXPECT_EQ(e.write(8, 1, 4), Taken::yes);
		EXPECT_EQ(e.write(16, 1, 4), Taken::no);
		EXPECT_EQ(b.state.references, 1);
	}
	EXPECT_EQ(hosted::live_allocations(), before);
}
