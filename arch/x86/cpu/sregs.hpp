/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM_GET_SREGS and KVM_SET_SREGS: conversions and what is refused. */
#pragma once
#include <linux/kvm.h>
#include "apic_base.hpp"
#include "control_regs.hpp"

namespace kx {

kvm_segment to_kvm(const Segment &s);
Segment from_kvm(const kvm_segment &s);
kvm_dtable to_kvm(const DescTable &t);
DescTable from_kvm(const kvm_dtable &t);

/* EINVAL cases of KVM_SET_SREGS, to be asked before anything is changed. */
Errc check_sregs(const kvm_sregs &s, const CpuidTable &cpuid, const CpuCaps &caps);

/* The interrupt a VMM had KVM keep over GET/SET_SREGS: lowest bit of interrupt_bitmap, or -1. */
int pending_vector(const kvm_sregs &s);
void set_pending_vector(kvm_sregs &s, u8 vector);

/* Does SET_SREGS put the boot CPU back to its reset vector? Then a halted vCPU becomes runnable:
 * VMMs older than KVM_SET_MP_STATE rely on it. */
bool is_reset_vector(const kvm_sregs &s, u64 rip);

}
