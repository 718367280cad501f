/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/cpuid.hpp"
#include "arch/x86/cpu/apic_base.hpp"

namespace kx {

namespace {

constexpr unsigned default_phys_bits = 36; /* of a processor that does not say */
constexpr u64 dynamic_xcr0 = xcr0::xtiledata; /* state the VMM's threads must ask the kernel for */

Span<kvm_cpuid_entry2> span_of(const Array<kvm_cpuid_entry2> &a) { return {a.get(), a.size()}; }

/* By the rules of the CPUID instruction, without an index. */
kvm_cpuid_entry2 *search(Span<kvm_cpuid_entry2> all, u32 leaf, u32 subleaf)
{
	for (kvm_cpuid_entry2 &e : all)
		if (e.function == leaf &&
		    (!(e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e.index == subleaf))
			return &e;
	return nullptr;
}

/* The first entry of a leaf whose index means nothing to us, whatever its flags. */
const kvm_cpuid_entry2 *search_any(Span<kvm_cpuid_entry2> all, u32 leaf)
{
	for (const kvm_cpuid_entry2 &e : all)
		if (e.function == leaf)
			return &e;
	return nullptr;
}

void put_bit(u32 &reg, Feature f, u64 on) { reg = on ? reg | mask_of(f) : reg & ~mask_of(f); }

/* Bits that follow registers. A VMM's values for them are ignored. */
void patch(kvm_cpuid_entry2 *one, kvm_cpuid_entry2 *seven, kvm_cpuid_entry2 *d0,
	   kvm_cpuid_entry2 *d1, const CpuidRuntime &now, const CpuCaps &caps)
{
	if (one) {
		if (caps.has(Feature::xsave))
			put_bit(one->ecx, Feature::osxsave, now.cr4 & cr4::osxsave);
		put_bit(one->edx, Feature::apic, now.apic_base & apic_base::enable);
	}
	if (seven && caps.has(Feature::pku))
		put_bit(seven->ecx, Feature::ospke, now.cr4 & cr4::pke);
	if (d0)
		d0->ebx = caps.xstate().size(now.xcr0, XsaveForm::standard);
	if (d1 && d1->eax & (mask_of(Feature::xsaves) | mask_of(Feature::xsavec)))
		d1->ebx = caps.xstate().size(now.xcr0 | now.xss, XsaveForm::compacted);
}

bool same(Span<kvm_cpuid_entry2> a, Span<kvm_cpuid_entry2> b)
{
	if (a.size() != b.size())
		return false;
	for (size_t i = 0; i < a.size(); ++i) {
		const kvm_cpuid_entry2 &x = a[i], &y = b[i];
		if (x.function != y.function || x.index != y.index || x.flags != y.flags ||
		    x.eax != y.eax || x.ebx != y.ebx || x.ecx != y.ecx || x.edx != y.edx)
			return false;
	}
	return true;
}

/* What no vCPU could live with. */
Errc check(Span<kvm_cpuid_entry2> all)
{
	/* Canonical means 48 or 57 bits here; 0 is a VMM that does not say. */
	if (const kvm_cpuid_entry2 *e = search_any(all, 0x80000008))
		if (const u32 linear = e->eax >> 8 & 0xff;
		    linear != 0 && linear != 48 && linear != 57)
			return Errc::inval;
	if (const kvm_cpuid_entry2 *e = search(all, 0xd, 0))
		if ((e->eax | u64{e->edx} << 32) & dynamic_xcr0)
			return Errc::perm;
	return Errc::ok;
}

}

CpuidTable::CpuidTable()
{
	for (auto &line : head_)
		for (u16 &h : line)
			h = none;
	reserved_gpa_ = ones(63, default_phys_bits);
}

Errc CpuidTable::set(Array<kvm_cpuid_entry2> fresh, const CpuidRuntime &now, const CpuCaps &caps,
		     HasRun ran)
{
	const Span<kvm_cpuid_entry2> all = span_of(fresh);
	if (all.size() > max_cpuid_entries)
		return Errc::toobig;
	patch(search(all, 1, 0), search(all, 7, 0), search(all, 0xd, 0), search(all, 0xd, 1), now,
	      caps);
	/* Tables of a vCPU that has run were built by rules derived from its CPUID; they are not
	 * rebuilt. But VMMs that recycle vCPUs set the same again. */
	if (ran == HasRun::yes)
		return same(all, span_of(entries_)) ? Errc::ok : Errc::inval;
	KX_CHECK(check(all));
	entries_ = kx::move(fresh);
	build_index();
	derive(caps);
	return Errc::ok;
}

void CpuidTable::build_index()
{
	for (auto &line : head_)
		for (u16 &h : line)
			h = none;
	/* From the end, so that each chain has the order of the table: the first match counts. */
	for (size_t i = entries_.size(); i--;) {
		const u32 leaf = entries_[i].function, low = leaf & 0x3fffffff;
		next_[i] = none;
		if (low >= indexed)
			continue;
		u16 &head = head_[leaf >> 30][low];
		next_[i] = head;
		head = u16(i);
	}
}

void CpuidTable::derive(const CpuCaps &caps)
{
	const Span<kvm_cpuid_entry2> all = span_of(entries_);

	features_ = {};
	for (const FeatureHome &h : feature_homes)
		if (const kvm_cpuid_entry2 *e = find(h.leaf, h.subleaf))
			features_.set_word(h.word,
					   cpuid_reg({e->eax, e->ebx, e->ecx, e->edx}, h.reg));

	const kvm_cpuid_entry2 *zero = search_any(all, 0), *one = search_any(all, 1);
	vendor_ = zero ? vendor_of({zero->eax, zero->ebx, zero->ecx, zero->edx}) : CpuVendor::other;
	signature_ = one ? one->eax : 0;

	unsigned bits = default_phys_bits;
	const kvm_cpuid_entry2 *top = search_any(all, 0x80000000),
			       *sizes = search_any(all, 0x80000008);
	if (top && top->eax >= 0x80000008 && sizes)
		bits = sizes->eax & 0xff;
	max_phys_bits_ = u8(bits);
	reserved_gpa_ = bits < 64 ? ones(63, bits) : 0;

	cr4_reserved_ = cr4_reserved_for(features_);
	const kvm_cpuid_entry2 *xs = find(0xd, 0);
	supported_xcr0_ = xs ? (xs->eax | u64{xs->edx} << 32) & caps.xcr0() : 0;
	has_spec_ctrl_ = has(Feature::spec_ctrl) || has(Feature::amd_stibp) ||
			 has(Feature::amd_ibrs) || has(Feature::amd_ssbd);
	has_pred_cmd_ = has(Feature::spec_ctrl) || has(Feature::amd_ibpb);
}

void CpuidTable::refresh(const CpuidRuntime &now, const CpuCaps &caps)
{
	const auto entry = [this](u32 leaf, u32 subleaf) {
		const kvm_cpuid_entry2 *e = find(leaf, subleaf);
		return e ? &entries_[size_t(e - entries_.get())] : nullptr;
	};
	patch(entry(1, 0), entry(7, 0), entry(0xd, 0), entry(0xd, 1), now, caps);
}

const kvm_cpuid_entry2 *CpuidTable::find(u32 leaf, u32 subleaf) const
{
	const u32 low = leaf & 0x3fffffff;
	return low < indexed ? walk(head_[leaf >> 30][index_nospec<indexed>(low)], subleaf)
			     : search(span_of(entries_), leaf, subleaf);
}

/*
 * A leaf beyond the last of its class. AMD answers zeros; Intel answers as its last basic leaf
 * would, and so does every other vendor. The hypervisor class is made of blocks of 256 leaves, each
 * with a limit of its own. SDM vol. 2 CPUID, APM vol. 3 §E.3
 */
CpuidRegs CpuidTable::query_slow(u32 leaf, u32 subleaf) const
{
	if (const kvm_cpuid_entry2 *e = find(leaf, subleaf))
		return {e->eax, e->ebx, e->ecx, e->edx};

	const Span<kvm_cpuid_entry2> all = span_of(entries_);
	const kvm_cpuid_entry2 *basic = search_any(all, 0);
	if (basic && !is_amd_like()) {
		const u32 base = leaf >> 28 == 4      ? leaf & 0xffffff00
				 : leaf >= 0xc0000000 ? 0xc0000000
						      : leaf & 0x80000000;
		const kvm_cpuid_entry2 *first = search_any(all, base);
		if (!first || leaf > first->eax) {
			leaf = basic->eax;
			if (const kvm_cpuid_entry2 *e = find(leaf, subleaf))
				return {e->eax, e->ebx, e->ecx, e->edx};
		}
	}
	/* Topology leaves name the x2APIC id and the level asked for even where there is no such
	 * level. */
	if (leaf == 0xb || leaf == 0x1f)
		if (const kvm_cpuid_entry2 *e = find(leaf, 1))
			return {0, 0, subleaf & 0xff, e->edx};
	return {};
}

}
