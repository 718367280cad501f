/* SPDX-License-Identifier: GPL-2.0-only */
/* The rest of the seam: enough for code that only looks, nothing that acts. */
#include <atomic>
#include <chrono>
#include <cstdio>
#include "hosted.hpp"
#include "state.hpp"
#include "thread.hpp"

using namespace kx::hosted;

namespace {
std::atomic<bool> time_by_tsc{true};
}

void kx::hosted::keep_time_by_tsc(bool does) { time_by_tsc = does; }

extern "C" {

const void *kx_current_mm(void) { return &context; }
unsigned kx_current_pid(void) { return 1; }
int kx_in_compat(void) { return 0; }
int kx_notifier_register(void *, void *) { return 0; }
void kx_notifier_unregister(void *) {}

unsigned kx_nr_cpus(void) { return hosted_cpus; }
unsigned kx_nr_online_cpus(void) { return hosted_cpus; }
const kx_u32 *kx_cpu_caps(void)
{
	static constexpr kx_u32 none = 0;
	return &none;
}
unsigned kx_cpu_cap_words(void) { return 0; }
unsigned kx_cpu_bugs(void) { return ~0u; }
int kx_rcu_watches_guests(void) { return 1; }
int kx_ibpb_there(void) { return 1; }
void kx_ibpb(void) {}
int kx_machine_check(void)
{
	if (!context.irqs_off || context.in_guest)
		fail("a machine check is taken where interrupts are on, or in guest context");
	++this_thread().machine_checks;
	return this_thread().machine_check_is_fatal;
}
void kx_user_return_set(unsigned, kx_u64)
{
	if (!context.preempt_off)
		fail("kx_user_return_set with preemption on");
}
kx_u64 kx_boot_ns(void)
{
	return kx_u64(std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}
void kx_now(struct kx_instant *out)
{
	const kx_u64 ns = kx_boot_ns();
	*out = {ns, ns + booted_at, time_by_tsc ? ns * 2 : 0};
}
kx_u32 kx_tsc_khz(void) { return 2'000'000; }
int kx_tsc_stable(void) { return 1; }
kx_u64 kx_tsc_lost;
kx_u64 kx_sme_mask(void) { return 0; }
unsigned kx_phys_bits(void) { return 48; }
int kx_rdmsr_safe(kx_u32, kx_u64 *) { return -5; }

void kx_log(int level, const char *msg, kx_u64 a, kx_u64 b)
{
	std::fprintf(stderr, "<%d> %s %llx %llx\n", level, msg, static_cast<unsigned long long>(a),
		     static_cast<unsigned long long>(b));
}

}
