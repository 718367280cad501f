/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "addr.hpp"
#include "result.hpp"
#include "seam.h"
#include "sizes.h"

namespace kx {

/* Interrupts are off and RCU watches this CPU: that is a read section by itself. */
struct IrqsOff {};

class [[nodiscard]] RcuRead {
	const bool locked_;

public:
	RcuRead() : locked_{true} { kx_rcu_read_lock(); }
	explicit RcuRead(IrqsOff) : locked_{false} {}
	~RcuRead()
	{
		if (locked_)
			kx_rcu_read_unlock();
	}
	RcuRead(const RcuRead &) = delete;
};

/* Storage for one pending call_rcu or call_srcu. The callback gets the head's own address back. */
class RcuHead {
	alignas(8) unsigned char os_[KX_SIZEOF_RCU_HEAD];

public:
	void *os() { return os_; }
};

/* Sleepable read sections, one domain an object (a stuck reader delays nobody else's writers). */
class Srcu {
	alignas(8) unsigned char os_[KX_SIZEOF_SRCU];

public:
	Errc init() { return kx_srcu_init(os_) ? Errc::nomem : Errc::ok; }
	void destroy() { kx_srcu_destroy(os_); }
	void synchronize() { kx_srcu_synchronize(os_); }
	void *os() { return os_; }
};

class [[nodiscard]] SrcuRead {
	Srcu &s_;
	int token_;

public:
	explicit SrcuRead(Srcu &s) : s_{s}, token_{kx_srcu_read_lock(s.os())} {}
	~SrcuRead() { kx_srcu_read_unlock(s_.os(), token_); }
	SrcuRead(const SrcuRead &) = delete;
};

}
