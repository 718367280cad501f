/* SPDX-License-Identifier: GPL-2.0-only */
/* A machine for the emulator's tests: pages of the test's own memory, each RAM, ROM or a device. */
#pragma once
#include "arch/x86/emulate/emulator.hpp"

#include <cstring>
#include <initializer_list>
#include <deque>
#include <map>
#include <string>
#include <vector>

namespace kx::test {

using emulate::Access;
using emulate::AllowedPort;
using emulate::CpuMode;
using emulate::Emulation;
using emulate::Hint;
using emulate::Mode;
using emulate::Outcome;
using emulate::PortDirection;
using emulate::Ram;
using emulate::Swap;
using emulate::Translation;
using emulate::Upper;

class TestMachine {
public:
	enum class Kind : u8 { ram, rom, device };
	struct PageOf {
		Gfn gfn;
		bool writable = true;
	};
	struct Memory {
		u8 *bytes;
		Kind kind;
	};

	u64 gprs[16] = {};
	u64 ip = 0, flags = rflags::fixed;
	Segment segments[seg_count] = {};
	Mode facts;
	u8 vectors[16][64] = {};
	std::map<u64, PageOf> pages;	/* linear page number */
	std::map<u64, Memory> memories; /* gfn */
	std::deque<std::vector<u8>> owned;
	u8 port_page[page_size] = {};
	unsigned batch_in = 4096, batch_out = 4096;
	std::vector<u8> preloaded;
	bool event = false, divert = false, ram_fails = false;
	unsigned walks = 0, swaps = 0, ram_calls = 0;
	/* Called before a swap: what another CPU does at that moment. */
	std::vector<std::pair<u64 *, u64>> racing;

	TestMachine()
	{
		for (Segment &s : segments)
			s = {.base = 0, .limit = 0xffffffff, .selector = 8, .type = 3, .dpl = 0, .s = true,
			     .present = true, .avl = false, .l = false, .db = true, .g = true, .unusable = false};
		segments[u8(Seg::cs)].type = 0xb;
		set_mode(CpuMode::long64, 4);
	}
	void set_mode(CpuMode m, u8 code_size)
	{
		facts.cpu = m;
		facts.code_size = code_size;
		facts.avx = emulate::Simd::usable;
		facts.branch66 = emulate::Branch66::honoured;
		if (m == CpuMode::real || m == CpuMode::vm86)
			for (Segment &s : segments)
				s.limit = 0xffff, s.db = false;
	}

	/* Maps pages of memory that the test has at `bytes` to a linear address. */
	void map(u64 linear, Gfn gfn, u8 *bytes, unsigned n, Kind k, bool writable = true)
	{
		for (unsigned i = 0; i < n; i++) {
			pages.insert_or_assign((linear >> page_shift) + i, PageOf{gfn + i, writable});
			memories.insert_or_assign((gfn + i).raw(), Memory{bytes + i * page_size, k});
		}
	}
	u8 *map_new(u64 linear, Gfn gfn, unsigned n, Kind k, bool writable = true)
	{
		owned.emplace_back(n * page_size);
		map(linear, gfn, owned.back().data(), n, k, writable);
		return owned.back().data();
	}
	void unmap(u64 linear) { pages.erase(linear >> page_shift); }

	/* kx::emulate::Machine */
	u64 gpr(Gpr r) const { return gprs[u8(r)]; }
	void set_gpr(Gpr r, u64 v) { gprs[u8(r)] = v; }
	u64 rip() const { return ip; }
	void set_rip(u64 v) { ip = v; }
	u64 rflags() const { return flags; }
	void set_rflags(u64 v) { flags = v; }
	Mode mode() const { return facts; }
	const Segment &segment(Seg s) const { return segments[u8(s)]; }
	u64 segment_base(Seg s) const { return segments[u8(s)].base; }
	void load_vector(unsigned n, u8 *to, unsigned bytes) const { memcpy(to, vectors[n], bytes); }
	void store_vector(unsigned n, const u8 *from, unsigned bytes, Upper u)
	{
		memcpy(vectors[n], from, bytes);
		if (u == Upper::zero)
			memset(vectors[n] + bytes, 0, sizeof(vectors[n]) - bytes);
	}
	Translation translate(Gva gva, Access a)
	{
		walks++;
		if (divert)
			return Translation::diverted();
		const bool implicit = a == Access::implicit_read || a == Access::implicit_write;
		const bool writes = a == Access::write || a == Access::implicit_write;
		const u32 error = (writes ? pfec::write : 0) | (facts.cpl == 3 && !implicit ? pfec::user : 0) |
				  (a == Access::fetch ? pfec::fetch : 0);
		const auto it = pages.find(gva.frame().raw());
		if (it == pages.end())
			return Exception::page_fault(error, gva.raw());
		if (writes && !it->second.writable)
			return Exception::page_fault(error | pfec::present, gva.raw());
		return Gpa{it->second.gfn} + gva.offset();
	}
	Ram ram_read(Gpa gpa, void *to, unsigned n)
	{
		const Memory *m = find(gpa, n);
		if (ram_fails)
			return Ram::failed;
		if (!m || m->kind == Kind::device)
			return Ram::absent;
		memcpy(to, m->bytes + gpa.offset(), n);
		return Ram::ok;
	}
	Ram ram_write(Gpa gpa, const void *from, unsigned n)
	{
		const Memory *m = find(gpa, n);
		if (ram_fails)
			return Ram::failed;
		if (!m || m->kind != Kind::ram)
			return Ram::absent;
		memcpy(m->bytes + gpa.offset(), from, n);
		return Ram::ok;
	}
	Swap ram_swap(Gpa gpa, const void *old, const void *now, unsigned n)
	{
		const Memory *m = find(gpa, n);
		swaps++;
		if ((gpa.raw() & 63) + n > 64)
			broken = "swap across a cache line";
		if (ram_fails)
			return Swap::failed;
		if (!m || m->kind != Kind::ram)
			return Swap::absent;
		if (!racing.empty()) {
			*racing.back().first = racing.back().second;
			racing.pop_back();
		}
		u8 *at = m->bytes + gpa.offset();
		if (memcmp(at, old, n))
			return Swap::differs;
		memcpy(at, now, n);
		return Swap::swapped;
	}
	bool is_ram(Gpa gpa, Access a) const
	{
		const auto it = memories.find(gpa.frame().raw());
		if (it == memories.end())
			return false;
		return it->second.kind == Kind::ram || (it->second.kind == Kind::rom && a != Access::write && a != Access::implicit_write);
	}
	/* Set by a test that promises the code was not touched. */
	bool code_unchanged = false;
	bool unchanged(Span<const u8>) const { return code_unchanged; }
	unsigned prefetched(u8 *to) const
	{
		if (!preloaded.empty())
			memcpy(to, preloaded.data(), preloaded.size());
		return unsigned(preloaded.size());
	}
	bool event_pending() const { return event; }
	u8 *port_data() { return port_page; }
	unsigned port_batch(PortDirection d) const { return d == PortDirection::in ? batch_in : batch_out; }

	/* A promise of the interface that the emulator broke. */
	const char *broken = nullptr;

	u8 *device(Gpa gpa)
	{
		const auto it = memories.find(gpa.frame().raw());
		return it == memories.end() ? nullptr : it->second.bytes + gpa.offset();
	}

private:
	const Memory *find(Gpa gpa, unsigned n)
	{
		ram_calls++;
		if (n == 0 || gpa.offset() + n > page_size)
			broken = "access leaves its page";
		const auto it = memories.find(gpa.frame().raw());
		return it == memories.end() ? nullptr : &it->second;
	}
};
static_assert(emulate::Machine<TestMachine>);

/* One access that went to a device. */
struct DeviceAccess {
	bool write;
	u64 gpa;
	unsigned len;
	u64 data;
	bool operator==(const DeviceAccess &) const = default;
};

/* Serves the device side from the memory behind device pages until the instruction ends. */
struct Served {
	Outcome end;
	std::vector<DeviceAccess> accesses;
};

inline bool take_device_access(TestMachine &m, const Outcome &o, std::vector<DeviceAccess> &log, u64 &value)
{
	const bool write = o.kind == Outcome::Kind::mmio_write;
	if (o.len == 0 || o.len > 8 || o.gpa.offset() + o.len > page_size)
		m.broken = "device access too long or across pages";
	u8 *at = m.device(o.gpa);
	value = 0;
	if (write && at)
		memcpy(at, &o.data, o.len);
	else if (at)
		memcpy(&value, at, o.len);
	else
		value = ~u64{0};
	log.push_back({write, o.gpa.raw(), o.len, write ? o.data : value});
	return true;
}

inline Served serve(TestMachine &m, Emulation &e, Outcome o, unsigned most = 100000)
{
	Served s{o, {}};
	while (most--) {
		u64 value;
		switch (s.end.kind) {
		case Outcome::Kind::mmio_read:
			take_device_access(m, s.end, s.accesses, value);
			/* Bits beyond the length are the VMM's to scribble on. */
			if (s.end.len < 8)
				value |= ~u64{0} << (8 * s.end.len);
			s.end = emulate::answer_read(m, e, value);
			break;
		case Outcome::Kind::mmio_write:
			take_device_access(m, s.end, s.accesses, value);
			s.end = emulate::write_taken(m, e);
			break;
		default: return s;
		}
	}
	m.broken = "does not end";
	return s;
}

/* Runs one instruction to its end. */
inline Served execute(TestMachine &m, Emulation &e, Hint hint = {}, AllowedPort port = {})
{
	return serve(m, e, emulate::begin(m, e, hint, port));
}

/* A machine with a page of code, two of RAM, two of a device, one of ROM; a hole behind each. */
struct Guest : TestMachine {
	static constexpr u64 code_at = 0x10000, ram_at = 0x20000, device_at = 0x30000, rom_at = 0x40000;
	static constexpr Gfn device_gfn{0xfe000}, ram_gfn{0x20};
	u8 *text, *ram, *dev, *rom;
	Emulation e;

	Guest()
	{
		text = map_new(code_at, Gfn{0x10}, 1, Kind::ram);
		ram = map_new(ram_at, ram_gfn, 2, Kind::ram);
		dev = map_new(device_at, device_gfn, 2, Kind::device);
		rom = map_new(rom_at, Gfn{0x40}, 1, Kind::rom);
		ip = code_at;
	}
	Guest(CpuMode m, u8 code_size) : Guest() { set_mode(m, code_size); }
	u64 &r(Gpr n) { return gprs[u8(n)]; }
	Segment &seg(Seg s) { return segments[u8(s)]; }
	void code(std::initializer_list<int> bytes)
	{
		u8 *at = text + (ip & (page_size - 1));
		for (const int b : bytes)
			*at++ = u8(b);
	}
	Outcome begin(std::initializer_list<int> bytes, Hint hint = {})
	{
		code(bytes);
		return emulate::begin(*this, e, hint);
	}
	Outcome answer(u64 v) { return emulate::answer_read(*this, e, v); }
	Outcome taken() { return emulate::write_taken(*this, e); }
	Outcome port() { return emulate::port_done(*this, e); }
	Served run(std::initializer_list<int> bytes, Hint hint = {})
	{
		code(bytes);
		return execute(*this, e, hint);
	}
	template <class T> T load(const u8 *at) const
	{
		T v;
		memcpy(&v, at, sizeof(v));
		return v;
	}
	template <class T> void store(u8 *at, T v) { memcpy(at, &v, sizeof(v)); }
};

}
