/* SPDX-License-Identifier: GPL-2.0-only */
/* The file that KVM_GET_STATS_FD gives: header, name of the object, descriptors, values.
 * Documentation/virt/kvm/api.rst 4.133 */
#pragma once
#include "cxxrt/result.hpp"
#include "cxxrt/span.hpp"
#include "uapi/kvmxx.h"

namespace kx {

/* A kvm_stats_desc and its name. */
struct StatDesc {
	u32 flags;
	std::int16_t exponent;
	u16 size;
	u32 offset, bucket_size;
	char name[KVMXX_STAT_NAME_SIZE];
};
static_assert(sizeof(StatDesc) == sizeof(kvm_stats_desc) + KVMXX_STAT_NAME_SIZE);
static_assert(offsetof(StatDesc, size) == offsetof(kvm_stats_desc, size) &&
	      offsetof(StatDesc, offset) == offsetof(kvm_stats_desc, offset) &&
	      offsetof(StatDesc, name) == offsetof(kvm_stats_desc, name));

/* The descriptor of the nth value. A name that leaves no room for its end does not compile. */
template <size_t N> consteval StatDesc stat_desc(u32 nth, u32 type, const char (&name)[N])
{
	static_assert(N <= KVMXX_STAT_NAME_SIZE);
	StatDesc d{type | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10, 0, 1, nth * u32{sizeof(u64)}, 0, {}};
	for (size_t i = 0; i < N; ++i)
		d.name[i] = name[i];
	return d;
}

/* Where a value comes from. */
template <class Of> struct Stat {
	const char *name;
	u64 (*value)(const Of &);
};

constexpr bool same_name(const char *a, const char *b)
{
	while (*a && *a == *b)
		++a, ++b;
	return *a == *b;
}
/* The table has a value for each descriptor, in their order, and no name is there twice. */
template <class Of, size_t N, size_t M> consteval bool gives(const Stat<Of> (&table)[N], const StatDesc (&descs)[M])
{
	if (N != M)
		return false;
	for (size_t i = 0; i < N; ++i) {
		if (!same_name(table[i].name, descs[i].name))
			return false;
		for (size_t j = 0; j < i; ++j)
			if (same_name(descs[j].name, descs[i].name))
				return false;
	}
	return true;
}

/* Whose statistics they are, as KVM names them. */
class StatsId {
	char text_[KVMXX_STAT_NAME_SIZE] = {};
	unsigned n_ = 0;

	void put(const char *s)
	{
		while (*s)
			text_[n_++] = *s++;
	}
	void put(u32 number)
	{
		char digits[10];
		unsigned n = 0;
		do
			digits[n++] = char('0' + number % 10);
		while (number /= 10);
		while (n)
			text_[n_++] = digits[--n];
	}

public:
	explicit StatsId(u32 pid)
	{
		put("kvm-");
		put(pid);
	}
	StatsId(u32 pid, u32 vcpu) : StatsId{pid}
	{
		put("/vcpu-");
		put(vcpu);
	}
	const char (&text() const)[KVMXX_STAT_NAME_SIZE] { return text_; }
};

/* Up to n bytes from position pos on, to user space: how many, 0 behind the end; fault. May sleep. */
Result<size_t> read_stats(const StatsId &, Span<const StatDesc>, Span<const u64> values, u64 to, size_t n, u64 pos);

template <class Of, size_t N>
Result<size_t> read_stats(const StatsId &id, const StatDesc (&descs)[N], const Stat<Of> (&table)[N], const Of &of, u64 to,
			  size_t n, u64 pos)
{
	u64 values[N];
	for (size_t i = 0; i < N; ++i)
		values[i] = table[i].value(of);
	return read_stats(id, descs, {values, N}, to, n, pos);
}

}
