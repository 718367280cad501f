/* SPDX-License-Identifier: GPL-2.0-only */
/* Debug registers of one vCPU. APM vol. 2 §13.1, SDM vol. 3 §17.2. */
#pragma once
#include <linux/kvm.h>
#include "cpuid.hpp"
#include "or_exception.hpp"

namespace kx {

namespace dr6 {
inline constexpr u64 traps = 15, bus_lock = bit(11), bd = bit(13), bs = bit(14), bt = bit(15),
		     rtm = bit(16);
/* One unless something happened: the reset value. */
inline constexpr u64 active_low = 0xffff0ff0;
inline constexpr u64 writable = 0x0001e80f;
}
namespace dr7 {
inline constexpr u64 enables = 0xff, local_enables = 0x55, le = bit(8), ge = bit(9), fixed1 = bit(10), rtm = bit(11), gd = bit(13);
inline constexpr u64 writable = 0xffff2bff;
}

/* What the entry code must do about DR0-DR3, DR6. */
enum class DrSwitch : u8 { nothing, load };

class DebugRegs {
	u64 db_[4] = {};
	u64 dr6_ = dr6::active_low, dr7_ = dr7::fixed1;
	bool unintercepted_ = false;

public:
	void reset() { *this = DebugRegs{}; }
	u64 address(unsigned n) const { return db_[n & 3]; }
	u64 dr6() const { return dr6_; }
	u64 dr7() const { return dr7_; }

	/* May this access happen at all? CR4.DE makes DR4/5 #UD; DR7.GD turns any access into #DB. cpl is
	 * checked first. */
	OrException<unsigned> access(unsigned n, u64 cr4, unsigned cpl) const;
	/* The local breakpoints were the old task's. SDM vol. 3 §18.2.4 */
	void task_switched();
	/* MOV to/from DRn, 0-7 (4 and 5 alias 6 and 7); access() has agreed. */
	u64 read(unsigned n) const;
	OrException<u64> write(unsigned n, u64 value, const CpuidTable &cpuid);

	/* #DB is about to be delivered: payload as the pending-debug-exceptions format (DR6 with
	 * the active-low bits turned round). Opens the registers to its handler: DR7.GD. */
	void record(u64 payload);
	/* What the CPU left in the registers when the guest ran with them. */
	void take(const u64 (&db)[4], u64 dr6, u64 dr7);

	/* Registers are loaded only for a guest that has breakpoints on, or whose accesses stopped
	 * being intercepted after the first one (until the next exit). */
	void stop_intercepting() { unintercepted_ = true; }
	void intercept_again() { unintercepted_ = false; }
	DrSwitch wanted() const
	{
		return (dr7_ & dr7::enables) || unintercepted_ ? DrSwitch::load : DrSwitch::nothing;
	}
	bool intercepting() const { return !unintercepted_; }

	void get(kvm_debugregs &out) const;
	Errc set(const kvm_debugregs &in);
};

}
