// SPDX-License-Identifier: GPL-2.0-only
/* What VMX does not switch, and what the host wants done before an entry. */
#include <linux/cpu.h>
#include <linux/gfp.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/sched/smt.h>
#include <asm/cpu.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/perf_event.h>
#include <asm/mmu_context.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/processor.h>
#include <asm/tlbflush.h>
#include <asm/vmx.h>
#include "glue.h"

/* L1TF: the size of the largest L1 data cache, read through once where no MSR flushes it. */
#define FLUSH_ORDER 4
#define FLUSH_BYTES (PAGE_SIZE << FLUSH_ORDER)

static bool flush_l1d, flush_always;
static void *flush_pages;

static bool l1d_flush_wanted(void)
{
	u64 arch = 0;

	if (!boot_cpu_has_bug(X86_BUG_L1TF) || l1tf_mitigation == L1TF_MITIGATION_OFF)
		return false;
	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		rdmsrl(MSR_IA32_ARCH_CAPABILITIES, arch);
	return !(arch & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH);
}

extern bool itlb_multihit_kvm_mitigation;	/* what sysfs says; 6.1 has no declaration */

int kx_nx_huge_pages(void)
{
	itlb_multihit_kvm_mitigation = boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) && !cpu_mitigations_off();
	return itlb_multihit_kvm_mitigation;
}

int kx_vmx_prepare(void)
{
	flush_l1d = l1d_flush_wanted();
	flush_always = flush_l1d && (l1tf_mitigation == L1TF_MITIGATION_FULL || l1tf_mitigation == L1TF_MITIGATION_FULL_FORCE);
	if (flush_l1d && !boot_cpu_has(X86_FEATURE_FLUSH_L1D)) {
		flush_pages = (void *)__get_free_pages(GFP_KERNEL, FLUSH_ORDER);
		if (!flush_pages)
			return -ENOMEM;
		/* Not zeroes: identical pages may be merged by a hypervisor underneath. */
		memset(flush_pages, 0x5a, FLUSH_BYTES);
	}
	if (boot_cpu_has_bug(X86_BUG_L1TF)) {
		l1tf_vmx_mitigation = flush_always ? VMENTER_L1D_FLUSH_ALWAYS :
				      flush_l1d    ? VMENTER_L1D_FLUSH_COND :
						     VMENTER_L1D_FLUSH_NEVER;
		if (sched_smt_active() && l1tf_mitigation != L1TF_MITIGATION_OFF)
			pr_warn("kvmxx: L1TF: with SMT on, a guest can read what the sibling thread has in the cache\n");
	}
	return (flush_l1d ? KX_VMX_FLUSH_L1D : 0) | (flush_always ? KX_VMX_FLUSH_ALWAYS : 0) | (static_key_enabled(&mmio_stale_data_clear) ? KX_VMX_FLUSH_BUFFERS : 0);
}

void kx_vmx_unprepare(void)
{
	free_pages((unsigned long)flush_pages, FLUSH_ORDER);
	flush_pages = NULL;
	l1tf_vmx_mitigation = VMENTER_L1D_FLUSH_AUTO;
	itlb_multihit_kvm_mitigation = false;
}

/* RCU may not be watching. */
notrace void kx_vmx_flush(void)
{
	const volatile char *p = flush_pages;
	unsigned int i;

	if (!flush_l1d) {
		x86_clear_cpu_buffers();	/* MMIO stale data; a guest may have a device */
		return;
	}
	if (!p) {
		native_wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
		return;
	}
	for (i = 0; i < FLUSH_BYTES; i += PAGE_SIZE)	/* the TLB first */
		(void)p[i];
	sync_core();
	for (i = 0; i < FLUSH_BYTES; i += 64)
		(void)p[i];
	asm volatile("lfence" : : : "memory");
}

void kx_vmxe_set(void)
{
	intel_pt_handle_vmx(1);
	cr4_set_bits_irqsoff(X86_CR4_VMXE);
}

void kx_vmxe_clear(void)
{
	cr4_clear_bits_irqsoff(X86_CR4_VMXE);
	intel_pt_handle_vmx(0);
}

/* An LDT that another thread of the process has set meanwhile was loaded here too, and gone with the next exit. Its
 * descriptor may be on its way still, by an interrupt that comes before user space does: the load may fail until then. */
static u16 current_ldt(void)
{
#ifdef CONFIG_MODIFY_LDT_SYSCALL
	if (current->mm && READ_ONCE(current->mm->context.ldt))
		return GDT_ENTRY_LDT * 8;
#endif
	return 0;
}

void kx_segments_save(struct kx_segments *s)
{
	current_save_fsgs();
	s->fs_base = current->thread.fsbase;
	s->gs_base = current->thread.gsbase;
	s->fs = current->thread.fsindex;
	s->gs = current->thread.gsindex;
	savesegment(ds, s->ds);
	savesegment(es, s->es);
}

/* A VM exit has loaded null into DS, ES, FS, GS and LDTR, limits of 67h and FFFFh into TR and GDTR, and
 * FS and GS bases as the VMCS said. SDM vol. 3 §28.5.2 */
void kx_segments_restore(const struct kx_segments *s)
{
	u16 ldt = current_ldt();

	if (unlikely(ldt))
		asm volatile("1: lldt %0\n2:" _ASM_EXTABLE(1b, 2b) : : "r"(ldt));
	if (unlikely(s->ds | s->es)) {
		loadsegment(ds, s->ds);
		loadsegment(es, s->es);
	}
	if (unlikely(s->fs))
		loadsegment(fs, s->fs);
	if (unlikely(s->gs))
		load_gs_index(s->gs);
	wrmsrl(MSR_KERNEL_GS_BASE, s->gs_base);
	invalidate_tss_limit();
	load_fixmap_gdt(raw_smp_processor_id());
}

unsigned int kx_perf_msrs(struct kx_guest_msr *to, unsigned int room)
{
	struct perf_guest_switch_msr *from;
	unsigned int n = 0;
	int nr = 0, i;

	from = perf_guest_get_msrs(&nr, NULL);
	for (i = 0; from && i < nr && n < room; i++)
		if (from[i].host != from[i].guest)
			to[n++] = (struct kx_guest_msr){ .msr = from[i].msr, .guest = from[i].guest, .host = from[i].host };
	return n;
}

int kx_perf_present(void)
{
	int nr = 0;

	preempt_disable();
	(void)perf_guest_get_msrs(&nr, NULL);
	preempt_enable();
	return nr != 0;
}

int kx_split_locks_detected(void)
{
	return boot_cpu_has(X86_FEATURE_SPLIT_LOCK_DETECT);
}

int kx_guest_split_lock(kx_u64 rip)
{
	return handle_guest_split_lock(rip);
}

/* NMIs are blocked since the exit; the IRET of the handler opens them. */
notrace void kx_host_nmi(void)
{
	asm volatile("int $2");
}
