/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/cpu_caps.hpp"

namespace kx {

namespace {

template <class... N> consteval u32 mask(N... n) { return (u32(bit(unsigned(n))) | ... | 0); }

/*
 * What a guest may use directly, because the processor executes it for the guest as it would for a
 * process, or because this module provides it. Left out: what needs an in-kernel local APIC
 * (x2APIC, TSC deadline), a PMU, nested virtualisation, SGX, processor trace, MPX, AMX, WAITPKG,
 * bus-lock detection; MONITOR, which guests get as a no-op but should not choose.
 */
struct Offer {
	FeatureWord word;
	u32 bits;
};
constexpr u32 leaf1_edx =
	mask(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26, 27);
/* The bits of leaf 1 that AMD repeats: not SEP, CLFLUSH, SSE and above. */
constexpr u32 repeated_edx = leaf1_edx & ~mask(11, 19, 25, 26, 27);
constexpr Offer offers[] = {
	{FeatureWord::leaf1_edx, leaf1_edx},
	/* SSE3, PCLMUL, SSSE3, FMA, CX16, PCID, SSE4.1, 4.2, MOVBE, POPCNT, AES, XSAVE, AVX, F16C,
	   RDRAND */
	{FeatureWord::leaf1_ecx, mask(0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30)},
	/* SYSCALL, NX, MMXEXT, FFXSR, 1 GiB pages, RDTSCP, LM, 3DNow */
	{FeatureWord::ext1_edx, repeated_edx | mask(11, 20, 22, 25, 26, 27, 29, 30, 31)},
	/* LAHF, CmpLegacy, CR8, ABM, SSE4A, misaligned SSE, PREFETCHW, OSVW, XOP, FMA4, TBM,
	   TOPOEXT */
	{FeatureWord::ext1_ecx, mask(0, 1, 4, 5, 6, 7, 8, 9, 11, 16, 21, 22)},
	/* FSGSBASE, BMI1, HLE, AVX2, FDP, SMEP, BMI2, ERMS, INVPCID, RTM, FCS/FDS, AVX512F/DQ,
	 * RDSEED, ADX, SMAP, IFMA, CLFLUSHOPT, CLWB, AVX512PF/ER/CD, SHA, AVX512BW/VL */
	{FeatureWord::leaf7_ebx, mask(0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 17, 18, 19, 20, 21,
				      23, 24, 26, 27, 28, 29, 30, 31)},
	/* VBMI, UMIP, PKU, VBMI2, GFNI, VAES, VPCLMUL, VNNI, BITALG, VPOPCNTDQ, LA57, RDPID,
	 * CLDEMOTE, MOVDIRI, MOVDIR64B */
	{FeatureWord::leaf7_ecx, mask(1, 2, 3, 6, 8, 9, 10, 11, 12, 14, 16, 22, 25, 27, 28)},
	/* 4VNNIW, 4FMAPS, FSRM, VP2INTERSECT, MD_CLEAR, SERIALIZE, TSXLDTRK, AVX512FP16, SPEC_CTRL,
	   STIBP, SSBD */
	{FeatureWord::leaf7_edx, mask(2, 3, 4, 8, 10, 14, 16, 23, 26, 27, 31)},
	{FeatureWord::leaf7_1_eax, mask(4, 5)},	      /* AVX_VNNI, AVX512_BF16 */
	{FeatureWord::leafd_1_eax, mask(0, 1, 2, 3)}, /* not XFD */
	/* CLZERO, error pointers, WBNOINVD, IBPB, IBRS, STIBP, always-on, SSBD, virtual SSBD,
	   SSB_NO, PSFD */
	{FeatureWord::ext8_ebx, mask(0, 2, 9, 12, 14, 15, 17, 24, 25, 26, 28)},
	/* No nested data breakpoints, LFENCE, VERW clears, null selector clears base */
	{FeatureWord::ext21_eax, mask(0, 2, 5, 6)},
};
/* Words the kernel does not keep: hardware alone decides. */
constexpr u32 leaf7_2_spec_ctrl =
	mask(0, 1, 2, 3, 4); /* PSFD, IPRED, RRSBA, DDPD_U, BHI: bits of SPEC_CTRL */
constexpr u32 leaf7_2_edx = leaf7_2_spec_ctrl | mask(5);
constexpr u32 ext21_ecx = mask(1, 2); /* not subject to TSA-SQ, TSA-L1 */

/* Bits the kernel computed that are no register's: word * 32 + bit. */
enum class Synthetic : unsigned {
	lfence_rdtsc = 3 * 32 + 18, ls_cfg_ssbd = 7 * 32 + 24, ibrs = 7 * 32 + 25,
	ibpb = 7 * 32 + 26, stibp = 7 * 32 + 27,
};

struct Kernel {
	Span<const u32> words;
	u32 word(unsigned w) const { return w < words.size() ? words[w] : 0; }
	bool has(Synthetic s) const { return word(unsigned(s) / 32) >> (unsigned(s) % 32) & 1; }
	bool has(Feature f) const { return word(unsigned(word_of(f))) & mask_of(f); }
};

u32 hardware_word(const HostCpuid &host, FeatureWord w)
{
	for (const FeatureHome &h : feature_homes)
		if (h.word == w)
			return cpuid_reg(host.at(h.leaf, h.subleaf), h.reg);
	return 0;
}

/* Speculation controls: AMD enumerates each bit of SPEC_CTRL on its own, Intel in groups. A guest
 * may look for either, so each is offered in both ways. */
void offer_speculation(FeatureSet &f, const Kernel &k, const HostBugs &bugs,
		       const VirtSupport &virt)
{
	constexpr Feature all[] = {
		Feature::spec_ctrl, Feature::intel_stibp, Feature::spec_ctrl_ssbd,
		Feature::amd_ibpb,  Feature::amd_ibrs,	  Feature::amd_stibp,
		Feature::amd_ssbd,  Feature::amd_psfd,	  Feature::amd_stibp_always};
	const auto add_if = [&f](bool yes, Feature what) {
		if (yes)
			f.add(what);
	};
	if (!virt.spec_ctrl) {
		for (Feature what : all)
			f.drop(what);
		f.set_word(FeatureWord::leaf7_2_edx,
			   f.word(FeatureWord::leaf7_2_edx) & ~leaf7_2_spec_ctrl);
	} else {
		add_if(k.has(Synthetic::ibpb) && k.has(Synthetic::ibrs), Feature::spec_ctrl);
		add_if(k.has(Synthetic::stibp), Feature::intel_stibp);
		add_if(k.has(Feature::amd_ssbd), Feature::spec_ctrl_ssbd);
		add_if(k.has(Synthetic::ibpb), Feature::amd_ibpb);
		add_if(k.has(Synthetic::ibrs), Feature::amd_ibrs);
		add_if(k.has(Synthetic::stibp), Feature::amd_stibp);
		add_if(k.has(Feature::spec_ctrl_ssbd), Feature::amd_ssbd);
	}
	add_if(!bugs.spec_store_bypass, Feature::amd_ssb_no);
	if (!virt.virt_ssbd)
		f.drop(Feature::virt_ssbd);
	else
		add_if(k.has(Synthetic::ls_cfg_ssbd) || k.has(Feature::amd_ssbd),
		       Feature::virt_ssbd);
}

u64 offered_xcr0(const FeatureSet &f, u64 hold)
{
	if (!f.has(Feature::xsave))
		return 0;
	u64 v = hold & (xcr0::fp | xcr0::sse | xcr0::avx | xcr0::opmask | xcr0::zmm_hi256 |
			xcr0::hi16_zmm | xcr0::pkru);
	if (!f.has(Feature::pku))
		v &= ~xcr0::pkru;
	return v;
}

u64 offered_efer(const FeatureSet &f, CpuVendor vendor)
{
	u64 v = efer::sce | efer::lme | efer::lma;
	if (f.has(Feature::nx))
		v |= efer::nx;
	if (f.has(Feature::fxsr_opt) && is_amd_like(vendor))
		v |= efer::ffxsr;
	return v;
}

}

CpuCaps::CpuCaps(const HostCpuid &host, const KernelView &kernel, const VirtSupport &virt)
	: xstate_{host}, vendor_{virt.vendor}, tdp_{virt.tdp}
{
	const Kernel k{kernel.words};
	for (const Offer &o : offers)
		features_.set_word(o.word,
				   o.bits & hardware_word(host, o.word) & k.word(unsigned(o.word)));
	features_.set_word(FeatureWord::leaf7_2_edx,
			   leaf7_2_edx & hardware_word(host, FeatureWord::leaf7_2_edx));
	features_.set_word(FeatureWord::ext21_ecx,
			   ext21_ecx & hardware_word(host, FeatureWord::ext21_ecx));

	/* Provided by software whatever the hardware has. */
	features_.add(Feature::tsc_adjust);
	features_.add(Feature::arch_capabilities);
	features_.add(Feature::no_smm_ctl);
	offer_speculation(features_, k, kernel.bugs, virt);

	/* True of the processor, but newer processors alone say so in CPUID. */
	host_lfence_serializes_ = k.has(Synthetic::lfence_rdtsc);
	host_clears_null_seg_ = !kernel.bugs.null_seg;
	if (host_lfence_serializes_)
		features_.add(Feature::lfence_serializes);
	if (host_clears_null_seg_)
		features_.add(Feature::null_sel_clears_base);
	if (k.has(Feature::srso_no))
		features_.add(Feature::srso_no);
	if (!kernel.bugs.tsa) {
		features_.add(Feature::tsa_sq_no);
		features_.add(Feature::tsa_l1_no);
	}

	if (!virt.tsc_aux) {
		features_.drop(Feature::rdtscp);
		features_.drop(Feature::rdpid);
	}
	if (!virt.invpcid)
		features_.drop(Feature::invpcid);
	if (!virt.xsaves)
		features_.drop(Feature::xsaves);
	/* WRPKRU in the guest, and the host's own switching, need the host to have it on. */
	if (!virt.pku || !virt.tdp || !k.has(Feature::ospke))
		features_.drop(Feature::pku);
	/* The host need not run on five levels for a guest to. */
	if (virt.la57 && hardware_word(host, FeatureWord::leaf7_ecx) & mask_of(Feature::la57))
		features_.add(Feature::la57);
	else
		features_.drop(Feature::la57);

	xcr0_ = offered_xcr0(features_, virt.xcr0);
	cr4_reserved_ = cr4_reserved_for(features_);
	efer_reserved_ = ~offered_efer(features_, virt.vendor);
}

u64 cr4_reserved_for(const FeatureSet &f)
{
	constexpr struct {
		Feature feature;
		u64 bit;
	} optional[] = {
		{Feature::xsave, cr4::osxsave}, {Feature::smep, cr4::smep},
		{Feature::smap, cr4::smap},	{Feature::fsgsbase, cr4::fsgsbase},
		{Feature::pku, cr4::pke},	{Feature::la57, cr4::la57},
		{Feature::umip, cr4::umip},	{Feature::vmx, cr4::vmxe},
		{Feature::pcid, cr4::pcide},
	};
	u64 allowed = cr4::vme | cr4::pvi | cr4::tsd | cr4::de | cr4::pse | cr4::pae | cr4::mce |
		      cr4::pge | cr4::pce | cr4::osfxsr | cr4::osxmmexcpt;
	for (const auto &o : optional)
		if (f.has(o.feature))
			allowed |= o.bit;
	return ~allowed;
}

}
