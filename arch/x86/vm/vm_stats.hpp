/* SPDX-License-Identifier: GPL-2.0-only */
/* What KVM_GET_STATS_FD tells of a VM. */
#pragma once
#include "arch/x86/mmu/stats.hpp"
#include "arch/x86/vm/stats.hpp"

namespace kx {

namespace vm_stat {
enum Number : u32 {
#define KX_STAT(name, type) name,
	KVMXX_VM_STATS(KX_STAT)
#undef KX_STAT
};

inline constexpr StatDesc descs[] = {
#define KX_STAT(name, type) stat_desc(name, KVM_STATS_TYPE_##type, #name),
	KVMXX_VM_STATS(KX_STAT)
#undef KX_STAT
};

inline constexpr Stat<MmuStats> table[] = {
	{"remote_tlb_flush_requests", [](const MmuStats &s) { return s.tlb_flushes.relaxed(); }},
	{"mmu_constant_inits", [](const MmuStats &s) { return s.mmu_constant_inits.relaxed(); }},
	{"page_hash_lookups", [](const MmuStats &s) { return s.page_hash_lookups.relaxed(); }},
	{"roots_built", [](const MmuStats &s) { return s.roots_built.relaxed(); }},
	{"tables_linked", [](const MmuStats &s) { return s.tables_linked.relaxed(); }},
	{"tables_freed", [](const MmuStats &s) { return s.tables_freed.relaxed(); }},
	{"zapped_leaves", [](const MmuStats &s) { return s.zapped_leaves.relaxed(); }},
	{"zapped_tables", [](const MmuStats &s) { return s.zapped_tables.relaxed(); }},
	{"mappings_split", [](const MmuStats &s) { return s.split.relaxed(); }},
	{"mappings_promoted", [](const MmuStats &s) { return s.promoted.relaxed(); }},
	{"invalidations", [](const MmuStats &s) { return s.invalidations.relaxed(); }},
	{"invalidations_hit", [](const MmuStats &s) { return s.invalidations_hit.relaxed(); }},
	{"mmu_broken", [](const MmuStats &s) { return s.broken.relaxed(); }},
};
static_assert(gives(table, descs));
}

}
