/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/sregs.hpp"

namespace kx {

kvm_segment to_kvm(const Segment &s)
{
	kvm_segment k = {};
	k.base = s.base;
	k.limit = s.limit;
	k.selector = s.selector;
	k.type = s.type & 15;
	k.present = s.present;
	k.dpl = s.dpl;
	k.db = s.db;
	k.s = s.s;
	k.l = s.l;
	k.g = s.g;
	k.avl = s.avl;
	k.unusable = s.unusable;
	return k;
}

Segment from_kvm(const kvm_segment &k)
{
	Segment s = {};
	s.base = k.base;
	s.limit = k.limit;
	s.selector = k.selector;
	s.type = k.type & 15;
	/* Bytes that stand for one bit each: its lowest counts, as everywhere in KVM. */
	s.present = k.present & 1;
	s.dpl = k.dpl & 3;
	s.db = k.db & 1;
	s.s = k.s & 1;
	s.l = k.l & 1;
	s.g = k.g & 1;
	s.avl = k.avl & 1;
	s.unusable = k.unusable != 0;
	return s;
}

kvm_dtable to_kvm(const DescTable &t)
{
	kvm_dtable k = {};
	k.base = t.base;
	k.limit = t.limit;
	return k;
}

DescTable from_kvm(const kvm_dtable &k) { return {k.base, k.limit}; }

Errc check_sregs(const kvm_sregs &s, const CpuidTable &cpuid, const CpuCaps &caps)
{
	const bool lma = s.efer & efer::lma;
	if ((s.efer & efer::lme) && (s.cr0 & cr0::pg)) {
		/* Long mode, if perhaps in a compatibility segment. */
		if (!(s.cr4 & cr4::pae) || !lma || !cpuid.legal_gpa(s.cr3))
			return Errc::inval;
	} else if (lma || s.cs.l) {
		return Errc::inval;
	}
	if (!valid_cr4(s.cr4, cpuid, caps) || !valid_cr0(s.cr0))
		return Errc::inval;
	return check_apic_base(s.apic_base, s.apic_base, MsrBy::host, cpuid);
}

int pending_vector(const kvm_sregs &s)
{
	for (unsigned i = 0; i < sizeof(s.interrupt_bitmap) / sizeof(s.interrupt_bitmap[0]); ++i)
		if (s.interrupt_bitmap[i])
			return int(i * 64) + __builtin_ctzll(s.interrupt_bitmap[i]);
	return -1;
}

void set_pending_vector(kvm_sregs &s, u8 vector)
{
	s.interrupt_bitmap[vector / 64] |= bit(vector % 64);
}

bool is_reset_vector(const kvm_sregs &s, u64 rip)
{
	return rip == 0xfff0 && s.cs.selector == 0xf000 && s.cs.base == 0xffff0000 &&
	       !(s.cr0 & cr0::pe);
}

}
