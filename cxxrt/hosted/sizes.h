/* SPDX-License-Identifier: GPL-2.0-only */
/* What cxxrt/linux generates from the kernel's own types, for userspace. */
#ifndef KX_SIZES_H
#define KX_SIZES_H
#define KX_SIZEOF_MUTEX 64
#define KX_SIZEOF_RWLOCK 64
#define KX_SIZEOF_SPINLOCK 64
#define KX_SIZEOF_RCU_HEAD 32
#define KX_SIZEOF_SRCU 64
#define KX_SIZEOF_WORK 64
#define KX_SIZEOF_NOTIFIER 64
#define KX_SIZEOF_THREAD 64
#define KX_SIZEOF_FPU 64
#define KX_THREAD_WORK 1
#define KX_THREAD_NEED_FPU 2
#endif
