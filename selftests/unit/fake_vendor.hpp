/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A vendor without hardware: a guest processor in plain memory that runs a script. Each stay in the guest
 * is one step of it: a callback that looks around or acts on others, then the exit it ends with. The fake
 * checks what the core promises every vendor: that state is touched only where it can be reached, what is
 * off and on at each call, that one event goes in at a time.
 */
#pragma once
#include <gtest/gtest.h>
#include <array>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>
#include "arch/x86/mmu/ept.hpp"
#include "arch/x86/mmu/long_mode.hpp"
#include "arch/x86/vendor.hpp"
#include "arch/x86/vm/vcpu_core.hpp"
#include "arch/x86/vm/vcpu_emulate.hpp"
#include "arch/x86/vm/vcpu_exit.hpp"
#include "arch/x86/vm/vcpu_io.hpp"
#include "arch/x86/vm/vcpu_paging.hpp"
#include "arch/x86/vm/vcpu_registers.hpp"
#include "arch/x86/vm/vcpu_reports.hpp"
#include "arch/x86/vm/vcpu_run.hpp"
#include "arch/x86/vm/vcpu_state.hpp"
#include "arch/x86/vm/vm_impl.hpp"
#include "cxxrt/hosted/hosted.hpp"
#include "cxxrt/hosted/thread.hpp"

namespace kx::test {

struct Exit {
	enum class Kind : u8 {
		hlt, in, out, mmio,
		ins, outs, /* one of the size, with bytes for the emulator */
		cpuid,	   /* fast, and architectural */
		again,	   /* fast, of no consequence */
		settled,   /* fast, but the core has to look */
		interrupt, /* of the host */
		machine_check,
		window,	   /* interrupts can be taken */
		fault,	   /* raises an exception */
		task,	   /* switches tasks */
		refused,   /* the state is not one to enter */
		off,	   /* virtualization was switched off */
		other,	   /* for which handle() says what it is */
	};
	Kind kind = Kind::hlt;
	u16 port = 0;
	u8 size = 1;
	u64 gpa = 0;
	u32 code = 0; /* pfec */
	FaultOf of = FaultOf::access;
	std::vector<u8> bytes{}; /* of the instruction, for the emulator */
	Exception raised = Exception::plain(Vector::ud);
	/* What was being delivered when it happened. */
	std::optional<Exception> cut_exception{};
	std::optional<u8> cut_interrupt{};
	std::optional<SoftwareEvent> cut_software{}; /* of an instruction at RIP */
	bool cut_nmi = false;
	u8 length = 2;
	emulate::TaskSwitch task{};
	Events::Delivery came_of = Events::Delivery::none;
	std::function<Next()> handle{};
};

/* What went in. */
struct Entry {
	std::optional<Exception> exception;
	std::optional<u8> interrupt;
	std::optional<SoftwareEvent> software;
	bool nmi = false, window = false, flushed = false;
	u64 rip = 0, rflags = 0;
	unsigned cr8 = 0, cpu = 0;
	bool kicked = false; /* an interrupt of the host waits */
	u64 root = 0;

	bool quiet() const { return !exception && !interrupt && !software && !nmi; }
};

template <class Traits> class FakeCpu {
	struct Step {
		Exit exit;
		std::function<void()> look;
	};
	std::deque<Step> script_;
	std::array<u64, 16> gpr_{};
	u64 rip_ = 0, rflags_ = 0, cr0_ = 0, cr2_ = 0, cr3_ = 0, cr4_ = 0, efer_ = 0, dr6_ = 0, dr7_ = 0;
	u64 pdpte_[4] = {};
	unsigned cr8_ = 0, cpu_ = 0;
	u64 root_ = 0;
	std::array<Segment, seg_count> segments_{};
	DescTable gdt_{}, idt_{};
	std::map<MsrSlot, u64> msrs_;
	InterruptShadow interrupt_shadow_ = InterruptShadow::none;
	std::optional<Exception> exception_;
	std::optional<u8> interrupt_;
	std::optional<SoftwareEvent> software_;
	bool nmi_ = false, window_ = false, nmi_window_ = false;
	bool loaded_ = false, flush_ = false, running_ = false;
	Exit exit_;

	/* The state can be reached now. */
	void at_hand() const
	{
		if (Traits::needs_loading)
			EXPECT_TRUE(loaded_) << "guest state is touched where it cannot be reached";
	}
	template <class T> const T &get(const T &t) const
	{
		at_hand();
		return t;
	}
	template <class T, class U> void put(T &to, const U &v)
	{
		at_hand();
		to = v;
	}
	void one_event()
	{
		at_hand();
		EXPECT_TRUE(!exception_ && !interrupt_ && !software_ && !nmi_) << "two events at one entry";
	}

public:
	std::vector<Entry> entries;
	unsigned loads = 0, dropped = 0, stays = 0;
	u64 tsc_offset = 0;

	/* --- for the test */
	void then(Exit e, std::function<void()> look = {}) { script_.push_back({std::move(e), std::move(look)}); }
	const Exit &exit() const { return exit_; }
	bool done() const { return script_.empty(); }
	const Entry &last() const { return entries.back(); }
	bool loaded() const { return loaded_; }
	bool nmi_window() const { return nmi_window_; }
	bool window() const { return window_; }
	void want_nmi_window() { put(nmi_window_, true); }
	/* The guest's doing: no question of who may reach it. */
	void guest_sets_rflags(u64 v) { rflags_ = v; }
	void guest_sets_cr0(u64 v) { cr0_ = v; }
	void guest_sets_shadow(InterruptShadow s) { interrupt_shadow_ = s; }

	/* --- GuestCpu */
	Errc init() { return Errc::ok; }
	void reset() { at_hand(); }
	Loaded loaded(unsigned cpu)
	{
		const Loaded how = cpu_ == cpu && !hosted::this_thread().resumed ? Loaded::again : Loaded::anew;
		EXPECT_FALSE(loaded_) << "loaded twice";
		EXPECT_TRUE(hosted::preemption_off());
		loaded_ = true;
		cpu_ = cpu;
		++loads;
		return how;
	}
	void unloaded()
	{
		EXPECT_TRUE(loaded_) << "unloaded twice";
		EXPECT_TRUE(hosted::preemption_off());
		EXPECT_FALSE(running_) << "unloaded in the guest";
		loaded_ = false;
	}
	void entering()
	{
		EXPECT_TRUE(loaded_ && hosted::interrupts_off() && !hosted::in_guest_context());
		++stays;
	}
	Entered enter()
	{
		EXPECT_TRUE(loaded_ && hosted::interrupts_off() && hosted::in_guest_context());
		EXPECT_TRUE(hosted::this_thread().fpu) << "the guest runs on somebody else's FPU";
		EXPECT_FALSE(hosted::this_thread().flags & KX_THREAD_NEED_FPU);
		EXPECT_EQ(cpu_, hosted::this_thread().cpu) << "entered on a CPU where it is not loaded";
		entries.push_back({exception_, interrupt_, software_, nmi_, window_, flush_, rip_, rflags_, cr8_, cpu_,
				   hosted::interrupt_waits(), root_});
		flush_ = false;
		if (script_.empty() || script_.front().exit.kind != Exit::Kind::refused) {
			exception_.reset();
			interrupt_.reset();
			software_.reset();
			nmi_ = false;
		}
		if (script_.empty()) {
			ADD_FAILURE() << "the guest is entered once more than the test has a part for";
			exit_ = {};
			return Entered::yes;
		}
		running_ = true;
		Step s = std::move(script_.front());
		script_.pop_front();
		if (s.look)
			s.look();
		exit_ = std::move(s.exit);
		running_ = false;
		return exit_.kind == Exit::Kind::off ? Entered::off : Entered::yes;
	}
	bool entry_failed() const { return exit_.kind == Exit::Kind::refused; }
	u64 gpr(Gpr r) const { return get(gpr_[unsigned(r)]); }
	void set_gpr(Gpr r, u64 v) { put(gpr_[unsigned(r)], v); }
	u64 rip() const { return get(rip_); }
	void set_rip(u64 v) { put(rip_, v); }
	u64 rflags() const { return get(rflags_); }
	void set_rflags(u64 v) { put(rflags_, v); }
	unsigned cpl() const { return cr0() & cr0::pe ? segment(Seg::ss).dpl : 0; }
	Segment segment(Seg s) const { return get(segments_[unsigned(s)]); }
	u64 segment_base(Seg s) const { return segment(s).base; }
	void set_segment(Seg s, const Segment &v) { put(segments_[unsigned(s)], v); }
	bool cs_l() const { return segment(Seg::cs).l; }
	bool cs_db() const { return segment(Seg::cs).db; }
	DescTable gdt() const { return get(gdt_); }
	DescTable idt() const { return get(idt_); }
	void set_gdt(const DescTable &t) { put(gdt_, t); }
	void set_idt(const DescTable &t) { put(idt_, t); }
	u64 cr0() const { return get(cr0_); }
	void set_cr0(u64 v) { put(cr0_, v); }
	u64 cr2() const { return get(cr2_); }
	void set_cr2(u64 v) { put(cr2_, v); }
	u64 cr3() const { return get(cr3_); }
	void set_cr3(u64 v) { put(cr3_, v); }
	u64 cr4() const { return get(cr4_); }
	u64 cr4_exiting() const { return get(cr4_); }
	void set_cr4(u64 v) { put(cr4_, v); }
	u64 efer() const { return get(efer_); }
	void set_efer(u64 v) { put(efer_, v); }
	unsigned cr8() const { return get(cr8_); }
	void set_cr8(unsigned v) { put(cr8_, v); }
	void set_dr6(u64 v) { put(dr6_, v); }
	void set_dr7(u64 v) { put(dr7_, v); }
	u64 dr6() const { return get(dr6_); }
	u64 dr7() const { return get(dr7_); }
	u64 kept_pdpte(unsigned i) const { return pdpte_[i]; } /* for a test to look at, loaded or not */
	u64 pdpte(unsigned i) const { return get(pdpte_[i]); }
	void set_pdpte(unsigned i, u64 v) { put(pdpte_[i], v); }
	u64 msr(MsrSlot m) const
	{
		at_hand();
		const auto it = msrs_.find(m);
		return it == msrs_.end() ? 0 : it->second;
	}
	void set_msr(MsrSlot m, u64 v) { put(msrs_[m], v); }
	void set_pat(u64) { at_hand(); }
	void set_tsc_offset(u64 v) { put(tsc_offset, v); }
	InterruptShadow interrupt_shadow() const { return get(interrupt_shadow_); }
	void set_interrupt_shadow(InterruptShadow s) { put(interrupt_shadow_, s); }
	void inject(const Exception &e)
	{
		one_event();
		exception_ = e;
	}
	void inject(const SoftwareEvent &e)
	{
		one_event();
		software_ = e;
	}
	void inject_interrupt(u8 vector)
	{
		one_event();
		interrupt_ = vector;
	}
	void inject_nmi()
	{
		one_event();
		nmi_ = true;
	}
	void drop_injection()
	{
		at_hand();
		++dropped;
		exception_.reset();
		interrupt_.reset();
		software_.reset();
		nmi_ = false;
	}
	void want_interrupt_window() { put(window_, true); }
	void close_interrupt_window() { put(window_, false); }
	void set_root(Hpa r) { put(root_, r.raw()); }
	void flush_all() { put(flush_, true); }
	void flush_current() { put(flush_, true); }
};

/* All that hardware may leave to the core, or nothing of it. */
struct SelfContained {
	static constexpr const char *name = "SelfContained";
	using TdpFormat = LongMode;
	static constexpr bool needs_loading = false, keeps_pdptes = false, logs = false;
};
struct InACache {
	static constexpr const char *name = "InACache";
	using TdpFormat = Ept;
	static constexpr bool needs_loading = true, keeps_pdptes = true, logs = true;
};

template <class Traits> struct FakeVendor {
	using Cpu = FakeCpu<Traits>;
	using TdpFormat = typename Traits::TdpFormat;
	static constexpr const char *name = "fake";
	static constexpr bool state_needs_loading = Traits::needs_loading, keeps_pdptes = Traits::keeps_pdptes,
			      logs_writes = Traits::logs;
	static Errc init() { return Errc::ok; }
	static void exit() {}
	static Errc online(unsigned) { return Errc::ok; }
	static void offline(unsigned) {}
	static void emergency() {}
	static VirtSupport support() { return {}; }
	static MmuCaps mmu_caps() { return {}; }

	/* What the guest has written and nobody has been told. */
	static inline std::vector<u64> log;
	static inline unsigned drains = 0;
	static inline std::function<void()> draining; /* a test's, before it begins */

	template <class Vcpu> static Fast fast_exit(Vcpu &v)
	{
		EXPECT_TRUE(hosted::interrupts_off() && hosted::in_guest_context());
		EXPECT_EQ(v.mode.relaxed(), CpuMode::in_guest);
		const Exit &e = v.hw.exit();
		if (was_delivering(v))
			return Fast::slow;
		switch (e.kind) {
		case Exit::Kind::again: return Fast::again;
		case Exit::Kind::settled: return Fast::settled;
		case Exit::Kind::machine_check: return Fast::machine_check;
		case Exit::Kind::cpuid:
			v.cpuid_exit(v.hw.rip() + e.length);
			return v.events.any() ? Fast::settled : Fast::again;
		default: return Fast::slow;
		}
	}
	template <class Vcpu> static bool has_logged(const Vcpu &v)
	{
		EXPECT_TRUE(hosted::interrupts_off());
		EXPECT_EQ(v.mode.relaxed(), CpuMode::in_guest);
		return !log.empty();
	}
	template <class Vcpu> static void drain_log(Vcpu &v)
	{
		EXPECT_FALSE(hosted::interrupts_off()) << "there may be hundreds of pages";
		EXPECT_TRUE(hosted::preemption_off());
		EXPECT_FALSE(hosted::in_guest_context()) << "RCU does not watch yet";
		EXPECT_EQ(v.mode.relaxed(), CpuMode::draining) << "who sees it outside takes the log for empty";
		++drains;
		if (draining)
			draining();
		v.log_writes({log.data(), log.size()});
		log.clear();
	}
	template <class Vcpu> static void slow_exit_may_sleep(const Vcpu &v)
	{
		hosted::may_sleep("a slow exit");
		EXPECT_FALSE(hosted::in_guest_context());
		EXPECT_EQ(v.mode.relaxed(), CpuMode::outside);
	}
	template <class Vcpu> static Next slow_exit(Vcpu &v)
	{
		slow_exit_may_sleep(v);
		const Exit &e = v.hw.exit();
		const u64 next = v.hw.rip() + e.length;
		switch (e.kind) {
		case Exit::Kind::hlt: return v.hlt(next);
		case Exit::Kind::in: return v.pio(PioDirection::in, e.port, e.size, next);
		case Exit::Kind::out: return v.pio(PioDirection::out, e.port, e.size, next);
		case Exit::Kind::ins: return v.string_pio(PioDirection::in, e.port, e.size);
		case Exit::Kind::outs: return v.string_pio(PioDirection::out, e.port, e.size);
		case Exit::Kind::mmio: return v.tdp_fault(Gpa{e.gpa}, e.code, e.of);
		case Exit::Kind::cpuid: return v.cpuid_exit(next);
		case Exit::Kind::fault: return v.raise(e.raised);
		case Exit::Kind::task: return v.task_switch(e.task, e.came_of);
		case Exit::Kind::refused: return v.fail_entry(7);
		case Exit::Kind::other: return e.handle();
		case Exit::Kind::window: v.hw.close_interrupt_window(); return Next::guest;
		default: return Next::guest;
		}
	}
	template <class Vcpu> static void collect_delivery(Vcpu &v)
	{
		const Exit &e = v.hw.exit();
		if (e.cut_interrupt)
			v.events.requeue_interrupt(*e.cut_interrupt);
		if (e.cut_nmi)
			v.events.requeue_nmi();
		if (e.cut_software) {
			SoftwareEvent s = *e.cut_software;
			s.at = v.linear_rip();
			v.events.requeue_software(s);
		}
		if (e.cut_exception)
			v.events.requeue({e.cut_exception->vector, e.cut_exception->has_error, e.cut_exception->error});
	}
	template <class Vcpu> static bool was_delivering(const Vcpu &v)
	{
		const Exit &e = v.hw.exit();
		return e.cut_exception || e.cut_interrupt || e.cut_software || e.cut_nmi;
	}
	template <class Vcpu> static CutShort cut_short(const Vcpu &v)
	{
		const Exit &e = v.hw.exit();
		return {e.cut_interrupt.value_or(0), u64(e.kind), e.code};
	}
	template <class Vcpu> static bool nmi_allowed(Vcpu &v)
	{
		return !v.events.nmi_masked() && v.hw.interrupt_shadow() == InterruptShadow::none;
	}
	template <class Vcpu> static void nmi_masked(Vcpu &) {}
	template <class Vcpu> static void sync_nmi(Vcpu &) {}
	template <class Vcpu> static void want_nmi_window(Vcpu &v) { v.hw.want_nmi_window(); }
	template <class Vcpu> static Next check_mode(Vcpu &) { return Next::guest; }
	template <class Vcpu> static unsigned prefetched(Vcpu &v, u8 *bytes)
	{
		const std::vector<u8> &b = v.hw.exit().bytes;
		for (size_t i = 0; i < b.size(); ++i)
			bytes[i] = b[i];
		return unsigned(b.size());
	}
	template <class Vcpu> static void cpuid_changed(Vcpu &) {}
};

/* All that the core uses of a vendor is in the concept, and here. */
static_assert(Vendor<FakeVendor<SelfContained>> && Vendor<FakeVendor<InACache>>);

}
