/* SPDX-License-Identifier: GPL-2.0-only */
/* PUSH, POP, near CALL, JMP, Jcc, RET. Stack width is SS.B, in 64-bit mode 64. */
#pragma once
#include "arch/x86/emulate/execute.hpp"

namespace kx::emulate {

/* Truncated to the operand size, then within CS: checked before anything is pushed. */
template <Machine M> Target Executor<M>::branch_target(u64 to)
{
	const u64 rip = to & alu::mask(i_.size);
	const bool fits = long64() ? canonical(rip, e_.mode_.linear_bits) : rip <= m_.segment(Seg::cs).limit;
	return {rip, fits};
}

template <Machine M> Outcome Executor<M>::push()
{
	Place from;
	if (i_.memory) {
		from = locate_rm(i_.size, Access::read);
		if (!from.ok)
			return stopped();
	}
	const u64 sp = reg(Gpr::rsp, 8) - i_.size;
	const Place to = locate_stack(sp, Access::write);
	if (!to.ok)
		return stopped();
	Got v{i_.form == Form::imm ? i_.imm : reg(i_.rm, i_.size), true};
	if (i_.memory)
		v = this->read(from);
	if (!v.ok || this->write(to, v.value) == Step::stop)
		return stopped();
	set_sized(Gpr::rsp, sp, stack_size());
	return complete();
}

/* VM and RF are pushed as zero. In virtual-8086 mode IOPL 3 is wanted; VME is not known here. */
template <Machine M> Outcome Executor<M>::push_flags()
{
	if (e_.mode_.cpu == CpuMode::vm86 && (flags_ & rflags::iopl) != rflags::iopl)
		return refused(general_protection());
	const u64 sp = reg(Gpr::rsp, 8) - i_.size;
	const Place to = locate_stack(sp, Access::write);
	if (!to.ok || this->write(to, flags_ & ~(rflags::vm | rflags::rf)) == Step::stop)
		return stopped();
	set_sized(Gpr::rsp, sp, stack_size());
	return complete();
}

/* An operand addressed by RSP is addressed by RSP as it is after the pop. */
template <Machine M> Outcome Executor<M>::pop()
{
	const u64 sp = reg(Gpr::rsp, 8);
	const Place from = locate_stack(sp, Access::read);
	if (!from.ok)
		return stopped();
	Place to;
	if (i_.memory) {
		const u64 ea = effective_address() + (i_.base == u8(Gpr::rsp) ? i_.size : 0);
		to = this->locate(i_.seg, ea & alu::mask(i_.addr_size), i_.size, Access::write);
		if (!to.ok)
			return stopped();
	}
	const Got v = this->read(from);
	if (!v.ok || (i_.memory && this->write(to, v.value) == Step::stop))
		return stopped();
	set_sized(Gpr::rsp, sp + i_.size, stack_size());
	if (!i_.memory)
		set_reg(i_.rm, v.value, i_.size);
	return complete();
}

template <Machine M> Outcome Executor<M>::call()
{
	const Got to = i_.form == Form::imm ? Got{next_rip() + i_.imm, true} : read_rm(i_.size);
	if (!to.ok)
		return stopped();
	const Target t = branch_target(to.value);
	if (!t.ok)
		return refused(general_protection());
	const u64 sp = reg(Gpr::rsp, 8) - i_.size;
	const Place p = locate_stack(sp, Access::write);
	if (!p.ok || this->write(p, next_rip()) == Step::stop)
		return stopped();
	set_sized(Gpr::rsp, sp, stack_size());
	return complete_at(t.rip, flags_);
}

template <Machine M> Outcome Executor<M>::jump()
{
	if (i_.op == Op::jcc && !alu::condition(i_.condition(), flags_))
		return complete();
	const Got to = i_.form == Form::imm ? Got{next_rip() + i_.imm, true} : read_rm(i_.size);
	if (!to.ok)
		return stopped();
	const Target t = branch_target(to.value);
	return t.ok ? complete_at(t.rip, flags_) : refused(general_protection());
}

template <Machine M> Outcome Executor<M>::return_near()
{
	const u64 sp = reg(Gpr::rsp, 8);
	const Place p = locate_stack(sp, Access::read);
	if (!p.ok)
		return stopped();
	const Got to = this->read(p);
	if (!to.ok)
		return stopped();
	const Target t = branch_target(to.value);
	if (!t.ok)
		return refused(general_protection());
	set_sized(Gpr::rsp, sp + i_.size + i_.imm, stack_size());
	return complete_at(t.rip, flags_);
}

}
