/* SPDX-License-Identifier: GPL-2.0-only */
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

int make(void *object, bool open)
{
	may_sleep("making a file");
	Files &f = files();
	std::lock_guard g{f.lock};
	f.table.push_back({object, open});
	return int(f.table.size()) - 1;
}

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

}
