/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "cxxrt/addr.hpp"

namespace kx::emulate {

/* What an instruction writes to devices: at most one operand, handed out in pieces of at most eight
 * bytes, none of which leaves its page. */
class WriteQueue {
public:
	/* A 32-byte store that straddles a page: 4 + 1 pieces. */
	static constexpr unsigned capacity = 5;
	struct Piece {
		Gpa gpa;
		u8 len;
		u64 data;
	};

private:
	u64 gpa_[capacity];
	u64 data_[capacity];
	u8 len_[capacity];
	u8 count_ = 0, next_ = 0;

public:
	void clear() { count_ = next_ = 0; }
	bool empty() const { return next_ == count_; }

	/* 1..8 bytes, the rest of data is 0. */
	void push(Gpa gpa, u64 data, unsigned len)
	{
		if (count_ == capacity) /* no instruction has that many */
			return;
		gpa_[count_] = gpa.raw();
		data_[count_] = data;
		len_[count_++] = u8(len);
	}
	Piece front() const { return {Gpa{gpa_[next_]}, len_[next_], data_[next_]}; }
	void pop() { next_++; }
};

}
