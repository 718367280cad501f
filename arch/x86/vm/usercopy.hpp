/* SPDX-License-Identifier: GPL-2.0-only */
/* Structures to and from the VMM. Each is copied once and then looked at. May sleep. */
#pragma once
#include <type_traits>
#include "cxxrt/alloc.hpp"
#include "uapi/kvmxx.h"

namespace kx {

template <class T> Result<T> from_user(u64 at)
{
	static_assert(std::is_trivially_copyable_v<T>);
	T t;
	if (kx_copy_from_user(&t, at, sizeof t))
		return Errc::fault;
	return t;
}

/* T is padded by the compiler nowhere, or was zeroed whole: no stale kernel bytes go out. */
template <class T> Errc to_user(u64 at, const T &t)
{
	static_assert(std::is_trivially_copyable_v<T>);
	return kx_copy_to_user(at, &t, sizeof t) ? Errc::fault : Errc::ok;
}

/* What a system call returns. */
template <class T> long as_long(const Result<T> &r) { return r.ok() ? long(r.peek()) : -long(r.error()); }

/* What the list structures begin with; their entries follow. */
struct ListHead { /* kvm_cpuid2, kvm_cpuid, kvm_msrs, kvm_irq_routing */
	u32 n, padding;
};
struct IndexListHead { /* kvm_msr_list */
	u32 n;
};

template <class T> Result<Array<T>> array_from_user(u64 at, size_t n)
{
	Array<T> a = KX_TRY(Array<T>::make(n));
	if (kx_copy_from_user(a.get(), at, n * sizeof(T)))
		return Errc::fault;
	return Result<Array<T>>{move(a)};
}

template <class T> Errc array_to_user(u64 at, const T *p, size_t n)
{
	return kx_copy_to_user(at, p, n * sizeof(T)) ? Errc::fault : Errc::ok;
}

}
