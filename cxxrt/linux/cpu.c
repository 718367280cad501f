// SPDX-License-Identifier: GPL-2.0-only
/* The processor and the clock. */
#include <linux/cpu.h>
#include <linux/context_tracking_state.h>
#include <linux/cpumask.h>
#include <asm/debugreg.h>
#include <asm/mce.h>
#include <linux/mem_encrypt.h>
#include <linux/timekeeping.h>
#include <linux/user-return-notifier.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/perf_event.h>
#include <asm/processor.h>
#include <asm/spec-ctrl.h>
#include <asm/tlbflush.h>
#include <asm/tsc.h>
#include "glue.h"

int kx_rdmsr_safe(kx_u32 msr, kx_u64 *value)
{
	return rdmsrl_safe(msr, value) ? -EIO : 0;
}

const kx_u32 *kx_cpu_caps(void)
{
	return boot_cpu_data.x86_capability;
}

unsigned int kx_cpu_cap_words(void)
{
	return NCAPINTS;
}

unsigned int kx_nr_cpus(void)
{
	return nr_cpu_ids;
}

unsigned int kx_nr_online_cpus(void)
{
	return num_online_cpus();
}

kx_u32 kx_tsc_khz(void)
{
	return tsc_khz;
}

int kx_tsc_stable(void)
{
	return !check_tsc_unstable();
}

kx_u64 kx_boot_ns(void)
{
	return ktime_get_boottime_ns();
}

/*
 * What a snapshot counts by is told by newer kernels alone. That of a TSC lies between two reads of it, and no other
 * counter is anywhere near.
 */
void kx_now(struct kx_instant *out)
{
	struct system_time_snapshot now;
	u64 before, after;

	before = rdtsc_ordered();
	ktime_get_snapshot(&now);
	after = rdtsc_ordered();
	out->boot_ns = ktime_to_ns(ktime_add(now.raw, ktime_mono_to_any(0, TK_OFFS_BOOT)));
	out->real_ns = ktime_to_ns(now.real);
	out->host_tsc = before <= now.cycles && now.cycles <= after ? now.cycles : 0;
}

kx_u64 kx_sme_mask(void)
{
	return sme_me_mask;
}

unsigned int kx_phys_bits(void)
{
	return boot_cpu_data.x86_phys_bits;
}

int kx_ibpb_there(void)
{
	return boot_cpu_has(X86_FEATURE_IBPB);
}

/* Not the kernel's barrier, which does what the host's settings want: nothing with mitigations=off, or SBPB. */
void kx_ibpb(void)
{
	native_wrmsrl(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
}

void kx_other_guest(void)
{
	/* A kernel that has the barrier at each exit has it here as well. */
	if (!cpu_feature_enabled(X86_FEATURE_IBPB_ON_VMEXIT))
		indirect_branch_prediction_barrier();
}

/* Asked of the register itself: the world switch writes what guests wrote and is not to fault. */
kx_u64 kx_spec_ctrl_bits(void)
{
	u64 was, bits = 0;
	unsigned long flags;
	int i;

	if (!boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL))
		return 0;
	local_irq_save(flags);
	if (!rdmsrl_safe(MSR_IA32_SPEC_CTRL, &was)) {
		for (i = 0; i < 32; i++)
			if (!wrmsrl_safe(MSR_IA32_SPEC_CTRL, BIT_ULL(i)))
				bits |= BIT_ULL(i);
		wrmsrl(MSR_IA32_SPEC_CTRL, was);
	}
	local_irq_restore(flags);
	return bits;
}

unsigned int kx_cpu_bugs(void)
{
	unsigned int bugs = 0;

#define BUG_BIT(name) (boot_cpu_has_bug(X86_BUG_##name) ? KX_BUG_##name : 0)
	bugs |= BUG_BIT(SPEC_STORE_BYPASS) | BUG_BIT(NULL_SEG) | BUG_BIT(MDS) | BUG_BIT(TAA) | BUG_BIT(L1TF);
	if (boot_cpu_has_bug(X86_BUG_CPU_MELTDOWN))
		bugs |= KX_BUG_MELTDOWN;
#ifdef X86_BUG_GDS
	bugs |= BUG_BIT(GDS);
#else
	bugs |= KX_BUG_GDS;
#endif
#ifdef X86_BUG_RFDS
	bugs |= BUG_BIT(RFDS);
#else
	bugs |= KX_BUG_RFDS;
#endif
#ifdef X86_BUG_ITS
	bugs |= BUG_BIT(ITS);
#else
	bugs |= KX_BUG_ITS;
#endif
#ifdef X86_BUG_TSA
	bugs |= BUG_BIT(TSA);
#else
	bugs |= KX_BUG_TSA;
#endif
#undef BUG_BIT
	return bugs;
}

void *const *kx_ldt(void)
{
#ifdef CONFIG_MODIFY_LDT_SYSCALL
	return (void *const *)&current->mm->context.ldt;
#else
	static void *const none;

	return &none;
#endif
}

/* SRSO on Zen 5: the processor itself holds guests' predictions back, if it is told to. */
static void reduce_speculation(int on)
{
#ifdef X86_FEATURE_SRSO_BP_SPEC_REDUCE
	u64 v;

	if (!cpu_feature_enabled(X86_FEATURE_SRSO_BP_SPEC_REDUCE))
		return;
	rdmsrl(MSR_ZEN4_BP_CFG, v);
	wrmsrl(MSR_ZEN4_BP_CFG, on ? v | BIT_ULL(MSR_ZEN4_BP_CFG_BP_SPEC_REDUCE_BIT) : v & ~BIT_ULL(MSR_ZEN4_BP_CFG_BP_SPEC_REDUCE_BIT));
#endif
}

/*
 * Erratum 383 of family 10h: pages of two sizes that a guest has in the TLB for one address make a machine check that the
 * processor cannot go on from, unless this bit turns it into one that hits the guest alone.
 */
#define DC_CFG_TLB_MULTIMATCH BIT_ULL(47)
static bool tlb_multimatch;

static void contain_tlb_multimatch(void)
{
	u64 v;

	if (!boot_cpu_has_bug(X86_BUG_AMD_TLB_MMATCH) || rdmsrl_safe(MSR_AMD64_DC_CFG, &v))
		return;
	wrmsrl_safe(MSR_AMD64_DC_CFG, v | DC_CFG_TLB_MULTIMATCH);
	tlb_multimatch = true;
}

/* The machine check at hand is that one: then it is over, and the guest's state is lost. */
static bool was_tlb_multimatch(void)
{
	u64 v;
	int bank;

	if (!tlb_multimatch || rdmsrl_safe(MSR_IA32_MC0_STATUS, &v) || (v & ~MCI_STATUS_OVER) != 0xb600000000010015)
		return false;
	for (bank = 0; bank < 6; bank++)
		wrmsrl_safe(MSR_IA32_MCx_STATUS(bank), 0);
	if (!rdmsrl_safe(MSR_IA32_MCG_STATUS, &v))
		wrmsrl_safe(MSR_IA32_MCG_STATUS, v & ~MCG_STATUS_MCIP);
	__flush_tlb_all();
	return true;
}

/* The counters of perf leave out guests, or the host, as long as SVM is on; with it off those bits would stop them. */
void kx_svm_host(int on)
{
	reduce_speculation(on);
	if (on) {
		contain_tlb_multimatch();
		amd_pmu_enable_virt();
	} else {
		amd_pmu_disable_virt();
	}
}

/* Whatever was hit, it was not the kernel: the handler may let it go on, and end the VMM. */
int kx_machine_check(void)
{
	if (was_tlb_multimatch())
		return 1;
#ifdef CONFIG_X86_MCE
	{
		struct pt_regs regs = { .cs = __USER_CS, .flags = X86_EFLAGS_IF };

		do_machine_check(&regs);
	}
#endif
	return 0;
}

int kx_rcu_watches_guests(void)
{
	return !context_tracking_enabled();
}

/*
 * MSRs that only user space reads: the guest's value stays in the register while the thread is in the
 * kernel, and goes when the thread returns to user space or another thread does on this CPU.
 */
#define SLOTS 5
static u32 slot_msr[SLOTS];

struct user_return {
	struct user_return_notifier n;
	bool armed;
	u64 host[SLOTS], now[SLOTS];
};
static DEFINE_PER_CPU(struct user_return, user_return);

static void on_user_return(struct user_return_notifier *n)
{
	struct user_return *u = container_of(n, struct user_return, n);
	unsigned long flags;
	unsigned int i;

	local_irq_save(flags);
	if (u->armed) {
		u->armed = false;
		user_return_notifier_unregister(n);
	}
	for (i = 0; i < SLOTS; i++)
		if (u->now[i] != u->host[i]) {
			wrmsrl(slot_msr[i], u->host[i]);
			u->now[i] = u->host[i];
		}
	local_irq_restore(flags);
}

int kx_user_return_msr(unsigned int slot, kx_u32 msr)
{
	u64 v;

	if (slot >= SLOTS || rdmsrl_safe(msr, &v))
		return -EINVAL;
	slot_msr[slot] = msr;
	return 0;
}

void kx_user_return_cpu_here(void)
{
	struct user_return *u = this_cpu_ptr(&user_return);
	unsigned int i;

	u->n.on_user_return = on_user_return;
	for (i = 0; i < SLOTS; i++)
		if (slot_msr[i]) {
			rdmsrl(slot_msr[i], u->host[i]);
			u->now[i] = u->host[i];
		}
}

void kx_user_return_set(unsigned int slot, kx_u64 value)
{
	struct user_return *u = this_cpu_ptr(&user_return);
	unsigned long flags;

	if (u->now[slot] == value)
		return;
	local_irq_save(flags);
	if (!u->armed) {
		user_return_notifier_register(&u->n);
		u->armed = true;
	}
	wrmsrl(slot_msr[slot], value);
	u->now[slot] = value;
	local_irq_restore(flags);
}

void kx_user_return_cpu_gone(void)
{
	struct user_return *u = this_cpu_ptr(&user_return);

	if (u->armed)
		on_user_return(&u->n);
}
