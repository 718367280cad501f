// SPDX-License-Identifier: GPL-2.0-only
/*
 * The statistics of the VMs of a process, a line each: "vm NAME VALUE" and "vcpuID NAME VALUE". Takes the VMs' files from
 * the process (pidfd_getfd(2): needs what ptrace needs); it goes on running. scripts/stats builds and runs this.
 * usage: stats PID [NAME...]
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "uapi/kvmxx.h"

static char **wanted;

static void fail(const char *what)
{
	fprintf(stderr, "stats: %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool is_wanted(const char *name)
{
	if (!*wanted)
		return true;
	for (char **w = wanted; *w; w++)
		if (!strcmp(*w, name))
			return true;
	return false;
}

static void read_at(int fd, void *to, size_t n, size_t at)
{
	if (pread(fd, to, n, (off_t)at) != (ssize_t)n)
		fail("reading statistics");
}

static void show(int fd, const char *whose)
{
	struct kvm_stats_header h;
	struct kvm_stats_desc *d;
	size_t each;

	read_at(fd, &h, sizeof(h), 0);
	each = sizeof(*d) + h.name_size;
	d = calloc(1, each + 1);
	if (!d)
		fail("memory");
	for (size_t i = 0; i < h.num_desc; i++) {
		read_at(fd, d, each, h.desc_offset + i * each);
		if (!is_wanted(d->name))
			continue;
		printf("%s %s", whose, d->name);
		for (size_t k = 0; k < d->size; k++) {
			uint64_t value;

			read_at(fd, &value, sizeof(value), h.data_offset + d->offset + k * sizeof(value));
			printf(" %llu", (unsigned long long)value);
		}
		printf("\n");
	}
	free(d);
}

static void show_vm(int vm)
{
	int fd = ioctl(vm, KVMXX_GET_STATS_FD, KVMXX_STATS_OF_VM);

	if (fd < 0)
		fail("KVMXX_GET_STATS_FD (is it a VM of kvmxx?)");
	show(fd, "vm");
	close(fd);
	for (unsigned long id = 0; id < KVMXX_MAX_VCPU_ID; id++) {
		char whose[32];

		fd = ioctl(vm, KVMXX_GET_STATS_FD, id);
		if (fd < 0)
			continue;
		snprintf(whose, sizeof(whose), "vcpu%lu", id);
		show(fd, whose);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	char path[64];
	struct dirent *e;
	int pid, process, vms = 0;
	DIR *files;

	pid = argc > 1 ? atoi(argv[1]) : 0;
	if (pid <= 0) {
		fprintf(stderr, "usage: stats PID [NAME...]\n");
		return 2;
	}
	wanted = argv + 2;
	process = (int)syscall(SYS_pidfd_open, pid, 0);
	if (process < 0)
		fail("pidfd_open");
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	files = opendir(path);
	if (!files)
		fail(path);
	while ((e = readdir(files))) {
		char link[64];
		ssize_t n = readlinkat(dirfd(files), e->d_name, link, sizeof(link) - 1);
		int vm;

		if (n < 0)
			continue;
		link[n] = 0;
		if (strcmp(link, "anon_inode:kvm-vm"))
			continue;
		vm = (int)syscall(SYS_pidfd_getfd, process, atoi(e->d_name), 0);
		if (vm < 0)
			fail("pidfd_getfd");
		show_vm(vm);
		close(vm);
		vms++;
	}
	if (!vms)
		fprintf(stderr, "stats: process %d has no VM\n", pid);
	return !vms;
}
