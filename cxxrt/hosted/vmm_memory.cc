/* SPDX-License-Identifier: GPL-2.0-only */
#include "vmm_memory.hpp"
#include <cstring>
#include "state.hpp"

namespace kx::hosted {

namespace {
VmmMemory *now;
constexpr std::uint64_t page = 4096;
}

VmmMemory *VmmMemory::current() { return now; }

VmmMemory::VmmMemory()
{
	now = this;
	zero_ = new_pages(0);
}
VmmMemory::~VmmMemory() { now = nullptr; }

struct VmmMemory::Told {
	VmmWatcher *w;
	std::uint64_t at, end;
	Told(VmmMemory &m, std::uint64_t a, std::uint64_t bytes) : w{m.watcher_}, at{a}, end{a + bytes}
	{
		if (w)
			w->start(at, end);
	}
	~Told()
	{
		if (w)
			w->end(at, end);
	}
};

const VmmMemory::Area *VmmMemory::area(std::uint64_t at) const
{
	auto it = areas_.upper_bound(at);
	if (it == areas_.begin())
		return nullptr;
	--it;
	return at < it->second.end ? &it->second : nullptr;
}

std::uint64_t VmmMemory::new_pages(unsigned order)
{
	const std::uint64_t n = std::uint64_t{1} << order;
	next_pfn_ = (next_pfn_ + n - 1) & ~(n - 1);
	const std::uint64_t first = next_pfn_;
	next_pfn_ += n;
	for (std::uint64_t i = 0; i < n; ++i)
		pages_[first + i]; /* contents appear when somebody looks */
	return first;
}

void VmmMemory::put(std::uint64_t pfn)
{
	auto it = pages_.find(pfn);
	if (it == pages_.end())
		fail("a page is dropped that is free");
	if (--it->second.refs)
		return;
	/* A copy by user address may be under way: in the kernel it would fault. */
	if (it->second.bytes)
		dead_.push_back(std::move(it->second.bytes));
	pages_.erase(it);
}

/* Part of it changes: what is left of a huge mapping consists of small ones. */
void VmmMemory::break_up(std::uint64_t at, std::uint64_t bytes)
{
	for (std::uint64_t vpn = at / page; vpn < (at + bytes) / page; ++vpn) {
		auto it = ptes_.find(vpn);
		if (it == ptes_.end() || !it->second.order)
			continue;
		const std::uint64_t n = std::uint64_t{1} << it->second.order, first = vpn & ~(n - 1);
		for (std::uint64_t i = 0; i < n; ++i)
			if (auto part = ptes_.find(first + i); part != ptes_.end())
				part->second.order = 0;
	}
}

void VmmMemory::drop(std::uint64_t vpn)
{
	auto it = ptes_.find(vpn);
	if (it == ptes_.end())
		return;
	if (it->second.pfn != zero_)
		put(it->second.pfn);
	ptes_.erase(it);
}

std::uint64_t VmmMemory::map(std::uint64_t bytes, Backing b, Protection p, std::uint64_t alignment)
{
	std::unique_lock g{lock_};
	const std::uint64_t at = (next_ + alignment - 1) & ~(alignment - 1);
	next_ = at + bytes + page; /* a hole after each */
	areas_[at] = {at + bytes, b, p};
	return at;
}

/* Under the lock, exclusively. Fresh pages of a huge area come all at once. */
bool VmmMemory::fault_in(std::uint64_t at, bool write)
{
	const Area *a = area(at);
	if (!a || (write && a->protection == Protection::read_only))
		return false;
	const std::uint64_t vpn = at / page;
	auto it = ptes_.find(vpn);
	if (it != ptes_.end()) {
		if (!write || it->second.writable) {
			it->second.dirty |= write;
			return true;
		}
		if (it->second.pfn == zero_) {
			ptes_.erase(it); /* the caller has told the watcher */
		} else {
			it->second.writable = it->second.dirty = true; /* was cleaned; it is the same page again */
			return true;
		}
	}
	const bool rw = a->protection == Protection::read_write;
	if (a->backing == Backing::device) {
		ptes_[vpn] = {new_pages(0), rw, true, true, 0};
		return true;
	}
	const unsigned order = a->backing == Backing::huge ? 18 : a->backing == Backing::large ? 9 : 0;
	if (!order) {
		if (write || !rw)
			ptes_[vpn] = {new_pages(0), write, write, false, 0};
		else
			ptes_[vpn] = {zero_, false, false, true, 0};
		return true;
	}
	const std::uint64_t n = std::uint64_t{1} << order, first = vpn & ~(n - 1);
	bool whole = true;
	for (std::uint64_t i = 0; i < n; ++i)
		whole = whole && area((first + i) * page) == a && !ptes_.count(first + i);
	if (!whole) {
		ptes_[vpn] = {new_pages(0), rw, rw, false, 0};
		return true;
	}
	const std::uint64_t pfn = new_pages(order);
	for (std::uint64_t i = 0; i < n; ++i)
		ptes_[first + i] = {pfn + i, rw, rw, false, order};
	return true;
}

void VmmMemory::break_cow(std::uint64_t vpn, std::unique_lock<std::shared_mutex> &g)
{
	for (;;) { /* without the lock it may come back */
		auto it = ptes_.find(vpn);
		if (it == ptes_.end() || it->second.pfn != zero_)
			return;
		g.unlock();
		{
			Told told{*this, vpn * page, page};
			std::unique_lock again{lock_};
			fault_in(vpn * page, true);
		}
		g.lock();
	}
}

bool VmmMemory::access(std::uint64_t at, bool write, const std::function<void(std::uint8_t *)> &f)
{
	std::unique_lock g{lock_};
	if (write)
		break_cow(at / page, g);
	if (!fault_in(at, write))
		return false;
	Page &p = pages_[ptes_[at / page].pfn];
	if (!p.bytes)
		p.bytes = std::make_unique<std::uint8_t[]>(page);
	f(&p.bytes[at % page]);
	return true;
}

std::uint8_t *VmmMemory::byte(std::uint64_t at, bool write)
{
	std::uint8_t *b = nullptr;
	access(at, write, [&b](std::uint8_t *p) { b = p; });
	return b;
}

void VmmMemory::touch(std::uint64_t at, std::uint64_t bytes)
{
	for (std::uint64_t a = at; a < at + bytes; a += page) {
		std::unique_lock g{lock_};
		break_cow(a / page, g);
		if (!fault_in(a, true))
			fail("touch outside a writable mapping");
	}
}
void VmmMemory::peek(std::uint64_t at, std::uint64_t bytes)
{
	std::unique_lock g{lock_};
	for (std::uint64_t a = at; a < at + bytes; a += page)
		if (!fault_in(a, false))
			fail("peek outside a mapping");
}

void VmmMemory::discard(std::uint64_t at, std::uint64_t bytes)
{
	Told told{*this, at, bytes};
	point();
	std::unique_lock g{lock_};
	break_up(at, bytes);
	for (std::uint64_t a = at; a < at + bytes; a += page)
		drop(a / page);
}

void VmmMemory::unmap(std::uint64_t at, std::uint64_t bytes)
{
	Told told{*this, at, bytes};
	point();
	std::unique_lock g{lock_};
	break_up(at, bytes);
	for (std::uint64_t a = at; a < at + bytes; a += page)
		drop(a / page);
	auto it = --areas_.upper_bound(at);
	Area whole = it->second;
	const std::uint64_t begin = it->first;
	areas_.erase(it);
	if (begin < at)
		areas_[begin] = {at, whole.backing, whole.protection};
	if (at + bytes < whole.end)
		areas_[at + bytes] = whole;
}

void VmmMemory::migrate(std::uint64_t at, std::uint64_t bytes)
{
	Told told{*this, at, bytes};
	point();
	std::unique_lock g{lock_};
	break_up(at, bytes);
	for (std::uint64_t a = at; a < at + bytes; a += page) {
		auto it = ptes_.find(a / page);
		if (it == ptes_.end() || it->second.special)
			continue;
		const std::uint64_t fresh = new_pages(0);
		if (auto old = pages_.find(it->second.pfn); old != pages_.end() && old->second.bytes) {
			pages_[fresh].bytes = std::make_unique<std::uint8_t[]>(page);
			std::memcpy(pages_[fresh].bytes.get(), old->second.bytes.get(), page);
		}
		pages_[fresh].dirty = true;
		put(it->second.pfn);
		it->second.pfn = fresh;
		it->second.order = 0;
	}
}

void VmmMemory::write_back(std::uint64_t at, std::uint64_t bytes)
{
	Told told{*this, at, bytes};
	point();
	std::unique_lock g{lock_};
	break_up(at, bytes);
	for (std::uint64_t a = at; a < at + bytes; a += page) {
		auto it = ptes_.find(a / page);
		if (it == ptes_.end())
			continue;
		it->second.writable = it->second.dirty = false;
		pages_[it->second.pfn].dirty = false;
	}
}

void VmmMemory::clean(std::uint64_t at, std::uint64_t bytes)
{
	Told told{*this, at, bytes};
	point();
	std::unique_lock g{lock_};
	break_up(at, bytes);
	for (std::uint64_t a = at; a < at + bytes; a += page)
		if (auto it = ptes_.find(a / page); it != ptes_.end() && it->second.pfn != zero_) {
			it->second.dirty = false;
			pages_[it->second.pfn].dirty = false;
		}
}

void VmmMemory::collapse(std::uint64_t at)
{
	at &= ~std::uint64_t{0x1fffff};
	Told told{*this, at, 0x200000};
	point();
	std::unique_lock g{lock_};
	const std::uint64_t first = new_pages(9);
	for (unsigned i = 0; i < 512; ++i) {
		auto it = ptes_.find(at / page + i);
		if (it != ptes_.end() && it->second.pfn != zero_) {
			pages_[first + i].bytes = std::move(pages_[it->second.pfn].bytes);
			put(it->second.pfn);
		}
		ptes_[at / page + i] = {first + i, true, true, false, 9};
	}
}

std::uint8_t *VmmMemory::contents(std::uint64_t pfn)
{
	std::unique_lock g{lock_};
	auto it = pages_.find(pfn);
	if (it == pages_.end())
		return nullptr;
	Page &p = it->second;
	if (!p.bytes)
		p.bytes = std::make_unique<std::uint8_t[]>(page);
	return p.bytes.get();
}
bool VmmMemory::freed(std::uint64_t pfn)
{
	std::shared_lock g{lock_};
	return !pages_.count(pfn);
}
bool VmmMemory::marked_dirty(std::uint64_t pfn)
{
	std::shared_lock g{lock_};
	auto it = pages_.find(pfn);
	if (it != pages_.end() && it->second.dirty)
		return true;
	for (const auto &[vpn, pte] : ptes_)
		if (pte.pfn == pfn && pte.dirty)
			return true;
	return false;
}
std::uint64_t VmmMemory::pfn_at(std::uint64_t at)
{
	std::shared_lock g{lock_};
	auto it = ptes_.find(at / page);
	return it == ptes_.end() ? ~std::uint64_t{0} : it->second.pfn;
}

int VmmMemory::pin(std::uint64_t at, bool write, Pin &out)
{
	std::unique_lock g{lock_};
	++pin_calls_;
	if (write)
		break_cow(at / page, g);
	/* Who pins a page that is there does not touch the VMM's entry: he marks the page when he lets go. */
	if (auto it = ptes_.find(at / page); it == ptes_.end() || (write && !it->second.writable))
		if (!fault_in(at, write))
			return -14;
	const Pte &p = ptes_[at / page];
	out = {p.pfn, p.writable, !p.special || p.pfn == zero_, !p.special, p.order};
	if (out.pinned) {
		Page &pg = pages_[p.pfn]; /* refs: 1 of the mapping, made if need be */
		++pg.refs;
		++pins_;
	}
	return 0;
}

void VmmMemory::unpin(std::uint64_t pfn, bool dirty)
{
	if (dirty && !locks_held())
		fail("a page is marked dirty when its mapping may be gone already");
	std::unique_lock g{lock_};
	auto it = pages_.find(pfn);
	if (it == pages_.end() || !pins_)
		fail("unpin of a page that is not pinned");
	it->second.dirty |= dirty;
	--pins_;
	put(pfn);
}

std::uint64_t VmmMemory::present(std::uint64_t at, unsigned n, std::uint64_t *pfns, std::uint64_t *writable,
				 unsigned *order)
{
	std::shared_lock g{lock_};
	std::uint64_t got = 0;
	*writable = 0;
	*order = 0;
	for (unsigned i = 0; i < n; ++i) {
		auto it = ptes_.find(at / page + i);
		if (it == ptes_.end() || it->second.special)
			continue;
		got |= std::uint64_t{1} << i;
		pfns[i] = it->second.pfn;
		if (it->second.writable && it->second.dirty)
			*writable |= std::uint64_t{1} << i;
		if (!i)
			*order = it->second.order;
	}
	return got;
}

}
