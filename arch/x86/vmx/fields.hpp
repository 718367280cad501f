/* SPDX-License-Identifier: GPL-2.0-only */
/* Fields of the VMCS. An encoding says how wide its field is; that is the type of its value. SDM vol. 3
 * §25.11.2, appendix B. */
#pragma once
#include <type_traits>
#include "cxxrt/bits.hpp"

namespace kx::vmx {

enum class Field : u32 {
	vpid = 0x0000,
	guest_es_sel = 0x0800, guest_cs_sel = 0x0802, guest_ss_sel = 0x0804, guest_ds_sel = 0x0806,
	guest_fs_sel = 0x0808, guest_gs_sel = 0x080a, guest_ldtr_sel = 0x080c, guest_tr_sel = 0x080e,
	guest_pml_index = 0x0812,
	host_es_sel = 0x0c00, host_cs_sel = 0x0c02, host_ss_sel = 0x0c04, host_ds_sel = 0x0c06,
	host_fs_sel = 0x0c08, host_gs_sel = 0x0c0a, host_tr_sel = 0x0c0c,

	msr_bitmap = 0x2004, exit_msr_store = 0x2006, exit_msr_load = 0x2008, entry_msr_load = 0x200a,
	pml_address = 0x200e, tsc_offset = 0x2010, virtual_apic = 0x2012, ept_pointer = 0x201a,
	xss_exit_bitmap = 0x202c, encls_exit_bitmap = 0x202e,
	guest_physical = 0x2400,
	vmcs_link = 0x2800, guest_debugctl = 0x2802, guest_pat = 0x2804, guest_efer = 0x2806,
	guest_pdpte0 = 0x280a, guest_pdpte1 = 0x280c, guest_pdpte2 = 0x280e, guest_pdpte3 = 0x2810,
	host_pat = 0x2c00, host_efer = 0x2c02,

	pin_controls = 0x4000, proc_controls = 0x4002, exception_bitmap = 0x4004, pf_error_mask = 0x4006,
	pf_error_match = 0x4008, cr3_target_count = 0x400a, exit_controls = 0x400c, exit_msr_store_count = 0x400e,
	exit_msr_load_count = 0x4010, entry_controls = 0x4012, entry_msr_load_count = 0x4014, entry_info = 0x4016,
	entry_error = 0x4018, entry_length = 0x401a, tpr_threshold = 0x401c, proc2_controls = 0x401e,
	ple_gap = 0x4020, ple_window = 0x4022,
	instruction_error = 0x4400, exit_reason = 0x4402, exit_info = 0x4404, exit_error = 0x4406,
	idt_vectoring = 0x4408, idt_error = 0x440a, exit_length = 0x440c, exit_instruction_info = 0x440e,
	guest_es_limit = 0x4800, guest_cs_limit = 0x4802, guest_ss_limit = 0x4804, guest_ds_limit = 0x4806,
	guest_fs_limit = 0x4808, guest_gs_limit = 0x480a, guest_ldtr_limit = 0x480c, guest_tr_limit = 0x480e,
	guest_gdtr_limit = 0x4810, guest_idtr_limit = 0x4812,
	guest_es_ar = 0x4814, guest_cs_ar = 0x4816, guest_ss_ar = 0x4818, guest_ds_ar = 0x481a,
	guest_fs_ar = 0x481c, guest_gs_ar = 0x481e, guest_ldtr_ar = 0x4820, guest_tr_ar = 0x4822,
	guest_interruptibility = 0x4824, guest_activity = 0x4826, guest_sysenter_cs = 0x482a,
	host_sysenter_cs = 0x4c00,

	cr0_mask = 0x6000, cr4_mask = 0x6002, cr0_shadow = 0x6004, cr4_shadow = 0x6006,
	qualification = 0x6400, guest_linear = 0x640a,
	guest_cr0 = 0x6800, guest_cr3 = 0x6802, guest_cr4 = 0x6804,
	guest_es_base = 0x6806, guest_cs_base = 0x6808, guest_ss_base = 0x680a, guest_ds_base = 0x680c,
	guest_fs_base = 0x680e, guest_gs_base = 0x6810, guest_ldtr_base = 0x6812, guest_tr_base = 0x6814,
	guest_gdtr_base = 0x6816, guest_idtr_base = 0x6818, guest_dr7 = 0x681a, guest_rsp = 0x681c,
	guest_rip = 0x681e, guest_rflags = 0x6820, guest_pending_debug = 0x6822, guest_sysenter_esp = 0x6824,
	guest_sysenter_eip = 0x6826,
	host_cr0 = 0x6c00, host_cr3 = 0x6c02, host_cr4 = 0x6c04, host_fs_base = 0x6c06, host_gs_base = 0x6c08,
	host_tr_base = 0x6c0a, host_gdtr_base = 0x6c0c, host_idtr_base = 0x6c0e, host_sysenter_esp = 0x6c10,
	host_sysenter_eip = 0x6c12, host_rsp = 0x6c14, host_rip = 0x6c16,
};

enum class FieldWidth : u8 { w16, w64, w32, natural };
constexpr FieldWidth width_of(Field f) { return FieldWidth(u32(f) >> 13 & 3); }

template <Field F>
using FieldValue = std::conditional_t<width_of(F) == FieldWidth::w16, u16,
				      std::conditional_t<width_of(F) == FieldWidth::w32, u32, u64>>;
static_assert(std::is_same_v<FieldValue<Field::vpid>, u16> && std::is_same_v<FieldValue<Field::exit_reason>, u32> &&
	      std::is_same_v<FieldValue<Field::guest_efer>, u64> && std::is_same_v<FieldValue<Field::guest_rip>, u64>);

/* The n-th of fields that lie in the order of the segment registers. */
constexpr Field nth(Field first, unsigned n) { return Field(u32(first) + 2 * n); }
static_assert(nth(Field::guest_es_ar, 7) == Field::guest_tr_ar && nth(Field::guest_es_base, 7) == Field::guest_tr_base);

}
