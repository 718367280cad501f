// SPDX-License-Identifier: GPL-2.0-only
/* Whose an alignment check of a guest is. */
#include <gtest/gtest.h>
#include "arch/x86/vmx/split_lock.hpp"

using namespace kx;
using namespace kx::vmx;

TEST(SplitLock, WithoutDetectionEveryAlignmentCheckIsTheGuests)
{
	for (unsigned cpl : {0u, 3u})
		EXPECT_TRUE(guest_caused_ac(SplitLocks::unseen, cpl, 0, 0));
}

TEST(SplitLock, WithDetectionOnlyUserCodeThatChecksItsAlignmentHasDoneItItself)
{
	for (unsigned cpl : {0u, 1u, 2u, 3u})
		for (u64 am : {u64{0}, cr0::am})
			for (u64 ac : {u64{0}, rflags::ac})
				EXPECT_EQ(guest_caused_ac(SplitLocks::detected, cpl, cr0::pe | am, rflags::fixed | ac),
					  cpl == 3 && am && ac);
}
