/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/addr.hpp"

namespace kx {

/* The guest-physical address spaces of a VM, numbered as KVM numbers them: in system management mode a vCPU
 * sees other memslots, hence other tables. */
enum class Space : u8 { normal, smm };
inline constexpr Space every_space[] = {Space::normal, Space::smm};

/* One T a space. */
template <class T> class PerSpace {
	T of_[sizeof every_space / sizeof *every_space] = {};

public:
	T &operator[](Space s) { return of_[u8(s)]; }
	const T &operator[](Space s) const { return of_[u8(s)]; }
};

}
