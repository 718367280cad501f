/* SPDX-License-Identifier: GPL-2.0-only */
/* What KVM_GET_STATS_FD tells of a vCPU. */
#pragma once
#include "arch/x86/mmu/stats.hpp"
#include "arch/x86/vm/stats.hpp"

namespace kx {

/* Beside the MMU's; the vCPU's own thread writes. */
struct VcpuStats {
	Counter io_exits;	   /* an instruction on a port, whoever serves it */
	Counter mmio_exits;	   /* KVM_EXIT_MMIO */
	Counter signal_exits;	   /* KVM_RUN ended by a signal that came while the guest ran */
	Counter request_irq_exits; /* KVM_EXIT_IRQ_WINDOW_OPEN */
	Counter insn_emulation;	   /* instructions given to the emulator, each once */
};

namespace vcpu_stat {
enum Number : u32 {
#define KX_STAT(name, type) name,
	KVMXX_VCPU_STATS(KX_STAT)
#undef KX_STAT
};

inline constexpr StatDesc descs[] = {
#define KX_STAT(name, type) stat_desc(name, KVM_STATS_TYPE_##type, #name),
	KVMXX_VCPU_STATS(KX_STAT)
#undef KX_STAT
};

struct Source {
	const VcpuStats &own;
	const VcpuMmuStats &mmu;
};

/* KVM counts each fault it has taken, and those fixed without a lock both as such and by what became of them. */
inline u64 taken(const VcpuMmuStats &m)
{
	return m.faults_fixed.get() + m.faults_spurious.get() + m.faults_retried.get() + m.faults_failed.get() +
	       m.faults_mmio.get() + m.faults_readonly.get() + m.faults_fast.get() + m.faults_fast_spurious.get();
}

inline constexpr Stat<Source> table[] = {
	{"pf_taken", [](const Source &s) { return taken(s.mmu); }},
	{"pf_fixed", [](const Source &s) { return s.mmu.faults_fixed.get() + s.mmu.faults_fast.get(); }},
	{"pf_emulate", [](const Source &s) { return s.mmu.faults_mmio.get() + s.mmu.faults_readonly.get(); }},
	{"pf_spurious", [](const Source &s) { return s.mmu.faults_spurious.get() + s.mmu.faults_fast_spurious.get(); }},
	{"pf_fast", [](const Source &s) { return s.mmu.faults_fast.get() + s.mmu.faults_fast_spurious.get(); }},
	{"pf_mmio_spte_created", [](const Source &s) { return s.mmu.mmio_entries.get(); }},
	{"pf_retried", [](const Source &s) { return s.mmu.faults_retried.get(); }},
	{"pf_mmio_remembered", [](const Source &s) { return s.mmu.faults_remembered_mmio.get(); }},
	{"pf_pinned", [](const Source &s) { return s.mmu.faults_pinned.get(); }},
	{"mapped_4k", [](const Source &s) { return s.mmu.mapped[0].get(); }},
	{"mapped_2m", [](const Source &s) { return s.mmu.mapped[1].get(); }},
	{"mapped_1g", [](const Source &s) { return s.mmu.mapped[2].get(); }},
	{"mapped_around", [](const Source &s) { return s.mmu.mapped_around.get(); }},
	{"root_loads", [](const Source &s) { return s.mmu.root_loads.get(); }},
	{"io_exits", [](const Source &s) { return s.own.io_exits.get(); }},
	{"mmio_exits", [](const Source &s) { return s.own.mmio_exits.get(); }},
	{"signal_exits", [](const Source &s) { return s.own.signal_exits.get(); }},
	{"request_irq_exits", [](const Source &s) { return s.own.request_irq_exits.get(); }},
	{"insn_emulation", [](const Source &s) { return s.own.insn_emulation.get(); }},
};
static_assert(gives(table, descs));
}

}
