/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/result.hpp"

namespace kx {

/* The one place where the vendor is a run-time fact: chosen at load, called by the files' operations. */
struct Door {
	const char *vendor;
	Errc (*init)();
	void (*exit)();
	Errc (*online)(unsigned cpu);
	void (*offline)(unsigned cpu);
	void (*emergency)();
	long (*create_vm)(unsigned long type);
	long (*vm_ioctl)(void *vm, unsigned cmd, unsigned long arg);
	void (*vm_release)(void *vm);
	long (*vcpu_ioctl)(void *vcpu, unsigned cmd, unsigned long arg);
	void (*vcpu_release)(void *vcpu);
	long (*vm_stats)(void *vm, u64 to, size_t n, u64 pos);
	long (*vcpu_stats)(void *vcpu, u64 to, size_t n, u64 pos);
	void *(*vcpu_page)(void *vcpu, unsigned long pgoff);
	void (*sched_in)(void *vcpu, unsigned cpu);
	void (*sched_out)(void *vcpu);
	void (*notifier_start)(void *vm, u64 start, u64 end);
	void (*notifier_end)(void *vm, u64 start, u64 end);
	int (*notifier_age)(void *vm, u64 start, u64 end, int clear);
	void (*notifier_gone)(void *vm);
};

}
