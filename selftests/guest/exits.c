// SPDX-License-Identifier: GPL-2.0-only
/* Exits other than completed I/O: halt, shutdown, errors, signals, read-only memory, coalescing. */
#include <asm/ldt.h>
#include <sys/syscall.h>
#include "test.h"

#define DEV MMIO_GPA
#define ROM_GPA 0x10000000ul	/* slot 1 */
#define WINDOW 0x7000000000ull

VM_FIXTURE(exits)

static void guest_hlt(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		asm volatile("hlt");
	ucall_sync(n);
}

TEST_F(exits, hlt_exits_every_time_with_rip_behind_it)
{
	uint64_t rip;

	vcpu_call(self->v, guest_hlt, 3);
	for (int i = 0; i < 3; i++) {
		vcpu_expect(self->v, KVM_EXIT_HLT);
		rip = vcpu_rip(self->v);
		EXPECT_EQ(0xf4, ((uint8_t *)vm_hva(self->vm, rip))[-1]);
	}
	EXPECT_EQ(3, vcpu_sync(self->v));
}

TEST_F(exits, hlt_reports_whether_interrupts_are_enabled)
{
	struct kvm_regs regs;

	vcpu_call(self->v, guest_hlt, 2);
	vcpu_expect(self->v, KVM_EXIT_HLT);
	EXPECT_EQ(0, self->v->run->if_flag);
	vcpu_get(self->v, &regs);
	regs.rflags |= RFLAGS_IF;
	vcpu_set(self->v, &regs);
	vcpu_expect(self->v, KVM_EXIT_HLT);
	EXPECT_EQ(1, self->v->run->if_flag);
}

static void guest_no_idt(void)
{
	struct { uint16_t limit; uint64_t base; } __attribute__((packed)) none = { 0, 0 };

	asm volatile("lidt %0; ud2" : : "m"(none));
}

TEST_F(exits, a_triple_fault_is_a_shutdown_and_the_vcpu_can_start_again)
{
	for (int i = 0; i < 3; i++) {
		vcpu_call(self->v, guest_no_idt);
		vcpu_expect(self->v, KVM_EXIT_SHUTDOWN);
	}
	vcpu_call(self->v, guest_hlt, 1);
	vcpu_expect(self->v, KVM_EXIT_HLT);
	EXPECT_EQ(1, vcpu_sync(self->v));
}

TEST_F(exits, a_triple_fault_in_real_mode_is_a_shutdown)
{
	struct kvm_sregs s;

	if (on_intel() && vmx_without("unrestricted_guest"))
		SKIP(return, "this processor does not run real mode");
	vm_copy(self->vm, REAL_GPA, "\x0f\x0b\xf4", 3);	/* ud2 */
	vcpu_real(self->v, 0, REAL_GPA);
	vcpu_get_sregs(self->v, &s);
	s.idt.limit = 0;
	vcpu_set_sregs(self->v, &s);
	vcpu_expect(self->v, KVM_EXIT_SHUTDOWN);
}

static void expect_emulation_error(struct __test_metadata *_metadata, struct vcpu *v)
{
	vcpu_expect(v, KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION, v->run->internal.suberror);
	EXPECT_LE(v->run->internal.ndata, 16);
}

static void guest_jump(uint64_t a)
{
	asm volatile("jmp *%0" : : "r"(a));
}

TEST_F(exits, executing_from_unbacked_memory_is_an_emulation_error)
{
	vcpu_call(self->v, guest_jump, DEV + 0x10);
	expect_emulation_error(_metadata, self->v);
	EXPECT_EQ(DEV + 0x10, vcpu_rip(self->v));
	/* Nothing has changed, so it happens again unless user space does something. */
	vcpu_call(self->v, guest_jump, DEV + 0x20);
	expect_emulation_error(_metadata, self->v);
	EXPECT_EQ(DEV + 0x20, vcpu_rip(self->v));
	vcpu_call(self->v, guest_hlt, 0);
	EXPECT_EQ(0, vcpu_sync(self->v));
}

TEST_F(exits, an_instruction_that_runs_off_the_end_of_ram_is_an_emulation_error)
{
	/* The last byte of RAM is the first of a MOV; the next page is unbacked. */
	*(uint8_t *)vm_hva(self->vm, RAM_SIZE - 1) = 0x48;
	vcpu_call(self->v, guest_jump, RAM_SIZE - 1);
	expect_emulation_error(_metadata, self->v);
	EXPECT_EQ(RAM_SIZE - 1, vcpu_rip(self->v));
}

/* paddd (%rdi), %xmm0: no hypervisor need know it. */
static const uint8_t strange_insn[] = { 0x66, 0x0f, 0xfe, 0x07 };
extern char strange_start[];

static void guest_strange(uint64_t a)
{
	asm volatile(".globl strange_start\nstrange_start: paddd (%0), %%xmm0" : : "D"(a));
	ucall_sync(7);
}

TEST_F(exits, an_unknown_instruction_on_mmio_is_an_error_that_user_space_may_skip)
{
	struct kvm_run *run = self->v->run;
	struct kvm_regs regs;

	vcpu_call(self->v, guest_strange, DEV);
	expect_emulation_error(_metadata, self->v);
	vcpu_get(self->v, &regs);
	EXPECT_EQ((uintptr_t)strange_start, regs.rip);
	if (run->emulation_failure.ndata >= 1 &&
	    (run->emulation_failure.flags &
	     KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		EXPECT_LE(sizeof(strange_insn), run->emulation_failure.insn_size);
		EXPECT_LE(run->emulation_failure.insn_size, 15);
		EXPECT_EQ(0, memcmp(strange_insn, run->emulation_failure.insn_bytes,
				    sizeof(strange_insn)));
	}
	regs.rip += sizeof(strange_insn);
	vcpu_set(self->v, &regs);
	EXPECT_EQ(7, vcpu_sync(self->v));
}

static void user_strange(uint64_t a)
{
	asm volatile("paddd (%0), %%xmm0" : : "D"(a));
}

static void guest_user_strange(uint64_t a)
{
	GUEST_EQ(VEC_UD, guest_user(user_strange, a, 0));
	GUEST_EQ(VEC_GP, guest_user(guest_return, 0, 0));	/* OUT at CPL 3 */
}

TEST_F(exits, at_cpl_3_an_unknown_instruction_on_mmio_is_the_guests_invalid_opcode)
{
	vcpu_call(self->v, guest_user_strange, DEV);
	vcpu_finish(self->v);
}

static void user_nothing(uint64_t a, uint64_t b)
{
	wr64(a, b);
}

static void guest_user_works(uint64_t a)
{
	GUEST_EQ(NO_EXC, guest_user(user_nothing, a, 42));
	GUEST_EQ(42, rd64(a));
}

TEST_F(exits, user_mode_code_runs_and_comes_back)
{
	vcpu_call(self->v, guest_user_works, SCRATCH_GPA);
	vcpu_finish(self->v);
}

/* Signals and immediate_exit. */
static uint64_t spins;

static void guest_spin(void)
{
	for (;;)
		(*(volatile uint64_t *)&spins)++;
}

TEST_F(exits, immediate_exit_returns_eintr_without_running_the_guest)
{
	vcpu_call(self->v, guest_spin);
	self->v->run->immediate_exit = 1;
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(-EINTR, vcpu_try_run(self->v));
	EXPECT_EQ(0, G(self->vm, spins));
}

static void fn_one_run(struct runner *r)
{
	r->loops = (uint64_t)(-vcpu_try_run(r->vcpu));
}

TEST_F(exits, a_signal_ends_kvm_run_with_eintr_and_exit_intr)
{
	struct runner r;

	vcpu_call(self->v, guest_spin);
	self->v->run->exit_reason = 12345;
	runner_start(&r, self->v, fn_one_run);
	while (G(self->vm, spins) < 1000)
		usleep(100);
	pthread_kill(r.thread, SIGUSR1);
	runner_join(&r);
	EXPECT_EQ(EINTR, r.loops);
	EXPECT_EQ(KVM_EXIT_INTR, self->v->run->exit_reason);
	/* And it goes on where it was. */
	uint64_t before = G(self->vm, spins);
	runner_start(&r, self->v, fn_one_run);
	while (G(self->vm, spins) < before + 1000)
		usleep(100);
	pthread_kill(r.thread, SIGUSR1);
	runner_join(&r);
	EXPECT_EQ(EINTR, r.loops);
}

/* What user space finds in LDT entry 0. */
static uint64_t ldt_limit(void)
{
	uint64_t limit = 0;

	asm volatile("lsl %1, %0" : "+r"(limit) : "r"(7ul) : "cc");
	return limit;
}

static void fn_run_and_look(struct runner *r)
{
	vcpu_try_run(r->vcpu);
	r->loops = ldt_limit();
}

/* The processor's register is switched with the guest; another thread changes what it has to be meanwhile. */
TEST_F(exits, an_ldt_set_during_kvm_run_is_there_behind_it)
{
	struct user_desc d = { .entry_number = 0, .seg_32bit = 1 };
	struct runner r;

	vcpu_call(self->v, guest_spin);
	for (uint32_t i = 1; i <= 4; i++) {
		uint64_t before = G(self->vm, spins);

		runner_start(&r, self->v, fn_run_and_look);
		while (G(self->vm, spins) < before + 1000)
			usleep(100);
		d.limit = 0x100 * i;
		if (syscall(SYS_modify_ldt, 1, &d, sizeof(d))) {
			pthread_kill(r.thread, SIGUSR1);
			runner_join(&r);
			SKIP(return, "this kernel has no LDTs");
		}
		usleep(20000);	/* out of the guest and in again */
		pthread_kill(r.thread, SIGUSR1);
		runner_join(&r);
		EXPECT_EQ(0x100 * i, r.loops);
		EXPECT_EQ(0x100 * i, ldt_limit());
	}
}

TEST_F(exits, kvm_run_unblocks_signals_with_the_mask_it_was_given)
{
	struct { struct kvm_signal_mask head; uint64_t mask; } m = { .head.len = 8, .mask = 0 };
	struct kvm_signal_mask bad = { .len = 4 };
	sigset_t block, pending;

	if (ioctl(self->v->fd, KVM_SET_SIGNAL_MASK, &m) && errno == ENOTTY)
		SKIP(return, "KVM_SET_SIGNAL_MASK is not there");
	kick_setup();
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	vcpu_call(self->v, guest_spin);
	raise(SIGUSR1);
	EXPECT_EQ(-EINTR, vcpu_try_run(self->v));
	EXPECT_EQ(KVM_EXIT_INTR, self->v->run->exit_reason);
	sigpending(&pending);
	EXPECT_TRUE(sigismember(&pending, SIGUSR1));
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_SIGNAL_MASK, &bad));
	/* Without a mask the blocked signal does not stop the vCPU. */
	EXPECT_EQ(0, ioctl(self->v->fd, KVM_SET_SIGNAL_MASK, NULL));
	vcpu_call(self->v, guest_hlt, 1);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

/* Real mode, without «unrestricted guest». */
TEST_F(exits, a_mode_the_processor_cannot_run_is_an_internal_error)
{
	if (!on_intel() || !vmx_without("unrestricted_guest"))
		SKIP(return, "this processor runs every mode");
	vcpu_real(self->v, 0, 0x7000);
	for (int i = 0; i < 2; i++) {
		vcpu_expect(self->v, KVM_EXIT_INTERNAL_ERROR);
		EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION, self->v->run->internal.suberror);
	}
	vcpu_long_mode(self->v);
	vcpu_call(self->v, guest_hlt, 1);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

/* State that KVM_SET_REGS takes and no VM entry does: virtual-8086 mode within long mode. */
TEST_F(exits, a_failed_entry_says_why_and_the_vcpu_can_be_mended)
{
	struct kvm_regs r;

	if (!on_intel())
		SKIP(return, "VMRUN checks none of what KVM_SET_REGS and KVM_SET_SREGS let through");
	vcpu_call(self->v, guest_hlt, 2);
	vcpu_expect(self->v, KVM_EXIT_HLT);
	vcpu_get(self->v, &r);
	r.rflags |= RFLAGS_VM;
	vcpu_set(self->v, &r);
	for (int i = 0; i < 2; i++) {
		vcpu_expect(self->v, KVM_EXIT_FAIL_ENTRY);
		EXPECT_EQ(0x80000021, self->v->run->fail_entry.hardware_entry_failure_reason);
	}
	r.rflags &= ~RFLAGS_VM;
	vcpu_set(self->v, &r);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

static void guest_syscalls(void)
{
	uint64_t r;
	uint32_t a = 0, b, c = 0, d;

	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if (b == 0x756e6547)	/* "Genu", ineIntel */
		asm volatile("vmcall" : "=a"(r) : "a"(0x7fffffff), "b"(0), "c"(0), "d"(0), "S"(0));
	else
		asm volatile("vmmcall" : "=a"(r) : "a"(0x7fffffff), "b"(0), "c"(0), "d"(0), "S"(0));
	GUEST_EQ(-1000, (int64_t)r);	/* KVM_ENOSYS */
	asm volatile("wbinvd");
	asm volatile("invd");
	asm volatile("pause");
	GUEST_TRUE(rdtsc() < rdtsc());
}

TEST_F(exits, what_the_kernel_handles_itself_does_not_exit)
{
	vcpu_call(self->v, guest_syscalls);
	vcpu_finish(self->v);
}

/* The cheapest of some exits that do not leave the kernel, in ticks. */
static void guest_cpuid_ticks(void)
{
	uint64_t min = ~0ul;

	for (int i = 0; i < 32; i++) {
		uint32_t a = 0, b, c = 0, d;
		uint64_t t = rdtsc();

		asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		t = rdtsc() - t;
		min = t < min ? t : min;
	}
	ucall_sync(min);
}

/* l1tf=full: 64 KiB are read, or an MSR does it that takes as long. */
TEST_F(exits, a_host_that_flushes_its_cache_always_does_so_at_each_entry)
{
	const char *l1tf = "/sys/devices/system/cpu/vulnerabilities/l1tf";

	if (!file_says(l1tf, "VMX: cache flushes"))
		SKIP(return, "the host flushes its cache never, or not always");
	vcpu_call(self->v, guest_cpuid_ticks);
	EXPECT_LT(1024, vcpu_sync(self->v));
}

/* Read-only memory. */
static void guest_rom_read(uint64_t a)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < PAGE; i += 8)
		sum += rd64(a + i);
	ucall_sync(sum);
}

static void guest_rom_write(uint64_t a)
{
	wr32(a + 0x10, 0x12345678);
	GUEST_EQ(0x5a5a5a5a, rd32(a + 0x10));
	asm volatile("addl $1, (%0)" : : "r"(a + 0x20) : "memory", "cc");
	asm volatile("lock xaddl %k0, (%1)" : : "r"(3ul), "r"(a + 0x30) : "memory", "cc");
	wr8(a + 0xfff, 9);
	wr64(a + 0xffc, 0x1122334455667788);	/* the next page is writable */
}

static void setup_rom(struct vm *vm, uint8_t **rom)
{
	if (!kvm_has(KVM_CAP_READONLY_MEM))
		FAIL("KVM_CAP_READONLY_MEM is not offered");
	*rom = map_aligned(2 * PAGE, PAGE);
	memset(*rom, 0x5a, PAGE);
	vm_slot(vm, 1, KVM_MEM_READONLY, ROM_GPA, PAGE, *rom);
	vm_slot(vm, 2, 0, ROM_GPA + PAGE, PAGE, *rom + PAGE);
}

TEST_F(exits, read_only_memory_is_read_without_exits)
{
	uint8_t *rom;

	setup_rom(self->vm, &rom);
	vcpu_call(self->v, guest_rom_read, ROM_GPA);
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aul * 512, vcpu_sync(self->v));
}

TEST_F(exits, read_only_memory_executes)
{
	uint8_t *rom;

	setup_rom(self->vm, &rom);
	rom[5] = 0xf4;	/* hlt */
	vcpu_call(self->v, guest_jump, ROM_GPA + 5);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

TEST_F(exits, a_write_to_read_only_memory_is_an_mmio_exit_and_changes_nothing)
{
	static const struct { uint32_t at, len; uint64_t data; } want[] = {
		{ 0x10, 4, 0x12345678 }, { 0x20, 4, 0x5a5a5a5b }, { 0x30, 4, 0x5a5a5a5d },
		{ 0xfff, 1, 9 }, { 0xffc, 4, 0x55667788 },
	};
	struct kvm_run *run = self->v->run;
	uint8_t *rom;

	setup_rom(self->vm, &rom);
	vcpu_call(self->v, guest_rom_write, ROM_GPA);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		uint64_t data = 0;

		vcpu_expect(self->v, KVM_EXIT_MMIO);
		EXPECT_EQ(1, run->mmio.is_write);
		EXPECT_EQ(ROM_GPA + want[i].at, run->mmio.phys_addr);
		EXPECT_EQ(want[i].len, run->mmio.len);
		memcpy(&data, run->mmio.data, want[i].len);
		EXPECT_EQ(want[i].data, data);
	}
	vcpu_finish(self->v);
	for (size_t i = 0; i < PAGE; i++)
		ASSERT_EQ(0x5a, rom[i]);
	EXPECT_EQ(0x11223344, *(uint32_t *)(rom + PAGE));
}

TEST_F(exits, a_page_already_read_stays_read_only)
{
	uint8_t *rom;

	setup_rom(self->vm, &rom);
	vcpu_call(self->v, guest_rom_read, ROM_GPA);
	vcpu_sync(self->v);
	vcpu_call(self->v, guest_rom_write, ROM_GPA);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(ROM_GPA + 0x10, self->v->run->mmio.phys_addr);
	/* User space may change it under the guest. */
	memset(rom, 0x33, PAGE);
	vcpu_call(self->v, guest_rom_read, ROM_GPA);
	EXPECT_EQ(0x3333333333333333ul * 512, vcpu_sync(self->v));
}

TEST_F(exits, read_only_backing_memory_may_be_read_only_in_the_host_too)
{
	uint8_t *rom;

	setup_rom(self->vm, &rom);
	ASSERT_OK(mprotect(rom, PAGE, PROT_READ));
	vcpu_call(self->v, guest_rom_read, ROM_GPA);
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aul * 512, vcpu_sync(self->v));
	vcpu_call(self->v, guest_rom_write, ROM_GPA);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(1, self->v->run->mmio.is_write);
}

/* Coalesced I/O. */
static struct kvm_coalesced_mmio_ring *ring_of(struct vcpu *v, int cap)
{
	return (void *)((uint8_t *)v->run + (size_t)cap * PAGE);
}

static size_t ring_max(void)
{
	return (PAGE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio);
}

static void guest_coalesce(uint64_t a)
{
	wr32(a + 0x10, 0x11111111);
	wr8(a + 0x21, 0x22);
	wr64(a + 0x30, 0x3333333333333333);
	wr32(a + 0x2000, 0x44444444);	/* outside */
	GUEST_EQ(0x55555555, rd32(a + 0x40));	/* reads are never coalesced */
	wr32(a + 0x7fe, 0x66666666);	/* half out */
	ucall_sync(0);
}

TEST_F(exits, coalesced_writes_are_kept_in_the_ring_until_another_exit)
{
	static const struct { uint32_t at, len; uint64_t data; } want[] = {
		{ 0x10, 4, 0x11111111 }, { 0x21, 1, 0x22 }, { 0x30, 8, 0x3333333333333333 },
	};
	struct kvm_coalesced_mmio_zone zone = { .addr = DEV, .size = 0x800 };
	struct kvm_coalesced_mmio_ring *ring;
	struct kvm_run *run = self->v->run;
	int cap = kvm_has(KVM_CAP_COALESCED_MMIO);

	NEED_CAP(KVM_CAP_COALESCED_MMIO);
	ASSERT_LT((size_t)cap * PAGE, self->v->run_size);
	ring = ring_of(self->v, cap);
	ASSERT_OK(ioctl(self->vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	vcpu_call(self->v, guest_coalesce, DEV);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(DEV + 0x2000, run->mmio.phys_addr);
	EXPECT_EQ(3, ring->last - ring->first);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct kvm_coalesced_mmio *e = &ring->coalesced_mmio[ring->first + i];
		uint64_t data = 0;

		EXPECT_EQ(DEV + want[i].at, e->phys_addr);
		EXPECT_EQ(want[i].len, e->len);
		EXPECT_EQ(0, e->pio);
		memcpy(&data, e->data, want[i].len);
		EXPECT_EQ(want[i].data, data);
	}
	ring->first = ring->last;
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(DEV + 0x40, run->mmio.phys_addr);
	EXPECT_EQ(0, run->mmio.is_write);
	memset(run->mmio.data, 0x55, 4);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(DEV + 0x7fe, run->mmio.phys_addr);
	EXPECT_EQ(4, run->mmio.len);
	EXPECT_EQ(ring->first, ring->last);
}

static void guest_many_writes(uint64_t a, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		wr32(a + 4 * (i % 16), (uint32_t)i);
	ucall_sync(n);
}

/* Takes out of the ring what is in it; the numbers must go on from next. */
static uint32_t drain(struct kvm_coalesced_mmio_ring *ring, uint32_t next)
{
	CHECK(ring->first < ring_max(), "%u", ring->first);
	CHECK(ring->last < ring_max(), "%u", ring->last);
	while (ring->first != ring->last) {
		uint32_t seen = *(uint32_t *)ring->coalesced_mmio[ring->first].data;

		CHECK(seen == next, "entry %u, expected %u", seen, next);
		next++;
		ring->first = (uint32_t)((ring->first + 1) % ring_max());
	}
	return next;
}

TEST_F(exits, a_full_coalescing_ring_makes_the_write_an_exit_and_loses_nothing)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = DEV, .size = PAGE };
	struct kvm_coalesced_mmio_ring *ring;
	uint32_t next = 0, n = (uint32_t)ring_max() * 4, exits = 0;

	NEED_CAP(KVM_CAP_COALESCED_MMIO);
	ring = ring_of(self->v, kvm_has(KVM_CAP_COALESCED_MMIO));
	ASSERT_OK(ioctl(self->vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	vcpu_call(self->v, guest_many_writes, DEV, n);
	for (;; exits++) {
		vcpu_run(self->v);
		next = drain(ring, next);
		if (self->v->run->exit_reason != KVM_EXIT_MMIO)
			break;
		ASSERT_EQ(next, *(uint32_t *)self->v->run->mmio.data);
		next++;
	}
	EXPECT_EQ(n, next);
	/* A ring holds one entry less than it has room for. */
	EXPECT_LE(4, exits);
	EXPECT_LT(exits, n / 16);
}

TEST_F(exits, ring_indices_that_user_space_made_up_do_no_harm)
{
	static const uint32_t bad[] = { 170, 171, 0x7fffffff, 0xfffffff0, 0xffffffff };
	struct kvm_coalesced_mmio_zone zone = { .addr = DEV, .size = PAGE };
	struct kvm_coalesced_mmio_ring *ring;

	NEED_CAP(KVM_CAP_COALESCED_MMIO);
	ring = ring_of(self->v, kvm_has(KVM_CAP_COALESCED_MMIO));
	ASSERT_OK(ioctl(self->vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ring->first = bad[i];
		ring->last = bad[ARRAY_SIZE(bad) - 1 - i];
		vcpu_call(self->v, guest_many_writes, DEV, 4);
		do
			vcpu_run(self->v);
		while (self->v->run->exit_reason == KVM_EXIT_MMIO);
		EXPECT_EQ(KVM_EXIT_IO, self->v->run->exit_reason);
	}
}

TEST_F(exits, an_unregistered_coalescing_zone_exits_again)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = DEV, .size = PAGE };
	struct kvm_coalesced_mmio_zone wrong = { .addr = DEV + PAGE, .size = PAGE, .pio = 3 };
	struct kvm_coalesced_mmio_zone wraps = { .addr = -PAGE, .size = 2 * PAGE };

	NEED_CAP(KVM_CAP_COALESCED_MMIO);
	ASSERT_OK(ioctl(self->vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	EXPECT_ERRNO(EINVAL, ioctl(self->vm->fd, KVM_REGISTER_COALESCED_MMIO, &wrong));
	EXPECT_ERRNO(EINVAL, ioctl(self->vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &wrong));
	EXPECT_OK(ioctl(self->vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &wraps));
	vcpu_call(self->v, guest_many_writes, DEV, 3);
	EXPECT_EQ(3, vcpu_sync(self->v));
	EXPECT_OK(ioctl(self->vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &zone));
	/* Again: nothing to remove is no error. */
	EXPECT_OK(ioctl(self->vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &zone));
	vcpu_call(self->v, guest_many_writes, DEV, 3);
	for (int i = 0; i < 3; i++)
		vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(3, vcpu_sync(self->v));
}

static void guest_pio(void)
{
	for (uint32_t i = 0; i < 3; i++)
		asm volatile("outw %%ax, %%dx" : : "a"(0x1000 + i), "d"(0x510));
	ucall_sync(inb(0x510));
}

TEST_F(exits, coalesced_port_writes_are_kept_in_the_ring)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = 0x510, .size = 2, .pio = 1 };
	struct kvm_coalesced_mmio_ring *ring;

	NEED_CAP(KVM_CAP_COALESCED_PIO);
	ring = ring_of(self->v, kvm_has(KVM_CAP_COALESCED_MMIO));
	ASSERT_OK(ioctl(self->vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	vcpu_call(self->v, guest_pio);
	vcpu_expect(self->v, KVM_EXIT_IO);
	EXPECT_EQ(KVM_EXIT_IO_IN, self->v->run->io.direction);
	ASSERT_EQ(3, ring->last - ring->first);
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_coalesced_mmio *e = &ring->coalesced_mmio[ring->first + i];

		EXPECT_EQ(0x510, e->phys_addr);
		EXPECT_EQ(2, e->len);
		EXPECT_EQ(1, e->pio);
		EXPECT_EQ(0x1000 + i, *(uint16_t *)e->data);
	}
	ring->first = ring->last;
	*(uint8_t *)vcpu_io_data(self->v) = 0x77;
	EXPECT_EQ(0x77, vcpu_sync(self->v));
	EXPECT_OK(ioctl(self->vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &zone));
	vcpu_call(self->v, guest_pio);
	for (int i = 0; i < 3; i++) {
		vcpu_expect(self->v, KVM_EXIT_IO);
		EXPECT_EQ(KVM_EXIT_IO_OUT, self->v->run->io.direction);
	}
}

GUEST_TEST_MAIN
