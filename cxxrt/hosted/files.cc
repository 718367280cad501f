/* SPDX-License-Identifier: GPL-2.0-only */
#include <cerrno>
#include <deque>
#include <mutex>
#include <vector>
#include "state.hpp"
#include "thread.hpp"

namespace kx::hosted {

namespace {

struct File {
	void *object;
	bool open;
};
struct Files {
	std::mutex lock;
	std::vector<File> table;
};
Files &files()
{
	static auto *f = new Files;
	return *f;
}

struct EventFds {
	std::mutex lock;
	std::deque<EventFd> table; /* by file number, from first_eventfd on */
};
EventFds &eventfds()
{
	static auto *e = new EventFds;
	return *e;
}
constexpr int first_eventfd = 1000000;

int make(void *object, bool open)
{
	may_sleep("making a file");
	Files &f = files();
	std::lock_guard g{f.lock};
	f.table.push_back({object, open});
	return int(f.table.size()) - 1;
}

}

EventFd &make_eventfd(int *fd)
{
	EventFds &e = eventfds();
	std::lock_guard g{e.lock};
	*fd = first_eventfd + int(e.table.size());
	return e.table.emplace_back();
}

void *file_of(int fd)
{
	Files &f = files();
	std::lock_guard g{f.lock};
	return fd >= 0 && unsigned(fd) < f.table.size() && f.table[unsigned(fd)].open ? f.table[unsigned(fd)].object : nullptr;
}

}

using namespace kx::hosted;

extern "C" {

int kx_fd_vm(void *vm) { return make(vm, true); }
int kx_fd_vcpu_prepare(void *vcpu, unsigned, void **file)
{
	*file = vcpu;
	return make(vcpu, false);
}
void kx_fd_publish(int fd, void *file)
{
	Files &f = files();
	std::lock_guard g{f.lock};
	if (f.table.at(unsigned(fd)).open || f.table[unsigned(fd)].object != file)
		fail("a file is published twice, or another one");
	f.table[unsigned(fd)].open = true;
}

int kx_fd_vm_stats(void *vm) { return make(vm, true); }
int kx_fd_vcpu_stats(void *vcpu, unsigned) { return make(vcpu, true); }

int kx_eventfd_get(int fd, void **eventfd)
{
	EventFds &e = eventfds();
	std::lock_guard g{e.lock};
	if (fd < first_eventfd)
		return file_of(fd) ? -EINVAL : -EBADF;
	EventFd &found = e.table.at(unsigned(fd - first_eventfd));
	++found.references;
	*eventfd = &found;
	return 0;
}
void kx_eventfd_put(void *eventfd)
{
	std::lock_guard g{eventfds().lock};
	if (--static_cast<EventFd *>(eventfd)->references < 0)
		fail("an eventfd is put once too often");
}
void kx_eventfd_signal(void *eventfd)
{
	std::lock_guard g{eventfds().lock};
	if (!static_cast<EventFd *>(eventfd)->references)
		fail("an eventfd is signalled that nobody holds");
	++static_cast<EventFd *>(eventfd)->signals;
}

}
