/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/addr.hpp"

namespace kx::emulate {

/* The answers one instruction has had from devices so far. The instruction runs again from its
 * start after each; a read that finds its answer here does not go out a second time. Answers are
 * in order and belong to an address: if the guest's paging changed and the run takes another way,
 * the answers from there on are void and asked for again. */
class ReplayLog {
public:
	/* A 32-byte load that straddles a page: 4 + 1 pieces; CMPS of two straddling words: 4. */
	static constexpr unsigned capacity = 5;

private:
	u64 gpa_[capacity];
	u64 value_[capacity];
	u8 len_[capacity];
	u8 count_ = 0, next_ = 0;

public:
	void clear() { count_ = next_ = 0; }
	void rewind() { next_ = 0; }
	bool empty() const { return count_ == 0; }

	/* The next read is this one: its answer, if there is one. */
	const u64 *take(Gpa gpa, unsigned len)
	{
		if (next_ == count_ || gpa_[next_] != gpa.raw() || len_[next_] != len)
			return nullptr;
		return &value_[next_++];
	}
	/* The next read is this one, and goes out. False: more pieces than any instruction has. */
	bool ask(Gpa gpa, unsigned len)
	{
		if (next_ == capacity)
			return false;
		gpa_[next_] = gpa.raw();
		len_[next_] = u8(len);
		count_ = next_;
		return true;
	}
	/* What the device said to the read asked for last. */
	void answer(u64 value)
	{
		value_[count_++] = value;
		next_ = 0;
	}
};

}
