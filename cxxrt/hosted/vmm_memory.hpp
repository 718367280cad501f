/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A make-believe address space of a VMM, behind kx_page_pin, kx_host_present and the user copies. It lies
 * in [window, window_end), where no test has anything else; addresses outside are the test's own memory.
 * Every page ever made has a frame number of its own that is never used again, so a stale one is seen.
 */
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

namespace kx::hosted {

/* Who has to be told before mappings change: the mmu_notifier. */
struct VmmWatcher {
	virtual void start(std::uint64_t begin, std::uint64_t end) = 0;
	virtual void end(std::uint64_t begin, std::uint64_t end) = 0;

protected:
	~VmmWatcher() = default;
};

class VmmMemory {
public:
	static constexpr std::uint64_t window = 0x1000'0000'0000, window_end = 0x2000'0000'0000;
	enum class Backing { small, large, huge, device }; /* 4 KiB, 2 MiB, 1 GiB pages; memory without struct page */
	enum class Protection { read_write, read_only };

	VmmMemory();
	~VmmMemory();
	VmmMemory(const VmmMemory &) = delete;
	void watch(VmmWatcher *w) { watcher_ = w; }

	/* What the VMM does. Each that takes something away tells the watcher first. */
	std::uint64_t map(std::uint64_t bytes, Backing = Backing::small, Protection = Protection::read_write,
			  std::uint64_t alignment = 1 << 30);
	void touch(std::uint64_t at, std::uint64_t bytes); /* writes a byte to every page */
	void peek(std::uint64_t at, std::uint64_t bytes);  /* reads them: fresh ones get the zero page */
	void unmap(std::uint64_t at, std::uint64_t bytes);
	void discard(std::uint64_t at, std::uint64_t bytes);   /* the pages go, the mapping stays */
	void migrate(std::uint64_t at, std::uint64_t bytes);   /* other pages with the same contents */
	void write_back(std::uint64_t at, std::uint64_t bytes); /* read-only and clean until the next write */
	void clean(std::uint64_t at, std::uint64_t bytes); /* stays writable, but a write would have to be noted */
	void collapse(std::uint64_t at);		       /* 2 MiB of small pages become one large page */

	/* What became of the pages. */
	std::uint8_t *contents(std::uint64_t pfn); /* nullptr: freed */
	bool freed(std::uint64_t pfn);
	bool marked_dirty(std::uint64_t pfn);
	std::uint64_t pfn_at(std::uint64_t at); /* ~0: none */
	std::uint64_t zero_page() const { return zero_; } /* shared by everything that was only read */
	std::uint64_t pinned() const { return pins_; }
	std::uint64_t pin_calls() const { return pin_calls_; }

	/* The seam's side. */
	static VmmMemory *current();
	int pin(std::uint64_t at, bool write, struct Pin &);
	void unpin(std::uint64_t pfn, bool dirty);
	std::uint64_t present(std::uint64_t at, unsigned n, std::uint64_t *pfns, std::uint64_t *writable,
			      unsigned *order);
	/* f gets the byte behind an address, faulted in; the page stays meanwhile. false: not allowed. */
	bool access(std::uint64_t at, bool write, const std::function<void(std::uint8_t *)> &f);
	std::uint8_t *byte(std::uint64_t at, bool write); /* where no other thread changes mappings */

private:
	struct Page {
		std::unique_ptr<std::uint8_t[]> bytes;
		unsigned refs = 1; /* the mapping's, and pins */
		bool dirty = false;
	};
	struct Pte {
		std::uint64_t pfn;
		bool writable, dirty, special;
		unsigned order;
	};
	struct Area {
		std::uint64_t end;
		Backing backing;
		Protection protection;
	};
	mutable std::shared_mutex lock_;
	std::map<std::uint64_t, Area> areas_;
	std::unordered_map<std::uint64_t, Pte> ptes_; /* by page number */
	std::unordered_map<std::uint64_t, Page> pages_;
	std::vector<std::unique_ptr<std::uint8_t[]>> dead_;
	std::uint64_t next_ = window, next_pfn_ = 1 << 20, zero_ = 0;
	std::uint64_t pins_ = 0, pin_calls_ = 0;
	VmmWatcher *watcher_ = nullptr;

	struct Told;
	const Area *area(std::uint64_t at) const;
	std::uint64_t new_pages(unsigned order);
	void put(std::uint64_t pfn);
	void drop(std::uint64_t vpn);
	void break_up(std::uint64_t at, std::uint64_t bytes);
	bool fault_in(std::uint64_t at, bool write);
	void break_cow(std::uint64_t vpn, std::unique_lock<std::shared_mutex> &);
};

struct Pin {
	std::uint64_t pfn;
	bool writable, ram, pinned;
	unsigned order;
};

}
