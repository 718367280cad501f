/* SPDX-License-Identifier: GPL-2.0-only */
/* From RIP to a decoded instruction, to its operation. */
#pragma once
#include "arch/x86/emulate/arithmetic.hpp"
#include "arch/x86/emulate/bits.hpp"
#include "arch/x86/emulate/exchange.hpp"
#include "arch/x86/emulate/move.hpp"
#include "arch/x86/emulate/port.hpp"
#include "arch/x86/emulate/stack.hpp"
#include "arch/x86/emulate/string.hpp"
#include "arch/x86/emulate/vector_move.hpp"

namespace kx::emulate {

/* At least one byte more, at most to the end of the page or of the segment. */
template <Machine M> Step Executor<M>::fetch_more()
{
	CodeBytes &code = e_.code_;
	const u64 at = (long64() ? e_.rip_ : u32(e_.rip_)) + code.count;
	const Got lin = this->linear(Seg::cs, at, 1, Access::fetch);
	if (!lin.ok)
		return Step::stop;
	u64 n = page_size - Gva{lin.value}.offset();
	if (!long64()) {
		const u64 room = u64{m_.segment(Seg::cs).limit} - at + 1;
		n = n < room ? n : room;
	}
	n = n < max_length - code.count ? n : max_length - code.count;
	const Translation t = m_.translate(Gva{lin.value}, Access::fetch);
	if (!t.ok())
		return this->stop(t.kind() == Translation::Kind::fault ? Outcome::fault(t.fault()) : Outcome::retry());
	const Ram r = m_.ram_read(t.gpa(), code.bytes + code.count, unsigned(n));
	if (r != Ram::ok) /* nobody executes from a device */
		return this->stop(r == Ram::absent ? Outcome::unhandled() : Outcome::error());
	code.count = u8(code.count + n);
	return Step::go;
}

template <Machine M> [[gnu::noinline]] Step Executor<M>::fetch_rest(Decoded d)
{
	for (;;) {
		switch (d) {
		case Decoded::ok: return Step::go;
		case Decoded::too_long: return this->stop_gp();
		case Decoded::undefined: return this->stop(Outcome::fault(Exception::plain(Vector::ud)));
		case Decoded::truncated: break;
		}
		if (fetch_more() == Step::stop)
			return Step::stop;
		d = decode(e_.insn_, e_.code_, e_.mode_);
	}
}

template <Machine M> Step Executor<M>::fetch()
{
	const Mode mode = m_.mode();
	const u64 rip = m_.rip();
	if (rip == e_.rip_ && e_.decoded_ && mode == e_.mode_ && m_.unchanged(e_.bytes()))
		return Step::go;
	e_.mode_ = mode;
	e_.rip_ = rip;
	e_.decoded_ = false;
	const unsigned have = m_.prefetched(e_.code_.bytes);
	e_.code_.count = u8(have < max_length ? have : max_length);
	const Decoded d = decode(e_.insn_, e_.code_, e_.mode_);
	const Step s = d == Decoded::ok ? Step::go : fetch_rest(d);
	e_.decoded_ = s == Step::go;
	return s;
}

/* From its start, whether for the first time or to be replayed. */
template <Machine M> [[gnu::always_inline]] inline Outcome Executor<M>::run()
{
	e_.log_.rewind();
	e_.writes_.clear();
	return i_.op == Op::mov ? move() : dispatch();
}

template <Machine M> Outcome Executor<M>::dispatch()
{
	switch (i_.op) {
	case Op::movzx:
	case Op::movsx: return move_extended();
	case Op::movbe:
	case Op::bswap: return move_big_endian();
	case Op::add:
	case Op::or_:
	case Op::adc:
	case Op::sbb:
	case Op::and_:
	case Op::sub:
	case Op::xor_: return arithmetic();
	case Op::cmp:
	case Op::test: return compare();
	case Op::rol:
	case Op::ror:
	case Op::rcl:
	case Op::rcr:
	case Op::shl:
	case Op::shr:
	case Op::sal:
	case Op::sar:
	case Op::shld:
	case Op::shrd: return change(shift_operand());
	case Op::not_:
	case Op::neg:
	case Op::inc:
	case Op::dec: return change(0);
	case Op::mul:
	case Op::imul:
	case Op::div:
	case Op::idiv: return multiply_or_divide();
	case Op::imul2:
	case Op::imul3: return multiply_to_register();
	case Op::lea: set_reg(i_.reg, effective_address(), i_.size); return complete();
	case Op::xchg:
	case Op::xadd: return exchange();
	case Op::cmpxchg: return compare_exchange();
	case Op::cmpxchg8b: return compare_exchange_pair();
	case Op::bt:
	case Op::bts:
	case Op::btr:
	case Op::btc: return bit_test();
	case Op::bextr:
	case Op::andn: return bit_manipulation();
	case Op::setcc: return finish(write_rm(alu::condition(i_.condition(), flags_), 1));
	case Op::cmovcc: return conditional_move();
	case Op::cbw:
	case Op::cwd: return sign_extend();
	case Op::bsf:
	case Op::bsr: return bit_scan();
	case Op::mov_from_seg: return move_from_segment();
	case Op::xlat: return translate_byte();
	case Op::push: return push();
	case Op::pushf: return push_flags();
	case Op::pop: return pop();
	case Op::call_near: return call();
	case Op::jmp_near:
	case Op::jcc: return jump();
	case Op::ret_near: return return_near();
	case Op::nop: return complete();
	case Op::touch: return touch();
	case Op::movs:
	case Op::cmps:
	case Op::stos:
	case Op::lods:
	case Op::scas: return strings();
	case Op::ins:
	case Op::outs: return port_string();
	case Op::vec_load:
	case Op::vec_store: return vector_move();
	case Op::vec_from_gpr: return vector_from_gpr();
	case Op::vec_to_gpr: return vector_to_gpr();
	case Op::mov: /* run() has it */
	case Op::unknown:
	case Op::invalid: break;
	}
	return Outcome::unhandled();
}

template <Machine M> Outcome Executor<M>::begin(Hint hint, AllowedPort port)
{
	e_.drop();
	if (fetch() == Step::stop) [[unlikely]]
		return stopped();
	e_.log_.clear();
	e_.hint_ = hint;
	if (i_.op != Op::mov) {
		if (i_.two_addresses())
			e_.hint_.known = Hint::Known::nothing;
		if (i_.string_port() && !port_allowed(port))
			return Outcome::retry();
	}
	return run();
}

/* The next iteration of a REP: nothing that was learnt about the last one holds. */
template <Machine M> Outcome Executor<M>::iterate_again()
{
	e_.log_.clear();
	e_.writes_.clear();
	e_.hint_.known = Hint::Known::nothing;
	return dispatch();
}

template <Machine M> Outcome Executor<M>::answer_read(u64 value)
{
	if (e_.pending.kind() != Pending::mmio_read || moved())
		return abandon();
	e_.log_.answer(value);
	/* What the hint said of a write was true before the exit: the walk is made again. */
	if (e_.hint_.known == Hint::Known::writing)
		e_.hint_.known = Hint::Known::reading;
	e_.drop();
	return run();
}

/* What was committed has gone out to the last piece. A vCPU that the VMM has put elsewhere since owes no trap. */
template <Machine M> Outcome Executor<M>::all_out()
{
	if (m_.rip() != e_.after_)
		return Outcome::retry();
	if (e_.whole_)
		return Outcome::done(e_.trap_);
	if (moved())
		return Outcome::retry();
	if (e_.trap_ == Trap::single_step || m_.event_pending())
		return Outcome::retry(e_.trap_);
	return iterate_again();
}

template <Machine M> Outcome Executor<M>::write_taken()
{
	if (e_.pending.kind() != Pending::mmio_write)
		return abandon();
	e_.writes_.pop();
	if (!e_.writes_.empty())
		return hand_out();
	e_.drop();
	return all_out();
}

template <Machine M> Outcome Executor<M>::skip()
{
	e_.drop();
	e_.writes_.clear();
	return fetch() == Step::stop ? stopped() : complete();
}

}
