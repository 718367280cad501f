/* SPDX-License-Identifier: GPL-2.0-only */
/* Instructions on devices, from the exit to the VMM and back: what KVM_RUN makes of the emulator. */
#include "vm_run.hpp"

using namespace kx;
using namespace kx::test;

namespace {

template <class T> void ram_at_0(T &t)
{
	const kvm_userspace_memory_region slot{0, 0, 0, sizeof t.ram, reinterpret_cast<u64>(t.ram)};
	EXPECT_EQ(t.vm->ioctl(KVM_SET_USER_MEMORY_REGION, reinterpret_cast<unsigned long>(&slot)), 0);
}

}

/* The second is fetched with what was remembered of the first. */
TEST_RUN(Devices, TheSameIpInAnotherSegmentIsAnotherInstruction)
{
	ram_at_0(*this);
	const u8 one[] = {0x89, 0x07}, two[] = {0x89, 0x0f}; /* mov [bx], ax; mov [bx], cx */
	std::memcpy(&ram[0x1100], one, sizeof one);
	std::memcpy(&ram[0x2100], two, sizeof two);
	point_at_device(0xaaaa);
	kvm_regs r = regs();
	r.rcx = 0xcccc;
	set_regs(r);
	for (const u64 base : {0x1000, 0x2000, 0x1000}) {
		kvm_sregs s{};
		EXPECT_EQ(ioctl(KVM_GET_SREGS, &s), 0);
		s.cs.base = base;
		s.cs.selector = u16(base >> 4);
		EXPECT_EQ(ioctl(KVM_SET_SREGS, &s), 0);
		set_rip(0x100);
		then({.kind = K::mmio, .gpa = device, .code = pferr::write});
		expect_exit(KVM_EXIT_MMIO);
		EXPECT_EQ(run->mmio.data[0], base == 0x1000 ? 0xaa : 0xcc);
	}
}
