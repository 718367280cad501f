/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "rcu.hpp"

namespace kx {

/* One function to be run on the work queue, where it may sleep, after an RCU grace period that begins
 * with start(). At most one start() is outstanding: the owner sees to that. */
class GraceWork {
	struct Rcu {
		RcuHead head; /* first: the callback gets its address */
		GraceWork *self;
	} rcu_;
	struct Work {
		alignas(8) unsigned char os[KX_SIZEOF_WORK];
		GraceWork *self;
	} work_;
	void (*fn_)(void *owner);
	void *owner_;

	static void grace_over(void *head)
	{
		kx_work_queue(reinterpret_cast<Rcu *>(head)->self->work_.os);
	}
	static void run(void *work)
	{
		GraceWork &g = *reinterpret_cast<Work *>(work)->self;
		g.fn_(g.owner_);
	}

public:
	GraceWork(void (*fn)(void *), void *owner) : fn_{fn}, owner_{owner}
	{
		rcu_.self = this;
		work_.self = this;
		kx_work_init(work_.os, run);
	}
	GraceWork(const GraceWork &) = delete;
	void start() { kx_call_rcu(rcu_.head.os(), grace_over); } /* any context */
};

}
