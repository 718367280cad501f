/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "graveyard.hpp"

namespace kx {

/*
 * Collects what changes owe the TLBs, and pays: flush first, then the cut-off tables go to the
 * graveyard. It pays at the latest when it is destroyed.
 *
 * Where: an invalidation of the host pays before it unlocks, because the next one that finds the entry
 * already gone must be able to rely on the flush. Others may pay after they unlocked.
 */
template <TableFormat F, class Tlb> class [[nodiscard]] FlushBatch {
	Tlb &tlb_;
	Graveyard<F> &graves_;
	MmuStats &stats_;
	Debt debt_;

	static void add(Atomic<u64> &to, u32 &n)
	{
		if (n)
			to.count(n);
		n = 0;
	}

public:
	FlushBatch(Tlb &tlb, Graveyard<F> &graves, MmuStats &stats) : tlb_{tlb}, graves_{graves}, stats_{stats} {}
	FlushBatch(const FlushBatch &) = delete;
	~FlushBatch() { settle(); }
	Debt &debt() { return debt_; }
	void settle()
	{
		if (debt_.any()) [[unlikely]]
			pay();
	}

private:
	[[gnu::noinline]] void pay()
	{
		if (debt_.owes()) {
			tlb_.flush(GfnRange{debt_.lo, debt_.hi});
			stats_.tlb_flushes.count();
			debt_.lo = Gfn{~u64{0}}, debt_.hi = Gfn{0};
			graves_.bury(debt_.dead);
			add(stats_.zapped_leaves, debt_.leaves);
			add(stats_.zapped_tables, debt_.tables);
			add(stats_.promoted, debt_.promoted);
			add(stats_.broken, debt_.broken);
		}
		add(stats_.tables_linked, debt_.linked);
		add(stats_.split, debt_.split);
	}
};

}
