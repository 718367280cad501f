/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

namespace kx {

/* Intrusive doubly linked list. An element is on at most one list per Link base it has; the list's
 * own lock is the owner's business. T derives from Link<T>. */
template <class T> class Link {
	template <class> friend class List;
	T *next_ = nullptr, *prev_ = nullptr;
};

template <class T> class List {
	T *head_ = nullptr;
	static Link<T> &link(T *t) { return *t; }

public:
	List() = default;
	List(const List &) = delete;
	List &operator=(const List &) = delete;
	bool empty() const { return !head_; }
	T *front() const { return head_; }
	void push_front(T &t)
	{
		link(&t).prev_ = nullptr;
		link(&t).next_ = head_;
		if (head_)
			link(head_).prev_ = &t;
		head_ = &t;
	}
	void remove(T &t)
	{
		Link<T> &l = link(&t);
		if (l.prev_)
			link(l.prev_).next_ = l.next_;
		else
			head_ = l.next_;
		if (l.next_)
			link(l.next_).prev_ = l.prev_;
		l.next_ = l.prev_ = nullptr;
	}
	T *pop_front()
	{
		T *t = head_;
		if (t)
			remove(*t);
		return t;
	}
	static T *next(const T &t) { return static_cast<const Link<T> &>(t).next_; }
	/* f(T &) may remove the element it is given. */
	template <class F> void for_each(F f) const
	{
		for (T *t = head_; t;) {
			T *n = link(t).next_;
			f(*t);
			t = n;
		}
	}
};

}
