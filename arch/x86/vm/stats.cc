// SPDX-License-Identifier: GPL-2.0-only
#include "arch/x86/vm/stats.hpp"
#include "arch/x86/vm/usercopy.hpp"

namespace kx {

Result<size_t> read_stats(const StatsId &id, Span<const StatDesc> descs, Span<const u64> values, u64 to, size_t n, u64 pos)
{
	kvm_stats_header h;
	h.flags = 0;
	h.name_size = KVMXX_STAT_NAME_SIZE;
	h.num_desc = u32(descs.size());
	h.id_offset = sizeof h;
	h.desc_offset = u32(h.id_offset + sizeof id.text());
	h.data_offset = u32(h.desc_offset + descs.size() * sizeof(StatDesc));

	const struct {
		const void *at;
		size_t size;
	} blocks[] = {
		{&h, sizeof h},
		{id.text(), sizeof id.text()},
		{descs.data(), descs.size() * sizeof(StatDesc)},
		{values.data(), values.size() * sizeof(u64)},
	};
	size_t done = 0;
	for (const auto &b : blocks) {
		if (pos >= b.size) {
			pos -= b.size;
			continue;
		}
		const size_t left = n - done, there = b.size - pos, part = left < there ? left : there;
		if (part && kx_copy_to_user(to + done, static_cast<const u8 *>(b.at) + pos, part))
			return Errc::fault;
		done += part;
		pos = 0;
		if (done == n)
			break;
	}
	return done;
}

}
