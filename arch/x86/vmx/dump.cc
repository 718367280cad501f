// SPDX-License-Identifier: GPL-2.0-only
/* What a VMCS holds, for whoever has to find out why an entry failed. */
#include "arch/x86/vmx/cpu.hpp"

namespace kx::vmx {

namespace {

struct Line {
	const char *text;
	Field a, b;
};
/* Two fields a line. */
constexpr Line lines[] = {
	{"VMCS: pin-based, processor-based controls", Field::pin_controls, Field::proc_controls},
	{"VMCS: secondary controls, exception bitmap", Field::proc2_controls, Field::exception_bitmap},
	{"VMCS: exit, entry controls", Field::exit_controls, Field::entry_controls},
	{"VMCS: entry interruption information, error code", Field::entry_info, Field::entry_error},
	{"VMCS: exit reason, qualification", Field::exit_reason, Field::qualification},
	{"VMCS: EPT pointer, link pointer", Field::ept_pointer, Field::vmcs_link},
	{"VMCS: guest RIP, RFLAGS", Field::guest_rip, Field::guest_rflags},
	{"VMCS: guest RSP, EFER", Field::guest_rsp, Field::guest_efer},
	{"VMCS: guest CR0, its shadow", Field::guest_cr0, Field::cr0_shadow},
	{"VMCS: guest CR4, its shadow", Field::guest_cr4, Field::cr4_shadow},
	{"VMCS: guest CR3, DR7", Field::guest_cr3, Field::guest_dr7},
	{"VMCS: guest interruptibility, activity", Field::guest_interruptibility, Field::guest_activity},
	{"VMCS: guest pending debug exceptions, DEBUGCTL", Field::guest_pending_debug, Field::guest_debugctl},
	{"VMCS: guest PDPTE 0, 1", Field::guest_pdpte0, Field::guest_pdpte1},
	{"VMCS: guest PDPTE 2, 3", Field::guest_pdpte2, Field::guest_pdpte3},
	{"VMCS: guest GDTR base, limit", Field::guest_gdtr_base, Field::guest_gdtr_limit},
	{"VMCS: guest IDTR base, limit", Field::guest_idtr_base, Field::guest_idtr_limit},
	{"VMCS: guest SYSENTER ESP, EIP", Field::guest_sysenter_esp, Field::guest_sysenter_eip},
	{"VMCS: host CR0, CR4", Field::host_cr0, Field::host_cr4},
	{"VMCS: host CR3, RSP", Field::host_cr3, Field::host_rsp},
	{"VMCS: host FS, GS base", Field::host_fs_base, Field::host_gs_base},
	{"VMCS: host TR, GDTR base", Field::host_tr_base, Field::host_gdtr_base},
};
constexpr const char *segment_names[seg_count] = {"VMCS: guest ES", "VMCS: guest CS", "VMCS: guest SS",
						  "VMCS: guest DS", "VMCS: guest FS", "VMCS: guest GS",
						  "VMCS: guest LDTR", "VMCS: guest TR"};
constinit Atomic<u64> reported;

}

void Cpu::report_failed_entry() const
{
	if (kx_params.dump_invalid_vmcs)
		dump();
	else if (reported.add(1))
		return;
	kx_log(4, "VM entry failed: exit reason, instruction error (dump_invalid_vmcs=1 prints the VMCS)", reason_,
	       instruction_error());
}

void Cpu::dump()
{
	for (const Line &l : lines)
		kx_log(7, l.text, vmread_at(l.a), vmread_at(l.b));
	for (unsigned n = 0; n < seg_count; ++n) {
		kx_log(7, segment_names[n], vmread_at(nth(Field::guest_es_base, n)), vmread_at(nth(Field::guest_es_limit, n)));
		kx_log(7, "  selector, access rights", vmread_at(nth(Field::guest_es_sel, n)),
		       vmread_at(nth(Field::guest_es_ar, n)));
	}
}

}
