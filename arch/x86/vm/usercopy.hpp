/* SPDX-License-Identifier: GPL-2.0-only */
/* Structures to and from the VMM. Each is copied once and then looked at. May sleep. */
#pragma once
#include <linux/kvm.h>
#include <type_traits>
#include "cxxrt/alloc.hpp"

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

/* UAPI as C lays it out: the numbers VMMs were compiled with. */
static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8 && sizeof(kvm_msr_list) == 4);
static_assert(sizeof(kvm_coalesced_mmio_ring) == 8 && sizeof(kvm_signal_mask) == 4);
static_assert(KVM_SET_CPUID2 == 0x4008ae90 && KVM_GET_SUPPORTED_CPUID == 0xc008ae05);
static_assert(KVM_GET_MSRS == 0xc008ae88 && KVM_GET_MSR_INDEX_LIST == 0xc004ae02);
static_assert(KVM_SET_SIGNAL_MASK == 0x4004ae8b && KVM_RUN == 0xae80);

/* What the list structures begin with; their entries follow. */
struct ListHead { /* kvm_cpuid2, kvm_cpuid, kvm_msrs */
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
