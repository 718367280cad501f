/* SPDX-License-Identifier: GPL-2.0-only */
/* Single bits and bit fields. */
#pragma once
#include "arch/x86/emulate/execute.hpp"

namespace kx::emulate {

/* A bit number in a register reaches beyond a memory operand, both ways; an immediate does not. */
template <Machine M> Outcome Executor<M>::bit_test()
{
	const bool in_register = i_.form == Form::rm_reg;
	const u64 number = in_register ? reg(i_.reg, i_.size) : i_.imm;
	const u64 within = number & (alu::width(i_.size) - 1);
	if (!i_.memory) {
		if (i_.op != Op::bt)
			return change(within);
		return complete((flags_ & ~rflags::cf) | (reg(i_.rm, i_.size) >> within & 1));
	}
	u64 ea = effective_address();
	if (in_register) {
		const s64 distance = s64(alu::sign_extend(number - within, i_.size));
		ea = (ea + u64(distance >> 3)) & alu::mask(i_.addr_size);
	}
	const Place p = this->locate(i_.seg, ea, i_.size, i_.op == Op::bt ? Access::read : Access::write);
	if (!p.ok)
		return stopped();
	if (i_.op == Op::bt) {
		const Got v = this->read(p);
		return v.ok ? complete((flags_ & ~rflags::cf) | (v.value >> within & 1)) : stopped();
	}
	const Modified r = modify_at(p, within);
	return r.step == Step::go ? complete(r.flags) : stopped();
}

/* ANDN, BEXTR. Undefined: AF and PF (and SF of BEXTR): as AND leaves them. */
template <Machine M> Outcome Executor<M>::bit_manipulation()
{
	const Got src = read_rm(i_.size);
	if (!src.ok)
		return stopped();
	const u64 other = reg(i_.vvvv, i_.size);
	u64 v;
	if (i_.op == Op::andn) {
		v = ~other & src.value;
	} else {
		const unsigned start = other & 0xff, length = other >> 8 & 0xff;
		v = start < 64 ? src.value >> start : 0;
		v &= length < 64 ? bit(length) - 1 : ~u64{0};
	}
	const Sum s = alu::logic(v, flags_, i_.size);
	set_reg(i_.reg, s.value, i_.size);
	return complete(s.flags);
}

/* BSF, BSR. Of zero the destination stays. Flags but ZF are undefined: those of the result, as AMD's
 * do. */
template <Machine M> Outcome Executor<M>::bit_scan()
{
	const Got src = read_rm(i_.size);
	if (!src.ok)
		return stopped();
	if (!src.value)
		return complete(alu::logic(0, flags_, i_.size).flags);
	const u64 index = u64(i_.op == Op::bsf ? __builtin_ctzll(src.value) : 63 - __builtin_clzll(src.value));
	set_reg(i_.reg, index, i_.size);
	return complete(alu::logic(index, flags_, i_.size).flags & ~rflags::zf);
}

}
