/* SPDX-License-Identifier: GPL-2.0-only */
/* Port and MMIO accesses on their way to the VMM, and back with its answer at the next KVM_RUN. May sleep. */
#pragma once
#include "arch/x86/vm/vcpu_emulate.hpp"

namespace kx {

template <Vendor V> Next Vcpu<V>::port_exit(PioDirection d, u16 port, u8 size, u32 count)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = d == PioDirection::in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = size;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = page_size;
	return Next::user;
}

template <Vendor V> Next Vcpu<V>::mmio_exit(const kx::emulate::Outcome &o, u8 is_write)
{
	stats.mmio_exits.count();
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = o.gpa.raw();
	run->mmio.len = o.len;
	run->mmio.is_write = is_write;
	__builtin_memcpy(run->mmio.data, &o.data, sizeof o.data);
	return Next::user;
}

template <Vendor V> Next Vcpu<V>::pio(PioDirection d, u16 port, u8 size, u64 next_rip)
{
	using K = kx::emulate::PendingAccess::Kind;
	stats.io_exits.count();
	if (d == PioDirection::out) {
		const u64 v = hw.gpr(Gpr::rax);
		if (vm.devices.write(*this, Bus::pio, port, &v, size) == Taken::yes)
			return skip(next_rip);
		__builtin_memcpy(pio_page.get(), &v, sizeof v);
		/* The quirk of port 0x7e: VMMs that reset the vCPU there expect RIP behind the OUT. */
		if (port == 0x7e) {
			if (const Next n = skip(next_rip); n != Next::guest)
				return n;
		} else {
			emulation.pending.ask(K::out, size, next_rip);
		}
	} else {
		emulation.pending.ask(K::in, size, next_rip);
	}
	return port_exit(d, port, size, 1);
}

template <Vendor V> Next Vcpu<V>::string_pio(PioDirection d, u16 port, u8 size)
{
	using D = kx::emulate::PortDirection;
	stats.io_exits.count();
	stats.insn_emulation.count();
	VcpuMachine<V> m{*this};
	return outcome(kx::emulate::begin(m, emulation, {}, {size, d == PioDirection::in ? D::in : D::out, port}));
}

template <Vendor V> emulate::Position Vcpu<V>::position()
{
	return {hw.rip(), linear_rip(), VcpuMachine<V>{*this}.mode()};
}

/* What the VMM was asked for is there now. */
template <Vendor V> Next Vcpu<V>::finish()
{
	using K = kx::emulate::PendingAccess::Kind;
	kx::emulate::PendingAccess &p = emulation.pending;
	const K was = p.kind();
	if (was == K::none)
		return Next::guest;
	if (p.noted() && p.left(position())) [[unlikely]] {
		p.drop();
		return Next::guest;
	}
	if (was == K::in || was == K::out) {
		p.drop();
		if (was == K::in) {
			u64 v = 0;
			__builtin_memcpy(&v, pio_page.get(), p.size());
			const u64 keep = p.size() == 4 ? 0 : hw.gpr(Gpr::rax) & ~ones(p.size() * 8 - 1, 0);
			hw.set_gpr(Gpr::rax, keep | v);
		}
		return skip(p.next_rip());
	}
	VcpuMachine<V> m{*this};
	if (was == K::mmio_read) {
		u64 v; /* of a page the VMM can write: looked at once */
		__builtin_memcpy(&v, run->mmio.data, sizeof v);
		return outcome(kx::emulate::answer_read(m, emulation, v));
	}
	return outcome(was == K::mmio_write ? kx::emulate::write_taken(m, emulation) : kx::emulate::port_done(m, emulation));
}

}
