/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/supported_cpuid.hpp"

namespace kx {

namespace {

constexpr u32 max_basic_leaf = 0x1f, max_extended_leaf = 0x80000021;

/* Appends entries; «full» is remembered and reported once, at the end. */
class Writer {
	Span<kvm_cpuid_entry2> out_;
	const HostCpuid &host_;
	kvm_cpuid_entry2 spill_ = {};
	unsigned used_ = 0;
	bool full_ = false;

public:
	Writer(Span<kvm_cpuid_entry2> out, const HostCpuid &host) : out_{out}, host_{host} {}
	/* The host's values, to be cut down by the caller. */
	kvm_cpuid_entry2 &add(u32 leaf, u32 subleaf = 0)
	{
		if (used_ == out_.size())
			full_ = true;
		kvm_cpuid_entry2 &e = full_ ? spill_ : out_[used_++];
		const CpuidRegs r = host_.at(leaf, subleaf);
		e = {};
		e.function = leaf;
		e.index = subleaf;
		e.flags = cpuid_is_indexed(leaf) ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
		e.eax = r.eax, e.ebx = r.ebx, e.ecx = r.ecx, e.edx = r.edx;
		return e;
	}
	bool full() const { return full_; }
	unsigned used() const { return used_; }
};

void clear(kvm_cpuid_entry2 &e) { e.eax = e.ebx = e.ecx = e.edx = 0; }

/* Until the entry that describes no cache, which is reported too. */
void add_caches(Writer &w, u32 leaf)
{
	u32 eax = w.add(leaf).eax;
	for (u32 i = 1; (eax & 31) && i < 16; ++i)
		eax = w.add(leaf, i).eax;
}

void add_leaf7(Writer &w, const CpuCaps &caps)
{
	const FeatureSet &f = caps.features();
	kvm_cpuid_entry2 &e = w.add(7);
	const u32 last = e.eax < 2 ? e.eax : 2;
	e.eax = last;
	e.ebx = f.word(FeatureWord::leaf7_ebx);
	e.ecx = f.word(FeatureWord::leaf7_ecx);
	e.edx = f.word(FeatureWord::leaf7_edx);
	if (last >= 1) {
		kvm_cpuid_entry2 &s = w.add(7, 1);
		clear(s);
		s.eax = f.word(FeatureWord::leaf7_1_eax);
	}
	if (last >= 2) {
		kvm_cpuid_entry2 &s = w.add(7, 2);
		clear(s);
		s.edx = f.word(FeatureWord::leaf7_2_edx);
	}
}

void add_xsave(Writer &w, const CpuCaps &caps)
{
	const u64 xcr0 = caps.xcr0(), xss = caps.xss();
	kvm_cpuid_entry2 &e = w.add(0xd);
	e.eax &= u32(xcr0);
	e.ebx = e.ecx = caps.xstate().size(xcr0, XsaveForm::standard);
	e.edx &= u32(xcr0 >> 32);
	if (!xcr0)
		return;
	kvm_cpuid_entry2 &s = w.add(0xd, 1);
	const bool compacts = caps.has(Feature::xsaves) || caps.has(Feature::xsavec);
	s.eax = caps.features().word(FeatureWord::leafd_1_eax);
	s.ebx = compacts ? caps.xstate().size(xcr0 | xss, XsaveForm::compacted) : 0;
	s.ecx &= u32(xss);
	s.edx &= u32(xss >> 32);
	for (u32 i = 2; i < 64; ++i) {
		if (!((xcr0 | xss) >> i & 1))
			continue;
		kvm_cpuid_entry2 &c = w.add(0xd, i);
		c.ecx &= ~u32{4}; /* faults on first use: XFD is not offered */
		c.edx = 0;
	}
}

void add_basic(Writer &w, u32 leaf, const CpuCaps &caps)
{
	switch (leaf) {
	case 1: {
		kvm_cpuid_entry2 &e = w.add(1);
		e.ebx &= 0x00ffffff; /* the APIC id of the CPU we asked */
		e.ecx = caps.features().word(FeatureWord::leaf1_ecx);
		e.edx = caps.features().word(FeatureWord::leaf1_edx);
		break;
	}
	case 2:
		w.add(2);
		break;
	case 4:
		add_caches(w, 4);
		break;
	case 6: { /* the APIC timer runs in every power state: ours is no hardware */
		kvm_cpuid_entry2 &e = w.add(6);
		clear(e);
		e.eax = 4;
		break;
	}
	case 7:
		add_leaf7(w, caps);
		break;
	case 0xd:
		add_xsave(w, caps);
		break;
	default: /* serial number, MONITOR, PMU, clocks, topology (the VMM's to describe), trace,
		    SGX, AMX */
		clear(w.add(leaf));
		break;
	}
}

/*
 * The leaf with the LFENCE and null-selector bits is given to guests even where the hardware stops
 * short of it. Not where it also lacks 0x8000001d: a VMM that is told of more asks the hardware for
 * that one, and gets nonsense.
 */
u32 extended_limit(const HostCpuid &host, const CpuCaps &caps)
{
	const u32 top = host.max_extended();
	const bool raise =
		top >= 0x8000001d && (caps.host_lfence_serializes() || caps.host_clears_null_seg());
	return raise || top > max_extended_leaf ? max_extended_leaf : top;
}

void add_extended(Writer &w, u32 leaf, const CpuCaps &caps, u32 limit, unsigned kernel_phys_bits)
{
	const FeatureSet &f = caps.features();
	if (leaf == 0x8000001d) {
		add_caches(w, leaf);
		return;
	}
	kvm_cpuid_entry2 &e = w.add(leaf);
	switch (leaf) {
	case 0x80000000:
		e.eax = limit;
		break;
	case 0x80000001:
		e.ebx &= ~u32(ones(27, 16));
		e.ecx = f.word(FeatureWord::ext1_ecx);
		e.edx = f.word(FeatureWord::ext1_edx);
		break;
	case 0x80000006: /* L2 and L3, less two reserved bits */
		e.edx &= ~u32(ones(17, 16));
		break;
	case 0x80000007:
		e.eax = e.ebx = e.ecx = 0;
		e.edx &= u32(bit(8)); /* the TSC is invariant */
		break;
	case 0x80000008: {
		const u32 linear = (e.eax >> 8 & 0xff) > 48 ? e.eax >> 8 & 0xff : 48;
		/* A guest of shadow paging shares the host's physical space as encryption left it.
		 */
		const u32 phys = caps.tdp() ? e.eax & 0xff : kernel_phys_bits;
		e.eax = phys | linear << 8;
		e.ebx = f.word(FeatureWord::ext8_ebx);
		e.ecx &= ~u32(ones(31, 16) | ones(11, 8));
		e.edx = 0;
		break;
	}
	case 0x80000019: /* TLBs for 1 GiB pages */
		e.ecx = e.edx = 0;
		break;
	case 0x8000001a:
		e.eax &= 7;
		e.ebx = e.ecx = e.edx = 0;
		break;
	case 0x80000021:
		e.eax = f.word(FeatureWord::ext21_eax);
		e.ecx = f.word(FeatureWord::ext21_ecx);
		e.ebx = e.edx = 0;
		break;
	default: /* name, L1, SVM, topology, memory encryption, resource control */
		clear(e);
		break;
	}
}

void add_paravirtual(Writer &w)
{
	kvm_cpuid_entry2 &sig = w.add(kvm_signature_leaf);
	sig.eax = kvm_signature_leaf + 1;
	sig.ebx = cpuid_text("KVMK");
	sig.ecx = cpuid_text("VMKV");
	sig.edx = cpuid_text("M\0\0\0");
	clear(w.add(kvm_signature_leaf + 1)); /* no paravirtual feature */
}

}

Result<unsigned> supported_cpuid(Span<kvm_cpuid_entry2> out, const HostCpuid &host,
				 const CpuCaps &caps, unsigned kernel_phys_bits)
{
	Writer w{out, host};

	kvm_cpuid_entry2 &zero = w.add(0);
	if (zero.eax > max_basic_leaf)
		zero.eax = max_basic_leaf;
	const u32 basic = zero.eax;
	for (u32 leaf = 1; leaf <= basic; ++leaf)
		add_basic(w, leaf, caps);

	if (host.max_extended()) {
		const u32 limit = extended_limit(host, caps);
		for (u32 leaf = 0x80000000; leaf <= limit; ++leaf)
			add_extended(w, leaf, caps, limit, kernel_phys_bits);
	}

	add_paravirtual(w);
	if (w.full())
		return Errc::toobig;
	return w.used();
}

}
