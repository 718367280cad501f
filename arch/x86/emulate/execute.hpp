/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs a decoded instruction. Order within every operation, so that it can be run again after a
 * device has answered: addresses and translations of all operands, reads, arithmetic, the write to
 * memory, registers, RIP and RFLAGS. What can fail comes before anything is changed.
 *
 * The class is here; its operations are in move.hpp, arithmetic.hpp, exchange.hpp, bits.hpp, stack.hpp,
 * string.hpp, port.hpp and vector_move.hpp; fetch.hpp brings an instruction to them.
 */
#pragma once
#include "arch/x86/emulate/memory.hpp"
#include "arch/x86/emulate/muldiv.hpp"
#include "arch/x86/emulate/shift.hpp"

namespace kx::emulate {

/* What came of changing an operand: its old value and the new flags; of finding where a branch
 * leads; of one iteration of a string instruction. */
struct Modified {
	u64 old, flags;
	Step step;
};
struct Target {
	u64 rip;
	bool ok;
};
struct Iterated {
	u64 flags;
	Step step;
};

template <Machine M> class Executor : Memory<M> {
	using Pending = PendingAccess::Kind;
	using Trap = Outcome::Trap;

	using Memory<M>::m_;
	using Memory<M>::e_;
	const Insn &i_;
	u64 flags_; /* as the machine has them */

	bool long64() const { return e_.mode_.cpu == CpuMode::long64; }

	/* --- registers --- */

	bool high_byte(unsigned n, unsigned size) const { return size == 1 && !i_.rex && n - 4 < 4u; }
	u64 reg(unsigned n, unsigned size) const
	{
		if (high_byte(n, size))
			return m_.gpr(Gpr(n - 4)) >> 8 & 0xff;
		return m_.gpr(Gpr(n)) & alu::mask(size);
	}
	void set_reg(unsigned n, u64 value, unsigned size)
	{
		if (size >= 4)
			return m_.set_gpr(Gpr(n), value & alu::mask(size));
		const bool high = high_byte(n, size);
		const Gpr r = Gpr(high ? n - 4 : n);
		const unsigned at = high ? 8 : 0;
		m_.set_gpr(r, (m_.gpr(r) & ~(alu::mask(size) << at)) | (value & alu::mask(size)) << at);
	}
	u64 reg(Gpr r, unsigned size) const { return m_.gpr(r) & alu::mask(size); }
	/* As an address or count register of this instruction. */
	void advance(Gpr r, u64 by) { set_sized(r, m_.gpr(r) + by, i_.addr_size); }
	void set_sized(Gpr r, u64 v, unsigned size)
	{
		if (size == 2)
			v = (m_.gpr(r) & ~u64{0xffff}) | (v & 0xffff);
		m_.set_gpr(r, v & (size == 4 ? alu::mask(4) : ~u64{0}));
	}

	/* --- operands --- */

	u64 next_rip() const
	{
		const u64 next = e_.rip_ + i_.length;
		return long64() ? next : u32(next);
	}
	u64 effective_address() const
	{
		u64 ea = i_.disp;
		if (i_.base == rip_base)
			ea += e_.rip_ + i_.length;
		else if (i_.base != no_reg)
			ea += m_.gpr(Gpr(i_.base));
		if (i_.index != no_reg)
			ea += m_.gpr(Gpr(i_.index)) << i_.scale;
		return ea & alu::mask(i_.addr_size);
	}
	Place locate_rm(unsigned len, Access a) { return this->locate(i_.seg, effective_address(), len, a); }
	Got read_rm(unsigned size);
	Step write_rm(u64 value, unsigned size);
	/* The second operand where the first is r/m, a register or rAX. */
	Got source()
	{
		switch (i_.form) {
		case Form::rm_reg: return {reg(i_.reg, i_.size), true};
		case Form::reg_rm: return read_rm(i_.size);
		default: return {i_.imm & alu::mask(i_.size), true};
		}
	}
	bool to_register() const { return i_.form == Form::reg_rm || i_.form == Form::acc_imm; }
	unsigned destination() const { return i_.form == Form::reg_rm ? i_.reg : 0; }

	/* --- completion --- */

	using Memory<M>::stopped;
	Outcome refused(const Exception &x) const { return Outcome::fault(x); }
	Exception general_protection() const
	{
		return e_.mode_.cpu == CpuMode::real ? Exception::plain(Vector::gp) : Exception::coded(Vector::gp, 0);
	}
	Trap trap() const { return flags_ & rflags::tf ? Trap::single_step : Trap::none; }
	void set_flags(u64 f)
	{
		if (f != flags_)
			m_.set_rflags(f);
		flags_ = f;
	}
	Outcome hand_out()
	{
		const WriteQueue::Piece p = e_.writes_.front();
		e_.pending.ask(Pending::mmio_write);
		return {.kind = Outcome::Kind::mmio_write, .len = p.len, .gpa = p.gpa, .data = p.data};
	}
	Outcome complete_at(u64 rip, u64 flags);
	Outcome complete(u64 flags) { return complete_at(next_rip(), flags); }
	Outcome complete() { return complete(flags_); }
	/* The end of a Step: memory is written, the rest follows. */
	Outcome finish(Step s) { return s == Step::go ? complete() : stopped(); }

	/* --- move.hpp, arithmetic.hpp, exchange.hpp, bits.hpp --- */

	Outcome move();
	Outcome move_extended();
	Outcome move_big_endian();
	Outcome move_from_segment();
	Outcome conditional_move();
	Outcome sign_extend();
	Outcome translate_byte();
	Outcome touch();

	Sum modify(u64 old, u64 operand) const;
	u64 shift_operand() const;
	Outcome change(u64 operand);
	Outcome arithmetic();
	Outcome compare();
	Outcome multiply_or_divide();
	Outcome multiply_to_register();

	bool atomic_at(const Place &p) const
	{
		return (i_.lock || i_.op == Op::xchg) && (p.first.raw() & 63) + p.len <= 64;
	}
	Modified modify_rm(u64 operand);
	Modified modify_at(const Place &p, u64 operand);
	Outcome exchange();
	Outcome compare_exchange();
	Outcome compare_exchange_pair();

	Outcome bit_test();
	Outcome bit_scan();
	Outcome bit_manipulation();

	/* --- stack.hpp --- */

	unsigned stack_size() const { return long64() ? 8 : m_.segment(Seg::ss).db ? 4 : 2; }
	Place locate_stack(u64 sp, Access a) { return this->locate(Seg::ss, sp & alu::mask(stack_size()), i_.size, a); }
	Target branch_target(u64 to);
	Outcome push();
	Outcome push_flags();
	Outcome pop();
	Outcome call();
	Outcome jump();
	Outcome return_near();

	/* --- string.hpp --- */

	u64 stride() const { return flags_ & rflags::df ? u64{0} - i_.size : i_.size; }
	Place locate_source(Access a) { return this->locate(i_.seg, reg(Gpr::rsi, i_.addr_size), i_.size, a); }
	Place locate_destination(Access a) { return this->locate(Seg::es, reg(Gpr::rdi, i_.addr_size), i_.size, a); }
	struct StringPlaces {
		Place src, dst;
	};
	Iterated iterate(StringPlaces &at);
	bool ended(u64 flags) const;
	bool contiguous(Seg s, Gpr r, unsigned bytes, Access a);
	unsigned bulk(const StringPlaces &at);
	unsigned bulk_fill(Gpa dst, unsigned bytes);
	unsigned bulk_copy(Gpa src, Gpa dst, unsigned bytes);
	Outcome between();
	Outcome strings();

	/* --- port.hpp --- */

	bool port_allowed(AllowedPort a) const;
	unsigned port_elements(const Place &p, Gpr address, PortDirection dir);
	Outcome port_string();
	Outcome port_in();
	Outcome port_out();
	Step take_port_data(const Place &p, unsigned n);
	Step give_port_data(const Place &p, unsigned n);
	Outcome port_advance(Gpr address, unsigned n);

	/* --- vector_move.hpp --- */

	Outcome vector_move();
	Outcome vector_from_gpr();
	Outcome vector_to_gpr();

	/* --- fetch.hpp --- */

	Step fetch_more();
	Step fetch_rest(Decoded d);
	Step fetch();
	Step require_vector_unit();
	Outcome run();
	Outcome dispatch();
	Outcome iterate_again();
	/* The VMM loaded another state while a request was out: the instruction was of the old one. */
	bool moved() const { return m_.rip() != e_.rip_ || m_.mode() != e_.mode_; }
	Outcome all_out();
	Outcome abandon()
	{
		e_.drop();
		return Outcome::retry();
	}

public:
	Executor(M &m, Emulation &e) : Memory<M>{m, e}, i_{e.insn_}, flags_{m.rflags()} {}

	Outcome begin(Hint hint, AllowedPort port);
	Outcome answer_read(u64 value);
	Outcome write_taken();
	Outcome port_done();
	Outcome skip();
};

}
