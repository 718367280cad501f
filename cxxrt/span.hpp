/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "addr.hpp"

namespace kx {

/* A view of n objects somebody else owns. Indexing is the caller's promise; iteration is safe. */
template <class T> class Span {
	T *p_ = nullptr;
	size_t n_ = 0;

public:
	constexpr Span() = default;
	constexpr Span(T *p, size_t n) : p_{p}, n_{n} {}
	template <size_t N> constexpr Span(T (&a)[N]) : p_{a}, n_{N} {}
	constexpr size_t size() const { return n_; }
	constexpr bool empty() const { return n_ == 0; }
	constexpr T *data() const { return p_; }
	constexpr T &operator[](size_t i) const { return p_[i]; }
	constexpr T *begin() const { return p_; }
	constexpr T *end() const { return p_ + n_; }
	constexpr Span first(size_t n) const { return {p_, n < n_ ? n : n_}; }
};

}
