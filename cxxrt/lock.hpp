/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Locks of the core, as types. Order, outermost first (enum kx_lock_kind has the same ranks; the
 * hosted build checks it at run time, lockdep in the kernel):
 *
 *   Vm::lock -> Vcpu::mutex -> slots mutex -> slots SRCU (read) -> mmu_lock -> lists of table pages
 *
 * A guard mints the proof: a function that needs a lock takes a witness only a guard can make.
 */
#pragma once
#include "addr.hpp"
#include "result.hpp"
#include "seam.h"
#include "sizes.h"

#if defined(__clang__)
#define KX_TSA(x) __attribute__((x))
#else
#define KX_TSA(x)
#endif
#define KX_CAPABILITY(n) KX_TSA(capability(n))
#define KX_SCOPED KX_TSA(scoped_lockable)
#define KX_GUARDED_BY(m) KX_TSA(guarded_by(m))
#define KX_REQUIRES(m) KX_TSA(requires_capability(m))
#define KX_REQUIRES_SHARED(m) KX_TSA(requires_shared_capability(m))
#define KX_ACQUIRE(...) KX_TSA(acquire_capability(__VA_ARGS__))
#define KX_ACQUIRE_SHARED(...) KX_TSA(acquire_shared_capability(__VA_ARGS__))
#define KX_RELEASE(...) KX_TSA(release_generic_capability(__VA_ARGS__))

namespace kx {

class KX_CAPABILITY("mutex") Mutex {
	alignas(8) unsigned char os_[KX_SIZEOF_MUTEX];

public:
	explicit Mutex(kx_lock_kind k) { kx_mutex_init(os_, k); }
	Mutex(const Mutex &) = delete;
	void lock() KX_ACQUIRE() { kx_mutex_lock(os_); }
	bool lock_killable() KX_TSA(try_acquire_capability(true)) { return kx_mutex_lock_killable(os_) == 0; }
	void unlock() KX_RELEASE() { kx_mutex_unlock(os_); }
};

class KX_CAPABILITY("rwlock") RwLock {
	alignas(8) unsigned char os_[KX_SIZEOF_RWLOCK];

public:
	explicit RwLock(kx_lock_kind k) { kx_rwlock_init(os_, k); }
	RwLock(const RwLock &) = delete;
	void lock_shared() KX_ACQUIRE_SHARED() { kx_read_lock(os_); }
	void unlock_shared() KX_RELEASE() { kx_read_unlock(os_); }
	void lock() KX_ACQUIRE() { kx_write_lock(os_); }
	void unlock() KX_RELEASE() { kx_write_unlock(os_); }
	bool should_yield() { return kx_write_should_yield(os_); }
};

class KX_CAPABILITY("spinlock") SpinLock {
	alignas(8) unsigned char os_[KX_SIZEOF_SPINLOCK];

public:
	explicit SpinLock(kx_lock_kind k) { kx_spin_init(os_, k); }
	SpinLock(const SpinLock &) = delete;
	void lock() KX_ACQUIRE() { kx_spin_lock(os_); }
	void unlock() KX_RELEASE() { kx_spin_unlock(os_); }
};

/* Proof that the MMU lock is held at least for reading / for writing. */
class Shared {
	Shared() = default;
	friend class ReadGuard;
	friend class WriteGuard;
};
class Exclusive {
	Exclusive() = default;
	friend class WriteGuard;
};

class KX_SCOPED [[nodiscard]] ReadGuard {
	RwLock &l_;

public:
	explicit ReadGuard(RwLock &l) KX_ACQUIRE_SHARED(l) : l_{l} { l_.lock_shared(); }
	~ReadGuard() KX_RELEASE() { l_.unlock_shared(); }
	ReadGuard(const ReadGuard &) = delete;
	Shared held() const { return {}; }
};

class KX_SCOPED [[nodiscard]] WriteGuard {
	RwLock &l_;

public:
	explicit WriteGuard(RwLock &l) KX_ACQUIRE(l) : l_{l} { l_.lock(); }
	~WriteGuard() KX_RELEASE() { l_.unlock(); }
	WriteGuard(const WriteGuard &) = delete;
	Shared held() const { return {}; }
	Exclusive excl() const { return {}; }
	bool should_yield() const { return l_.should_yield(); }
};

template <class L> class KX_SCOPED [[nodiscard]] Guard {
	L &l_;

public:
	explicit Guard(L &l) KX_ACQUIRE(l) : l_{l} { l_.lock(); }
	~Guard() KX_RELEASE() { l_.unlock(); }
	Guard(const Guard &) = delete;
};

}
