/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How many instructions the emulator takes for the device accesses guests make: run under callgrind by
 * count.sh. Bytes and guest-physical address come with the exit, as SVM gives them; memory and paging
 * are the machine's and not counted.
 */
#include "arch/x86/emulate/emulator.hpp"

#include <cstdio>
#include <cstring>
#include <initializer_list>

namespace kx::test {

using namespace kx::emulate;

struct BenchMachine {
	u64 gprs[16] = {}, ip = 0x1000, flags = rflags::fixed;
	Segment segments[seg_count] = {};
	Mode facts{.cpu = CpuMode::long64, .code_size = 4};
	u8 code[15] = {};
	u8 page[page_size] = {};

	u64 gpr(Gpr r) const { return gprs[u8(r)]; }
	void set_gpr(Gpr r, u64 v) { gprs[u8(r)] = v; }
	u64 rip() const { return ip; }
	void set_rip(u64 v) { ip = v; }
	u64 rflags() const { return flags; }
	void set_rflags(u64 v) { flags = v; }
	const Mode &mode() const { return facts; }
	const Segment &segment(Seg s) const { return segments[u8(s)]; }
	u64 segment_base(Seg s) const { return segments[u8(s)].base; }
	[[gnu::noinline]] void load_vector(unsigned, u8 *to, unsigned n) { memset(to, 0, n); }
	[[gnu::noinline]] void store_vector(unsigned, const u8 *, unsigned, Upper) { asm volatile(""); }
	[[gnu::noinline]] Translation translate(Gva g, Access)
	{
		asm volatile("");
		return Gpa{g.raw()};
	}
	[[gnu::noinline]] Ram ram_read(Gpa, void *, unsigned) { return absent(); }
	[[gnu::noinline]] Ram ram_write(Gpa, const void *, unsigned) { return absent(); }
	[[gnu::noinline]] Swap ram_swap(Gpa, const void *, const void *, unsigned)
	{
		asm volatile("");
		return Swap::absent;
	}
	bool is_ram(Gpa, Access) const { return false; }
	[[gnu::noinline]] unsigned prefetched(u8 *to) const
	{
		memcpy(to, code, sizeof(code));
		return sizeof(code);
	}
	bool same_code = false;
	bool unchanged(Span<const u8>) const { return same_code; }
	bool event_pending() const { return false; }
	u8 *port_data() { return page; }
	unsigned port_batch(PortDirection) const { return 1; }

private:
	static Ram absent()
	{
		asm volatile("");
		return Ram::absent;
	}
};

}

using namespace kx;
using kx::test::BenchMachine;

static BenchMachine m;
static emulate::Emulation e;
constexpr u64 device = 0xfee00010;
constexpr emulate::Hint reading{emulate::Hint::Known::reading, Gpa{device}};
constexpr emulate::Hint writing{emulate::Hint::Known::writing, Gpa{device}};

/* The benchmark's own call is a few instructions of each figure. The empty asm keeps compilers from
 * finding that some of these are the same function. */
[[gnu::noinline]] static void bench_mov_store()
{
	asm volatile("# bench_mov_store");
	(void)begin(m, e, writing);
}
[[gnu::noinline]] static void bench_mov_store_taken()
{
	asm volatile("# bench_mov_store_taken");
	(void)write_taken(m, e);
}
/* The same instruction at the same place, as a driver's loop has it. */
[[gnu::noinline]] static void bench_again_mov_store()
{
	asm volatile("# bench_again_mov_store");
	(void)begin(m, e, writing);
}
[[gnu::noinline]] static void bench_mov_load()
{
	asm volatile("# bench_mov_load");
	(void)begin(m, e, reading);
}
[[gnu::noinline]] static void bench_mov_load_answer()
{
	asm volatile("# bench_mov_load_answer");
	(void)answer_read(m, e, 5);
}
[[gnu::noinline]] static void bench_or()
{
	asm volatile("# bench_or");
	(void)begin(m, e, writing);
}
[[gnu::noinline]] static void bench_or_answer()
{
	asm volatile("# bench_or_answer");
	(void)answer_read(m, e, 5);
}
[[gnu::noinline]] static void bench_stos()
{
	asm volatile("# bench_stos");
	(void)begin(m, e, writing);
}
[[gnu::noinline]] static void bench_movs_to_device()
{
	asm volatile("# bench_movs_to_device");
	(void)begin(m, e);
}

static void code(std::initializer_list<u8> bytes)
{
	u8 *at = m.code;
	for (const u8 b : bytes)
		*at++ = b;
	m.gprs[u8(Gpr::rbx)] = m.gprs[u8(Gpr::rdi)] = device;
}

int main()
{
	code({0x89, 0x03}); /* mov [rbx], eax */
	bench_mov_store();
	bench_mov_store_taken();
	m.ip = 0x1000;
	m.same_code = true;
	bench_again_mov_store();
	m.same_code = false;
	code({0x8b, 0x03});
	bench_mov_load();
	bench_mov_load_answer();
	code({0x09, 0x03});
	bench_or();
	bench_or_answer();
	code({0xab});
	bench_stos();
	code({0xa5});
	bench_movs_to_device();
	for (const char *name : {"bench_mov_store", "bench_mov_store_taken", "bench_again_mov_store",
				 "bench_mov_load", "bench_mov_load_answer", "bench_or",
				 "bench_or_answer", "bench_stos", "bench_movs_to_device"})
		std::printf("%s 1\n", name);
}
