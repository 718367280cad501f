/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every function that crosses between the C++ core and the operating system underneath: the kernel
 * (cxxrt/linux) or userspace (cxxrt/hosted). Legal C and C++. kx_* is what the core calls, kxc_*
 * is what the core offers. Each group says whether it may sleep. 0 or a negative errno unless the
 * comment says otherwise. Objects of the OS (locks, work, file structures) live in storage the core
 * embeds: their sizes come from the generated sizes.h.
 */
#ifndef KX_SEAM_H
#define KX_SEAM_H

#ifdef __cplusplus
#include <cstddef>
#include <cstdint>
typedef std::uint64_t kx_u64;
typedef std::uint32_t kx_u32;
typedef std::uint16_t kx_u16;
typedef std::uint8_t kx_u8;
typedef std::size_t kx_size;
typedef bool kx_bool;
extern "C" {
#else
#include <linux/types.h>
typedef u64 kx_u64;
typedef u32 kx_u32;
typedef u16 kx_u16;
typedef u8 kx_u8;
typedef size_t kx_size;
typedef bool kx_bool;
#endif

/* Which lock this is: its lockdep class and its rank. Lower is taken first. */
enum kx_lock_kind {
	KX_LOCK_VM,		/* mutex: vCPU list, creation */
	KX_LOCK_VCPU,		/* mutex: one ioctl on a vCPU at a time */
	KX_LOCK_SLOTS,		/* mutex: writers of the memslots */
	KX_LOCK_MMU,		/* rwlock */
	KX_LOCK_MMU_LIST,	/* spinlock: lists of table pages waiting to be freed */
	KX_LOCK_RING,		/* spinlock: coalesced MMIO ring */
	KX_LOCK_COUNT
};

/* Module parameters, named as in-tree where they mean the same. */
struct kx_params {
	kx_bool ignore_msrs, nrips;
	kx_bool vpid, eptad, unrestricted_guest, vnmi, pml, flexpriority, dump_invalid_vmcs;	/* VMX */
};
extern struct kx_params kx_params;

/* --- memory; may sleep; zeroed; charged to the caller's cgroup ------------------------------ */
void *kx_zalloc(kx_size bytes);			/* NULL when out of memory */
void kx_free(void *p);				/* also for kx_vzalloc; any context but NMI */
void *kx_vzalloc(kx_size bytes);		/* not physically contiguous */
void *kx_page_alloc(void);			/* one page of the direct map */
void *kx_page_alloc_inside(void);		/* the same, never the first of 2 MiB */
void kx_page_free(void *p);
void *kx_pages_alloc(unsigned order);		/* contiguous, 2^order pages */
void kx_pages_free(void *p, unsigned order);
extern kx_u64 kx_direct_map;			/* virtual address of physical address 0; constant after load */
/* Two words that belong to a page of kx_page_alloc beside its contents (struct page fields free for the
 * page's user): links of table pages that wait to be freed while CPUs may still walk them. */
kx_u64 *kx_page_link(void *page);

/* --- locks --------------------------------------------------------------------------------- */
void kx_mutex_init(void *m, enum kx_lock_kind kind);
void kx_mutex_lock(void *m);			/* sleeps */
int kx_mutex_lock_killable(void *m);		/* sleeps; -EINTR */
void kx_mutex_unlock(void *m);
void kx_rwlock_init(void *l, enum kx_lock_kind kind);
void kx_read_lock(void *l);			/* spins; also an RCU read section until unlock */
void kx_read_unlock(void *l);
void kx_write_lock(void *l);
void kx_write_unlock(void *l);
int kx_write_should_yield(void *l);		/* contended, or the scheduler wants this CPU */
void kx_spin_init(void *l, enum kx_lock_kind kind);
void kx_spin_lock(void *l);
void kx_spin_unlock(void *l);
void kx_cond_resched(void);			/* may sleep */

/* --- RCU and SRCU -------------------------------------------------------------------------- */
void kx_rcu_read_lock(void);
void kx_rcu_read_unlock(void);
void kx_call_rcu(void *head, void (*fn)(void *head));	/* any context; fn runs in softirq: no sleep */
int kx_srcu_init(void *s);			/* sleeps */
void kx_srcu_destroy(void *s);			/* sleeps; no reader left */
int kx_srcu_read_lock(void *s);			/* returns the token for unlock */
void kx_srcu_read_unlock(void *s, int token);
void kx_srcu_synchronize(void *s);		/* sleeps until every earlier reader is gone */
void kx_call_srcu(void *s, void *head, void (*fn)(void *head));

/* --- background work on the module's own queue; fn may sleep -------------------------------- */
void kx_work_init(void *w, void (*fn)(void *work));
void kx_work_queue(void *w);			/* any context */

/* --- VMM memory; may sleep unless _atomic ---------------------------------------------------- */
int kx_copy_from_user(void *to, kx_u64 from, kx_size n);	/* -EFAULT */
int kx_copy_to_user(kx_u64 to, const void *from, kx_size n);	/* -EFAULT */
int kx_read_user_u64(kx_u64 from, kx_u64 *value);		/* one aligned load */
int kx_read_user_u32(kx_u64 from, kx_u32 *value);
int kx_cmpxchg_user(kx_u64 at, unsigned bytes, kx_u64 *old, kx_u64 now); /* 0: stored; 1: *old is what stands there; bytes 1,2,4,8, naturally aligned */
int kx_user_range_ok(kx_u64 at, kx_u64 bytes);			/* 1: a range of user space */

struct kx_host_page {
	kx_u64 pfn;
	kx_u8 writable;		/* may be mapped writable */
	kx_u8 ram;		/* has a struct page: cacheable; 0: device memory, map uncached */
	kx_u8 pinned;		/* owe a kx_page_unpin */
	kx_u8 order;		/* log2 pages of the compound page around it; an upper bound for a huge mapping */
};
/* The page behind hva, faulted in as the VMM would have it. want_write: 1 = for a write. A read may
 * still return writable=1. -EFAULT: nothing there; -EHWPOISON; -EINTR: a signal, on older kernels one that kills;
 * -ENOMEM. */
int kx_page_pin(kx_u64 hva, int want_write, struct kx_host_page *out);
/* The mapping stands (or was given up): drop the reference. mapped_writable marks the page dirty,
 * accessed=1 marks it referenced. Does not sleep: the caller still holds mmu_lock, so that the mapping
 * is there to be zapped by who writes the page back. */
void kx_page_unpin(kx_u64 pfn, int mapped_writable, int accessed);
/* What the host's page tables say now of n (1 to 64) pages from hva: takes no reference, faults nothing in,
 * never sleeps. Returns a bit for each page that user space may read there and that is ordinary memory
 * (what GUP-fast would take: not special, not a device's, not PROT_NONE, its protection key open to current), with pfns[i]; *writable: those
 * mapped writable and dirty, which may be mapped writable without marking them. *order: log2 pages of the
 * host's mapping that holds the first page: 0, 9 or 18 (0 when it is not present). Of current's mm. The
 * caller holds mmu_lock and has seen no invalidation in progress over these pages, so that whatever this
 * reads stays true until it unlocks. */
kx_u64 kx_host_present(kx_u64 hva, unsigned n, kx_u64 *pfns, kx_u64 *writable, unsigned *order);

/* --- address space of the VMM ---------------------------------------------------------------- */
const void *kx_current_mm(void);		/* identity only */
unsigned kx_current_pid(void);			/* of the thread, as the host's first namespace counts */
int kx_notifier_register(void *n, void *owner);	/* sleeps; current's mm; keeps the mm's structure alive */
void kx_notifier_unregister(void *n);		/* sleeps for a grace period; afterwards no callback runs */

/* --- the thread that runs a vCPU ------------------------------------------------------------- */
/* Storage struct kx_thread: preempt notifier and the CPU it sits on. */
void kx_thread_init(void *t, void *owner);
void kx_thread_load(void *t);			/* kxc_sched_in now and at each switch back, until put */
void kx_thread_put(void *t);			/* kxc_sched_out */
const unsigned long *kx_thread_flags(void);	/* &current's thread flags; see KX_THREAD_WORK in sizes.h */
int kx_thread_handle_work(void);		/* reschedules, task work; -EINTR: a signal is pending; sleeps */
unsigned kx_preempt_off(void);			/* returns this CPU's number */
void kx_preempt_on(void);
void kx_irq_off(void);
void kx_irq_on(void);
void kx_guest_enter(void);			/* IRQs off: context tracking, RCU, lockdep, guest time */
void kx_guest_leave(void);			/* IRQs off; the host's breakpoints work again; then takes pending interrupts: IRQs on at return */
/* The same in two: out of guest context, IRQs still off; and the interrupts, with which a kick is acknowledged. */
void kx_guest_out(void);
void kx_guest_interrupts(void);
void kx_kick_cpu(unsigned cpu);			/* make that CPU leave guest mode; any context */
void kx_kick_begin(void);			/* collect CPUs (preemption off until end) ... */
void kx_kick_add(unsigned cpu);
void kx_kick_end(void);				/* ... and wait until each has left guest mode once; IRQs on */
int kx_call_on(unsigned cpu, void (*fn)(void *arg), void *arg);	/* fn there, IRQs off; waits (IRQs on); -ENXIO: offline */
void kx_sigmask_enter(const kx_u64 *set);	/* current blocks these, without SIGKILL and SIGSTOP, instead of its own */
void kx_sigmask_leave(void);			/* and its own again */

/* --- FPU of the guest ------------------------------------------------------------------------ */
int kx_fpu_init(void *f);			/* storage KX_SIZEOF_FPU; sleeps */
void kx_fpu_destroy(void *f);
void kx_fpu_load(void *f);			/* the thread's registers become the guest's */
void kx_fpu_save(void *f);			/* and the VMM's again */
void kx_fpu_return(void);			/* IRQs off, after kx_fpu_load: reload if a switch took them */
unsigned kx_fpu_image_size(void *f);		/* bytes of the uabi XSAVE image, at least 4096 */
/* Vector register n of the guest, whose FPU the thread has loaded; 16 or 32 bytes. */
void kx_fpu_read_vector(unsigned n, void *to, unsigned bytes);
void kx_fpu_write_vector(unsigned n, const void *from, unsigned bytes, int zero_upper);
void kx_fpu_get(void *f, void *to, unsigned bytes, kx_u64 features, kx_u32 pkru);	/* uabi XSAVE image */
int kx_fpu_set(void *f, const void *from, kx_u64 xcr0, kx_u32 *pkru);	/* -EINVAL */
kx_u64 kx_fpu_host_xcr0(void);
kx_u64 kx_fpu_user_features(void);		/* what a guest may have in XCR0 */
kx_u32 kx_host_pkru(void);

/* --- the processor --------------------------------------------------------------------------- */
int kx_rdmsr_safe(kx_u32 msr, kx_u64 *value);	/* -EIO on #GP */
const kx_u32 *kx_cpu_caps(void);		/* the kernel's view: boot_cpu_data.x86_capability */
unsigned kx_cpu_cap_words(void);
unsigned kx_nr_cpus(void);			/* ids are below this */
unsigned kx_nr_online_cpus(void);
kx_u32 kx_tsc_khz(void);
int kx_tsc_stable(void);
extern kx_u64 kx_tsc_lost;			/* cycles the TSC has gone back by over suspends so far; the same on all CPUs */
kx_u64 kx_boot_ns(void);			/* CLOCK_BOOTTIME */
/* The host's clocks at one moment. */
struct kx_instant {
	kx_u64 boot_ns;		/* since boot, suspends included, at the clocksource's own rate: as guests count by their TSC */
	kx_u64 real_ns;		/* CLOCK_REALTIME */
	kx_u64 host_tsc;	/* what both were made from; 0: from another counter */
};
void kx_now(struct kx_instant *out);
kx_u64 kx_sme_mask(void);			/* bit that marks memory encrypted, or 0 */
unsigned kx_phys_bits(void);
int kx_ibpb_there(void);				/* PRED_CMD has IBPB */
void kx_ibpb(void);				/* if it has; whatever the host's settings */
void kx_other_guest(void);			/* this CPU runs another guest than last: predictions must not cross */
kx_u64 kx_spec_ctrl_bits(void);			/* what MSR SPEC_CTRL takes; 0: the kernel does not use it */
/* The #MC that left the guest, as if it had hit user space; IRQs off, behind kx_guest_out, on that CPU. 1: the guest's state is lost. */
int kx_machine_check(void);
int kx_rcu_watches_guests(void);		/* RCU heeds CPUs between kx_guest_enter and _leave; constant */
/* A user-return slot: the host's value comes back before the thread sees user space. */
int kx_user_return_msr(unsigned slot, kx_u32 msr);	/* at load: probe and note the host's value */
void kx_user_return_set(unsigned slot, kx_u64 value);	/* preemption off; writes only on a change */

/* What the processor is subject to; unknown to this kernel: set. */
enum kx_cpu_bug {
	KX_BUG_SPEC_STORE_BYPASS = 1, KX_BUG_NULL_SEG = 2, KX_BUG_MELTDOWN = 4, KX_BUG_MDS = 8, KX_BUG_TAA = 16,
	KX_BUG_GDS = 32, KX_BUG_RFDS = 64, KX_BUG_ITS = 128, KX_BUG_TSA = 256, KX_BUG_L1TF = 512
};
unsigned kx_cpu_bugs(void);
int kx_nx_huge_pages(void);			/* the host wants huge pages of guests not executable: iTLB multihit */

/* Where current's mm notes its LDT: NULL as long as it has none. Another thread may set it at any time; then an interrupt
 * loads it here. */
void *const *kx_ldt(void);
/* Each CPU, as SVM is switched on and off there: what the kernel wants done while guests may run. IRQs off. */
void kx_svm_host(int on);

/* --- VMX leaves more of the host to be switched by hand -------------------------------------- */
enum { KX_VMX_FLUSH_L1D = 1, KX_VMX_FLUSH_BUFFERS = 2, KX_VMX_FLUSH_ALWAYS = 4 /* not only behind what else the host did */ };
int kx_vmx_prepare(void);			/* at load; what kx_vmx_flush does before entries, 0: no need of it; -ENOMEM; sleeps */
void kx_vmx_unprepare(void);
void kx_vmx_flush(void);			/* L1D and CPU buffers, as the host's settings want; IRQs off */
void kx_vmxe_set(void);				/* CR4.VMXE, through the kernel's shadow; IRQs off */
void kx_vmxe_clear(void);
struct kx_segments {
	kx_u64 fs_base, gs_base;		/* of user space */
	kx_u16 ds, es, fs, gs;
};
void kx_segments_save(struct kx_segments *s);	/* current's; preemption off */
void kx_segments_restore(const struct kx_segments *s);	/* after any number of VM exits; preemption off */
struct kx_guest_msr {
	kx_u32 msr;
	kx_u64 guest, host;
};
/* Performance events of the host that must not go on in a guest (it excludes guests, or PEBS would write into one): up to
 * room registers that the entry and the exit have to load. IRQs off. */
unsigned kx_perf_msrs(struct kx_guest_msr *to, unsigned room);
int kx_perf_present(void);			/* at load: there may ever be any */
int kx_split_locks_detected(void);		/* at load: the processor raises #AC on them, in guests as well */
int kx_guest_split_lock(kx_u64 rip);		/* warns and lets current do it; 0: current gets SIGBUS; sleeps */
void kx_host_nmi(void);				/* deliver the NMI that left the guest; IRQs off */

/* --- files ----------------------------------------------------------------------------------- */
int kx_in_compat(void);				/* current's system call is one of a 32-bit program */
int kx_fd_vm(void *vm);				/* installs "kvm-vm"; last step of creation; fd or -errno */
int kx_fd_vcpu_prepare(void *vcpu, unsigned id, void **file);	/* "kvm-vcpu:ID": a number, not yet open */
void kx_fd_publish(int fd, void *file);		/* cannot fail */
/* Statistics, for reading: "kvm-vm-stats", "kvm-vcpu-stats:ID". Read by kxc_*_stats, released as a file of the
 * VM or the vCPU is, which the caller has counted; fd or -errno. */
int kx_fd_vm_stats(void *vm);
int kx_fd_vcpu_stats(void *vcpu, unsigned id);

/* --- eventfds of the VMM */
int kx_eventfd_get(int fd, void **eventfd);	/* owes a put; -EBADF, -EINVAL: not an eventfd */
void kx_eventfd_put(void *eventfd);
void kx_eventfd_signal(void *eventfd);		/* adds 1; any context */

/* --- log ------------------------------------------------------------------------------------- */
void kx_log(int level, const char *msg, kx_u64 a, kx_u64 b);	/* level as KERN_*; below 7 rate-limited, 7 is what somebody asked for */


/* ============================== what the core offers ======================================== */
int kxc_init(void);				/* module load; sleeps */
void kxc_exit(void);
int kxc_cpu_online(unsigned cpu);		/* on that CPU, may not sleep */
void kxc_cpu_offline(unsigned cpu);
void kxc_cpu_emergency(void);			/* crash or reboot: leave no trace on this CPU; any context */

long kxc_system_ioctl(unsigned cmd, unsigned long arg);
long kxc_vm_ioctl(void *vm, unsigned cmd, unsigned long arg);
long kxc_vcpu_ioctl(void *vcpu, unsigned cmd, unsigned long arg);
void kxc_vm_release(void *vm);			/* last reference of the file */
void kxc_vcpu_release(void *vcpu);
/* Up to n bytes from position pos on, to an address of user space: how many, 0 at the end, -EFAULT; sleeps. */
long kxc_vm_stats(void *vm, kx_u64 to, kx_size n, kx_u64 pos);
long kxc_vcpu_stats(void *vcpu, kx_u64 to, kx_size n, kx_u64 pos);
void *kxc_vcpu_page(void *vcpu, unsigned long pgoff);	/* page of the vCPU's mmap area, NULL: SIGBUS */

void kxc_sched_in(void *owner, unsigned cpu);	/* preemption off */
void kxc_sched_out(void *owner);

/* mmu_notifier; [start, end) of the VMM's addresses */
int kxc_notifier_start(void *owner, kx_u64 start, kx_u64 end);
void kxc_notifier_end(void *owner, kx_u64 start, kx_u64 end);
int kxc_notifier_age(void *owner, kx_u64 start, kx_u64 end, int clear);	/* 1: was accessed */
void kxc_notifier_gone(void *owner);		/* the address space is being torn down */

#ifdef __cplusplus
}
#endif
#endif
