// SPDX-License-Identifier: GPL-2.0-only
/* Page tables that a guest uses. */
#include "pgtable.h"

#include <string.h>

uint64_t pt_page(struct vm *vm)
{
	uint64_t gpa = vm->pool;

	CHECK(gpa < POOL_END, "no page left for tables");
	vm->pool += PAGE;
	memset(vm_hva(vm, gpa), 0, PAGE);
	return gpa;
}

static uint64_t *table(struct vm *vm, uint64_t entry)
{
	return vm_hva(vm, entry & PTE_ADDR);
}

/* The table of that level that translates va, made (or split off a large page) as needed. */
static uint64_t *descend(struct vm *vm, uint64_t va, int level)
{
	uint64_t *t = table(vm, vm->cr3);

	for (int l = vm->levels; l > level; l--) {
		uint64_t *e = &t[(va >> (12 + 9 * (l - 1))) & 511];

		if (!(*e & PTE_P)) {
			*e = pt_page(vm) | PTE_URW;
		} else if (*e & PTE_PS) {
			uint64_t old = *e, gpa = pt_page(vm), *low = table(vm, gpa);

			CHECK(l == 2, "only 2 MiB pages are split");
			for (uint64_t i = 0; i < 512; i++)
				low[i] = ((old & ~PTE_PS) + (i << 12));
			*e = gpa | PTE_URW;
		}
		t = table(vm, *e);
	}
	return t;
}

void pt_identity(struct vm *vm, int levels)
{
	vm->levels = levels;
	vm->cr3 = pt_page(vm);
	for (uint64_t va = 0; va < 4 * GiB; va += 2 * MiB)
		pt_map_large(vm, va, va, PTE_URW);
}

void pt_map_large(struct vm *vm, uint64_t va, uint64_t pa, uint64_t flags)
{
	descend(vm, va, 2)[(va >> 21) & 511] = pa | flags | PTE_PS;
}

void pt_map(struct vm *vm, uint64_t va, uint64_t pa, uint64_t size, uint64_t flags)
{
	for (uint64_t o = 0; o < size; o += PAGE)
		descend(vm, va + o, 1)[((va + o) >> 12) & 511] = (pa + o) | flags;
}

uint64_t *pt_entry(struct vm *vm, uint64_t va, int level)
{
	uint64_t *t = table(vm, vm->cr3);

	for (int l = vm->levels;; l--) {
		uint64_t *e = &t[(va >> (12 + 9 * (l - 1))) & 511];

		if (l == level)
			return e;
		if (!(*e & PTE_P) || (*e & PTE_PS))
			return NULL;
		t = table(vm, *e);
	}
}

uint64_t pt32_identity(struct vm *vm)
{
	uint64_t cr3 = pt_page(vm);
	uint32_t *pd = vm_hva(vm, cr3);

	for (uint64_t i = 0; i < 1024; i++) {
		if (i < 2) {
			uint64_t gpa = pt_page(vm);
			uint32_t *pt = vm_hva(vm, gpa);

			for (uint64_t j = 0; j < 1024; j++)
				pt[j] = (uint32_t)((i << 22 | j << 12) | PTE_URW);
			pd[i] = (uint32_t)(gpa | PTE_URW);
		} else {
			pd[i] = (uint32_t)(i << 22 | PTE_URW | PTE_PS);
		}
	}
	return cr3;
}

uint64_t pae_identity(struct vm *vm)
{
	uint64_t cr3 = pt_page(vm);
	uint64_t *pdpt = vm_hva(vm, cr3);

	for (uint64_t i = 0; i < 4; i++) {
		uint64_t gpa = pt_page(vm), *pd = vm_hva(vm, gpa);

		pdpt[i] = gpa | PTE_P;
		for (uint64_t j = 0; j < 512; j++) {
			uint64_t pa = i << 30 | j << 21;

			if (pa < 8 * MiB) {
				uint64_t low = pt_page(vm), *pt = vm_hva(vm, low);

				for (uint64_t k = 0; k < 512; k++)
					pt[k] = (pa | k << 12) | PTE_URW;
				pd[j] = low | PTE_URW;
			} else {
				pd[j] = pa | PTE_URW | PTE_PS;
			}
		}
	}
	return cr3;
}
