/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * INS and OUTS. Whether the guest may use the port (IOPL, the TSS bitmap) the CPU has checked
 * before it exited: what it did not exit for goes back to it. The elements of a REP are allowed
 * with the first.
 *
 * INS: memory is checked first, the port read then, so that a fault loses no data. An element or a
 * batch is taken whole: what the guest does to its paging while the VMM looks for the data counts
 * as done before the access.
 */
#pragma once
#include "arch/x86/emulate/execute.hpp"

namespace kx::emulate {

/* How many elements one exit may carry: what is left of the count, of the page in the direction of
 * DF, and of the segment. One that is not all in one page goes alone. */
template <Machine M> unsigned Executor<M>::port_elements(const Place &p, Gpr address, PortDirection dir)
{
	const bool down = flags_ & rflags::df;
	if (i_.repeat == Repeat::none || p.straddles() || trap() == Trap::single_step)
		return 1;
	const u64 left = reg(Gpr::rcx, i_.addr_size);
	const u64 room = down ? p.first.offset() / i_.size + 1 : (page_size - p.first.offset()) / i_.size;
	u64 n = left < room ? left : room;
	const unsigned most = m_.port_batch(dir);
	n = n < most ? n : most;
	if (n <= 1)
		return 1;
	const Seg s = dir == PortDirection::in ? Seg::es : i_.seg;
	const Access a = dir == PortDirection::in ? Access::write : Access::read;
	const u64 at = reg(address, i_.addr_size), before = (n - 1) * i_.size;
	if (!down)
		return contiguous(s, address, unsigned(n) * i_.size, a) ? unsigned(n) : 1;
	return at >= before && this->linear(s, at - before, unsigned(n) * i_.size, a).ok ? unsigned(n) : 1;
}

template <Machine M> bool Executor<M>::port_allowed(AllowedPort a) const
{
	const PortDirection dir = i_.op == Op::ins ? PortDirection::in : PortDirection::out;
	return a.size == i_.size && a.dir == dir && a.port == u16(m_.gpr(Gpr::rdx));
}

template <Machine M> Outcome Executor<M>::port_string()
{
	if (i_.repeat != Repeat::none && !reg(Gpr::rcx, i_.addr_size))
		return complete();
	return i_.op == Op::ins ? port_in() : port_out();
}

template <Machine M> Outcome Executor<M>::port_in()
{
	const Place p = locate_destination(Access::write);
	if (!p.ok)
		return stopped();
	const unsigned n = m_.is_ram(p.first, Access::write) ? port_elements(p, Gpr::rdi, PortDirection::in) : 1;
	e_.port_count_ = u16(n);
	e_.pending.ask(Pending::string_in);
	return {.kind = Outcome::Kind::port_in, .len = i_.size, .port = u16(m_.gpr(Gpr::rdx)), .count = n};
}

/* Registers are committed before the data goes out: what remains is to come back. */
template <Machine M> Outcome Executor<M>::port_out()
{
	const Place p = locate_source(Access::read);
	if (!p.ok)
		return stopped();
	const u16 port = u16(m_.gpr(Gpr::rdx));
	unsigned n = port_elements(p, Gpr::rsi, PortDirection::out);
	if (give_port_data(p, n) == Step::stop)
		return stopped();
	n = e_.port_count_;
	const Outcome after = port_advance(Gpr::rsi, n);
	e_.whole_ = after.kind == Outcome::Kind::done;
	e_.after_ = m_.rip();
	e_.trap_ = after.trap;
	e_.pending.ask(Pending::string_out);
	return {.kind = Outcome::Kind::port_out, .len = i_.size, .port = port, .count = n};
}

/* Element k of a descending string is k elements below the first. port_count_ is what was done: RAM
 * that fails in a batch ends it early, or is a device and goes alone. */
template <Machine M> Step Executor<M>::give_port_data(const Place &p, unsigned n)
{
	u8 *to = m_.port_data();
	e_.port_count_ = 1;
	if (n == 1)
		return this->read(p, to);
	if (!(flags_ & rflags::df) && m_.ram_read(p.first, to, n * i_.size) == Ram::ok) {
		e_.port_count_ = u16(n);
		return Step::go;
	}
	if (this->read(p, to) == Step::stop)
		return Step::stop;
	for (unsigned k = 1; k < n; k++) {
		const Gpa at{p.first.raw() + k * stride()};
		if (m_.ram_read(at, to + k * i_.size, i_.size) != Ram::ok)
			break;
		e_.port_count_ = u16(k + 1);
	}
	return Step::go;
}

/* A batch was promised RAM; where that has gone meanwhile, the data goes where a write to nothing
 * goes. A single element may be to a device. */
template <Machine M> Step Executor<M>::take_port_data(const Place &p, unsigned n)
{
	const u8 *from = m_.port_data();
	if (n == 1) {
		u64 element; /* of a page the VMM can write: looked at once */
		__builtin_memcpy(&element, from, 8);
		return this->write(p, element);
	}
	const bool down = flags_ & rflags::df;
	for (unsigned k = 0; k < n; k++) {
		const unsigned run = down ? 1 : n;
		const Gpa at{p.first.raw() + k * stride()};
		if (m_.ram_write(at, from + k * i_.size, run * i_.size) == Ram::failed)
			return this->stop(Outcome::error());
		k += run - 1;
	}
	return Step::go;
}

template <Machine M> Outcome Executor<M>::port_advance(Gpr address, unsigned n)
{
	advance(address, n * stride());
	if (i_.repeat == Repeat::none)
		return complete();
	advance(Gpr::rcx, u64{0} - n);
	if (!reg(Gpr::rcx, i_.addr_size))
		return complete();
	set_flags(flags_ | rflags::rf);
	return between();
}

/* The data has arrived, or is taken. Registers may have been loaded by the VMM: the batch is cut to
 * what is asked for now. */
template <Machine M> Outcome Executor<M>::port_done()
{
	const Pending was = e_.pending.kind();
	e_.drop();
	if (was == Pending::string_out)
		return all_out();
	if (was != Pending::string_in || moved())
		return Outcome::retry();
	if (i_.repeat != Repeat::none && !reg(Gpr::rcx, i_.addr_size))
		return complete();
	unsigned n = e_.port_count_;
	const Place p = locate_destination(Access::write);
	if (!p.ok)
		return stopped();
	const unsigned now = port_elements(p, Gpr::rdi, PortDirection::in);
	n = n < now ? n : now;
	if (take_port_data(p, n) == Step::stop)
		return stopped();
	const Outcome o = port_advance(Gpr::rdi, n);
	if (o.kind != Outcome::Kind::retry || o.trap == Trap::single_step || m_.event_pending())
		return o;
	return iterate_again();
}

}
