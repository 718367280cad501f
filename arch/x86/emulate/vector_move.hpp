/* SPDX-License-Identifier: GPL-2.0-only */
/* SSE and VEX moves: no arithmetic, no rounding, so no MXCSR. */
#pragma once
#include "arch/x86/emulate/execute.hpp"

namespace kx::emulate {

/* #UD before #NM; APM vol. 2 §8.5, SDM vol. 2 §2.6 (exception classes) */
template <Machine M> Step Executor<M>::require_vector_unit()
{
	const Simd s = i_.vex ? e_.mode_.avx : e_.mode_.sse;
	if (s == Simd::usable)
		return Step::go;
	return this->stop(Outcome::fault(Exception::plain(s == Simd::undefined ? Vector::ud : Vector::nm)));
}

/* Loads and stores of 4 to 32 bytes. Below the size of the register a load from memory, and MOVQ
 * between registers, zero the rest of its low 16 bytes. */
template <Machine M> Outcome Executor<M>::vector_move()
{
	if (require_vector_unit() == Step::stop)
		return stopped();
	const unsigned size = i_.size, whole = size < 16 ? 16 : size;
	const Upper upper = i_.vex ? Upper::zero : Upper::keep;
	const bool load = i_.op == Op::vec_load;
	u8 v[32] = {};

	if (!i_.memory) {
		const unsigned from = load ? i_.rm : i_.reg, to = load ? i_.reg : i_.rm;
		u8 src[32];
		m_.load_vector(from, src, whole);
		if (i_.vec_merge)
			m_.load_vector(to, v, whole);
		__builtin_memcpy(v, src, size);
		m_.store_vector(to, v, whole, upper);
		return complete();
	}
	const Access a = load ? Access::read : Access::write;
	const u64 ea = effective_address();
	if (i_.aligned && this->require_alignment(i_.seg, ea, size, a) == Step::stop)
		return stopped();
	const Place p = this->locate(i_.seg, ea, size, a);
	if (!p.ok)
		return stopped();
	if (load) {
		if (this->read(p, v) == Step::stop)
			return stopped();
		m_.store_vector(i_.reg, v, whole, upper);
		return complete();
	}
	m_.load_vector(i_.reg, v, whole);
	return finish(this->write(p, v));
}

/* MOVD, MOVQ xmm, r/m */
template <Machine M> Outcome Executor<M>::vector_from_gpr()
{
	if (require_vector_unit() == Step::stop)
		return stopped();
	const Got src = read_rm(i_.size);
	if (!src.ok)
		return stopped();
	u8 v[32] = {};
	__builtin_memcpy(v, &src.value, 8);
	m_.store_vector(i_.reg, v, 16, i_.vex ? Upper::zero : Upper::keep);
	return complete();
}

/* MOVD, MOVQ r/m, xmm */
template <Machine M> Outcome Executor<M>::vector_to_gpr()
{
	if (require_vector_unit() == Step::stop)
		return stopped();
	u8 v[32];
	u64 value;
	m_.load_vector(i_.reg, v, 16);
	__builtin_memcpy(&value, v, 8);
	return finish(write_rm(value, i_.size));
}

}
