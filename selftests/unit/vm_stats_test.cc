// SPDX-License-Identifier: GPL-2.0-only
/* The file of KVM_GET_STATS_FD, and what is counted into it. */
#include <map>
#include <string>
#include "vm_run.hpp"

using namespace kx;
using namespace kx::test;

namespace {

/* As a program does that knows nothing but <linux/kvm.h>. */
template <class File> std::map<std::string, u64> stats_of(const File &file)
{
	const auto read = [&](void *to, size_t n, u64 pos) {
		EXPECT_EQ(file.read_stats(reinterpret_cast<u64>(to), n, pos), long(n));
	};
	kvm_stats_header h{};
	read(&h, sizeof h, 0);
	std::map<std::string, u64> all;
	std::vector<char> desc(sizeof(kvm_stats_desc) + h.name_size);
	for (u32 i = 0; i < h.num_desc; ++i) {
		read(desc.data(), desc.size(), h.desc_offset + i * desc.size());
		kvm_stats_desc d;
		std::memcpy(&d, desc.data(), sizeof d);
		EXPECT_EQ(d.size, 1);
		u64 v = 0;
		read(&v, sizeof v, h.data_offset + d.offset);
		all[desc.data() + sizeof d] = v;
	}
	EXPECT_EQ(all.size(), h.num_desc) << "a name twice";
	return all;
}

template <class File> std::string id_of(const File &file)
{
	char id[KVMXX_STAT_NAME_SIZE];
	EXPECT_EQ(file.read_stats(reinterpret_cast<u64>(id), sizeof id, sizeof(kvm_stats_header)), long(sizeof id));
	return id;
}

/* In pieces of that size, from the beginning to the end. */
template <class File> std::vector<u8> in_pieces(const File &file, size_t n)
{
	std::vector<u8> all, piece(n);
	for (;;) {
		const long got = file.read_stats(reinterpret_cast<u64>(piece.data()), n, all.size());
		EXPECT_LE(got, long(n));
		if (got <= 0)
			return all;
		all.insert(all.end(), piece.begin(), piece.begin() + got);
	}
}

}

TEST_RUN(Stats, AreTheSameInPiecesOfAnySize)
{
	const std::vector<u8> whole = in_pieces(*cpu, 1 << 16);
	EXPECT_EQ(whole.size(), sizeof(kvm_stats_header) + KVMXX_STAT_NAME_SIZE +
					std::size(vcpu_stat::descs) * (sizeof(StatDesc) + sizeof(u64)));
	for (const size_t n : {1, 7, 24, 100, 1000})
		EXPECT_EQ(in_pieces(*cpu, n), whole);
	u8 byte;
	EXPECT_EQ(cpu->read_stats(reinterpret_cast<u64>(&byte), 1, whole.size()), 0);
	EXPECT_EQ(cpu->read_stats(reinterpret_cast<u64>(&byte), 1, ~u64{0}), 0);
	EXPECT_EQ(cpu->read_stats(reinterpret_cast<u64>(&byte), 0, 0), 0);
	EXPECT_EQ(cpu->read_stats(0, 8, 0), -EFAULT);
}

TEST_RUN(Stats, AreNamedAsKvmNamesThem)
{
	EXPECT_EQ(id_of(*vm), "kvm-1");
	EXPECT_EQ(id_of(*cpu), "kvm-1/vcpu-0");
	const auto of_vm = stats_of(*vm);
	EXPECT_EQ(of_vm.at("mmu_constant_inits"), 1u);
	EXPECT_EQ(of_vm.at("roots_built"), 1u);
	EXPECT_EQ(of_vm.at("page_hash_lookups"), 0u);
	EXPECT_EQ(of_vm.at("mmu_broken"), 0u);
	EXPECT_EQ(stats_of(*cpu).at("root_loads"), 1u);
}

TEST_RUN(Stats, KeepTheVmWhileTheirFilesAreOpen)
{
	EXPECT_GE(vm->ioctl(KVM_GET_STATS_FD, 0), 0);
	EXPECT_GE(cpu->ioctl(KVM_GET_STATS_FD, 0), 0);
	EXPECT_GE(vm->ioctl(KVMXX_GET_STATS_FD, KVMXX_STATS_OF_VM), 0);
	const long fd = vm->ioctl(KVMXX_GET_STATS_FD, 0);
	EXPECT_EQ(hosted::file_of(int(fd)), cpu);
	EXPECT_EQ(vm->ioctl(KVMXX_GET_STATS_FD, 1), -ENOENT);
	for (int i = 0; i < 4; ++i) {
		EXPECT_FALSE(vm->put_file()) << "those of the VM and the vCPU are left";
	}
}

TEST_RUN(Stats, CountWhatLeavesTheGuest)
{
	point_at_device(0x1234);
	then({.kind = K::out, .port = 0x80});
	expect_exit(KVM_EXIT_IO);
	then(store());
	expect_exit(KVM_EXIT_MMIO);
	then(load());
	expect_exit(KVM_EXIT_MMIO);
	then({.kind = K::again});
	then({.kind = K::cpuid}, [&] { signal(); });
	EXPECT_EQ(enter(), -EINTR);
	no_signal();
	const auto s = stats_of(*cpu);
	EXPECT_EQ(s.at("io_exits"), 1u);
	EXPECT_EQ(s.at("mmio_exits"), 2u);
	EXPECT_EQ(s.at("insn_emulation"), 2u);
	EXPECT_EQ(s.at("signal_exits"), 1u);
	EXPECT_EQ(s.at("request_irq_exits"), 0u);
	EXPECT_EQ(s.at("pf_taken"), s.at("pf_emulate"));
	EXPECT_EQ(s.at("pf_emulate") + s.at("pf_mmio_remembered"), 2u);
	EXPECT_GE(s.at("pf_emulate"), 1u);
	EXPECT_LE(s.at("pf_mmio_spte_created"), 1u);
	EXPECT_EQ(s.at("pf_fixed"), 0u);
}

TEST_RUN(Stats, CountTheWindowTheVmmAskedFor)
{
	set_rflags(rflags::fixed | rflags::intf);
	run->request_interrupt_window = 1;
	then({.kind = K::window});
	expect_exit(KVM_EXIT_IRQ_WINDOW_OPEN);
	run->request_interrupt_window = 0;
	EXPECT_EQ(stats_of(*cpu).at("request_irq_exits"), 1u);
	EXPECT_EQ(stats_of(*cpu).at("signal_exits"), 0u);
}
