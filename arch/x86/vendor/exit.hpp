/* SPDX-License-Identifier: GPL-2.0-only */
/* The words in which a vendor and the core speak of exits. */
#pragma once
#include "cxxrt/addr.hpp"

namespace kx {

enum class PioDirection : u8 { in, out };

/* Where nested paging refused the processor: in the guest's own tables, or what they led to. */
enum class FaultOf : u8 { walk, access };

enum class FetchFault : u8 { raise, ignore };

/* Interrupts wait one instruction; behind MOV SS debug exceptions as well. As KVM_X86_SHADOW_INT_*; either: not all
 * processors say which. */
enum class InterruptShadow : u8 { none = 0, mov_ss = 1, sti = 2, either = 3 };

/* What a fast exit (interrupts off, no lock) came to. */
enum class Fast : u8 {
	again,	 /* dealt with: straight back into the guest */
	settled, /* dealt with, but something has to be injected or looked at first */
	slow,	 /* not for here */
	machine_check, /* neither; and the host has to look into this CPU's banks before anything else runs on it */
};

/* What a slow exit came to. */
enum class Next : u8 {
	guest, /* on with it */
	user,  /* kvm_run says why */
	error, /* KVM_RUN fails with Vcpu::error() */
};

/* The event whose delivery the last exit cut short, and that exit, as kvm_run tells them. */
struct CutShort {
	u64 event = 0, reason = 0, qualification = 0;
};

/* Of loaded(): anew if another CPU, another guest or a suspended machine may have been between. */
enum class Loaded : u8 { again, anew };

enum class Entered : u8 { yes, off }; /* off: virtualization was switched off under us (crash, reboot) */

}
