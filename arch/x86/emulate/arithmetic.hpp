/* SPDX-License-Identifier: GPL-2.0-only */
/* Arithmetic, logic, shifts, multiplication, division. */
#pragma once
#include "arch/x86/emulate/execute.hpp"

namespace kx::emulate {

/* One value in, one value out. `operand` is the second operand: a bit number, a shift count. */
template <Machine M> Sum Executor<M>::modify(u64 old, u64 operand) const
{
	const unsigned size = i_.size;
	switch (i_.op) {
	case Op::add:
	case Op::xadd: return alu::add(old, operand, flags_, size);
	case Op::adc: return alu::add(old, operand, flags_, size, alu::CarryIn::used);
	case Op::sbb: return alu::sub(old, operand, flags_, size, alu::CarryIn::used);
	case Op::sub: return alu::sub(old, operand, flags_, size);
	case Op::or_: return alu::logic(old | operand, flags_, size);
	case Op::and_: return alu::logic(old & operand, flags_, size);
	case Op::xor_: return alu::logic(old ^ operand, flags_, size);
	case Op::inc: return alu::inc(old, flags_, size);
	case Op::dec: return alu::dec(old, flags_, size);
	case Op::neg: return alu::neg(old, flags_, size);
	case Op::not_: return {~old & alu::mask(size), flags_};
	case Op::xchg: return {operand, flags_};
	case Op::bts: return {old | bit(unsigned(operand)), (flags_ & ~rflags::cf) | (old >> operand & 1)};
	case Op::btr: return {old & ~bit(unsigned(operand)), (flags_ & ~rflags::cf) | (old >> operand & 1)};
	case Op::btc: return {old ^ bit(unsigned(operand)), (flags_ & ~rflags::cf) | (old >> operand & 1)};
	case Op::shld:
	case Op::shrd: return shift_double(i_.op, old, reg(i_.reg, size), unsigned(operand), flags_, size);
	case Op::cmpxchg: {
		/* When they differ the old value is written back: a write cycle in any case. */
		const u64 flags = alu::sub(reg(Gpr::rax, size), old, flags_, size).flags;
		return {flags & rflags::zf ? operand : old, flags};
	}
	default: return shift(i_.op, old, unsigned(operand), flags_, size);
	}
}

template <Machine M> Outcome Executor<M>::change(u64 operand)
{
	const Modified r = modify_rm(operand);
	return r.step == Step::go ? complete(r.flags) : stopped();
}

/* ADD .. XOR */
template <Machine M> Outcome Executor<M>::arithmetic()
{
	const Got src = source();
	if (!src.ok)
		return stopped();
	if (!to_register())
		return change(src.value);
	const Sum s = modify(reg(destination(), i_.size), src.value);
	set_reg(destination(), s.value, i_.size);
	return complete(s.flags);
}

/* CMP, TEST */
template <Machine M> Outcome Executor<M>::compare()
{
	const Got b = source();
	if (!b.ok)
		return stopped();
	const Got a = to_register() ? Got{reg(destination(), i_.size), true} : read_rm(i_.size);
	if (!a.ok)
		return stopped();
	if (i_.op == Op::test)
		return complete(alu::logic(a.value & b.value, flags_, i_.size).flags);
	return complete(alu::sub(a.value, b.value, flags_, i_.size).flags);
}

template <Machine M> u64 Executor<M>::shift_operand() const
{
	switch (i_.form) {
	case Form::rm_one: return 1;
	case Form::rm_cl: return reg(Gpr::rcx, 1);
	default: return i_.imm;
	}
}

/* MUL, IMUL, DIV, IDIV of rDX:rAX, or AX for bytes. DIV and IDIV leave the flags undefined: kept. */
template <Machine M> Outcome Executor<M>::multiply_or_divide()
{
	const Got src = read_rm(i_.size);
	if (!src.ok)
		return stopped();
	const unsigned size = i_.size;
	const Signed s = i_.op == Op::imul || i_.op == Op::idiv ? Signed::yes : Signed::no;
	u64 low, high, flags = flags_;

	if (i_.op == Op::mul || i_.op == Op::imul) {
		const Product p = multiply(reg(Gpr::rax, size), src.value, flags_, size, s);
		low = p.low, high = p.high, flags = p.flags;
	} else {
		const u64 upper = size == 1 ? reg(Gpr::rax, 2) >> 8 : reg(Gpr::rdx, size);
		const Quotient q = divide(upper, reg(Gpr::rax, size), src.value, size, s);
		if (!q.fits)
			return refused(Exception::plain(Vector::de));
		low = q.quotient, high = q.remainder;
	}
	if (size == 1) {
		set_sized(Gpr::rax, high << 8 | low, 2);
	} else {
		set_sized(Gpr::rax, low, size);
		set_sized(Gpr::rdx, high, size);
	}
	return complete(flags);
}

template <Machine M> Outcome Executor<M>::multiply_to_register()
{
	const Got src = read_rm(i_.size);
	if (!src.ok)
		return stopped();
	const u64 by = i_.op == Op::imul3 ? i_.imm : reg(i_.reg, i_.size);
	const Product p = multiply(src.value, by, flags_, i_.size, Signed::yes);
	set_reg(i_.reg, p.low, i_.size);
	return complete(p.flags);
}

}
