/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The machine an instruction is executed on: everything the emulator asks of a vCPU. A vCPU offers
 * a class that models `Machine`; the hosted tests offer another over plain memory.
 *
 * The emulator asks for little and late: mode() once an instruction, a segment only when its base
 * or limit matters (never for DS/ES/SS in 64-bit mode), rflags only by instructions that have to do
 * with them (and once for RF/TF). Nothing is set before the instruction is certain to complete.
 *
 * Between emulate() and the outcome that ends it the caller holds memslots stable (SRCU read side)
 * within one call; from one call to the next anything may change.
 */
#pragma once
#include "arch/x86/cpu/regs.hpp"
#include "cxxrt/span.hpp"

namespace kx::emulate {

enum class Access : u8 {
	read,
	write, /* also for read-modify-write: the CPU checks both at once */
	fetch,
	implicit_read, /* as supervisor whatever the CPL: descriptor tables, TSS (SMAP without AC) */
	implicit_write,
};

enum class CpuMode : u8 { real, vm86, protect, long64 }; /* compatibility mode is `protect` */

/* May SSE (or AVX) instructions run? CR0.EM, CR0.TS, CR4.OSFXSR, CR4.OSXSAVE, XCR0 in one word.
 * A machine that cannot hand out 256-bit registers says `undefined` for AVX. */
enum class Simd : u8 { usable, undefined, unavailable }; /* else #UD, else #NM */

/* How a near branch with an operand-size prefix is read in 64-bit mode: AMD takes a 16-bit
 * displacement and truncates RIP, Intel ignores the prefix. */
enum class Branch66 : u8 { ignored, honoured };

/* Facts of the mode that outlast an instruction; a vCPU may keep it ready and hand out a copy. */
struct Mode {
	CpuMode cpu = CpuMode::real;
	u8 code_size = 2; /* default operand and address size in bytes: CS.D outside 64-bit mode (which
			     has 4 here: the address size is known from `cpu`) */
	u8 cpl = 0;
	u8 linear_bits = 48; /* 57 with CR4.LA57; used in 64-bit mode alone */
	Simd sse = Simd::usable, avx = Simd::undefined;
	Branch66 branch66 = Branch66::honoured;
	bool alignment_checked : 1 = false; /* CR0.AM and RFLAGS.AC and CPL 3 */
	bool umip : 1 = false;
	constexpr bool operator==(const Mode &) const = default;
};
static_assert(sizeof(Mode) == 8); /* copied for every instruction */

/* A guest-physical address; or the fault the guest takes; or the machine has dealt with it by
 * something bigger (a nested exit is queued): the instruction is then abandoned untouched. */
class Translation {
public:
	enum class Kind : u8 { ok, fault, diverted };

private:
	Kind kind_;
	Gpa gpa_{0};
	Exception fault_{};
	explicit constexpr Translation(Kind k) : kind_{k} {}

public:
	constexpr Translation(Gpa g) : kind_{Kind::ok}, gpa_{g} {}
	constexpr Translation(const Exception &e) : kind_{Kind::fault}, fault_{e} {}
	static constexpr Translation diverted() { return Translation{Kind::diverted}; }
	constexpr Kind kind() const { return kind_; }
	constexpr bool ok() const { return kind_ == Kind::ok; }
	constexpr Gpa gpa() const { return gpa_; }
	constexpr const Exception &fault() const { return fault_; }
};

/* What became of an access to guest memory. `absent`: no RAM there, or read-only and this was a
 * write: the access is MMIO. `failed`: RAM, but the host could not reach it; the emulation ends
 * with Outcome::Kind::error (KVM itself treats that as MMIO: a machine may say `absent`). */
enum class Ram : u8 { ok, absent, failed };
enum class Swap : u8 { swapped, differs, absent, failed };

/* What happens to the bits of a vector register above those stored: SSE keeps, VEX zeroes. */
enum class Upper : u8 { keep, zero };

enum class PortDirection : u8 { in, out };

/* What the exit already told about a data access of this instruction: the final guest-physical
 * address (not one of a page-table walk), and whether the CPU was writing. It saves the walk of the
 * guest's tables when the operand has the same page offset, does not leave the page, is the only
 * memory operand, and is no write unless the CPU wrote. Safe even when the instruction was replaced
 * since the exit: the guest just made an access of this kind to this page at this CPL. An exit that
 * does not say which kind it was, or may be of the walk, knows nothing. */
struct Hint {
	enum class Known : u8 { nothing, reading, writing };
	Known known = Known::nothing;
	Gpa gpa{0};
};

/* The string access to a port that the CPU has allowed before it exited for it: IOPL, the TSS bitmap. INS and
 * OUTS that were not this one have been put there since, or are here by another exit. */
struct AllowedPort {
	u8 size = 0; /* none */
	PortDirection dir = PortDirection::in;
	u16 port = 0;
};

template <class M>
concept Machine = requires(M &m, const M &c, Gpr r, Seg s, u64 v, Gva gva, Gpa gpa, Access a, void *to,
			   const void *from, const void *old, unsigned n, u8 *bytes, const u8 *cbytes,
			   Upper upper, PortDirection dir, Span<const u8> code) {
	/* Registers. rip() is of the instruction, whole 64 bits; rflags() has bit 1 set. */
	{ c.gpr(r) } -> std::same_as<u64>;
	m.set_gpr(r, v);
	{ c.rip() } -> std::same_as<u64>;
	m.set_rip(v);
	{ c.rflags() } -> std::same_as<u64>;
	m.set_rflags(v);

	{ c.mode() } -> std::convertible_to<Mode>;
	{ c.segment(s) } -> std::convertible_to<const Segment &>;
	{ c.segment_base(s) } -> std::same_as<u64>; /* FS and GS in 64-bit mode */

	/* Vector register n, its low 16 or 32 bytes. */
	m.load_vector(n, bytes, n);
	m.store_vector(n, cbytes, n, upper);

	/* The guest's own paging at the current CPL; sets accessed and dirty bits. */
	{ m.translate(gva, a) } -> std::same_as<Translation>;

	/* Guest memory, 1..4096 bytes within one page. Swap: 1, 2, 4, 8 or 16 bytes within one cache
	 * line, atomic towards every other CPU; old and from are n bytes each. */
	{ m.ram_read(gpa, to, n) } -> std::same_as<Ram>;
	{ m.ram_write(gpa, from, n) } -> std::same_as<Ram>;
	{ m.ram_swap(gpa, old, from, n) } -> std::same_as<Swap>;
	/* Would such an access be to RAM? Advice: asked before a port is read for INS. */
	{ m.is_ram(gpa, a) } -> std::same_as<bool>;

	/* Instruction bytes the CPU supplied with the exit (SVM decode assists), 0..15: copies them
	 * and says how many. 0 makes the emulator fetch through translate() and ram_read(). */
	{ m.prefetched(bytes) } -> std::same_as<unsigned>;
	/* Fetching at RIP, which is where it was, would give `code` again: decoding is spared. A machine that
	 * does not know says no. */
	{ m.unchanged(code) } -> std::same_as<bool>;

	/* Something waits for this vCPU (signal, request, interrupt): a REP instruction should pause
	 * at its next iteration. A plain flag test. */
	{ c.event_pending() } -> std::same_as<bool>;

	/* The page shared with the VMM for port data, 4096 bytes, and how many elements of one string
	 * instruction may go in one exit. KVM batches INS; OUTS it hands out one by one, and there
	 * are VMMs that drop longer ones. */
	{ m.port_data() } -> std::same_as<u8 *>;
	{ c.port_batch(dir) } -> std::same_as<unsigned>;
};

}
