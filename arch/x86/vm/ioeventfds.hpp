/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM_IOEVENTFD: guest writes that signal an eventfd and do not exit. Documentation/virt/kvm/api.rst 4.59 */
#pragma once
#include <linux/kvm.h>
#include "arch/x86/vm/bus.hpp"
#include "cxxrt/atomic.hpp"
#include "cxxrt/rcu.hpp"
#include "cxxrt/result.hpp"

namespace kx {

/* One immutable set at a time; a change replaces it and waits for its readers, so that nothing is signalled
 * any more when a removal returns. */
class IoEventFds {
	struct Entry {
		u64 at, match;
		u32 len; /* 0: a write of any length */
		Bus bus;
		bool any_value;
		void *eventfd;

		bool same_place(const Entry &o) const { return bus == o.bus && at == o.at; }
		bool collides(const Entry &o) const
		{
			return same_place(o) &&
			       (!len || !o.len || (len == o.len && (any_value || o.any_value || match == o.match)));
		}
		bool takes(u64 value, u32 n) const { return !len || (len == n && (any_value || match == value)); }
		bool operator==(const Entry &o) const
		{
			return same_place(o) && len == o.len && any_value == o.any_value &&
			       (any_value || match == o.match) && eventfd == o.eventfd;
		}
	};
	struct Set {
		u32 n;
		Entry e[]; /* by bus and address; those of one place as they came */

		const Entry *begin() const { return e; }
		const Entry *end() const { return e + n; }
		u32 after(const Entry &o) const; /* the index behind all of o's place and before */
	};

	Atomic<Set *> set_; /* nullptr: none, and guests' writes pay for a look at this */
	Srcu srcu_;
	bool srcu_made_ = false; /* with the first entry */

public:
	IoEventFds() = default;
	IoEventFds(const IoEventFds &) = delete;
	/* No vCPU runs any more. Sleeps. */
	~IoEventFds();

	/* inval, badf, exist, noent, nomem. Sleeps; the caller serialises. */
	Errc change(const kvm_ioeventfd &);

	/* In a vCPU's thread; may sleep. len 1..8. */
	Taken write(Bus bus, u64 at, const void *data, u32 len)
	{
		return set_.acquire() ? signal(bus, at, data, len) : Taken::no;
	}

private:
	Errc add(const Entry &);
	Errc remove(const Entry &);
	static Set *make(u32 n);
	void replace(Set *next);
	Taken signal(Bus bus, u64 at, const void *data, u32 len);
};

}
