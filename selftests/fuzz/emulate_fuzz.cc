/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Any bytes, in any mode, with any registers: the emulator ends in bounded time, keeps its promises
 * to the machine, and leaves the same whether the data is RAM, a device, or RAM that a hint named.
 *
 *	clang++ -std=gnu++20 -g -O1 -fsanitize=fuzzer,address,undefined -I. \
 *		selftests/fuzz/emulate_fuzz.cc arch/x86/emulate/(everything).cc -o emulate_fuzz
 */
#include "selftests/unit/emulate_machine.hpp"

#include <cstdio>
#include <cstdlib>

namespace {

using namespace kx;
using namespace kx::test;
using Kind = Outcome::Kind;

/* When the bytes run out, noise that depends on them goes on: short inputs have full states too. */
class Input {
	const u8 *p_;
	size_t n_;
	u64 noise_ = 0x9e3779b97f4a7c15;

public:
	Input(const u8 *p, size_t n) : p_{p}, n_{n}
	{
		for (size_t i = 0; i < n; i++)
			noise_ = (noise_ ^ p[i]) * 0x100000001b3;
	}
	u8 byte()
	{
		if (n_) {
			n_--;
			return *p_++;
		}
		noise_ = noise_ * 6364136223846793005 + 1442695040888963407;
		return u8(noise_ >> 56);
	}
	u64 word()
	{
		u64 v = 0;
		for (unsigned i = 0; i < 8; i++)
			v = v << 8 | byte();
		return v;
	}
};

constexpr u64 base = 0x10000;
constexpr unsigned pages = 3; /* two to read and write, one to read; holes around */

/* Values near everything that matters: page ends, limits, the ends of address sizes. */
u64 interesting(Input &in)
{
	constexpr u64 anchors[] = {0, base, base + page_size, base + 2 * page_size, base + pages * page_size,
				   0x8000, 0x10000, 0x80000000, 0x100000000, 0x800000000000, 0xffff800000000000,
				   ~u64{0}};
	const u8 how = in.byte();
	if (how & 0x80)
		return in.word();
	return anchors[how % (sizeof(anchors) / 8)] + u64(s64(std::int8_t(in.byte())));
}

struct State {
	u64 gprs[16], flags;
	Segment segments[seg_count];
	Mode mode;
	std::vector<u8> code;
	u8 data[pages * page_size];
	u8 vectors[16][32];
};

State make(Input &in)
{
	State s{};
	const u8 mode = in.byte();
	for (Segment &g : s.segments)
		g = {.base = 0, .limit = 0xffffffff, .selector = 8, .type = 3, .dpl = 0, .s = true, .present = true,
		     .avl = false, .l = false, .db = true, .g = true, .unusable = false};
	s.segments[u8(Seg::cs)].type = 0xb;
	constexpr CpuMode modes[] = {CpuMode::long64, CpuMode::protect, CpuMode::real, CpuMode::vm86};
	s.mode.cpu = modes[mode % 4];
	s.mode.code_size = s.mode.cpu == CpuMode::long64 || (s.mode.cpu == CpuMode::protect && (mode & 4)) ? 4 : 2;
	s.mode.cpl = mode & 8 ? 3 : 0;
	s.mode.linear_bits = mode & 16 ? 57 : 48;
	s.mode.alignment_checked = mode & 32;
	s.mode.branch66 = mode & 64 ? emulate::Branch66::ignored : emulate::Branch66::honoured;
	s.mode.avx = mode & 128 ? emulate::Simd::usable : emulate::Simd::undefined;
	const unsigned length = 1 + in.byte() % 15;
	for (unsigned i = 0; i < length; i++)
		s.code.push_back(in.byte());
	s.code.resize(15, 0x90); /* all of it is there: the data is not executed */
	s.flags = (in.word() & (0xcd5 | rflags::rf | (in.byte() < 16 ? rflags::tf : 0))) | rflags::fixed;
	for (u64 &g : s.gprs)
		g = interesting(in);
	s.gprs[1] &= in.byte() & 1 ? ~u64{0} : 0xff; /* counts that end, and that do not */
	for (unsigned i = 0; i < 6; i++)
		if (const u8 how = in.byte(); how & 1) {
			Segment &g = s.segments[i];
			g.base = interesting(in);
			g.limit = u32(interesting(in));
			g.type = how >> 1 & 15;
			g.unusable = (how & 0xe0) == 0xe0;
			g.db = how & 0x20;
			if (s.mode.cpu != CpuMode::long64)
				g.base = u32(g.base);
		}
	const u8 fill = in.byte();
	for (unsigned i = 0; i < sizeof(s.data); i++)
		s.data[i] = fill & 1 ? u8(i * (fill | 1)) : fill;
	return s;
}

[[noreturn]] void fail(const State &s, const char *why)
{
	fprintf(stderr, "%s: mode %u/%u, cpl %u, flags %lx, bytes", why, unsigned(s.mode.cpu), s.mode.code_size,
		s.mode.cpl, s.flags);
	for (const u8 b : s.code)
		fprintf(stderr, " %02x", b);
	for (unsigned i = 0; i < 16; i++)
		fprintf(stderr, "%sr%u=%lx", i % 4 ? " " : "\n\t", i, s.gprs[i]);
	for (unsigned i = 0; i < 6; i++)
		fprintf(stderr, "\n\tseg %u: %lx %x type %u", i, s.segments[i].base, s.segments[i].limit,
			s.segments[i].type);
	fprintf(stderr, "\n");
	abort();
}

/* Remembers the first data access, which is what an exit would have told. */
struct Recorder : TestMachine {
	Hint first{};
	Translation translate(Gva gva, Access a)
	{
		const Translation t = TestMachine::translate(gva, a);
		if (first.known == Hint::Known::nothing && a != Access::fetch && t.ok())
			first = {a == Access::write ? Hint::Known::writing : Hint::Known::reading, t.gpa()};
		return t;
	}
};

struct Result {
	Kind end;
	Exception fault{Vector::de};
	Outcome::Trap trap;
	u64 gprs[16], ip, flags;
	u8 vectors[16][32];
	std::vector<u8> data, out;
	Hint first;
};

/* Leaves something in every part of it: an instruction is never the first. */
void use_before(Emulation &e)
{
	TestMachine m;
	m.map_new(0x77770000, Gfn{0x55}, 1, TestMachine::Kind::device);
	/* add word [gs:r11+r11*8+0x11111111], 0x7777 */
	m.preloaded = {0x65, 0x66, 0x43, 0x81, 0x84, 0xdb, 0x11, 0x11, 0x11, 0x11, 0x77, 0x77};
	m.gprs[11] = (0x77770000 - 0x11111111) / 9;
	(void)execute(m, e);
	m.preloaded = {0xf3, 0x6c};
	m.gprs[7] = 0x77770000;
	m.gprs[1] = 3;
	(void)emulate::begin(m, e, {}, {1, PortDirection::in, 0});
}

/* What the CPU would have exited for, if this is INS or OUTS. */
AllowedPort port_of(const State &s)
{
	emulate::CodeBytes code{};
	memcpy(code.bytes, s.code.data(), s.code.size());
	code.count = u8(s.code.size());
	emulate::Insn i{};
	if (emulate::decode(i, code, s.mode) != emulate::Decoded::ok || !i.string_port())
		return {};
	return {i.size, i.op == emulate::Op::ins ? PortDirection::in : PortDirection::out, u16(s.gprs[2])};
}

Result run(const State &s, TestMachine::Kind kind, Hint hint)
{
	Recorder m;
	Emulation e;
	use_before(e);
	Result r{};
	r.data.assign(s.data, s.data + sizeof(s.data));
	m.map(base, Gfn{0x100}, r.data.data(), 2, kind);
	m.map(base + 2 * page_size, Gfn{0x102}, r.data.data() + 2 * page_size, 1, kind, false);
	memcpy(m.gprs, s.gprs, sizeof(m.gprs));
	memcpy(m.segments, s.segments, sizeof(m.segments));
	for (unsigned i = 0; i < 16; i++)
		memcpy(m.vectors[i], s.vectors[i], 32);
	m.flags = s.flags;
	m.facts = s.mode;
	m.preloaded = s.code;
	m.ip = 0x1000;

	/* What one element of a port gives is its number. */
	u8 element = 0;
	unsigned calls = 0, entries = 0;
	const AllowedPort port = port_of(s);
	Outcome o = emulate::begin(m, e, hint, port);
	if (e.bytes().size() > 15)
		fail(s, "more than 15 bytes");
	for (;; calls++) {
		if (calls > 20000)
			break;
		std::vector<DeviceAccess> log;
		u64 value;
		if (o.kind == Kind::mmio_read) {
			if (!e.in_progress())
				fail(s, "a request that is not in progress");
			take_device_access(m, o, log, value);
			o = emulate::answer_read(m, e, value | (o.len < 8 ? ~u64{0} << 8 * o.len : 0));
		} else if (o.kind == Kind::mmio_write) {
			take_device_access(m, o, log, value);
			o = emulate::write_taken(m, e);
		} else if (o.kind == Kind::port_in) {
			if (!o.count || u64{o.count} * o.len > page_size)
				fail(s, "a batch out of bounds");
			for (unsigned i = 0; i < o.count; i++, element++)
				memset(m.port_page + i * o.len, element, o.len);
			o = emulate::port_done(m, e);
		} else if (o.kind == Kind::port_out) {
			if (!o.count || u64{o.count} * o.len > page_size)
				fail(s, "a batch out of bounds");
			r.out.insert(r.out.end(), m.port_page, m.port_page + o.count * o.len);
			o = emulate::port_done(m, e);
		} else if (o.kind == Kind::retry && o.trap == Outcome::Trap::none && m.ip == 0x1000 && entries++ < 64) {
			o = emulate::begin(m, e, {}, port);
		} else {
			break;
		}
	}
	if (m.broken)
		fail(s, m.broken);
	if (m.ram_calls > 3000000)
		fail(s, "too much work");
	r.end = calls > 20000 || entries > 64 ? Kind::retry : o.kind;
	r.trap = o.trap;
	if (r.end == Kind::fault)
		r.fault = o.exception;
	if (r.end != Kind::retry && e.in_progress())
		fail(s, "ended in progress");
	memcpy(r.gprs, m.gprs, sizeof(r.gprs));
	for (unsigned i = 0; i < 16; i++)
		memcpy(r.vectors[i], m.vectors[i], 32);
	r.ip = m.ip;
	r.flags = m.flags;
	r.first = m.first;
	return r;
}

void compare(const State &s, const Result &a, const Result &b, const char *what)
{
	const auto gave_up = [](const Result &r) { return r.end == Kind::retry && r.trap == Outcome::Trap::none; };
	if (gave_up(a) || gave_up(b))
		return; /* a count that does not end */
	const auto show = [](const Result &r) {
		fprintf(stderr, "end %u trap %u ip %lx flags %lx fault %u/%x cr2 %lx rcx %lx\n", unsigned(r.end),
			unsigned(r.trap), r.ip, r.flags, unsigned(r.fault.vector), r.fault.error, r.fault.payload,
			r.gprs[1]);
	};
	if (a.end != b.end || a.trap != b.trap || a.ip != b.ip || a.flags != b.flags) {
		show(a);
		show(b);
		fail(s, what);
	}
	const bool same_fault = a.fault.vector == b.fault.vector && a.fault.error == b.fault.error &&
				a.fault.payload == b.fault.payload;
	if (a.end == Kind::fault && !same_fault)
		fail(s, what);
	if (memcmp(a.gprs, b.gprs, sizeof(a.gprs)) || memcmp(a.vectors, b.vectors, sizeof(a.vectors)))
		fail(s, what);
	if (a.data != b.data || a.out != b.out)
		fail(s, what);
}

}

extern "C" int LLVMFuzzerTestOneInput(const u8 *bytes, size_t n)
{
	Input in{bytes, n};
	const State s = make(in);
	const Result ram = run(s, TestMachine::Kind::ram, {});
	const Result device = run(s, TestMachine::Kind::device, {});
	compare(s, ram, device, "RAM and device differ");
	if (ram.first.known != Hint::Known::nothing) {
		compare(s, ram, run(s, TestMachine::Kind::ram, ram.first), "a hint changes something");
		compare(s, ram, run(s, TestMachine::Kind::device, ram.first), "a hint changes something over a device");
	}
	return 0;
}
