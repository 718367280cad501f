/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A hardware task switch, which VMX leaves to the hypervisor, and we take from SVM: a nested fault in its
 * midst would leave the guest between two tasks. SDM vol. 3 §8.2 (TSS), §8.3 (the switch; table 8-1: its
 * exceptions), §26.4.2 (what the processor has checked before it exits); APM vol. 2 §15.14.1.
 *
 * First everything is translated that the switch touches in descriptor table and TSSs: a fault there is
 * one of the old task, which has not changed. Then the old task is saved and the registers of the new one
 * are loaded. From there on a fault (its LDT, its segments, its stack) is the new task's.
 */
#pragma once
#include "arch/x86/emulate/machine.hpp"
#include "arch/x86/emulate/outcome.hpp"
#include "arch/x86/emulate/task_switch.hpp"

namespace kx::emulate {

/* What a machine has to have for it besides. Nothing here is asked for in long mode. */
template <class M>
concept TaskMachine = Machine<M> && requires(M &m, const M &c, Seg s, const Segment &v, u32 cr3) {
	{ c.gdt() } -> std::convertible_to<DescTable>;
	m.set_segment(s, v);
	{ c.paging() } -> std::same_as<bool>;
	{ m.set_cr3(cr3) } -> std::same_as<bool>; /* false: the page-directory pointers have reserved bits set */
	m.task_switched(); /* CR0.TS is set, the breakpoints of the old task (DR7.L0-L3, LE) are off */
};

namespace task {

/* Where things are in a TSS; all from ip to ldt is saved, one after another, `size` bytes apart. */
struct Layout {
	u8 size;	 /* of a register, in bytes */
	u8 ip, flags, gprs, segments, ldt, end;
	u8 segment_count;
	constexpr u32 limit() const { return end - 1u; }
};
inline constexpr Layout layout16{2, 14, 16, 18, 34, 42, 44, 4};
inline constexpr Layout layout32{4, 32, 36, 40, 72, 96, 104, 6};
inline constexpr unsigned cr3_at = 28, trap_at = 100; /* of 32-bit ones */
static_assert(layout16.gprs + 8 * 2 == layout16.segments && layout16.segments + 4 * 2 == layout16.ldt);
static_assert(layout32.gprs + 8 * 4 == layout32.segments && layout32.segments + 6 * 4 == layout32.ldt);

namespace type {
inline constexpr u8 ldt = 2, tss16 = 1, tss32 = 9, busy = 2, accessed = 1, writable = 2, readable = 2,
		    conforming = 4, code = 8;
}

/* A descriptor of 8 bytes. SDM vol. 3 §3.4.5 */
constexpr Segment segment_of(u64 d, u16 selector)
{
	const bool g = d >> 55 & 1;
	const u32 limit = u32((d & 0xffff) | (d >> 32 & 0xf0000));
	return {.base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000),
		.limit = g ? limit << 12 | 0xfff : limit,
		.selector = selector,
		.type = u8(d >> 40 & 15),
		.dpl = u8(d >> 45 & 3),
		.s = (d >> 44 & 1) != 0,
		.present = (d >> 47 & 1) != 0,
		.avl = (d >> 52 & 1) != 0,
		.l = false,
		.db = (d >> 54 & 1) != 0,
		.g = g,
		.unusable = false};
}
constexpr Segment null_segment(u16 selector, u8 dpl = 0)
{
	return {.base = 0, .limit = 0, .selector = selector, .type = 3, .dpl = dpl, .s = true, .present = false,
		.avl = false, .l = false, .db = false, .g = false, .unusable = true};
}
constexpr Segment vm86_segment(u16 selector)
{
	return {.base = u64{selector} << 4, .limit = 0xffff, .selector = selector, .type = 3, .dpl = 3, .s = true,
		.present = true, .avl = false, .l = false, .db = false, .g = false, .unusable = false};
}
constexpr bool is_null(u16 selector) { return !(selector & ~3); }

template <TaskMachine M> class Switcher {
	M &m_;
	const TaskSwitch &t_;
	Outcome stopped_ = Outcome::retry();

	/* Bytes at a linear address: in one page or two. */
	struct Place {
		Gpa gpa[2] = {Gpa{0}, Gpa{0}};
		unsigned len[2] = {0, 0};
	};
	struct Descriptor {
		u64 linear = 0, raw = 0;
		Place at;
	};

	bool stop(const Outcome &o)
	{
		stopped_ = o;
		return false;
	}
	bool fault(Vector v, u16 selector)
	{
		return stop(Outcome::fault(Exception::coded(v, (selector & ~3u) | t_.external)));
	}
	static u32 get(const u8 *from, unsigned size)
	{
		u32 v = 0;
		__builtin_memcpy(&v, from, size);
		return v;
	}
	static void put(u8 *to, unsigned size, u64 v) { __builtin_memcpy(to, &v, size); }

	bool locate(u64 linear, unsigned len, Access a, Place &p)
	{
		const Gva first{u32(linear)};
		const u64 room = page_size - first.offset();
		p.len[0] = len < room ? len : unsigned(room);
		p.len[1] = len - p.len[0];
		for (unsigned i = 0; i < 2 && p.len[i]; ++i) {
			const Translation t = m_.translate(i ? Gva{u32(linear + p.len[0])} : first, a);
			if (t.kind() == Translation::Kind::fault)
				return stop(Outcome::fault(t.fault()));
			if (!t.ok())
				return stop(Outcome::retry());
			p.gpa[i] = t.gpa();
			if (!m_.is_ram(p.gpa[i], a)) /* tables on a device: nobody's doing */
				return stop(Outcome::unhandled());
		}
		return true;
	}
	bool read(const Place &p, u8 *to)
	{
		if (m_.ram_read(p.gpa[0], to, p.len[0]) != Ram::ok ||
		    (p.len[1] && m_.ram_read(p.gpa[1], to + p.len[0], p.len[1]) != Ram::ok))
			return stop(Outcome::error());
		return true;
	}
	bool write(const Place &p, const u8 *from)
	{
		if (m_.ram_write(p.gpa[0], from, p.len[0]) != Ram::ok ||
		    (p.len[1] && m_.ram_write(p.gpa[1], from + p.len[0], p.len[1]) != Ram::ok))
			return stop(Outcome::error());
		return true;
	}

	/* The descriptor a selector names; `beyond`: what it is not to be in its table for. */
	bool descriptor(u16 selector, Access a, Vector beyond, Descriptor &d)
	{
		DescTable table = m_.gdt();
		u32 limit = table.limit;
		if (selector & 4) {
			const Segment ldt = m_.segment(Seg::ldtr);
			table.base = ldt.base;
			limit = ldt.limit;
			if (ldt.unusable)
				return fault(beyond, selector);
		}
		const u32 at = selector & ~7u;
		if (at + 7 > limit)
			return fault(beyond, selector);
		u8 bytes[8];
		d.linear = table.base + at;
		if (!locate(d.linear, 8, a, d.at) || !read(d.at, bytes))
			return false;
		__builtin_memcpy(&d.raw, bytes, 8);
		return true;
	}
	/* Sets or clears bits of the type. A change that another processor makes meanwhile may be lost to
	 * us, never to it: the access is one byte. */
	bool retype(const Place &p, u8 set, u8 clear)
	{
		u8 bytes[8];
		if (!read(p, bytes))
			return false;
		const unsigned half = p.len[0] > 5 ? 0 : 1;
		const u8 old = bytes[5], now = u8((old | set) & ~clear);
		const Gpa at = half ? p.gpa[1] + (5 - p.len[0]) : p.gpa[0] + 5;
		if (now != old && m_.ram_swap(at, &old, &now, 1) == Swap::failed)
			return stop(Outcome::error());
		return true;
	}

	/* CS, SS, DS, ES, FS, GS of the new task, whose CPL is known; table 8-1. */
	bool load(Seg s, u16 selector, u8 cpl, Segment &to)
	{
		const u8 rpl = selector & 3;
		if (is_null(selector)) {
			if (s == Seg::cs || s == Seg::ss)
				return fault(Vector::ts, selector);
			to = null_segment(selector);
			return true;
		}
		Descriptor d;
		if (!descriptor(selector, Access::implicit_read, Vector::ts, d))
			return false;
		Segment v = segment_of(d.raw, selector);
		const bool code = v.type & type::code, conforming = code && (v.type & type::conforming);
		bool fits = v.s;
		if (s == Seg::cs)
			fits = fits && code && (conforming ? v.dpl <= rpl : v.dpl == rpl);
		else if (s == Seg::ss)
			fits = fits && !code && (v.type & type::writable) && rpl == cpl && v.dpl == cpl;
		else
			fits = fits && (!code || (v.type & type::readable)) &&
			       (conforming || v.dpl >= (cpl > rpl ? cpl : rpl));
		if (!fits)
			return fault(Vector::ts, selector);
		if (!v.present)
			return fault(s == Seg::ss ? Vector::ss : Vector::np, selector);
		if (!(v.type & type::accessed)) {
			if (!locate(d.linear, 8, Access::implicit_write, d.at) || !retype(d.at, type::accessed, 0))
				return false;
			v.type |= type::accessed;
		}
		to = v;
		return true;
	}

	bool load_ldt(u16 selector)
	{
		Segment none = null_segment(selector);
		none.s = false;
		none.type = type::ldt;
		m_.set_segment(Seg::ldtr, none);
		if (is_null(selector))
			return true;
		if (selector & 4)
			return fault(Vector::ts, selector);
		Descriptor d;
		if (!descriptor(selector, Access::implicit_read, Vector::ts, d))
			return false;
		const Segment v = segment_of(d.raw, selector);
		if (v.s || v.type != type::ldt || !v.present)
			return fault(Vector::ts, selector);
		m_.set_segment(Seg::ldtr, v);
		return true;
	}

	/* Until its descriptor is found good, a selector is all there is of a segment. CS and SS keep what
	 * they have beside it: the processor has to be in some mode when it takes the fault, though not in
	 * virtual-8086 mode any more. */
	bool load_segments(const Layout &l, const u8 *tss)
	{
		u16 selectors[6] = {};
		for (unsigned i = 0; i < l.segment_count; ++i)
			selectors[i] = u16(get(tss + l.segments + i * l.size, 2));
		const bool vm86 = m_.rflags() & rflags::vm;
		for (unsigned i = 0; i < 6; ++i) {
			const Seg s = Seg(i);
			Segment v = null_segment(selectors[i]);
			if (vm86)
				v = vm86_segment(selectors[i]);
			else if (s == Seg::cs || s == Seg::ss)
				(v = m_.segment(s)).selector = selectors[i];
			if (s == Seg::cs && !vm86)
				v.type |= type::code;
			m_.set_segment(s, v);
		}
		if (!load_ldt(u16(get(tss + l.ldt, 2))))
			return false;
		if (!vm86) {
			const u8 cpl = selectors[u8(Seg::cs)] & 3;
			Segment v;
			if (!load(Seg::cs, selectors[u8(Seg::cs)], cpl, v))
				return false;
			m_.set_segment(Seg::cs, v);
			m_.set_segment(Seg::ss, null_segment(selectors[u8(Seg::ss)], cpl));
			for (const Seg s : {Seg::ss, Seg::ds, Seg::es, Seg::fs, Seg::gs}) {
				if (!load(s, selectors[u8(s)], cpl, v))
					return false;
				m_.set_segment(s, v);
			}
		}
		return m_.rip() <= m_.segment(Seg::cs).limit || fault(Vector::gp, 0);
	}

	bool push_error(unsigned size)
	{
		const Segment ss = m_.segment(Seg::ss);
		const u32 mask = ss.db ? ~u32{0} : 0xffff;
		const u32 esp = u32(m_.gpr(Gpr::rsp)), sp = (esp - size) & mask, last = sp + size - 1;
		const bool down = ss.type & 4;
		if (last < sp || (down ? sp <= ss.limit || last > mask : last > ss.limit))
			return fault(Vector::ss, 0);
		Place p;
		u8 bytes[4];
		put(bytes, 4, t_.error);
		if (!locate(ss.base + sp, size, Access::write, p) || !write(p, bytes))
			return false;
		m_.set_gpr(Gpr::rsp, (esp & ~mask) | sp);
		return true;
	}

	bool save(const Layout &l, const Place &p)
	{
		u8 image[layout32.end];
		if (!read(p, image)) /* the upper halves of selectors stay what they are */
			return false;
		const auto at = [&](unsigned offset) { return image + (offset - l.ip); };
		const u64 flags = t_.by == TaskSwitch::By::iret ? t_.flags & ~rflags::nt : t_.flags;
		put(at(l.ip), l.size, t_.return_rip);
		put(at(l.flags), l.size, flags);
		for (unsigned i = 0; i < 8; ++i)
			put(at(l.gprs + i * l.size), l.size, m_.gpr(Gpr(i)));
		for (unsigned i = 0; i < l.segment_count; ++i)
			put(at(l.segments + i * l.size), 2, m_.segment(Seg(i)).selector);
		return write(p, image);
	}

	/* False: #GP of CR3. */
	bool load_registers(const Layout &l, const u8 *tss, bool nested)
	{
		constexpr u64 known = rflags::cf | rflags::pf | rflags::af | rflags::zf | rflags::sf | rflags::tf |
				      rflags::intf | rflags::df | rflags::of | rflags::iopl | rflags::nt | rflags::rf |
				      rflags::vm | rflags::ac | rflags::vif | rflags::vip | rflags::id;
		const u64 flags = get(tss + l.flags, l.size);
		m_.set_rflags((flags & known) | rflags::fixed | (nested ? rflags::nt : 0));
		m_.set_rip(get(tss + l.ip, l.size));
		for (unsigned i = 0; i < 8; ++i)
			m_.set_gpr(Gpr(i), get(tss + l.gprs + i * l.size, l.size));
		return l.size == 2 || !m_.paging() || m_.set_cr3(get(tss + cr3_at, 4)) || fault(Vector::gp, 0);
	}

	bool run()
	{
		using By = TaskSwitch::By;
		const bool nested = t_.by == By::call || t_.by == By::gate;
		const u8 busy = t_.by == By::iret ? type::busy : 0;

		/* The processor has looked at it; if it is no longer right, it shall look again. */
		Descriptor next;
		if ((t_.selector & 4) || (t_.selector | 7u) > m_.gdt().limit)
			return stop(Outcome::retry());
		if (!descriptor(t_.selector, busy ? Access::implicit_read : Access::implicit_write, Vector::gp, next))
			return false;
		Segment tr = segment_of(next.raw, t_.selector);
		const bool wide = tr.type == (type::tss32 | busy);
		if (tr.s || !tr.present || !(wide || tr.type == (type::tss16 | busy)))
			return stop(Outcome::retry());
		const Layout &l = wide ? layout32 : layout16;
		if (tr.limit < l.limit())
			return stop(Outcome::retry());

		const Segment old = m_.segment(Seg::tr);
		const Layout &was = old.type & 8 ? layout32 : layout16;
		if (old.limit < was.limit())
			return fault(Vector::ts, old.selector);
		Place from, to, link, old_descriptor;
		if (!locate(tr.base, l.end, Access::implicit_read, from) ||
		    (nested && !locate(tr.base, 2, Access::implicit_write, link)) ||
		    !locate(old.base + was.ip, was.ldt - was.ip, Access::implicit_write, to) ||
		    (!nested && !locate(m_.gdt().base + (old.selector & ~7u), 8, Access::implicit_write, old_descriptor)))
			return false;

		u8 tss[layout32.end];
		if (!save(was, to) || !read(from, tss))
			return false;
		if (nested) {
			u8 selector[2];
			put(selector, 2, old.selector);
			if (!write(link, selector))
				return false;
		} else if (!retype(old_descriptor, 0, type::busy)) {
			return false;
		}
		if (!retype(next.at, type::busy, 0))
			return false;

		tr.type |= type::busy;
		m_.set_segment(Seg::tr, tr);
		m_.task_switched();
		if (!load_registers(l, tss, nested) || !load_segments(l, tss))
			return false;
		if (t_.has_error && !push_error(l.size))
			return false;
		const bool trap = wide && (tss[trap_at] & 1);
		return stop(Outcome::done(trap ? Outcome::Trap::task_switch : Outcome::Trap::none));
	}

public:
	Switcher(M &m, const TaskSwitch &t) : m_{m}, t_{t} {}
	Outcome operator()()
	{
		run();
		return stopped_;
	}
};

}

/* done: the new task is there. retry: nothing was done, the guest's next attempt finds out why. fault: of the
 * old task, or of the new one, whichever is there now. unhandled: a TSS or a descriptor table is not in RAM. */
template <TaskMachine M> Outcome switch_task(M &m, const TaskSwitch &t) { return task::Switcher<M>{m, t}(); }

}
