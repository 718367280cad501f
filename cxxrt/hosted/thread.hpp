/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The thread that runs a vCPU, and the CPU it sits on, in userspace. Checked: interrupts and preemption are
 * off where the seam says so and on again afterwards, guest mode is entered and left in turn, nothing is
 * loaded twice.
 */
#pragma once
#include <cstdint>

namespace kx::hosted {

inline constexpr unsigned hosted_cpus = 4;

struct Thread {
	unsigned long flags = 0;     /* KX_THREAD_*; a test raises them as the kernel would */
	bool signal = false;	     /* one is pending: handling the work ends KVM_RUN */
	unsigned cpu = 0;	     /* where it runs; threads that run at once need one each */
	unsigned next_cpu = 0;	     /* where handling the work moves it */
	std::uint64_t blocked = 0;   /* signals */
	std::uint64_t really_blocked = 0; /* its own, while it has others in the guest */
	unsigned worked = 0;	     /* how often it handled work */
	unsigned machine_checks = 0; /* how many it took */
	bool resumed = false;	     /* the machine was suspended: kx_tsc_lost may have changed */
	bool machine_check_is_fatal = false; /* to the guest */
	void *loaded = nullptr;	     /* struct kx_thread */
	void *fpu = nullptr;	     /* whose registers it has; nullptr: its own */
};
Thread &this_thread();

bool interrupts_off();
bool preemption_off();
bool in_guest_context(); /* between kx_guest_enter and what ends it */
bool interrupt_waits();	 /* somebody has kicked this CPU since its interrupts went off */

/* Open files of VMs and vCPUs, by descriptor. nullptr: not open. */
void *file_of(int fd);

}
