// SPDX-License-Identifier: GPL-2.0-only
/* Kernel memory, the VMM's memory, and the host pages behind it. */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <asm/pkru.h>
#include "glue.h"

kx_u64 kx_direct_map;

void *kx_zalloc(kx_size bytes)
{
	return kzalloc(bytes, GFP_KERNEL_ACCOUNT);
}

void kx_free(void *p)
{
	kvfree(p);
}

void *kx_vzalloc(kx_size bytes)
{
	return kvzalloc(bytes, GFP_KERNEL_ACCOUNT);
}

void *kx_page_alloc(void)
{
	return (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
}

/* Where the host runs SEV-SNP, a page that the processor holds as in use (a VMCB) makes writes to others fault that one 2 MiB
 * mapping covers with it, if it is the first of them. The second of a pair is not. */
void *kx_page_alloc_inside(void)
{
	struct page *pair = alloc_pages(GFP_KERNEL_ACCOUNT | __GFP_ZERO, 1);

	if (!pair)
		return NULL;
	split_page(pair, 1);
	__free_page(pair);
	return page_address(pair + 1);
}

void kx_page_free(void *p)
{
	free_page((unsigned long)p);
}

void *kx_pages_alloc(unsigned int order)
{
	return (void *)__get_free_pages(GFP_KERNEL_ACCOUNT | __GFP_ZERO, order);
}

void kx_pages_free(void *p, unsigned int order)
{
	free_pages((unsigned long)p, order);
}

int kx_copy_from_user(void *to, kx_u64 from, kx_size n)
{
	return copy_from_user(to, (void __user *)from, n) ? -EFAULT : 0;
}

int kx_copy_to_user(kx_u64 to, const void *from, kx_size n)
{
	return copy_to_user((void __user *)to, from, n) ? -EFAULT : 0;
}

int kx_read_user_u64(kx_u64 from, kx_u64 *value)
{
	return get_user(*value, (u64 __user *)from);
}

int kx_read_user_u32(kx_u64 from, kx_u32 *value)
{
	return get_user(*value, (u32 __user *)from);
}

/* One LOCK CMPXCHG on the VMM's memory; a fault there ends in err. */
#define CMPXCHG(type, suffix, reg)							\
({											\
	type __expected = (type)*old, __want = (type)now;				\
	asm volatile("1: lock; cmpxchg" suffix " %[now], %[mem]\n"			\
		     "sete %[done]\n"							\
		     "2:\n" _ASM_EXTABLE_TYPE_REG(1b, 2b, EX_TYPE_EFAULT_REG, %k[err])	\
		     : [mem] "+m" (*(type __user *)at), [old] "+a" (__expected),	\
		       [done] "+q" (done), [err] "+r" (err)				\
		     : [now] reg (__want) : "memory", "cc");				\
	*old = __expected;								\
})

int kx_cmpxchg_user(kx_u64 at, unsigned int bytes, kx_u64 *old, kx_u64 now)
{
	u8 done = 0;
	int err = 0;

	if (!user_access_begin((void __user *)at, bytes))
		return -EFAULT;
	switch (bytes) {
	case 1: CMPXCHG(u8, "b", "q"); break;
	case 2: CMPXCHG(u16, "w", "r"); break;
	case 4: CMPXCHG(u32, "l", "r"); break;
	case 8: CMPXCHG(u64, "q", "r"); break;
	default: err = -EINVAL;
	}
	user_access_end();
	return err ? err : !done;
}

int kx_user_range_ok(kx_u64 at, kx_u64 bytes)
{
	/* Not access_ok(): newer ones know only the kernel's half of addresses from the other. */
	return bytes <= TASK_SIZE_MAX && at <= TASK_SIZE_MAX - bytes;
}

static void of_page(struct page *page, bool writable, struct kx_host_page *out)
{
	out->pfn = page_to_pfn(page);
	out->writable = writable;
	out->ram = 1;
	out->pinned = 1;
	out->order = compound_order(compound_head(page));
}

/* A VM_IO or VM_PFNMAP mapping: no page to hold, the notifier alone tells of its end. */
static int pin_remapped(unsigned long hva, bool write, struct kx_host_page *out)
{
	struct vm_area_struct *vma;
	bool unlocked = false;
	int ret;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	struct follow_pfnmap_args at = { .address = hva };
#else
	spinlock_t *ptl;
	pte_t *pte;
#endif

	mmap_read_lock(current->mm);
again:
	vma = vma_lookup(current->mm, hva);
	ret = -EFAULT;
	if (!vma || !(vma->vm_flags & (VM_IO | VM_PFNMAP)) || !(vma->vm_flags & VM_READ) ||
	    (write && !(vma->vm_flags & VM_WRITE)))
		goto out;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	at.vma = vma;
	ret = follow_pfnmap_start(&at);
#else
	ret = follow_pte(vma->vm_mm, hva, &pte, &ptl);
#endif
	if (ret) {
		ret = fixup_user_fault(current->mm, hva, write ? FAULT_FLAG_WRITE : 0, &unlocked);
		if (ret)
			goto out;
		/* The lock may have been dropped and everything with it: look again. */
		ret = -EAGAIN;
		goto out;
	}
	out->pinned = 0;
	out->order = 0;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	out->pfn = at.pfn;
	out->writable = at.writable;
	follow_pfnmap_end(&at);
#else
	out->pfn = pte_pfn(*pte);
	out->writable = pte_write(*pte);
	pte_unmap_unlock(pte, ptl);
#endif
	if (write && !out->writable) {
		ret = fixup_user_fault(current->mm, hva, FAULT_FLAG_WRITE, &unlocked);
		if (!ret)
			goto again;
		goto out;
	}
	out->ram = pfn_valid(out->pfn) && !PageReserved(pfn_to_page(out->pfn));
	/* A page with a reference count that we do not hold must not get into a mapping. */
	if (pfn_valid(out->pfn) && !PageReserved(pfn_to_page(out->pfn))) {
		if (get_page_unless_zero(pfn_to_page(out->pfn)))
			out->pinned = 1;
		else
			ret = -EFAULT;
	}
out:
	mmap_read_unlock(current->mm);
	return ret;
}

/* Before 6.6 it always did. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define HONOR_NUMA_HINTS FOLL_HONOR_NUMA_FAULT
#else
#define HONOR_NUMA_HINTS 0
#endif

/* A page may be long in coming (userfaultfd): any signal ends the wait, before 6.2 one that kills. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define INTERRUPTIBLE FOLL_INTERRUPTIBLE
#else
#define INTERRUPTIBLE 0
#endif

int kx_page_pin(kx_u64 hva, int want_write, struct kx_host_page *out)
{
	struct page *page;
	long n;
	int ret, tries;

	if (get_user_pages_fast_only(hva, 1, FOLL_WRITE, &page) == 1) {
		of_page(page, true, out);
		return 0;
	}
	n = get_user_pages_unlocked(hva, 1, &page, FOLL_HWPOISON | INTERRUPTIBLE | HONOR_NUMA_HINTS | (want_write ? FOLL_WRITE : 0));
	if (n == 1) {
		struct page *again;

		/* A read that happens to be writable now saves the write fault later. */
		if (!want_write && get_user_pages_fast_only(hva, 1, FOLL_WRITE, &again) == 1) {
			put_page(page);
			page = again;
			want_write = 1;
		}
		of_page(page, want_write, out);
		return 0;
	}
	if (n == -EHWPOISON) {
		send_sig_mceerr(BUS_MCEERR_AR, (void __user *)hva, PAGE_SHIFT, current);
		return -EHWPOISON;
	}
	if (n == -EINTR || n == -ERESTARTSYS || fatal_signal_pending(current))
		return -EINTR;
	for (tries = 0; tries < 8; tries++) {
		ret = pin_remapped(hva, want_write, out);
		if (ret != -EAGAIN)
			break;
	}
	return ret == -ENOMEM ? ret : ret ? -EFAULT : 0;
}

void kx_page_unpin(kx_u64 pfn, int mapped_writable, int accessed)
{
	struct page *page = pfn_to_page(pfn);

	if (!PageReserved(page)) {
		if (mapped_writable && !PageDirty(page))
			SetPageDirty(page);
		if (accessed)
			mark_page_accessed(page);
	}
	put_page(page);
}

kx_u64 *kx_page_link(void *page)
{
	return (kx_u64 *)&virt_to_page(page)->lru;
}

/*
 * What pte_access_permitted() says of an entry of any level, with PKRU read once: user space may read, or
 * write, there; and no page of a device, which huge ones may be from 6.12 on. That RW is set, and not what pte_write() says, which is true of a shadow stack too.
 */
static bool readable(unsigned long entry, u32 pkru)
{
	return (entry & (_PAGE_PRESENT | _PAGE_USER | _PAGE_SPECIAL)) == (_PAGE_PRESENT | _PAGE_USER) &&
	       (!pkru || __pkru_allows_read(pkru, pte_flags_pkey(entry)));
}

static bool writable_and_dirty(unsigned long entry, u32 pkru)
{
	return (entry & (_PAGE_RW | _PAGE_DIRTY)) == (_PAGE_RW | _PAGE_DIRTY) &&
	       (!pkru || __pkru_allows_write(pkru, pte_flags_pkey(entry)));
}

/* One page-table's worth at most: pages [i, n) as far as this PMD reaches. */
static unsigned int present_ptes(pmd_t *pmd, unsigned long hva, unsigned int i, unsigned int n, u32 pkru,
				 kx_u64 *pfns, kx_u64 *seen, kx_u64 *writable)
{
	const unsigned long end = pmd_addr_end(hva, hva + ((unsigned long)(n - i) << PAGE_SHIFT));
	pte_t *entry = pte_offset_kernel(pmd, hva);

	for (; hva < end; hva += PAGE_SIZE, entry++, i++) {
		const pte_t pte = READ_ONCE(*entry);

		if (!readable(pte_val(pte), pkru) || pte_devmap(pte) || !pfn_valid(pte_pfn(pte)))
			continue;
		pfns[i] = pte_pfn(pte);
		*seen |= 1ull << i;
		if (writable_and_dirty(pte_val(pte), pkru))
			*writable |= 1ull << i;
	}
	return i;
}

static unsigned int present_huge(unsigned long pfn, unsigned long reach, bool write, unsigned long hva, unsigned int i,
				 unsigned int n, kx_u64 *pfns, kx_u64 *seen, kx_u64 *writable)
{
	for (; i < n && hva < reach; hva += PAGE_SIZE, i++) {
		pfns[i] = pfn++;
		*seen |= 1ull << i;
		if (write)
			*writable |= 1ull << i;
	}
	return i;
}

static unsigned int skip_to(unsigned long reach, unsigned long hva, unsigned int i)
{
	return i + ((reach - hva) >> PAGE_SHIFT);
}

/* Interrupts off keep tables from being freed under the walk, as for GUP-fast. */
kx_u64 kx_host_present(kx_u64 first, unsigned int n, kx_u64 *pfns, kx_u64 *writable, unsigned int *order)
{
	struct mm_struct *mm = current->mm;
	const u32 pkru = read_pkru();
	kx_u64 seen = 0;
	unsigned long flags;
	unsigned int i = 0;

	*writable = 0;
	*order = 0;
	local_irq_save(flags);
	while (i < n) {
		const unsigned long hva = first + ((unsigned long)i << PAGE_SHIFT);
		pgd_t pgd = READ_ONCE(*pgd_offset(mm, hva));
		p4d_t p4d;
		pud_t pud;
		pmd_t pmd;

		if (pgd_none(pgd) || pgd_bad(pgd))
			break;
		p4d = READ_ONCE(*p4d_offset(&pgd, hva));
		if (p4d_none(p4d) || p4d_bad(p4d))
			break;
		pud = READ_ONCE(*pud_offset(&p4d, hva));
		if (pud_val(pud) & _PAGE_PSE) {
			const unsigned long reach = (hva & PUD_MASK) + PUD_SIZE;

			if (!readable(pud_val(pud), pkru) || pud_devmap(pud) || !pfn_valid(pud_pfn(pud))) {
				i = skip_to(reach, hva, i);
				continue;
			}
			if (!i)
				*order = PUD_SHIFT - PAGE_SHIFT;
			i = present_huge(pud_pfn(pud) + ((hva & ~PUD_MASK) >> PAGE_SHIFT), reach,
					 writable_and_dirty(pud_val(pud), pkru), hva, i, n, pfns, &seen, writable);
			continue;
		}
		if (pud_none(pud) || pud_bad(pud)) {
			i = skip_to((hva & PUD_MASK) + PUD_SIZE, hva, i);
			continue;
		}
		pmd = READ_ONCE(*pmd_offset(&pud, hva));
		if (pmd_val(pmd) & _PAGE_PSE) {
			const unsigned long reach = (hva & PMD_MASK) + PMD_SIZE;

			if (!readable(pmd_val(pmd), pkru) || pmd_devmap(pmd) || !pfn_valid(pmd_pfn(pmd))) {
				i = skip_to(reach, hva, i);
				continue;
			}
			if (!i)
				*order = PMD_SHIFT - PAGE_SHIFT;
			i = present_huge(pmd_pfn(pmd) + ((hva & ~PMD_MASK) >> PAGE_SHIFT), reach,
					 writable_and_dirty(pmd_val(pmd), pkru), hva, i, n, pfns, &seen, writable);
			continue;
		}
		/* Also what migrates: a PMD that is neither a table nor a present huge page. */
		if (pmd_none(pmd) || !pmd_present(pmd) || pmd_bad(pmd)) {
			i = skip_to((hva & PMD_MASK) + PMD_SIZE, hva, i);
			continue;
		}
		i = present_ptes(&pmd, hva, i, n, pkru, pfns, &seen, writable);
	}
	local_irq_restore(flags);
	return seen;
}
