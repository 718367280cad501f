// SPDX-License-Identifier: GPL-2.0-only
/* Virtual machines and their memory. */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "pgtable.h"
#include "vcpu.h"

extern char __executable_start[], _end[];

void vm_fail(const char *file, int line, const char *fmt, ...)
{
	int err = errno;
	va_list ap;
	char text[1024];

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "# %s:%d: %s (errno %d, %s)\n", file, line, text, err, strerror(err));
	_exit(1);
}

const char *kvm_path(void)
{
	const char *path = getenv("KVM_DEV");

	return path && *path ? path : "/dev/kvmxx";
}

bool kvm_is_kvmxx(void)
{
	return !access("/sys/module/kvmxx", F_OK);
}

bool file_says(const char *path, const char *text)
{
	FILE *f = fopen(path, "r");
	char head[4096];
	size_t n = f ? fread(head, 1, sizeof(head), f) : 0;

	if (f)
		fclose(f);
	for (size_t i = 0; i + strlen(text) <= n; i++)
		if (!memcmp(head + i, text, strlen(text)))
			return true;
	return false;
}

bool on_tcg(void)
{
	return file_says("/proc/cpuinfo", "QEMU TCG");
}

bool on_intel(void)
{
	return file_says("/proc/cpuinfo", "GenuineIntel");
}

bool vmx_without(const char *parameter)
{
	char path[100];

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", kvm_is_kvmxx() ? "kvmxx" : "kvm_intel", parameter);
	return file_says(path, "N");
}

/* QEMU's firmware has the same maker's name. */
bool on_bochs(void)
{
	return !on_tcg() && file_says("/sys/firmware/acpi/tables/FACP", "BOCHS");
}

bool on_old_tcg(void)
{
	return on_tcg() && file_says("/sys/class/dmi/id/product_version", "-7.");
}

int kvm_open(void)
{
	int fd = open(kvm_path(), O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0, "open %s", kvm_path());
	return fd;
}

int kvm_fd(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = kvm_open();
	return fd;
}

int kvm_has(int cap)
{
	int r = ioctl(kvm_fd(), KVM_CHECK_EXTENSION, cap);

	CHECK(r >= 0, "KVM_CHECK_EXTENSION %d", cap);
	return r;
}

const struct kvm_cpuid2 *kvm_cpuid(void)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} table;

	if (!table.head.nent) {
		table.head.nent = 256;
		CHECK(!ioctl(kvm_fd(), KVM_GET_SUPPORTED_CPUID, &table), "GET_SUPPORTED_CPUID");
	}
	return &table.head;
}

const struct kvm_cpuid_entry2 *kvm_cpuid_leaf(uint32_t leaf, uint32_t subleaf)
{
	static const struct kvm_cpuid_entry2 none;
	const struct kvm_cpuid2 *t = kvm_cpuid();

	for (uint32_t i = 0; i < t->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &t->entries[i];

		if (e->function == leaf &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
			return e;
	}
	return &none;
}

unsigned int kvm_maxphyaddr(void)
{
	unsigned int bits = kvm_cpuid_leaf(0x80000008, 0)->eax & 0xff;

	return bits ? bits : 36;
}

void *map_aligned(size_t size, size_t align)
{
	uint8_t *p = mmap(NULL, size + align, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *q = (uint8_t *)(((uintptr_t)p + align - 1) & ~(align - 1));

	CHECK(p != MAP_FAILED, "mmap %zu", size);
	if (q > p)
		munmap(p, (size_t)(q - p));
	munmap(q + size, (size_t)(p + align - q));
	return q;
}

void *map_anon(size_t size)
{
	return map_aligned(size, PAGE);
}

void unmap(void *p, size_t size)
{
	CHECK(!munmap(p, size), "munmap");
}

struct vm *vm_new_bare(void)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	vm->fd = ioctl(kvm_fd(), KVM_CREATE_VM, 0ul);
	CHECK(vm->fd >= 0, "KVM_CREATE_VM");
	return vm;
}

int vm_try_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size,
		void *hva)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

void vm_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva)
{
	CHECK(!vm_try_slot(vm, slot, flags, gpa, size, hva),
	      "slot %u flags %x gpa %lx size %lx", slot, flags, gpa, size);
}

void *vm_add_ram(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size)
{
	void *p = map_aligned(size, size >= 2 * MiB ? 2 * MiB : PAGE);

	vm_slot(vm, slot, flags, gpa, size, p);
	return p;
}

void *vm_hva(struct vm *vm, uint64_t gpa)
{
	CHECK(gpa < RAM_SIZE, "gpa %lx is not in the VM's RAM", gpa);
	return vm->ram + gpa;
}

void vm_copy(struct vm *vm, uint64_t gpa, const void *from, size_t size)
{
	memcpy(vm_hva(vm, gpa), from, size);
}

static void gate(uint8_t *idt, unsigned int vector, uint64_t target, uint16_t selector, int wide)
{
	uint64_t low = (target & 0xffff) | (uint64_t)selector << 16 | 0x8eull << 40 |
		       (target & 0xffff0000) << 32;
	uint64_t high = target >> 32;

	memcpy(idt + vector * (wide ? 16 : 8), &low, 8);
	if (wide)
		memcpy(idt + vector * 16 + 8, &high, 8);
}

static void write_descriptors(struct vm *vm)
{
	static const uint64_t gdt[] = {
		[SEL_CODE64 / 8] = 0x00af9b000000ffff,
		[SEL_DATA / 8] = 0x00cf93000000ffff,
		[SEL_CODE32 / 8] = 0x00cf9b000000ffff,
		[SEL_CODE16 / 8] = 0x00009b000000ffff,
		[SEL_DATA16 / 8] = 0x000093000000ffff,
		[SEL_UDATA / 8] = 0x00cff3000000ffff,
		[SEL_UCODE64 / 8] = 0x00affb000000ffff,
		[SEL_UCODE32 / 8] = 0x00cffb000000ffff,
	};

	vm_copy(vm, GDT_GPA, gdt, sizeof(gdt));
	for (uint64_t i = 0; i < MAX_VCPUS; i++) {
		uint64_t base = TSS_GPA + i * TSS_SIZE;
		uint64_t rsp0 = STACK_GPA + i * STACK_SIZE + STACK_SIZE / 2;
		uint64_t low = (TSS_SIZE - 1) | base << 16 | 0x89ull << 40;

		vm_copy(vm, GDT_GPA + SEL_TSS + i * 16, &low, 8);
		vm_copy(vm, base + 4, &rsp0, 8);
		vm_copy(vm, base + 0x66, &(uint16_t){ TSS_SIZE }, 2);	/* no I/O bitmap */
	}
	for (unsigned int i = 0; i < 256; i++) {
		gate(vm_hva(vm, IDT_GPA), i, (uintptr_t)guest_stubs + i * 16, SEL_CODE64, 1);
		gate(vm_hva(vm, IDT32_GPA), i, (uintptr_t)guest_stubs32 + i * 16, SEL_CODE32, 0);
	}
}

struct vm *vm_new_with(void *ram)
{
	struct vm *vm = vm_new_bare();
	size_t image = (size_t)(_end - __executable_start);

	vm->ram = ram;
	vm->pool = POOL_GPA;
	CHECK((uintptr_t)_end <= HIGH_SCRATCH_GPA, "the program is too large");
	for (uint64_t i = 0; i < MAX_VCPUS; i++)
		guest_cpus[i] = (struct guest_cpu){ .id = i, .vector = NO_EXC };
	vm_copy(vm, (uintptr_t)__executable_start, __executable_start, image);
	write_descriptors(vm);
	pt_identity(vm, 4);
	vm_slot(vm, 0, 0, 0, RAM_SIZE, vm->ram);
	return vm;
}

struct vm *vm_new(void)
{
	return vm_new_with(map_aligned(RAM_SIZE, 2 * MiB));
}

void vm_free(struct vm *vm)
{
	close(vm->fd);
	if (vm->ram)
		munmap(vm->ram, RAM_SIZE);
	free(vm);
}
