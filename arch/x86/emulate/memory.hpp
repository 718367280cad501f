/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An operand in memory: from segment and offset to guest-physical runs, and from there to RAM or
 * to a device. A step that cannot go on leaves the reason in stopped() and says so.
 *
 * Nearly every operand is a scalar within one page, in 64-bit mode, where the exit has told its
 * address: load() and store() are short for that one, and leave the rest to locate().
 */
#pragma once
#include "arch/x86/emulate/alu.hpp"
#include "arch/x86/emulate/emulation.hpp"

namespace kx::emulate {

/* A value, if there is one. Two registers. */
struct Got {
	u64 value;
	bool ok;
};
inline constexpr Got none{0, false};

/* Where an operand lies: one run, or two when it straddles a page. */
struct Place {
	Gpa first{0}, second{0};
	u8 len = 0, first_len = 0;
	bool ok = false;

	bool straddles() const { return first_len != len; }
};

enum class Step : u8 { go, stop };

template <Machine M> class Memory {
protected:
	M &m_;
	Emulation &e_;

private:
	union {
		Outcome stopped_; /* no value until something stops: not worth clearing each time */
	};

	bool hinted(u64 linear, Access a) const
	{
		const Hint &h = e_.hint_;
		return h.known != Hint::Known::nothing && Gva{linear}.offset() == h.gpa.offset() &&
		       (a == Access::read || h.known == Hint::Known::writing);
	}
	bool canonical_at(u64 linear) const { return canonical(linear, e_.mode_.linear_bits); }
	Got segmented(Seg s, u64 offset, unsigned len, Access a);
	Got translate(u64 linear, Access a);
	Step read_run(Gpa gpa, u8 *to, unsigned len);
	Step write_run(Gpa gpa, const u8 *from, unsigned len);
	Step ask(Gpa gpa, unsigned len);
	Got refuse_segment(Seg s);

	/* The common operand: its guest-physical address. Not ok: to be looked at closely. */
	Got quick(Seg s, u64 offset, unsigned len, Access a)
	{
		if (e_.mode_.cpu != CpuMode::long64 || e_.mode_.alignment_checked) [[unlikely]]
			return none;
		const u64 at = offset + (s >= Seg::fs ? m_.segment_base(s) : 0);
		if (Gva{at}.offset() + len > page_size || !canonical_at(at)) [[unlikely]]
			return none;
		if (hinted(at, a)) [[likely]]
			return {e_.hint_.gpa.raw(), true};
		return none;
	}

public:
	Memory(M &m, Emulation &e) : m_{m}, e_{e} {}

	const Outcome &stopped() const { return stopped_; }
	[[gnu::cold]] Step stop(const Outcome &o)
	{
		stopped_ = o;
		return Step::stop;
	}
	[[gnu::cold]] Step stop_gp()
	{
		(void)refuse_segment(Seg::ds);
		return Step::stop;
	}

	/* Segment and offset to a linear address, checked for all len bytes. APM vol. 2 §4.5, §5.3.1 */
	Got linear(Seg s, u64 offset, unsigned len, Access a);
	/* Translates every page of the operand before anything of it is touched. */
	Place locate(Seg s, u64 offset, unsigned len, Access a);
	/* #GP(0) of the moves that want natural alignment: after the checks of the first byte, before
	 * those of the last, as CPUs do it. */
	Step require_alignment(Seg s, u64 offset, unsigned len, Access a);
	/* #AC(0), of vector moves too; those of 32 bytes want 16 (AMD). */
	Step check_alignment(u64 linear, unsigned len);

	Step read(const Place &p, u8 *to)
	{
		if (read_run(p.first, to, p.first_len) == Step::stop)
			return Step::stop;
		return p.straddles() ? read_run(p.second, to + p.first_len, p.len - p.first_len) : Step::go;
	}
	Got read(const Place &p);
	/* To RAM now, to devices by way of the queue. Nothing can stop the instruction afterwards. */
	Step write(const Place &p, const u8 *from)
	{
		if (write_run(p.first, from, p.first_len) == Step::stop)
			return Step::stop;
		return p.straddles() ? write_run(p.second, from + p.first_len, p.len - p.first_len) : Step::go;
	}
	Step write(const Place &p, u64 value) { return write(p, reinterpret_cast<const u8 *>(&value)); }

	/* Scalars of 1, 2, 4, 8 bytes. */
	[[gnu::always_inline]] Got load_inline(Seg s, u64 offset, unsigned len)
	{
		const Got at = quick(s, offset, len, Access::read);
		if (!at.ok) [[unlikely]] {
			const Place p = locate(s, offset, len, Access::read);
			return p.ok ? read(p) : none;
		}
		if (const u64 *v = e_.log_.take(Gpa{at.value}, len))
			return {*v & alu::mask(len), true};
		u64 v = 0;
		const Ram r = m_.ram_read(Gpa{at.value}, &v, len);
		if (r == Ram::ok)
			return {v, true};
		if (r == Ram::absent)
			ask(Gpa{at.value}, len);
		else
			stop(Outcome::error());
		return none;
	}
	[[gnu::always_inline]] Step store_inline(Seg s, u64 offset, unsigned len, u64 value)
	{
		const Got at = quick(s, offset, len, Access::write);
		if (!at.ok) [[unlikely]] {
			const Place p = locate(s, offset, len, Access::write);
			return p.ok ? write(p, value) : Step::stop;
		}
		const Ram r = m_.ram_write(Gpa{at.value}, &value, len);
		if (r == Ram::absent)
			e_.writes_.push(Gpa{at.value}, value & alu::mask(len), len);
		return r == Ram::failed ? stop(Outcome::error()) : Step::go;
	}
	Got load(Seg s, u64 offset, unsigned len) { return load_inline(s, offset, len); }
	Step store(Seg s, u64 offset, unsigned len, u64 value) { return store_inline(s, offset, len, value); }
};

template <Machine M> [[gnu::cold]] Got Memory<M>::refuse_segment(Seg s)
{
	const Vector v = s == Seg::ss ? Vector::ss : Vector::gp;
	stop(Outcome::fault(e_.mode_.cpu == CpuMode::real ? Exception::plain(v) : Exception::coded(v, 0)));
	return none;
}

template <Machine M> Got Memory<M>::linear(Seg s, u64 offset, unsigned len, Access a)
{
	if (e_.mode_.cpu != CpuMode::long64) [[unlikely]]
		return segmented(s, offset, len, a);
	const u64 at = offset + (s >= Seg::fs ? m_.segment_base(s) : 0);
	if (!canonical_at(at) || !canonical_at(at + len - 1)) [[unlikely]]
		return refuse_segment(s);
	return {at, true};
}

/* Outside 64-bit mode: null and type checks in protected mode, limits everywhere. */
template <Machine M> Got Memory<M>::segmented(Seg s, u64 offset, unsigned len, Access a)
{
	const Segment &g = m_.segment(s);
	const u64 last = offset + len - 1; /* offset < 2^32: no overflow */
	const bool code = g.type & 8, protect = e_.mode_.cpu == CpuMode::protect;

	if (protect) {
		const bool bit1 = g.type & 2; /* data: writable; code: readable */
		const bool write = a == Access::write || a == Access::implicit_write;
		const bool wrong_type = write ? code || !bit1 : code && !bit1 && a != Access::fetch;
		if (g.unusable || !g.present || wrong_type)
			return refuse_segment(s);
	}
	if (protect && !code && (g.type & 4)) { /* expand-down */
		const u64 upper = g.db ? 0xffffffff : 0xffff;
		if (offset <= g.limit || last > upper)
			return refuse_segment(s);
	} else if (last > g.limit) {
		return refuse_segment(s);
	}
	return {u32(g.base + offset), true};
}

template <Machine M> Got Memory<M>::translate(u64 linear, Access a)
{
	const Translation t = m_.translate(Gva{linear}, a);
	if (t.ok()) [[likely]]
		return {t.gpa().raw(), true};
	stop(t.kind() == Translation::Kind::fault ? Outcome::fault(t.fault()) : Outcome::retry());
	return none;
}

template <Machine M> Place Memory<M>::locate(Seg s, u64 offset, unsigned len, Access a)
{
	Place p;
	if (const Got g = quick(s, offset, len, a); g.ok) {
		p.first = Gpa{g.value};
		p.len = p.first_len = u8(len);
		p.ok = true;
		return p;
	}
	const Got lin = linear(s, offset, len, a);
	if (!lin.ok || (e_.mode_.alignment_checked && check_alignment(lin.value, len) == Step::stop)) [[unlikely]]
		return p;
	const unsigned room = unsigned(page_size - Gva{lin.value}.offset());
	p.len = u8(len);
	p.first_len = u8(len < room ? len : room);
	const bool known = !p.straddles() && hinted(lin.value, a);
	const Got g = known ? Got{e_.hint_.gpa.raw(), true} : translate(lin.value, a);
	p.first = Gpa{g.value};
	p.ok = g.ok;
	if (p.ok && p.straddles()) {
		const u64 next = lin.value + room;
		const Got h = translate(e_.mode_.cpu == CpuMode::long64 ? next : u32(next), a);
		p.second = Gpa{h.value};
		p.ok = h.ok;
	}
	return p;
}

template <Machine M> Step Memory<M>::require_alignment(Seg s, u64 offset, unsigned len, Access a)
{
	const Got lin = linear(s, offset, 1, a);
	if (!lin.ok)
		return Step::stop;
	return lin.value & (len - 1) ? stop_gp() : Step::go;
}

template <Machine M> Step Memory<M>::check_alignment(u64 linear, unsigned len)
{
	if (!(linear & ((len < 16 ? len : 16) - 1)))
		return Step::go;
	return stop(Outcome::fault(Exception::coded(Vector::ac, 0)));
}

template <Machine M> Got Memory<M>::read(const Place &p)
{
	u64 v = 0;
	const Step s = read(p, reinterpret_cast<u8 *>(&v));
	return {v, s == Step::go};
}

template <Machine M> Step Memory<M>::ask(Gpa gpa, unsigned len)
{
	if (!e_.log_.ask(gpa, len))
		return stop(Outcome::unhandled());
	e_.pending.ask(PendingAccess::Kind::mmio_read);
	return stop({.kind = Outcome::Kind::mmio_read, .len = u8(len), .gpa = gpa});
}

template <Machine M> Step Memory<M>::read_run(Gpa gpa, u8 *to, unsigned len)
{
	for (unsigned at = 0; at < len;) {
		const unsigned n = len - at < 8 ? len - at : 8;
		/* The log first: an answered read is not made again, even if RAM has appeared there. */
		if (const u64 *v = e_.log_.take(gpa + at, n)) {
			__builtin_memcpy(to + at, v, n);
			at += n;
			continue;
		}
		if (at == 0) {
			const Ram r = m_.ram_read(gpa, to, len);
			if (r != Ram::absent)
				return r == Ram::ok ? Step::go : stop(Outcome::error());
		}
		return ask(gpa + at, n);
	}
	return Step::go;
}

template <Machine M> Step Memory<M>::write_run(Gpa gpa, const u8 *from, unsigned len)
{
	const Ram r = m_.ram_write(gpa, from, len);
	for (unsigned at = 0; r == Ram::absent && at < len; at += 8) {
		const unsigned n = len - at < 8 ? len - at : 8;
		u64 data = 0;
		__builtin_memcpy(&data, from + at, n);
		e_.writes_.push(gpa + at, data, n);
	}
	return r == Ram::failed ? stop(Outcome::error()) : Step::go;
}

}
