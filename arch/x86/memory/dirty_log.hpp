/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/alloc.hpp"
#include "cxxrt/atomic.hpp"

namespace kx {

/*
 * Which pages of a slot were written since the log was read last, and a second bitmap of the same size
 * in which a reader collects what it hands out.
 *
 * Whoever writes guest memory, or makes an entry writable, does so first, passes a full barrier, and
 * marks afterwards in the log the slot has then. Whoever reads the log takes a word first and write-
 * protects afterwards. So at every moment: a page that can be written has its bit set, or its writer
 * has still to mark it, and the next reader takes the bit and the right to write.
 */
class DirtyLog {
	Array<Atomic<u64>> words_;
	Array<u64> taken_;
	u64 pages_;

public:
	DirtyLog(u64 pages, Array<Atomic<u64>> words, Array<u64> taken)
		: words_{kx::move(words)}, taken_{kx::move(taken)}, pages_{pages}
	{
	}
	static Result<Owned<DirtyLog>> make(u64 pages)
	{
		const size_t n = size_t((pages + 63) / 64);
		auto words = KX_TRY(Array<Atomic<u64>>::make(n));
		auto taken = KX_TRY(Array<u64>::make(n));
		return kx::make<DirtyLog>(pages, kx::move(words), kx::move(taken));
	}
	/* The load spares a locked instruction where the bit stands already: whoever takes it later write-
	 * protects later still. */
	void mark(u64 index)
	{
		Atomic<u64> &w = words_[index / 64];
		const u64 b = u64{1} << (index % 64);
		if (!(w.acquire() & b))
			w.or_with(b);
	}
	u64 take(size_t word) { return words_[word].relaxed() ? words_[word].exchange(0) : 0; }
	u64 peek(size_t word) const { return words_[word].relaxed(); }
	u64 pages() const { return pages_; }
	size_t words() const { return words_.size(); }
	/* Of the reader, which holds the slots mutex. */
	u64 *taken() { return taken_.get(); }
};

}
