/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include <type_traits>
#include "regs.hpp"

namespace kx {

/* What a guest's instruction produces, or the fault it takes instead. T is plain data. */
template <class T> class [[nodiscard]] OrException {
	static_assert(std::is_trivially_copyable_v<T>);
	T value_{};
	Exception fault_{};
	bool ok_;

public:
	constexpr OrException(T v) : value_{v}, ok_{true} {}
	constexpr OrException(Exception e) : fault_{e}, ok_{false} {}
	constexpr bool ok() const { return ok_; }
	constexpr const T &value() const { return value_; }
	constexpr const Exception &fault() const { return fault_; }
};

inline constexpr Exception gp0 = Exception::coded(Vector::gp, 0);

}
