/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * CPU features by name. A feature is a bit of a word, a word is one register of one CPUID leaf; the
 * word numbers below `first_own` are the kernel's (x86_capability), so that the kernel's view and
 * ours are compared word by word. Only words that mirror a CPUID register appear here.
 */
#pragma once
#include "cpuid_regs.hpp"

namespace kx {

enum class FeatureWord : u8 {
	leaf1_edx = 0, ext1_edx = 1, leaf1_ecx = 4, ext1_ecx = 6, leaf7_ebx = 9, leafd_1_eax = 10,
	leaf7_1_eax = 12, ext8_ebx = 13, leaf7_ecx = 16, leaf7_edx = 18, ext21_eax = 20,
	first_own = 28, leaf7_2_edx = 28, ext21_ecx = 29,
	count = 30,
};

enum class CpuidReg : u8 { eax, ebx, ecx, edx };

/* Where a word lives. */
struct FeatureHome {
	FeatureWord word;
	u32 leaf, subleaf;
	CpuidReg reg;
};
inline constexpr FeatureHome feature_homes[] = {
	{FeatureWord::leaf1_edx, 1, 0, CpuidReg::edx},
	{FeatureWord::ext1_edx, 0x80000001, 0, CpuidReg::edx},
	{FeatureWord::leaf1_ecx, 1, 0, CpuidReg::ecx},
	{FeatureWord::ext1_ecx, 0x80000001, 0, CpuidReg::ecx},
	{FeatureWord::leaf7_ebx, 7, 0, CpuidReg::ebx},
	{FeatureWord::leafd_1_eax, 0xd, 1, CpuidReg::eax},
	{FeatureWord::leaf7_1_eax, 7, 1, CpuidReg::eax},
	{FeatureWord::ext8_ebx, 0x80000008, 0, CpuidReg::ebx},
	{FeatureWord::leaf7_ecx, 7, 0, CpuidReg::ecx},
	{FeatureWord::leaf7_edx, 7, 0, CpuidReg::edx},
	{FeatureWord::ext21_eax, 0x80000021, 0, CpuidReg::eax},
	{FeatureWord::leaf7_2_edx, 7, 2, CpuidReg::edx},
	{FeatureWord::ext21_ecx, 0x80000021, 0, CpuidReg::ecx},
};

/* The ones code asks about by name; masks in cpu_caps.cc list the rest. */
enum class Feature : u16 {
	/* 1 EDX */
	tsc = 0 * 32 + 4, mce = 0 * 32 + 7, apic = 0 * 32 + 9, mtrr = 0 * 32 + 12,
	mca = 0 * 32 + 14, pat = 0 * 32 + 16,
	/* 1 ECX */
	sse3 = 4 * 32 + 0, mwait = 4 * 32 + 3, vmx = 4 * 32 + 5, smx = 4 * 32 + 6,
	pdcm = 4 * 32 + 15, pcid = 4 * 32 + 17, x2apic = 4 * 32 + 21, tsc_deadline = 4 * 32 + 24,
	xsave = 4 * 32 + 26, osxsave = 4 * 32 + 27, avx = 4 * 32 + 28, rdrand = 4 * 32 + 30, hypervisor = 4 * 32 + 31,
	/* 0x80000001 EDX */
	syscall = 1 * 32 + 11, nx = 1 * 32 + 20, fxsr_opt = 1 * 32 + 25, gbpages = 1 * 32 + 26,
	rdtscp = 1 * 32 + 27, lm = 1 * 32 + 29,
	/* 0x80000001 ECX */
	svm = 6 * 32 + 2, osvw = 6 * 32 + 9, topoext = 6 * 32 + 22, perfctr_core = 6 * 32 + 23,
	/* 7 EBX */
	fsgsbase = 9 * 32 + 0, tsc_adjust = 9 * 32 + 1, hle = 9 * 32 + 4, smep = 9 * 32 + 7,
	invpcid = 9 * 32 + 10, rtm = 9 * 32 + 11, rdseed = 9 * 32 + 18, smap = 9 * 32 + 20,
	/* 7 ECX */
	umip = 16 * 32 + 2, pku = 16 * 32 + 3, ospke = 16 * 32 + 4, la57 = 16 * 32 + 16,
	rdpid = 16 * 32 + 22, bus_lock_detect = 16 * 32 + 24,
	/* 7 EDX */
	spec_ctrl = 18 * 32 + 26, intel_stibp = 18 * 32 + 27, arch_capabilities = 18 * 32 + 29,
	spec_ctrl_ssbd = 18 * 32 + 31,
	/* 0xD.1 EAX */
	xsaveopt = 10 * 32 + 0, xsavec = 10 * 32 + 1, xgetbv1 = 10 * 32 + 2, xsaves = 10 * 32 + 3,
	xfd = 10 * 32 + 4,
	/* 0x80000008 EBX */
	amd_ibpb = 13 * 32 + 12, amd_ibrs = 13 * 32 + 14, amd_stibp = 13 * 32 + 15,
	amd_ssbd = 13 * 32 + 24, virt_ssbd = 13 * 32 + 25, amd_ssb_no = 13 * 32 + 26,
	amd_stibp_always = 13 * 32 + 17, amd_psfd = 13 * 32 + 28,
	/* 0x80000021 EAX */
	lfence_serializes = 20 * 32 + 2, null_sel_clears_base = 20 * 32 + 6,
	no_smm_ctl = 20 * 32 + 9, srso_no = 20 * 32 + 29,
	/* 0x80000021 ECX */
	tsa_sq_no = 29 * 32 + 1, tsa_l1_no = 29 * 32 + 2,
};

constexpr FeatureWord word_of(Feature f) { return FeatureWord(unsigned(f) / 32); }
constexpr u32 mask_of(Feature f) { return u32{1} << (unsigned(f) % 32); }

/* A set of features: one bit test per question. */
class FeatureSet {
	u32 words_[unsigned(FeatureWord::count)] = {};

public:
	constexpr bool has(Feature f) const { return words_[unsigned(word_of(f))] & mask_of(f); }
	constexpr u32 word(FeatureWord w) const { return words_[unsigned(w)]; }
	constexpr void set_word(FeatureWord w, u32 v) { words_[unsigned(w)] = v; }
	constexpr void add(Feature f) { words_[unsigned(word_of(f))] |= mask_of(f); }
	constexpr void drop(Feature f) { words_[unsigned(word_of(f))] &= ~mask_of(f); }
};

constexpr u32 cpuid_reg(const CpuidRegs &r, CpuidReg which)
{
	switch (which) {
	case CpuidReg::eax: return r.eax;
	case CpuidReg::ebx: return r.ebx;
	case CpuidReg::ecx: return r.ecx;
	default: return r.edx;
	}
}

static_assert(word_of(Feature::smap) == FeatureWord::leaf7_ebx &&
	      word_of(Feature::virt_ssbd) == FeatureWord::ext8_ebx);

}
