/* SPDX-License-Identifier: GPL-2.0-only */
#include "arch/x86/cpu/debugreg.hpp"

namespace kx {

OrException<unsigned> DebugRegs::access(unsigned n, u64 cr4, unsigned cpl) const
{
	n &= 7;
	const bool alias = n == 4 || n == 5;
	if (alias && (cr4 & cr4::de))
		return Exception::plain(Vector::ud);
	if (cpl != 0)
		return gp0;
	if (dr7_ & dr7::gd)
		return Exception::debug(dr6::bd);
	return alias ? n + 2 : n;
}

void DebugRegs::task_switched() { dr7_ &= ~(dr7::local_enables | dr7::le); }

u64 DebugRegs::read(unsigned n) const
{
	switch (n & 7) {
	case 4:
	case 6:
		return dr6_;
	case 5:
	case 7:
		return dr7_;
	default:
		return db_[n & 3];
	}
}

OrException<u64> DebugRegs::write(unsigned n, u64 value, const CpuidTable &cpuid)
{
	switch (n & 7) {
	case 4:
	case 6: {
		if (value >> 32)
			return gp0;
		/* Bits of features the guest lacks stay wired to one. */
		u64 fixed = dr6::active_low & ~dr6::writable;
		if (!cpuid.has(Feature::rtm))
			fixed |= dr6::rtm;
		if (!cpuid.has(Feature::bus_lock_detect))
			fixed |= dr6::bus_lock;
		return dr6_ = (value & dr6::writable) | fixed;
	}
	case 5:
	case 7:
		if (value >> 32)
			return gp0;
		return dr7_ = (value & dr7::writable) | dr7::fixed1;
	default:
		return db_[n & 3] = value;
	}
}

void DebugRegs::record(u64 payload)
{
	/* The traps of the event replace the old ones, the rest accumulates; bit 12 of the payload
	 * («a breakpoint is enabled») is not in DR6. */
	u64 v = (dr6_ & ~dr6::traps) | dr6::active_low | payload;
	v ^= payload & dr6::active_low;
	dr6_ = v & ~bit(12);
	dr7_ &= ~dr7::gd; /* its handler may look. SDM vol. 3 §18.2.4 */
}

void DebugRegs::take(const u64 (&db)[4], u64 dr6, u64 dr7)
{
	for (unsigned i = 0; i < 4; ++i)
		db_[i] = db[i];
	dr6_ = dr6;
	dr7_ = dr7;
}

void DebugRegs::get(kvm_debugregs &out) const
{
	out = {};
	for (unsigned i = 0; i < 4; ++i)
		out.db[i] = db_[i];
	out.dr6 = dr6_;
	out.dr7 = dr7_;
}

Errc DebugRegs::set(const kvm_debugregs &in)
{
	if (in.flags || in.dr6 >> 32 || in.dr7 >> 32)
		return Errc::inval;
	for (unsigned i = 0; i < 4; ++i)
		db_[i] = in.db[i];
	dr6_ = in.dr6;
	dr7_ = in.dr7;
	return Errc::ok;
}

}
