/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include "addr.hpp"
#include "result.hpp"
#include "seam.h"

namespace kx {

/* Sole owner of an object on the heap. Allocation may sleep; release may not be in NMI. */
template <class T> class Owned {
	T *p_ = nullptr;

public:
	constexpr Owned() = default;
	explicit Owned(T *p) : p_{p} {}
	Owned(Owned &&o) noexcept : p_{o.release()} {}
	Owned &operator=(Owned &&o) noexcept
	{
		if (this != &o) {
			reset();
			p_ = o.release();
		}
		return *this;
	}
	~Owned() { reset(); }
	T *get() const { return p_; }
	T &operator*() const { return *p_; }
	T *operator->() const { return p_; }
	explicit operator bool() const { return p_; }
	T *release()
	{
		T *p = p_;
		p_ = nullptr;
		return p;
	}
	void reset()
	{
		if (p_) {
			p_->~T();
			kx_free(p_);
			p_ = nullptr;
		}
	}
};

template <class T, class... A> Result<Owned<T>> make(A &&...a)
{
	void *m = kx_zalloc(sizeof(T));
	if (!m)
		return Errc::nomem;
	return Owned<T>{::new (m) T{static_cast<A &&>(a)...}};
}

/* One zeroed page of the direct map, as storage for a T. */
template <class T = u8> class Page {
	T *p_ = nullptr;

public:
	constexpr Page() = default;
	Page(Page &&o) noexcept : p_{o.p_} { o.p_ = nullptr; }
	Page &operator=(Page &&o) noexcept
	{
		T *mine = p_;
		p_ = o.p_;
		o.p_ = mine;
		return *this;
	}
	~Page()
	{
		if (p_)
			kx_page_free(p_);
	}
	static Result<Page> make() { return own(kx_page_alloc()); }
	/* Not the first of 2 MiB: for what the processor holds while it uses it. */
	static Result<Page> make_inside() { return own(kx_page_alloc_inside()); }
	T *get() const { return p_; }
	T &operator*() const { return *p_; }
	T *operator->() const { return p_; }
	explicit operator bool() const { return p_; }

private:
	static Result<Page> own(void *p)
	{
		static_assert(sizeof(T) <= page_size);
		if (!p)
			return Errc::nomem;
		Page page;
		page.p_ = static_cast<T *>(p);
		return page;
	}
};

/* n zeroed objects of a plain type; need not be physically contiguous. */
template <class T> class Array {
	T *p_ = nullptr;
	size_t n_ = 0;
	static_assert(std::is_trivially_destructible_v<T>);

public:
	constexpr Array() = default;
	Array(Array &&o) noexcept : p_{o.p_}, n_{o.n_} { o.p_ = nullptr, o.n_ = 0; }
	Array &operator=(Array &&o) noexcept
	{
		T *p = p_;
		size_t n = n_;
		p_ = o.p_, n_ = o.n_, o.p_ = p, o.n_ = n;
		return *this;
	}
	~Array()
	{
		if (p_)
			kx_free(p_);
	}
	static Result<Array> make(size_t n)
	{
		Array a;
		size_t bytes;
		if (__builtin_mul_overflow(n, sizeof(T), &bytes))
			return Errc::nomem;
		a.p_ = static_cast<T *>(kx_vzalloc(bytes ? bytes : 1));
		if (!a.p_)
			return Errc::nomem;
		a.n_ = n;
		return a;
	}
	T *get() const { return p_; }
	size_t size() const { return n_; }
	T &operator[](size_t i) const { return p_[i]; }
	T *begin() const { return p_; }
	T *end() const { return p_ + n_; }
	explicit operator bool() const { return p_; }
};

/* The virtual address of physical address 0. Constant, which no compiler knows: in loops keep a copy. */
inline u64 direct_map() { return kx_direct_map; }
inline Hpa phys_of(const void *direct) { return Hpa{reinterpret_cast<u64>(direct) - direct_map()}; }
template <class T = void> T *direct_of(Hpa p) { return reinterpret_cast<T *>(p.raw() + direct_map()); }

}
