/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * MOVS, CMPS, STOS, LODS, SCAS. Every iteration of a REP is a transaction of its own: its registers
 * are committed before the next one looks at memory, so that a fault, a device access or an
 * interrupt finds the instruction as the CPU would leave it: RIP on it, the count reduced, RF set
 * (APM vol. 2 §13.1.3.2, SDM vol. 3 §18.3.1.1: no instruction breakpoint for the same REP twice).
 */
#pragma once
#include "arch/x86/emulate/execute.hpp"

namespace kx::emulate {

template <Machine M> Iterated Executor<M>::iterate(StringPlaces &at)
{
	constexpr Iterated stop{0, Step::stop};
	Place &src = at.src, &dst = at.dst;
	const bool has_src = i_.op == Op::movs || i_.op == Op::cmps || i_.op == Op::lods;
	const bool writes = i_.op == Op::movs || i_.op == Op::stos;
	Got a{reg(Gpr::rax, i_.size), true}, b{0, true};

	if (has_src) {
		src = locate_source(Access::read);
		if (!src.ok)
			return stop;
	}
	if (i_.op != Op::lods) {
		dst = locate_destination(writes ? Access::write : Access::read);
		if (!dst.ok)
			return stop;
	}
	if (has_src) {
		a = this->read(src);
		if (!a.ok)
			return stop;
	}
	u64 flags = flags_;
	if (writes) {
		if (this->write(dst, a.value) == Step::stop)
			return stop;
	} else if (i_.op == Op::lods) {
		set_reg(0, a.value, i_.size);
	} else {
		b = this->read(dst);
		if (!b.ok)
			return stop;
		flags = alu::sub(a.value, b.value, flags, i_.size).flags;
	}
	if (has_src)
		advance(Gpr::rsi, stride());
	if (i_.op != Op::lods)
		advance(Gpr::rdi, stride());
	return {flags, Step::go};
}

/* REPE and REPNE look at ZF for CMPS and SCAS alone. */
template <Machine M> bool Executor<M>::ended(u64 flags) const
{
	if (i_.op != Op::cmps && i_.op != Op::scas)
		return false;
	return bool(flags & rflags::zf) == (i_.repeat == Repeat::repne);
}

/* One iteration of several is committed. RF is in `flags_` already. */
template <Machine M> Outcome Executor<M>::between()
{
	e_.drop();
	if (e_.writes_.empty())
		return Outcome::retry(trap());
	e_.whole_ = false;
	e_.after_ = e_.rip_;
	e_.trap_ = trap();
	return hand_out();
}

template <Machine M> Outcome Executor<M>::strings()
{
	constexpr unsigned most = 1024; /* iterations a call, so that a call takes bounded time */
	const bool repeats = i_.repeat != Repeat::none;
	if (repeats && !reg(Gpr::rcx, i_.addr_size))
		return complete();

	StringPlaces at;
	for (unsigned spent = 0;;) {
		const Iterated now = iterate(at);
		if (now.step == Step::stop)
			return stopped();
		if (!repeats)
			return complete(now.flags);
		advance(Gpr::rcx, ~u64{0});
		if (!reg(Gpr::rcx, i_.addr_size) || ended(now.flags))
			return complete(now.flags);

		set_flags(now.flags | rflags::rf);
		e_.hint_.known = Hint::Known::nothing;
		if (!e_.writes_.empty() || trap() == Trap::single_step)
			return between();
		if (e_.log_.empty()) {
			spent += bulk(at);
			if (!reg(Gpr::rcx, i_.addr_size))
				return complete();
		}
		e_.log_.clear();
		if (m_.event_pending() || ++spent >= most)
			return between();
	}
}

/* Do the next bytes from a register on lie within the segment, without wrapping? If not, single
 * iterations find out what is due. */
template <Machine M> bool Executor<M>::contiguous(Seg s, Gpr r, unsigned bytes, Access a)
{
	const u64 at = reg(r, i_.addr_size);
	const u64 last = at + (bytes - 1);
	return last <= alu::mask(i_.addr_size) && last >= at && this->linear(s, at, bytes, a).ok;
}

/* The rest of the page in one go where it is RAM, upwards, and the iteration just done has shown
 * the way: its translations still hold. Returns what it cost, in iterations. */
template <Machine M> unsigned Executor<M>::bulk(const StringPlaces &at)
{
	const bool copies = i_.op == Op::movs;
	if (!copies && i_.op != Op::stos)
		return 0;
	if ((flags_ & rflags::df) || at.dst.straddles() || (copies && at.src.straddles()))
		return 0;
	const Gpa dst = at.dst.first + i_.size, src = at.src.first + i_.size;
	u64 room = page_size - i_.size - at.dst.first.offset();
	if (copies && page_size - i_.size - at.src.first.offset() < room)
		room = page_size - i_.size - at.src.first.offset();
	const u64 left = reg(Gpr::rcx, i_.addr_size), fit = room / i_.size;
	const unsigned bytes = unsigned(left < fit ? left : fit) * i_.size;
	/* An address register below the element's size has just wrapped: what follows lies elsewhere. */
	if (reg(Gpr::rdi, i_.addr_size) < i_.size || (copies && reg(Gpr::rsi, i_.addr_size) < i_.size))
		return 0;
	if (!bytes || !contiguous(Seg::es, Gpr::rdi, bytes, Access::write) ||
	    (copies && !contiguous(i_.seg, Gpr::rsi, bytes, Access::read)))
		return 0;
	const unsigned moved = copies ? bulk_copy(src, dst, bytes) : bulk_fill(dst, bytes);
	advance(Gpr::rdi, moved);
	if (copies)
		advance(Gpr::rsi, moved);
	advance(Gpr::rcx, u64{0} - moved / i_.size);
	return moved / 64;
}

/* Both return the bytes written, whole elements; what RAM refused is left to the next iteration. */
template <Machine M> unsigned Executor<M>::bulk_fill(Gpa dst, unsigned bytes)
{
	u8 pattern[64];
	const u64 value = reg(Gpr::rax, 8);
	for (unsigned at = 0; at < sizeof(pattern); at += i_.size)
		__builtin_memcpy(pattern + at, &value, i_.size);
	unsigned done = 0;
	while (done < bytes) {
		const unsigned n = bytes - done < sizeof(pattern) ? bytes - done : unsigned(sizeof(pattern));
		if (m_.ram_write(dst + done, pattern, n) != Ram::ok)
			break;
		done += n;
	}
	return done;
}

/* A copy onto bytes it has yet to read repeats them: no chunk is longer than that distance. Seen
 * are guest-physical addresses; two of them that name the same host memory are not. */
template <Machine M> unsigned Executor<M>::bulk_copy(Gpa src, Gpa dst, unsigned bytes)
{
	u8 chunk[64];
	unsigned most = sizeof(chunk);
	if (dst > src && dst - src < most)
		most = unsigned(dst - src) / i_.size * i_.size;
	unsigned done = 0;
	while (most && done < bytes) {
		const unsigned n = bytes - done < most ? bytes - done : most;
		if (m_.ram_read(src + done, chunk, n) != Ram::ok || m_.ram_write(dst + done, chunk, n) != Ram::ok)
			break;
		done += n;
	}
	return done;
}

}
