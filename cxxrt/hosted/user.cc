/* SPDX-License-Identifier: GPL-2.0-only */
/* The seam's user copies and host pages, on VmmMemory and on the test's own memory. */
#include "state.hpp"
#include "vmm_memory.hpp"

using namespace kx::hosted;

namespace {

bool in_window(kx_u64 at) { return at >= VmmMemory::window && at < VmmMemory::window_end; }
bool no_address(kx_u64 at) { return at < 0x10000; }

/* f(test's or model's bytes, offset, how many) page by page. */
template <class F> int by_page(kx_u64 at, kx_size n, bool write, F f)
{
	for (kx_size done = 0; done < n;) {
		if (no_address(at + done))
			return -14;
		if (!in_window(at)) {
			f(reinterpret_cast<unsigned char *>(at), kx_size{0}, n);
			return 0;
		}
		VmmMemory *m = VmmMemory::current();
		const kx_size left = 4096 - (at + done) % 4096, some = n - done < left ? n - done : left;
		if (!m || !m->access(at + done, write, [&](unsigned char *p) { f(p, done, some); }))
			return -14;
		done += some;
	}
	return 0;
}

/* As other threads do it too: no plain accesses. */
void copy(unsigned char *to, const unsigned char *from, kx_size n)
{
	for (kx_size i = 0; i < n; ++i)
		__atomic_store_n(to + i, __atomic_load_n(from + i, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

template <class T> int swap_user(kx_u64 at, kx_u64 *old, kx_u64 now)
{
	int r = -14;
	by_page(at, sizeof(T), true, [&](unsigned char *p, kx_size, kx_size) {
		T seen = T(*old);
		const bool ok = __atomic_compare_exchange_n(reinterpret_cast<T *>(p), &seen, T(now), false,
							    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		*old = seen;
		r = !ok;
	});
	return r;
}

template <class T> int read_user(kx_u64 at, T *value)
{
	may_sleep("reading user memory");
	point();
	return by_page(at, sizeof(T), false, [&](unsigned char *p, kx_size, kx_size) {
		*value = __atomic_load_n(reinterpret_cast<T *>(p), __ATOMIC_RELAXED);
	});
}

}

extern "C" {

int kx_copy_from_user(void *to, kx_u64 from, kx_size n)
{
	may_sleep("kx_copy_from_user");
	return by_page(from, n, false, [&](unsigned char *p, kx_size at, kx_size some) {
		copy(static_cast<unsigned char *>(to) + at, p, some);
	});
}
int kx_copy_to_user(kx_u64 to, const void *from, kx_size n)
{
	may_sleep("kx_copy_to_user");
	point();
	const int r = by_page(to, n, true, [&](unsigned char *p, kx_size at, kx_size some) {
		copy(p, static_cast<const unsigned char *>(from) + at, some);
	});
	point();
	return r;
}
int kx_read_user_u64(kx_u64 from, kx_u64 *value) { return read_user(from, value); }
int kx_read_user_u32(kx_u64 from, kx_u32 *value) { return read_user(from, value); }
int kx_cmpxchg_user(kx_u64 at, unsigned bytes, kx_u64 *old, kx_u64 now)
{
	may_sleep("kx_cmpxchg_user");
	point();
	switch (bytes) {
	case 1: return swap_user<kx_u8>(at, old, now);
	case 2: return swap_user<std::uint16_t>(at, old, now);
	case 4: return swap_user<kx_u32>(at, old, now);
	case 8: return swap_user<kx_u64>(at, old, now);
	default: fail("kx_cmpxchg_user of an odd size");
	}
}
int kx_user_range_ok(kx_u64 at, kx_u64 bytes)
{
	constexpr kx_u64 limit = 0x7fff'ffff'f000;
	return at <= limit && bytes <= limit - at;
}

int kx_page_pin(kx_u64 hva, int want_write, struct kx_host_page *out)
{
	may_sleep("kx_page_pin");
	point();
	VmmMemory *m = VmmMemory::current();
	Pin p;
	if (const int e = m ? m->pin(hva, want_write, p) : -14)
		return e;
	*out = {p.pfn, p.writable, p.ram, p.pinned, kx_u8(p.order)};
	point();
	return 0;
}
void kx_page_unpin(kx_u64 pfn, int mapped_writable, int) { VmmMemory::current()->unpin(pfn, mapped_writable); }

kx_u64 kx_host_present(kx_u64 hva, unsigned n, kx_u64 *pfns, kx_u64 *writable, unsigned *order)
{
	if (n < 1 || n > 64)
		fail("kx_host_present of too much or nothing");
	if (!context.spinning)
		fail("kx_host_present without mmu_lock");
	VmmMemory *m = VmmMemory::current();
	*writable = 0, *order = 0;
	const kx_u64 got = m ? m->present(hva, n, pfns, writable, order) : 0;
	point(); /* what was read is getting old */
	return got;
}

}
