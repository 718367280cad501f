/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "arch/x86/cpu/tag_pool.hpp"

namespace kx {

/*
 * What one vCPU has in the TLB of the CPU it is on: a tag for each root it walked there. A switch of roots is
 * a switch of tags, and takes nothing from the TLB. A flush is a debt: flush_all() leaves every tag behind,
 * flush_current() one, and it is paid when the vCPU enters by a tag that is behind. Before a root's page
 * becomes something else every vCPU is asked for flush_all(): a tag outlives the root it is of.
 *
 * What a tag means is the vendor's. SVM's ASID tags all that is cached of guest and nested tables: a new one
 * has nothing in the TLB, and owes nothing. VMX tags what it caches of a guest by VPID and root (EP4TA), what
 * it caches of the nested tables alone by the root: a new VPID is no help against these, and a root not used
 * here since the vCPU came may have left some, of itself or of whoever had its pages before. So a new tag is
 * behind. APM vol. 2 §15.16, SDM vol. 3 §29.4.1, §29.4.3.1
 */
class TlbTags {
public:
	/* Before the next entry. */
	struct Due {
		u32 tag;
		bool flush_cpu; /* everything, of everybody: tags are given out anew */
		bool fresh;	/* never had anything in this TLB */
		bool behind;	/* what it may have there is too old */
	};

private:
	struct Tag {
		u64 root, generation, epoch; /* generation 0: not one of this CPU; epoch 0: behind whatever happens */
		u32 id;
	};
	static constexpr unsigned max_roots = 8;

	u64 ready_ = 0; /* generation of the current tag if nothing is due, or 0 */
	u64 epoch_ = 1; /* moved by each flush_all() */
	Tag tag_[max_roots] = {};
	u8 now_ = 0, next_ = 0; /* the current one; where a root that is new is put */

public:
	/* Nothing is due: the one question of every entry. */
	bool ready(const TagPool &pool) const { return pool.current(ready_); }
	/* Something else is to be done at the next entry, where settle() is called. */
	void ask_again() { ready_ = 0; }
	/* To a CPU where it was not, or may have been forgotten. */
	void moved()
	{
		ready_ = 0;
		for (Tag &t : tag_)
			t.generation = t.epoch = 0;
	}
	void switch_to(u64 root)
	{
		ready_ = 0; /* settle() looks whether anything is */
		for (u8 i = 0; i < max_roots; ++i)
			if (tag_[i].root == root) {
				now_ = i;
				return;
			}
		now_ = next_;
		next_ = u8((next_ + 1) % max_roots);
		tag_[now_] = {root, 0, 0, 0};
	}
	void flush_all()
	{
		ready_ = 0;
		++epoch_;
	}
	void flush_current()
	{
		ready_ = 0;
		tag_[now_].epoch = 0;
	}
	Due settle(TagPool &pool)
	{
		Tag &t = tag_[now_];
		Due d{t.id, false, false, t.epoch != epoch_};
		if (!pool.current(t.generation))
			d = renew(pool, d.behind);
		t.epoch = epoch_;
		ready_ = t.generation;
		return d;
	}
	/* Another tag, where that is how to flush. */
	Due renew(TagPool &pool) { return renew(pool, true); }

private:
	Due renew(TagPool &pool, bool behind)
	{
		Tag &t = tag_[now_];
		const TagPool::Grant g = pool.take();
		t.id = g.tag;
		t.generation = ready_ = g.generation;
		return {g.tag, g.flush_all, true, behind};
	}
};

}
