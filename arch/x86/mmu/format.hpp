/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Formats of the tables we write, as compile-time policies. A format lists its fields once and proves
 * them disjoint; everything above it is written in terms of the names below.
 *
 * Rules for every format:
 *  - MmuPresent says an entry is ours and in use (table or leaf). It is a software bit, so that it
 *    does not depend on how a format spells "not present".
 *  - W implies MmuWritable implies HostWritable. MmuWritable without W: a write fault is fixed by
 *    setting W (dirty logging took it away), nothing else needs to be asked.
 *  - An empty entry is 0.
 *  - No entry that hardware does not walk through names memory: the address field is 0 or all ones,
 *    never something a guest chose (L1TF). Hence a remembered MMIO entry is one constant; where it
 *    lies in the tables says which gfn it stands for.
 */
#pragma once
#include "caps.hpp"

namespace kx {

enum class MemType : u8 { ram, device };

/* How a write to a page of a logged slot is noticed. A 4 KiB leaf either lacks W, and the fault marks the
 * page; or has W and lacks D, and the CPU logs that it sets it (SDM vol. 3 §29.3.6). A larger leaf always
 * lacks W: the CPU would name only one of its pages. */
enum class LogBy : u8 { write_protect, dirty_bit };

struct LeafAttr {
	Access access = Access::none; /* read, write, exec */
	bool mmu_writable = false, host_writable = false, accessed = false;
	MemType type = MemType::ram;
};

template <class F>
concept TableFormat = requires(u64 e, Level l, Hpa p, const LeafAttr &a, const MmuCaps &c) {
	{ F::mmu_present(e) } -> std::same_as<bool>;
	{ F::walked(e) } -> std::same_as<bool>; /* hardware follows or uses it */
	{ F::leaf(e, l) } -> std::same_as<bool>;
	{ F::access(e) } -> std::same_as<Access>;
	{ F::leaf_bits(l, a, c) } -> std::same_as<u64>; /* a leaf but for its address */
	{ F::piece(e, l) } -> std::same_as<u64>;	  /* of a huge leaf at l: a leaf of l - 1, same address */
	{ F::table(p, c) } -> std::same_as<u64>;
	{ F::mmio(c) } -> std::same_as<u64>; /* «no slot here»; 0: there is no such entry */
	{ F::mmio_fault } -> std::convertible_to<u32>; /* what tells a fault by it from others, pfec; 0: nothing does */
	{ F::W::mask } -> std::convertible_to<u64>;
	{ F::Accessed::mask } -> std::convertible_to<u64>;
	{ F::Dirty::mask } -> std::convertible_to<u64>;
	{ F::HostWritable::mask } -> std::convertible_to<u64>;
	{ F::MmuWritable::mask } -> std::convertible_to<u64>;
	{ F::MmuPresent::mask } -> std::convertible_to<u64>;
	{ F::Large::mask } -> std::convertible_to<u64>; /* a leaf above the lowest level */
	{ F::has_pml } -> std::convertible_to<bool>; /* there are CPUs that log what they set D for */
	requires (F::W::mask & F::MmuWritable::mask) == 0;
};

}

#include "ept.hpp"
#include "long_mode.hpp"
