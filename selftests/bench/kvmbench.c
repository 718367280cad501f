// SPDX-License-Identifier: GPL-2.0-only
/*
 * What things cost, through the KVM ABI alone: runs on any /dev/kvm. Each line of output is
 *	BENCH name total=T n=N each=E
 * in ticks of the time-stamp counter, read by the guest, or by this process where the name starts
 * with "host.". In an emulator that counts one tick an instruction, the figures repeat exactly.
 * usage: kvmbench [-d device] [-n loops] [-p pages] [-m] [name...]
 * -m marks guest loops for the emulator of scripts/profile: each is a count of its own, and the line
 * says which one, count=1 and so on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ul
#define HUGE (2ul << 20)
#define LOW_SIZE HUGE		/* slot 0: page tables at 0x1000, stack below 0x9000, code */
#define CODE 0x10000ul
#define REGION (1ul << 30)	/* slot 1 */
#define MMIO 0xd0000000ul	/* in no slot */
#define DIRTY_CYCLES 16
#define MARK_PORT 0x8ae2	/* in no machine; see scripts/bochs/profile */

/*
 * The guest: rsi loops, rdx an address, rcx a stride; time in r8 and r9; ends with HLT.
 */
asm(".pushsection .rodata\n"
    ".macro now reg\n rdtsc\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, \\reg\n.endm\n"
    ".macro loop name\n"
    "guest_\\name: mov %rdx, %rbx\n mov %cr0, %r10\n mov %cr3, %r11\n now %r8\n1:\n"
    ".endm\n"
    ".macro again\n dec %rsi\n jnz 1b\n now %r9\n hlt\n.endm\n"
    "guest_start: jmp *%rdi\n"
    "guest_hlt: hlt\n jmp guest_hlt\n"
    "loop empty;  again\n"
    "loop rdtsc; rdtsc; again\n"
    "loop cpuid; xor %eax, %eax; push %rbx; cpuid; pop %rbx; again\n"
    "loop call; mov $-1, %eax; vmmcall; again\n"
    "loop vmcall; mov $-1, %eax; vmcall; again\n"
    "loop rdmsr; mov $0x1b, %ecx; rdmsr; again\n"
    "loop out; mov $0x3e9, %edx; out %al, (%dx); again\n"
    "loop mmio; mov %eax, (%rbx); again\n"
    "loop touch; movq $1, (%rbx); add %rcx, %rbx; again\n"
    "loop wp; xor $0x10000, %r10; mov %r10, %cr0; again\n"
    "loop cr3; mov %r11, %cr3; again\n"
    "loop invlpg; invlpg (%rbx); again\n"
    "guest_end:\n.popsection\n");
#define GUEST(name) extern const char guest_##name[];
GUEST(start) GUEST(hlt) GUEST(empty) GUEST(rdtsc) GUEST(cpuid) GUEST(call) GUEST(vmcall)
GUEST(rdmsr) GUEST(out) GUEST(mmio) GUEST(touch) GUEST(wp) GUEST(cr3) GUEST(invlpg) GUEST(end)

static int kvm, vm, vcpu, run_size, failures, marks = -1, counts;
static bool counted;
static struct kvm_run *run;
static unsigned char *low;
static char **chosen;

static uint64_t tsc(void)
{
	uint32_t a, d;

	asm volatile("lfence; rdtsc" : "=a"(a), "=d"(d) : : "memory");
	return a | (uint64_t)d << 32;
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	printf("FAIL %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool wanted(const char *name)
{
	if (!*chosen)
		return true;
	for (char **c = chosen; *c; c++)
		if (!strcmp(*c, name))
			return true;
	return false;
}

static void bench(const char *name, uint64_t ticks, uint64_t n)
{
	printf("BENCH %-28s total=%llu n=%llu each=%.3f", name, (unsigned long long)ticks,
	       (unsigned long long)n, (double)ticks / n);
	if (counted)
		printf(" count=%d", counts);
	printf("\n");
	counted = false;
}

static void slot(int id, uint64_t gpa, uint64_t size, void *at, unsigned flags)
{
	struct kvm_userspace_memory_region r = { id, flags, gpa, size, (uintptr_t)at };

	must(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r), "KVM_SET_USER_MEMORY_REGION");
}

static void make_vm(void)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[128];
	} cpuid;

	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	must(vm >= 0, "KVM_CREATE_VM");
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	low = mmap(NULL, LOW_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	slot(0, 0, LOW_SIZE, low, 0);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	must(vcpu >= 0, "KVM_CREATE_VCPU");
	run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	must(run != MAP_FAILED, "mmap of the vCPU");
	cpuid.head.nent = 128;
	must(!ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
	must(!ioctl(vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
}

static void end_vm(void)
{
	munmap(run, run_size);
	close(vcpu);
	close(vm);
	munmap(low, LOW_SIZE);
}

/* 4 GiB mapped one to one by 2 MiB pages */
static void long_mode(void)
{
	uint64_t *pml4 = (void *)(low + 0x1000), *pdpt = (void *)(low + 0x2000);
	uint64_t *pd = (void *)(low + 0x3000);
	struct kvm_segment code = { .limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1,
				    .l = 1, .g = 1 };
	struct kvm_segment data = { .limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1,
				    .db = 1, .g = 1 };
	struct kvm_sregs s;

	pml4[0] = 0x2007;
	for (int i = 0; i < 4; i++)
		pdpt[i] = (0x3000 + i * PAGE) | 7;
	for (uint64_t i = 0; i < 4 * 512; i++)
		pd[i] = i * HUGE | 0x87;
	memcpy(low + CODE, guest_start, guest_end - guest_start);
	must(!ioctl(vcpu, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.cr0 = 0x80050033;
	s.cr3 = 0x1000;
	s.cr4 = 0x620;
	s.efer = 0x500;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	must(!ioctl(vcpu, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
}

/* Runs a guest loop to its HLT; the ticks it saw */
static uint64_t go(const char *loop, uint64_t n, uint64_t address, uint64_t stride)
{
	struct kvm_regs r = { .rip = CODE, .rflags = 2, .rsp = 0x8ff0, .rdx = address,
			      .rdi = CODE + (loop - guest_start), .rsi = n, .rcx = stride };

	must(!ioctl(vcpu, KVM_SET_REGS, &r), "KVM_SET_REGS");
	do {
		must(!ioctl(vcpu, KVM_RUN, 0) || errno == EINTR, "KVM_RUN");
		if (run->exit_reason == KVM_EXIT_HLT)
			break;
	} while (run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_MMIO);
	if (run->exit_reason != KVM_EXIT_HLT) {
		printf("FAIL unexpected exit, reason %u\n", run->exit_reason);
		exit(1);
	}
	must(!ioctl(vcpu, KVM_GET_REGS, &r), "KVM_GET_REGS");
	return r.r9 - r.r8;
}

static void mark(char what)
{
	must(pwrite(marks, &what, 1, MARK_PORT) == 1, "/dev/port");
}

/* What a line is about: with -m, counted */
static uint64_t measure(const char *loop, uint64_t n, uint64_t address, uint64_t stride)
{
	uint64_t ticks;

	if (marks < 0)
		return go(loop, n, address, stride);
	mark(1);
	ticks = go(loop, n, address, stride);
	mark(2);
	counts++;
	counted = true;
	return ticks;
}

/* Memory that is there already, aligned to a huge page */
static size_t huge_pages(void)	/* bytes, in the whole machine */
{
	FILE *f = fopen("/proc/meminfo", "r");
	size_t kib = 0;
	char line[128];

	must(f, "/proc/meminfo");
	while (fgets(line, sizeof(line), f) && sscanf(line, "AnonHugePages: %zu", &kib) != 1)
		;
	fclose(f);
	return kib * 1024;
}

static char *region(size_t size, int advice)
{
	char *p = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED, "mmap");
	p = (char *)(((uintptr_t)p + HUGE - 1) & -HUGE);
	madvise(p, size, advice);
	for (size_t i = 0; i < size; i += PAGE)
		p[i] = 1;
	must(advice != MADV_HUGEPAGE || huge_pages() >= size, "huge pages (none below 512 MiB of memory)");
	return p;
}

static void bench_host(int loops)
{
	uint64_t start;

	if (wanted("host")) {
		start = tsc();
		for (int i = 0; i < loops; i++)
			syscall(SYS_getppid);
		bench("host.syscall", tsc() - start, loops);
		start = tsc();
		for (int i = 0; i < loops; i++)
			ioctl(kvm, KVM_GET_API_VERSION, 0);
		bench("host.ioctl_api_version", tsc() - start, loops);
	}
	if (wanted("vm")) {
		start = tsc();
		for (int i = 0; i < 20; i++) {
			make_vm();
			end_vm();
		}
		bench("host.vm_create_destroy", tsc() - start, 20);
		/* Without the memory that make_vm maps, fills and unmaps: that is the host's work alone. */
		start = tsc();
		for (int i = 0; i < 20; i++) {
			int v = ioctl(kvm, KVM_CREATE_VM, 0), c = ioctl(v, KVM_CREATE_VCPU, 0);

			close(c);
			close(v);
		}
		bench("host.vm_bare_create_destroy", tsc() - start, 20);
	}
}

static bool cpu_is_amd(void)
{
	uint32_t a = 0, b, c, d;

	asm volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	return c == 0x444d4163;	/* "cAMD" */
}

static void bench_exits(int loops)
{
	const struct {
		const char *name, *loop;
		uint64_t address;
	} table[] = {
		{ "empty_loop", guest_empty, 0 },
		{ "rdtsc", guest_rdtsc, 0 },
		{ "cpuid_exit", guest_cpuid, 0 },
		{ "hypercall_exit", cpu_is_amd() ? guest_call : guest_vmcall, 0 },
		{ "rdmsr_exit", guest_rdmsr, 0 },
		{ "out_userspace_exit", guest_out, 0 },
		{ "mmio_userspace_exit", guest_mmio, MMIO },
		{ "cr0_wp_toggle", guest_wp, 0 },
		{ "cr3_write", guest_cr3, 0 },
		{ "invlpg", guest_invlpg, 0x100000 },
	};

	for (unsigned i = 0; i < sizeof(table) / sizeof(*table); i++) {
		if (!wanted(table[i].name))
			continue;
		go(table[i].loop, 100, table[i].address, 0);	/* warm */
		bench(table[i].name, measure(table[i].loop, loops, table[i].address, 0), loops);
	}
}

static void bench_ioctls(int loops)
{
	struct kvm_sregs s;
	struct kvm_regs r;
	uint64_t start;

	if (wanted("hlt")) {
		struct kvm_regs hlt = { .rip = CODE + (guest_hlt - guest_start), .rflags = 2 };

		must(!ioctl(vcpu, KVM_SET_REGS, &hlt), "KVM_SET_REGS");
		start = tsc();
		for (int i = 0; i < loops; i++) {
			ioctl(vcpu, KVM_RUN, 0);
			must(run->exit_reason == KVM_EXIT_HLT, "HLT");
		}
		bench("host.hlt_roundtrip", tsc() - start, loops);
	}
	if (wanted("regs")) {
		start = tsc();
		for (int i = 0; i < loops; i++) {
			ioctl(vcpu, KVM_GET_REGS, &r);
			ioctl(vcpu, KVM_GET_SREGS, &s);
		}
		bench("host.get_regs+sregs", tsc() - start, loops);
	}
}

static void bench_faults(const char *name, int pages, int advice, uint64_t stride)
{
	size_t size = pages * PAGE;
	uint64_t touches = size / stride;
	char again[64];
	char *p;

	if (!wanted(name))
		return;
	p = region(size, advice);
	snprintf(again, sizeof(again), "%s_again", name);
	slot(1, REGION, size, p, 0);
	bench(name, measure(guest_touch, touches, REGION, stride), touches);
	bench(again, go(guest_touch, touches, REGION, stride), touches);
	slot(1, REGION, 0, p, 0);
	munmap(p, size);
}

/* The host has one page in sixteen: nothing around a fault can be mapped with it. */
static void bench_lone_faults(const char *name, int pages)
{
	const uint64_t stride = 16 * PAGE, touches = pages / 4;
	size_t size = touches * stride;
	char *p;

	if (!wanted(name))
		return;
	p = region(size, MADV_NOHUGEPAGE);
	madvise(p, size, MADV_DONTNEED);
	for (uint64_t i = 0; i < touches; i++)
		p[i * stride] = 1;
	slot(1, REGION, size, p, 0);
	bench(name, measure(guest_touch, touches, REGION, stride), touches);
	slot(1, REGION, 0, p, 0);
	munmap(p, size);
}

static void bench_dirty_log(const char *suffix, int advice)
{
	enum { pages = 1024 };
	uint64_t bitmap[pages / 64], start, guest = 0, log = 0;
	struct kvm_dirty_log get = { .slot = 1, .dirty_bitmap = bitmap };
	size_t size = pages * PAGE;
	int missing = 0;
	char name[64];
	char *p;

	if (!wanted("dirty_log"))
		return;
	p = region(size, advice);
	slot(1, REGION, size, p, 0);
	go(guest_touch, pages, REGION, PAGE);
	start = tsc();
	slot(1, REGION, size, p, KVM_MEM_LOG_DIRTY_PAGES);
	snprintf(name, sizeof(name), "host.dirty_log_enable%s", suffix);
	bench(name, tsc() - start, pages);
	for (int i = 0; i <= DIRTY_CYCLES; i++) {	/* the first warms, and splits */
		uint64_t g = go(guest_touch, pages, REGION, PAGE);

		memset(bitmap, 0, sizeof(bitmap));
		start = tsc();
		must(!ioctl(vm, KVM_GET_DIRTY_LOG, &get), "KVM_GET_DIRTY_LOG");
		if (i) {
			log += tsc() - start;
			guest += g;
		}
		for (int j = 0; j < pages; j++)
			missing += !(bitmap[j / 64] >> (j % 64) & 1);
	}
	snprintf(name, sizeof(name), "dirty_write_fault%s", suffix);
	bench(name, guest, pages * DIRTY_CYCLES);
	snprintf(name, sizeof(name), "host.get_dirty_log_page%s", suffix);
	bench(name, log, pages * DIRTY_CYCLES);
	if (missing) {
		printf("FAIL dirty log%s: %d pages missing\n", suffix, missing);
		failures++;
	}
	slot(1, REGION, 0, p, 0);
	munmap(p, size);
}

int main(int argc, char **argv)
{
	const char *device = "/dev/kvm";
	int option, loops = 10000, pages = 4096;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((option = getopt(argc, argv, "d:n:p:m")) > 0) {
		switch (option) {
		case 'd': device = optarg; break;
		case 'n': loops = atoi(optarg); break;
		case 'p': pages = atoi(optarg); break;
		case 'm': marks = open("/dev/port", O_RDWR | O_CLOEXEC); must(marks >= 0, "/dev/port"); break;
		default: return 2;
		}
	}
	chosen = argv + optind;
	kvm = open(device, O_RDWR | O_CLOEXEC);
	must(kvm >= 0, device);
	must(ioctl(kvm, KVM_GET_API_VERSION, 0) == 12, "KVM_GET_API_VERSION");

	bench_host(loops);
	make_vm();
	long_mode();
	go(guest_empty, 10, 0, 0);
	bench_exits(loops);
	bench_ioctls(loops);
	bench_faults("fault_4k", pages, MADV_NOHUGEPAGE, PAGE);
	bench_lone_faults("fault_4k_alone", pages);
	bench_faults("fault_2m", pages, MADV_HUGEPAGE, HUGE);
	bench_dirty_log("", MADV_NOHUGEPAGE);
	bench_dirty_log("_thp", MADV_HUGEPAGE);
	end_vm();
	return failures != 0;
}
