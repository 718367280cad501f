/* SPDX-License-Identifier: GPL-2.0-only */
/* Operands, completion, and the instructions that move: APM vol. 3, SDM vol. 2 under the mnemonics. */
#pragma once
#include "arch/x86/emulate/execute.hpp"

namespace kx::emulate {

template <Machine M> Got Executor<M>::read_rm(unsigned size)
{
	return i_.memory ? this->load(i_.seg, effective_address(), size) : Got{reg(i_.rm, size), true};
}

template <Machine M> Step Executor<M>::write_rm(u64 value, unsigned size)
{
	if (i_.memory)
		return this->store(i_.seg, effective_address(), size, value);
	set_reg(i_.rm, value, size);
	return Step::go;
}

/* The instruction has done what it does; RIP and flags follow, then writes to devices. */
template <Machine M> Outcome Executor<M>::complete_at(u64 rip, u64 flags)
{
	m_.set_rip(rip);
	set_flags(flags & ~rflags::rf);
	if (e_.writes_.empty())
		return Outcome::done(trap());
	e_.whole_ = true;
	e_.after_ = rip;
	e_.trap_ = trap();
	return hand_out();
}

/* Inlined into the one place that runs it, with what it calls: this is the path of nearly every
 * device access. */
template <Machine M> [[gnu::always_inline]] inline Outcome Executor<M>::move()
{
	if (i_.form == Form::reg_rm || i_.form == Form::acc_moffs) {
		const Got v = i_.memory ? this->load_inline(i_.seg, effective_address(), i_.size) : read_rm(i_.size);
		if (!v.ok)
			return stopped();
		set_reg(i_.form == Form::reg_rm ? i_.reg : 0, v.value, i_.size);
		return complete();
	}
	u64 v = i_.imm;
	if (i_.form == Form::rm_reg)
		v = reg(i_.reg, i_.size);
	else if (i_.form == Form::moffs_acc)
		v = reg(Gpr::rax, i_.size);
	if (!i_.memory)
		set_reg(i_.rm, v, i_.size);
	else if (this->store_inline(i_.seg, effective_address(), i_.size, v) == Step::stop)
		return stopped();
	return complete();
}

/* MOVZX, MOVSX, MOVSXD; the last to 16 bits reads 32 all the same (AMD; Intel reads 16). */
template <Machine M> Outcome Executor<M>::move_extended()
{
	const Got v = read_rm(i_.src_size);
	if (!v.ok)
		return stopped();
	set_reg(i_.reg, i_.op == Op::movsx ? alu::sign_extend(v.value, i_.src_size) : v.value, i_.size);
	return complete();
}

/* MOVBE, BSWAP. BSWAP of a 16-bit register is undefined: CPUs leave zero. */
template <Machine M> Outcome Executor<M>::move_big_endian()
{
	const unsigned shift = 64 - alu::width(i_.size);
	if (i_.op == Op::bswap) {
		const u64 v = i_.size == 2 ? 0 : __builtin_bswap64(reg(i_.rm, i_.size)) >> shift;
		set_reg(i_.rm, v, i_.size);
		return complete();
	}
	if (i_.form == Form::rm_reg)
		return finish(write_rm(__builtin_bswap64(reg(i_.reg, i_.size)) >> shift, i_.size));
	const Got v = read_rm(i_.size);
	if (!v.ok)
		return stopped();
	set_reg(i_.reg, __builtin_bswap64(v.value) >> shift, i_.size);
	return complete();
}

/* The source is read, and may fault, whatever the condition; a 32-bit destination is extended. */
template <Machine M> Outcome Executor<M>::conditional_move()
{
	const Got src = read_rm(i_.size);
	if (!src.ok)
		return stopped();
	const bool yes = alu::condition(i_.condition(), flags_);
	set_reg(i_.reg, yes ? src.value : reg(i_.reg, i_.size), i_.size);
	return complete();
}

/* MOV from a segment register: memory gets 16 bits whatever the operand size, a register all of it. */
template <Machine M> Outcome Executor<M>::move_from_segment()
{
	const unsigned n = i_.reg & 7;
	if (n > unsigned(Seg::gs))
		return refused(Exception::plain(Vector::ud));
	return finish(write_rm(m_.segment(Seg(n)).selector, i_.size));
}

/* XLAT */
template <Machine M> Outcome Executor<M>::translate_byte()
{
	const u64 ea = (m_.gpr(Gpr::rbx) + reg(Gpr::rax, 1)) & alu::mask(i_.addr_size);
	const Got v = this->load(i_.seg, ea, 1);
	if (!v.ok)
		return stopped();
	set_reg(0, v.value, 1);
	return complete();
}

/* CBW CWDE CDQE; CWD CDQ CQO */
template <Machine M> Outcome Executor<M>::sign_extend()
{
	if (i_.op == Op::cbw)
		set_sized(Gpr::rax, alu::sign_extend(reg(Gpr::rax, i_.size / 2), i_.size / 2), i_.size);
	else
		set_sized(Gpr::rdx, u64(s64(alu::sign_extend(reg(Gpr::rax, i_.size), i_.size)) >> 63), i_.size);
	return complete();
}

/* CLFLUSH, CLFLUSHOPT, CLWB: nothing to do but the faults of a one-byte load. */
template <Machine M> Outcome Executor<M>::touch()
{
	return locate_rm(1, Access::read).ok ? complete() : stopped();
}

}
