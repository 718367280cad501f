/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A VMCS and where it is active. A CPU keeps parts of an active VMCS to itself: it may be active on one
 * CPU only, and has to be cleared there before it is used, or its memory freed, anywhere else. Each CPU
 * lists those active on it; the list is changed on that CPU alone, with interrupts off, by single stores,
 * so that an NMI there (crash) can walk it. SDM vol. 3 §25.11.1
 */
#pragma once
#include "arch/x86/cpu/tag_pool.hpp"
#include "arch/x86/vmx/insn.hpp"
#include "cxxrt/alloc.hpp"
#include "cxxrt/atomic.hpp"

namespace kx::vmx {

struct VmcsRegion {
	u32 revision, abort;
	u8 data[4096 - 8]; /* the CPU's own */
};
static_assert(sizeof(VmcsRegion) == page_size);

class Vmcs;

/* What each CPU keeps for its guests. */
struct alignas(64) HostCpu {
	unsigned id = 0;
	bool on = false;
	Vmcs *current = nullptr; /* the one VMREAD means */
	Vmcs *active = nullptr;
	u64 last_guest = 0; /* Cpu::serial of the guest that ran here last */
	TagPool vpids;
	/* Of the host's state: what differs from CPU to CPU. */
	u64 gs_base = 0, tr_base = 0, gdtr_base = 0, sysenter_esp = 0;
	Page<VmcsRegion> vmxon;
};

class Vmcs {
	Page<VmcsRegion> region_;
	u64 pa_ = 0;
	Vmcs *next_ = nullptr;
	Atomic<HostCpu *> where_; /* active there; changed on that CPU */

	static void clear_call(void *v) { static_cast<Vmcs *>(v)->clear_here(); }
	void clear_here()
	{
		HostCpu *h = where_.relaxed();
		if (!h)
			return; /* its CPU went offline meanwhile */
		vmclear(pa_);
		if (h->current == this)
			h->current = nullptr;
		for (Vmcs **at = &h->active; *at; at = &(*at)->next_)
			if (*at == this) {
				__atomic_store_n(at, next_, __ATOMIC_RELAXED);
				break;
			}
		where_.release(nullptr);
	}

public:
	Vmcs() = default;
	Vmcs(const Vmcs &) = delete;
	~Vmcs() { clear(); }
	/* Sleeps. */
	Errc init(u32 revision)
	{
		region_ = KX_TRY(Page<VmcsRegion>::make());
		region_->revision = revision;
		pa_ = phys_of(region_.get()).raw();
		return Errc::ok;
	}
	/* Not active anywhere afterwards. Interrupts on. A CPU that is offline has cleared it already. */
	void clear()
	{
		if (HostCpu *h = where_.acquire())
			(void)kx_call_on(h->id, clear_call, this);
	}
	/* On h, preemption off, interrupts on. true: it comes from elsewhere, and was cleared. */
	bool make_current(HostCpu &h)
	{
		const bool moved = where_.relaxed() != &h;
		if (moved) {
			clear();
			kx_irq_off();
			vmclear(pa_); /* its first use: puts the region into order */
			next_ = h.active;
			__atomic_store_n(&h.active, this, __ATOMIC_RELEASE);
			where_.release(&h);
		}
		if (h.current != this) {
			vmptrld(pa_);
			h.current = this;
		}
		if (moved)
			kx_irq_on();
		return moved;
	}

	/* The CPU goes: on it, interrupts off. */
	static void clear_all(HostCpu &h)
	{
		while (Vmcs *v = h.active)
			v->clear_here();
	}
	/* The same in an NMI: nothing is written but by the CPU itself. */
	static void clear_all_in_nmi(const HostCpu &h)
	{
		for (const Vmcs *v = __atomic_load_n(&h.active, __ATOMIC_RELAXED); v; v = v->next_)
			vmclear(v->pa_);
	}
};

}
