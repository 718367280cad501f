/* SPDX-License-Identifier: GPL-2.0-only */
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include "state.hpp"

namespace kx::hosted {

namespace {

std::atomic<std::uint64_t> tried, fail_at, fail_from;
std::atomic<std::int64_t> live, pages;

struct Links {
	std::mutex lock;
	std::unordered_map<void *, kx_u64[2]> of;
};
Links &links()
{
	static auto *l = new Links; /* outlives everything */
	return *l;
}

bool refused(const char *who)
{
	may_sleep(who);
	const std::uint64_t n = ++tried;
	return n == fail_at || (fail_from && n >= fail_from);
}

void *get(kx_size bytes, const char *who)
{
	if (refused(who))
		return nullptr;
	void *p = std::calloc(1, bytes);
	live += !!p;
	return p;
}

}

void fail_allocation(std::uint64_t nth) { tried = 0, fail_from = 0, fail_at = nth; }
void fail_allocations_from(std::uint64_t nth) { tried = 0, fail_at = 0, fail_from = nth; }
std::uint64_t allocations_tried() { return tried; }
std::int64_t live_allocations() { return live; }
std::int64_t live_pages() { return pages; }

}

using namespace kx::hosted;

extern "C" {

kx_u64 kx_direct_map = 0;
struct kx_params kx_params;

void *kx_zalloc(kx_size bytes) { return get(bytes, "kx_zalloc"); }
void *kx_vzalloc(kx_size bytes) { return get(bytes, "kx_vzalloc"); }

void kx_free(void *p)
{
	live -= !!p;
	std::free(p);
}

void *kx_pages_alloc(unsigned order)
{
	if (refused("kx_pages_alloc"))
		return nullptr;
	const std::size_t bytes = std::size_t{4096} << order;
	void *p = std::aligned_alloc(bytes, bytes);
	if (!p)
		return nullptr;
	std::memset(p, 0, bytes);
	++live;
	pages += 1 << order;
	Links &l = links();
	std::lock_guard g{l.lock};
	l.of[p][0] = l.of[p][1] = 0;
	return p;
}

void kx_pages_free(void *p, unsigned order)
{
	if (!p)
		return;
	{
		Links &l = links();
		std::lock_guard g{l.lock};
		if (!l.of.erase(p))
			fail("a page is freed that is none");
	}
	--live;
	pages -= 1 << order;
	std::free(p);
}

void *kx_page_alloc(void) { return kx_pages_alloc(0); }
void *kx_page_alloc_inside(void) { return kx_pages_alloc(0); }
void kx_page_free(void *p) { kx_pages_free(p, 0); }

kx_u64 *kx_page_link(void *page)
{
	Links &l = links();
	std::lock_guard g{l.lock};
	auto it = l.of.find(page);
	if (it == l.of.end())
		fail("kx_page_link of something that is no page");
	return it->second;
}

}
