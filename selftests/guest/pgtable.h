/* SPDX-License-Identifier: GPL-2.0-only */
/* Page tables that a guest uses, written from outside. */
#ifndef PGTABLE_H
#define PGTABLE_H

#include "vm.h"

#define PTE_P 0x001ull
#define PTE_W 0x002ull
#define PTE_U 0x004ull
#define PTE_PWT 0x008ull
#define PTE_PCD 0x010ull
#define PTE_A 0x020ull
#define PTE_D 0x040ull
#define PTE_PS 0x080ull
#define PTE_G 0x100ull
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull
#define PTE_RW (PTE_P | PTE_W)
#define PTE_URW (PTE_P | PTE_W | PTE_U)

uint64_t pt_page(struct vm *vm);	/* a zeroed page of the pool */

/* Builds the identity map of the first 4 GiB, 2 MiB pages, and sets vm->cr3. */
void pt_identity(struct vm *vm, int levels);

/* Maps size bytes with 4 KiB pages (splitting a large one) or, aligned to it, one 2 MiB page. */
void pt_map(struct vm *vm, uint64_t va, uint64_t pa, uint64_t size, uint64_t flags);
void pt_map_large(struct vm *vm, uint64_t va, uint64_t pa, uint64_t flags);
uint64_t *pt_entry(struct vm *vm, uint64_t va, int level);	/* 1: 4 KiB; NULL if none */

/* Identity maps for 32-bit guests; each returns a CR3. */
uint64_t pt32_identity(struct vm *vm);		/* 2 levels; 4 KiB pages up to 8 MiB, then PSE */
uint64_t pae_identity(struct vm *vm);		/* 3 levels; the same with 2 MiB pages */

#endif
