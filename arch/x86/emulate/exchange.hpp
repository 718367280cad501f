/* SPDX-License-Identifier: GPL-2.0-only */
/* Read-modify-write of memory, atomic where it must be: LOCK, XCHG, XADD, CMPXCHG and its pairs. */
#pragma once
#include "arch/x86/emulate/execute.hpp"

namespace kx::emulate {

/* With LOCK (XCHG has it always) RAM is changed by compare-exchange until nobody came between.
 * An operand across two cache lines is not atomic: the host would pay with a bus lock. */
template <Machine M> Modified Executor<M>::modify_at(const Place &p, u64 operand)
{
	constexpr unsigned attempts = 64;

	if (!atomic_at(p)) {
		const Got old = this->read(p);
		if (!old.ok)
			return {0, 0, Step::stop};
		const Sum s = modify(old.value, operand);
		return {old.value, s.flags, this->write(p, s.value)};
	}
	for (unsigned n = 0; n < attempts; n++) {
		const Got old = this->read(p);
		if (!old.ok)
			return {0, 0, Step::stop};
		const Sum s = modify(old.value, operand);
		switch (m_.ram_swap(p.first, &old.value, &s.value, p.len)) {
		case Swap::swapped: return {old.value, s.flags, Step::go};
		case Swap::differs: continue;
		case Swap::absent: return {old.value, s.flags, this->write(p, s.value)};
		case Swap::failed: return {0, 0, this->stop(Outcome::error())};
		}
	}
	return {0, 0, this->stop(Outcome::retry())};
}

template <Machine M> Modified Executor<M>::modify_rm(u64 operand)
{
	if (!i_.memory) {
		const u64 old = reg(i_.rm, i_.size);
		const Sum s = modify(old, operand);
		set_reg(i_.rm, s.value, i_.size);
		return {old, s.flags, Step::go};
	}
	const Place p = locate_rm(i_.size, Access::write);
	return p.ok ? modify_at(p, operand) : Modified{0, 0, Step::stop};
}

/* XCHG, XADD: the register gets what was in r/m. With two registers r/m is written last, which is
 * what XADD of a register with itself leaves. */
template <Machine M> Outcome Executor<M>::exchange()
{
	const unsigned other = i_.form == Form::opcode_acc ? 0 : i_.reg;
	const u64 operand = reg(other, i_.size);
	if (!i_.memory) {
		const u64 old = reg(i_.rm, i_.size);
		const Sum s = modify(old, operand);
		set_reg(other, old, i_.size);
		set_reg(i_.rm, s.value, i_.size);
		return complete(s.flags);
	}
	const Modified r = modify_rm(operand);
	if (r.step == Step::stop)
		return stopped();
	set_reg(other, r.old, i_.size);
	return complete(r.flags);
}

/* Of two registers only one is written, which shows in the upper half of a 32-bit one (AMD). */
template <Machine M> Outcome Executor<M>::compare_exchange()
{
	if (!i_.memory) {
		const u64 old = reg(i_.rm, i_.size);
		const Sum s = modify(old, reg(i_.reg, i_.size));
		const bool equal = s.flags & rflags::zf;
		set_reg(equal ? i_.rm : 0, s.value, i_.size);
		return complete(s.flags);
	}
	const Modified r = modify_rm(reg(i_.reg, i_.size));
	if (r.step == Step::stop)
		return stopped();
	if (!(r.flags & rflags::zf))
		set_reg(0, r.old, i_.size);
	return complete(r.flags);
}

/* CMPXCHG8B, CMPXCHG16B */
template <Machine M> Outcome Executor<M>::compare_exchange_pair()
{
	const unsigned half = i_.size / 2;
	const u64 ea = effective_address();
	if (i_.size == 16 && this->require_alignment(i_.seg, ea, 16, Access::write) == Step::stop)
		return stopped();
	const Place p = this->locate(i_.seg, ea, i_.size, Access::write);
	if (!p.ok)
		return stopped();
	const u64 expected[2] = {reg(Gpr::rax, half), reg(Gpr::rdx, half)};
	const u64 wanted[2] = {reg(Gpr::rbx, half), reg(Gpr::rcx, half)};
	constexpr unsigned attempts = 64;
	for (unsigned n = 0; n < attempts; n++) {
		u8 old[16], now[16];
		u64 low = 0, high = 0;
		if (this->read(p, old) == Step::stop)
			return stopped();
		__builtin_memcpy(&low, old, half);
		__builtin_memcpy(&high, old + half, half);
		const bool equal = low == expected[0] && high == expected[1];
		__builtin_memcpy(now, old, 16);
		if (equal) {
			__builtin_memcpy(now, &wanted[0], half);
			__builtin_memcpy(now + half, &wanted[1], half);
		}
		const bool atomic = (p.first.raw() & 63) + p.len <= 64;
		const Swap s = atomic ? m_.ram_swap(p.first, old, now, p.len) : Swap::absent;
		if (s == Swap::differs)
			continue;
		if (s == Swap::failed)
			return Outcome::error();
		if (s == Swap::absent && this->write(p, now) == Step::stop)
			return stopped();
		if (!equal) {
			m_.set_gpr(Gpr::rax, low);
			m_.set_gpr(Gpr::rdx, high);
		}
		return complete((flags_ & ~rflags::zf) | (equal ? rflags::zf : 0));
	}
	return Outcome::retry();
}

}
