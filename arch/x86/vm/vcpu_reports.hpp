/* SPDX-License-Identifier: GPL-2.0-only */
/* What KVM_RUN returns to the VMM with when the guest cannot go on. */
#pragma once
#include "arch/x86/vm/vcpu.hpp"

namespace kx {

template <Vendor V> Next Vcpu<V>::mode_unsupported() { return internal_error(KVM_INTERNAL_ERROR_EMULATION, {}); }

template <Vendor V> Next Vcpu<V>::unexpected_exit(u64 reason)
{
	const u64 data[] = {reason, cpu.relaxed()};
	return internal_error(KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, {data, 2});
}

template <Vendor V> Next Vcpu<V>::exception_exit(Vector v, u32 error)
{
	run->exit_reason = KVM_EXIT_EXCEPTION;
	run->ex.exception = u32(v);
	run->ex.error_code = error;
	return Next::user;
}

template <Vendor V> Next Vcpu<V>::fail_entry(u64 reason)
{
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = reason;
	run->fail_entry.cpu = cpu.relaxed();
	return Next::user;
}

template <Vendor V> Next Vcpu<V>::shutdown()
{
	run->exit_reason = KVM_EXIT_SHUTDOWN;
	return Next::user;
}

template <Vendor V> Next Vcpu<V>::internal_error(u32 suberror, Span<const u64> data)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	run->internal.ndata = u32(data.size());
	for (size_t i = 0; i < data.size(); ++i)
		run->internal.data[i] = data[i];
	return Next::user;
}

/* User code of the guest must not be able to stop the VM: it gets #UD. The kernel's fault is the VMM's to
 * see, with the bytes. */
template <Vendor V> Next Vcpu<V>::emulation_failed()
{
	raise(Exception::plain(Vector::ud));
	if (hw.cpl())
		return Next::guest;
	const Span<const u8> bytes = emulation.bytes();
	auto &f = run->emulation_failure;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	f.suberror = KVM_INTERNAL_ERROR_EMULATION;
	f.ndata = 1;
	f.flags = 0;
	__builtin_memset(f.insn_bytes, 0x90, sizeof f.insn_bytes);
	if (bytes.size()) {
		f.ndata = 3;
		f.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		f.insn_size = u8(bytes.size());
		__builtin_memcpy(f.insn_bytes, bytes.data(), bytes.size());
	}
	return Next::user;
}

}
