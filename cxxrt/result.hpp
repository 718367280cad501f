/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include <new>
#include <type_traits>

namespace kx {

template <class T> constexpr std::remove_reference_t<T> &&move(T &&t) noexcept
{
	return static_cast<std::remove_reference_t<T> &&>(t);
}

/* Values are the errno userspace will see; the ioctl door is the only place that negates them. */
enum class [[nodiscard]] Errc : int {
	ok = 0, perm = 1, noent = 2, intr = 4, io = 5, nxio = 6, toobig = 7, badf = 9, again = 11, nomem = 12,
	fault = 14, busy = 16, exist = 17, nodev = 19, inval = 22, nfile = 23, mfile = 24, notty = 25,
	nospc = 28, range = 34, nosys = 38, opnotsupp = 95, hwpoison = 133,
};

/* A T or the reason why there is none. */
template <class T> class [[nodiscard]] Result {
	union {
		T val_;
	};
	Errc err_;

public:
	Result(T v) : val_{kx::move(v)}, err_{Errc::ok} {}
	Result(Errc e) : err_{e} {} /* e != ok: a Result never lies about having a value */
	Result(Result &&o) noexcept : err_{o.err_}
	{
		if (o.ok())
			::new (static_cast<void *>(&val_)) T{kx::move(o.val_)};
	}
	Result(const Result &) = delete;
	Result &operator=(Result &&) = delete;
	~Result()
	{
		if (ok())
			val_.~T();
	}
	bool ok() const { return err_ == Errc::ok; }
	Errc error() const { return err_; }
	T take() && { return kx::move(val_); }
	const T &peek() const { return val_; }
};

}

/* The value, or return the error from the enclosing function. */
#define KX_TRY(expr) \
	({ \
		auto kx_r = (expr); \
		if (!kx_r.ok()) [[unlikely]] \
			return kx_r.error(); \
		kx::move(kx_r).take(); \
	})

/* For functions that return Errc: return it unless ok. */
#define KX_CHECK(expr) \
	do { \
		if (const kx::Errc kx_e = (expr); kx_e != kx::Errc::ok) [[unlikely]] \
			return kx_e; \
	} while (0)
