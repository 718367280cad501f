// SPDX-License-Identifier: GPL-2.0-only
/* Exceptions that the guest must get: from the processor, and from instructions done for it. */
#include <cpuid.h>
#include "test.h"

#define WINDOW 0x7000000000ul
#define DEV MMIO_GPA
#define PORT 0x5a0
#define NONCANONICAL 0x800000000000ul

#define PF_P 1
#define PF_W 2
#define PF_U 4
#define PF_RSVD 8
#define PF_I 16

VM_FIXTURE(exceptions)

/* Serves a device of bytes 0x11, 0x22... and counts; returns at the guest's next message. */
static size_t reads, writes, outs, ins;
static uint64_t device[64];

static struct ucall serve(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct ucall u;

	for (;;) {
		vcpu_run(v);
		if (run->exit_reason == KVM_EXIT_MMIO) {
			uint8_t *at = (uint8_t *)device + run->mmio.phys_addr % sizeof(device);

			if (run->mmio.is_write) {
				writes++;
				memcpy(at, run->mmio.data, run->mmio.len);
			} else {
				reads++;
				memcpy(run->mmio.data, at, run->mmio.len);
			}
			continue;
		}
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == PORT) {
			if (run->io.direction == KVM_EXIT_IO_OUT)
				outs += run->io.count;
			else
				ins += run->io.count;
			memset(vcpu_io_data(v), 0x77, (size_t)run->io.count * run->io.size);
			continue;
		}
		break;
	}
	CHECK(vcpu_is_ucall(v, &u), "%s", exit_text(v));
	CHECK(u.kind != UCALL_ASSERT, "guest line %lu: %s: expected 0x%lx, seen 0x%lx", u.arg[0],
	      (const char *)u.arg[3], u.arg[1], u.arg[2]);
	CHECK(u.kind != UCALL_EXC, "guest exception %lu error 0x%lx at 0x%lx, cr2 0x%lx",
	      u.arg[0], u.arg[1], u.arg[2], u.arg[3]);
	return u;
}

#define GUEST_FAULTS(vec) GUEST_EQ(vec, guest_vector())
#define GUEST_PF(err, address) do { \
	GUEST_EQ(VEC_PF, guest_vector()); \
	GUEST_EQ(err, guest_error()); \
	GUEST_EQ(address, guest_cr2()); \
} while (0)
#define TRY_READ(a) ({ uint64_t __v; \
	GUEST_TRY("movq (%1), %0", : "=&r"(__v) : "r"(a) : "memory"); __v; })
#define TRY_WRITE(a) GUEST_TRY("movq %0, (%1)", : : "r"(5ul), "r"(a) : "memory")
#define TRY_CALL(a) GUEST_TRY("mov %%rsp, %%rbx; call *%0; 771: mov %%rbx, %%rsp", : : "r"(a) \
			      : "memory", "rax", "rbx")

static void user_read(uint64_t a)
{
	rd64(a);
}

static void user_write(uint64_t a)
{
	wr64(a, 1);
}

static void user_call(uint64_t a)
{
	((void (*)(void))a)();
}

/* Pages of the window: 0 read-only user, 1 supervisor, 2 no-execute, 3 absent, 4 executable. */
static void map_window(struct vm *vm)
{
	pt_map(vm, WINDOW, SCRATCH_GPA, PAGE, PTE_P | PTE_U);
	pt_map(vm, WINDOW + PAGE, SCRATCH_GPA + PAGE, PAGE, PTE_RW);
	pt_map(vm, WINDOW + 2 * PAGE, SCRATCH_GPA + 2 * PAGE, PAGE, PTE_URW | PTE_NX);
	pt_map(vm, WINDOW + 4 * PAGE, SCRATCH_GPA + 4 * PAGE, PAGE, PTE_URW);
	for (uint64_t i = 0; i < 8; i++)
		memset(vm_hva(vm, SCRATCH_GPA + i * PAGE), 0xc3, PAGE);	/* ret */
}

static void guest_page_faults(void)
{
	uint64_t w = WINDOW;

	TRY_READ(w + 3 * PAGE + 8);
	GUEST_PF(0, w + 3 * PAGE + 8);
	TRY_WRITE(w + 3 * PAGE + 8);
	GUEST_PF(PF_W, w + 3 * PAGE + 8);
	TRY_CALL(w + 3 * PAGE + 8);
	GUEST_PF(PF_I, w + 3 * PAGE + 8);
	TRY_READ(w);
	GUEST_FAULTS(NO_EXC);
	TRY_WRITE(w + 0x10);
	GUEST_PF(PF_P | PF_W, w + 0x10);
	TRY_CALL(w + 2 * PAGE);
	GUEST_PF(PF_P | PF_I, w + 2 * PAGE);
	TRY_CALL(w + 4 * PAGE);
	GUEST_FAULTS(NO_EXC);
	/* A word that straddles a good page and a bad one: CR2 is in the bad one. */
	TRY_READ(w + 3 * PAGE - 4);
	GUEST_PF(0, w + 3 * PAGE);
	/* Without WP the kernel may write read-only pages. */
	write_cr0(read_cr0() & ~CR0_WP);
	TRY_WRITE(w + 0x10);
	GUEST_FAULTS(NO_EXC);
	write_cr0(read_cr0() | CR0_WP);
	TRY_WRITE(w + 0x10);
	GUEST_PF(PF_P | PF_W, w + 0x10);
	/* CPL 3. */
	GUEST_EQ(NO_EXC, guest_user(user_read, w, 0));
	GUEST_EQ(VEC_PF, guest_user(user_write, w + 0x18, 0));
	GUEST_PF(PF_P | PF_W | PF_U, w + 0x18);
	GUEST_EQ(VEC_PF, guest_user(user_read, w + PAGE, 0));
	GUEST_PF(PF_P | PF_U, w + PAGE);
	GUEST_EQ(VEC_PF, guest_user(user_write, w + 3 * PAGE, 0));
	GUEST_PF(PF_W | PF_U, w + 3 * PAGE);
	GUEST_EQ(VEC_PF, guest_user(user_call, w + 2 * PAGE, 0));
	GUEST_PF(PF_P | PF_U | PF_I, w + 2 * PAGE);
	GUEST_EQ(NO_EXC, guest_user(user_call, w + 4 * PAGE, 0));
}

TEST_F(exceptions, page_faults_carry_their_error_code_and_address)
{
	map_window(self->vm);
	vcpu_call(self->v, guest_page_faults);
	vcpu_finish(self->v);
}

static void guest_smep_smap(void)
{
	uint64_t w = WINDOW, cr4 = read_cr4();

	write_cr4(cr4 | CR4_SMAP);
	TRY_READ(w + 4 * PAGE);
	GUEST_PF(PF_P, w + 4 * PAGE);
	asm volatile("stac");
	TRY_READ(w + 4 * PAGE);
	GUEST_FAULTS(NO_EXC);
	asm volatile("clac");
	TRY_WRITE(w + 4 * PAGE);
	GUEST_PF(PF_P | PF_W, w + 4 * PAGE);
	write_cr4(cr4);
	TRY_READ(w + 4 * PAGE);
	GUEST_FAULTS(NO_EXC);
}

TEST_F(exceptions, smap_keeps_the_kernel_out_of_user_pages)
{
	if (!(kvm_cpuid_leaf(7, 0)->ebx >> 20 & 1))
		SKIP(return, "no SMAP");
	map_window(self->vm);
	/* What the kernel itself uses must be the kernel's: all of it, but the window. */
	for (uint64_t va = 0; va < RAM_SIZE; va += 2 * MiB)
		pt_map_large(self->vm, va, va, PTE_RW);
	vcpu_call(self->v, guest_smep_smap);
	vcpu_finish(self->v);
}

static void guest_smep(void)
{
	uint64_t w = WINDOW, cr4 = read_cr4();

	write_cr4(cr4 | CR4_SMEP);
	TRY_CALL(w + 4 * PAGE);
	GUEST_PF(PF_P | PF_I, w + 4 * PAGE);
	TRY_READ(w + 4 * PAGE);
	GUEST_FAULTS(NO_EXC);
	write_cr4(cr4);
	TRY_CALL(w + 4 * PAGE);
	GUEST_FAULTS(NO_EXC);
}

TEST_F(exceptions, smep_keeps_the_kernel_from_executing_user_pages)
{
	if (!(kvm_cpuid_leaf(7, 0)->ebx >> 7 & 1))
		SKIP(return, "no SMEP");
	map_window(self->vm);
	for (uint64_t va = 0; va < RAM_SIZE; va += 2 * MiB)
		pt_map_large(self->vm, va, va, PTE_RW);
	vcpu_call(self->v, guest_smep);
	vcpu_finish(self->v);
}

static void guest_reserved(uint64_t a)
{
	TRY_READ(a);
	/* QEMU's TCG forgets to set P beside RSVD. */
	GUEST_EQ(VEC_PF, guest_vector());
	GUEST_EQ(PF_P | PF_RSVD, guest_error() | PF_P);
	GUEST_EQ(a, guest_cr2());
}

TEST_F(exceptions, reserved_bits_in_page_tables_fault)
{
	if (kvm_maxphyaddr() >= 52)
		SKIP(return, "no reserved address bits");
	pt_map(self->vm, WINDOW, SCRATCH_GPA | 1ull << 51, PAGE, PTE_URW);
	vcpu_call(self->v, guest_reserved, WINDOW + 8);
	vcpu_finish(self->v);
	pt_map_large(self->vm, WINDOW + GiB, SCRATCH_GPA | 1ull << 13, PTE_URW);
	vcpu_call(self->v, guest_reserved, WINDOW + GiB + 8);
	vcpu_finish(self->v);
}

static void guest_others(void)
{
	GUEST_TRY("ud2", :);
	GUEST_FAULTS(VEC_UD);
	GUEST_TRY("divl %0", : : "r"(0), "a"(1), "d"(0) : "cc");
	GUEST_FAULTS(VEC_DE);
	GUEST_TRY("idivl %0", : : "r"(-1), "a"(0x80000000), "d"(-1) : "cc");
	GUEST_FAULTS(VEC_DE);
	TRY_READ(NONCANONICAL);
	GUEST_FAULTS(VEC_GP);
	GUEST_EQ(0, guest_error());
	TRY_WRITE(0x1234ul << 48);
	GUEST_FAULTS(VEC_GP);
	GUEST_TRY("movw %w0, %%es", : : "r"(0xfff8));
	GUEST_FAULTS(VEC_GP);
	GUEST_EQ(0xfff8, guest_error());
	GUEST_TRY("movaps (%0), %%xmm0", : : "r"(SCRATCH_GPA + 1));
	GUEST_FAULTS(VEC_GP);
	GUEST_TRY("mov %0, %%cr4", : : "r"(read_cr4() | 1ul << 30));
	GUEST_FAULTS(VEC_GP);
	GUEST_TRY("mov %0, %%cr4", : : "r"(read_cr4() & ~CR4_PAE));
	GUEST_FAULTS(VEC_GP);
	write_cr0(read_cr0() | CR0_TS);
	GUEST_TRY("fninit", :);
	GUEST_FAULTS(VEC_NM);
	GUEST_TRY("movups (%0), %%xmm0", : : "r"(DEV));
	GUEST_FAULTS(VEC_NM);
	asm volatile("clts");
}

TEST_F(exceptions, the_processors_own_exceptions_reach_the_guest)
{
	vcpu_call(self->v, guest_others);
	vcpu_finish(self->v);
}

static void guest_cr0(void)
{
	static const uint64_t flip[] = { CR0_PE, CR0_NW };
	uint64_t good = read_cr0();

	for (int i = 0; i < 2; i++) {
		uint64_t vector;

		GUEST_TRY("mov %0, %%cr0", : : "r"(good ^ flip[i]));
		vector = guest_vector();
		write_cr0(good);
		ucall_sync(vector);
	}
}

TEST_F(exceptions, impossible_values_of_cr0_are_protection_faults)
{
	/* Nobody intercepts these: TCG takes them, and refuses the VMRUN that follows if an exit comes (APM vol. 2 15.5.1). */
	if (on_tcg())
		SKIP(return, "QEMU's TCG does not check CR0");
	vcpu_call(self->v, guest_cr0);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(VEC_GP, vcpu_sync(self->v));
}

static void user_privileged(uint64_t which)
{
	switch (which) {
	case 0:
		asm volatile("hlt");
		break;
	case 1:
		asm volatile("cli");
		break;
	case 2:
		asm volatile("mov %%cr0, %%rax" : : : "rax");
		break;
	case 3:
		asm volatile("wrmsr" : : "a"(0), "d"(0), "c"(0xc0000082));
		break;
	case 4:
		asm volatile("outb %%al, %%dx" : : "a"(0), "d"(PORT));
		break;
	case 5:
		asm volatile("inl %%dx, %%eax" : : "d"(PORT) : "eax");
		break;
	case 6:
		asm volatile("outsb" : : "d"(PORT), "S"(SCRATCH_GPA));
		break;
	case 7:
		asm volatile("rep insb" : : "d"(PORT), "D"(SCRATCH_GPA), "c"(4));
		break;
	case 8:
		asm volatile("invlpg (%0)" : : "r"(0));
		break;
	case 9:
		asm volatile("int $0x21");	/* the gate is the kernel's */
		break;
	}
}

static void guest_privileged(void)
{
	for (uint64_t i = 0; i <= 9; i++) {
		GUEST_EQ(VEC_GP << 8 | i, guest_user(user_privileged, i, 0) << 8 | i);
		if (i < 9)
			GUEST_EQ(0, guest_error());
		else	/* QEMU 7.2 takes the entries for twice as long. */
			GUEST_TRUE(guest_error() == 0x21 * 8 + 2 || guest_error() == 0x21 * 16 + 2);
	}
}

TEST_F(exceptions, privileged_instructions_at_cpl_3_are_protection_faults)
{
	vcpu_call(self->v, guest_privileged);
	serve(self->v);
	EXPECT_EQ(0, outs + ins);
}

/* A fault while a page fault is delivered: its gate is not present. */
static volatile uint64_t double_faults, df_error;

static void on_df(struct guest_regs *regs)
{
	double_faults++;
	df_error = regs->error;
	ucall_sync(double_faults);
}

static void guest_double(void)
{
	/* The IDT and the stack are mapped by now: no exit is in the way of the page fault, and nobody injects it anew. */
	GUEST_TRY("ud2", :);
	TRY_READ(WINDOW);
	ucall_sync(99);
}

TEST_F(exceptions, a_fault_in_the_delivery_of_a_page_fault_is_a_double_fault)
{
	if (on_old_tcg())
		SKIP(return, "QEMU 7.2 makes no double fault of it");
	((uint8_t *)vm_hva(self->vm, IDT_GPA))[VEC_PF * 16 + 5] &= 0x7f;
	G(self->vm, guest_handlers)[VEC_DF] = on_df;
	vcpu_call(self->v, guest_double);
	EXPECT_EQ(1, vcpu_sync(self->v));
	EXPECT_EQ(0, G(self->vm, df_error));
	/* And without a gate for that one, a triple fault. */
	((uint8_t *)vm_hva(self->vm, IDT_GPA))[VEC_DF * 16 + 5] &= 0x7f;
	vcpu_call(self->v, guest_double);
	vcpu_expect(self->v, KVM_EXIT_SHUTDOWN);
}

/* Instructions that the hypervisor does for the guest. */
static void guest_movs_to_nowhere(void)
{
	uint64_t d = WINDOW + 0x100, s = DEV, n = 2;

	/* The source is the device, the destination is not mapped. */
	GUEST_TRY("rep movsl", : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	GUEST_PF(PF_W, WINDOW + 0x100);
	GUEST_EQ(WINDOW + 0x100, d);
	GUEST_EQ(DEV, s);
	GUEST_EQ(2, n);
	/* The other way round. */
	d = DEV;
	s = WINDOW + 0x200;
	GUEST_TRY("rep movsl", : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	GUEST_PF(0, WINDOW + 0x200);
	GUEST_EQ(DEV, d);
	GUEST_EQ(WINDOW + 0x200, s);
	GUEST_EQ(2, n);
	ucall_sync(0);
}

TEST_F(exceptions, a_string_move_between_mmio_and_nowhere_is_a_page_fault)
{
	vcpu_call(self->v, guest_movs_to_nowhere);
	serve(self->v);
	EXPECT_EQ(0, writes);
	EXPECT_LE(reads, 1);
}

static void guest_movs_half(void)
{
	uint64_t d = WINDOW + PAGE - 8, s = DEV, n = 4;

	/* Two elements fit into the page that is there. */
	GUEST_TRY("rep movsl", : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	GUEST_PF(PF_W, WINDOW + PAGE);
	GUEST_EQ(WINDOW + PAGE, d);
	GUEST_EQ(DEV + 8, s);
	GUEST_EQ(2, n);
	GUEST_EQ(0x2222222211111111, rd64(WINDOW + PAGE - 8));
	ucall_sync(0);
}

TEST_F(exceptions, a_string_move_stops_at_the_element_that_faults)
{
	pt_map(self->vm, WINDOW, SCRATCH_GPA, PAGE, PTE_URW);
	pt_map(self->vm, WINDOW + PAGE, 0, PAGE, 0);
	device[0] = 0x2222222211111111;
	vcpu_call(self->v, guest_movs_half);
	serve(self->v);
}

/* The exception comes while rsp is useless, so its handler gets a stack of its own. */
static void guest_push(void)
{
	GUEST_TRY("mov %%rsp, %%rbx; mov %0, %%rsp; pushq (%1); 771: mov %%rbx, %%rsp", : :
		  "r"(WINDOW + 8), "r"(DEV) : "rbx", "memory");
	GUEST_PF(PF_W, WINDOW);
	ucall_sync(0);
}

TEST_F(exceptions, a_push_of_mmio_onto_nowhere_is_a_page_fault)
{
	uint8_t *gate = (uint8_t *)vm_hva(self->vm, IDT_GPA) + VEC_PF * 16;
	uint64_t ist = STACK_GPA + STACK_SIZE / 2;

	gate[4] = 1;
	vm_copy(self->vm, TSS_GPA + 0x24, &ist, 8);
	device[0] = 0x1234;
	vcpu_call(self->v, guest_push);
	serve(self->v);
}

static void guest_divide(void)
{
	GUEST_TRY("divl (%0)", : : "r"(DEV), "a"(1), "d"(0) : "cc", "memory");
	GUEST_FAULTS(VEC_DE);
	GUEST_TRY("idivb (%0)", : : "r"(DEV + 8), "a"(0x4000) : "cc", "memory");
	GUEST_FAULTS(VEC_DE);
	GUEST_TRY("divq (%0)", : : "r"(DEV + 16), "a"(0), "d"(2) : "cc", "memory");
	GUEST_FAULTS(VEC_DE);
	ucall_sync(0);
}

TEST_F(exceptions, a_division_by_an_mmio_operand_may_overflow)
{
	device[1] = 2;
	device[2] = 2;
	vcpu_call(self->v, guest_divide);
	serve(self->v);
	EXPECT_EQ(3, reads);
}

static void guest_alignment(void)
{
	GUEST_TRY("movaps (%0), %%xmm0", : : "r"(DEV + 8) : "memory");
	GUEST_FAULTS(VEC_GP);
	GUEST_TRY("movdqa %%xmm0, (%0)", : : "r"(DEV + 4) : "memory");
	GUEST_FAULTS(VEC_GP);
	GUEST_TRY("movntps %%xmm0, (%0)", : : "r"(DEV + 1) : "memory");
	GUEST_FAULTS(VEC_GP);
	GUEST_TRY("movups (%0), %%xmm0", : : "r"(DEV + 1) : "memory");
	GUEST_FAULTS(NO_EXC);
	ucall_sync(0);
}

TEST_F(exceptions, aligned_vector_moves_fault_on_misaligned_mmio)
{
	vcpu_call(self->v, guest_alignment);
	serve(self->v);
	EXPECT_EQ(0, writes);
}

static void guest_noncanonical_string(void)
{
	uint64_t d = DEV, s = NONCANONICAL, n = 1;

	GUEST_TRY("rep movsb", : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	GUEST_FAULTS(VEC_GP);
	GUEST_EQ(1, n);
	d = NONCANONICAL;
	s = DEV;
	GUEST_TRY("rep movsb", : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	GUEST_FAULTS(VEC_GP);
	GUEST_EQ(1, n);
	n = 1;
	GUEST_TRY("rep outsb", : "+S"(d), "+c"(n) : "d"(PORT) : "memory");
	GUEST_FAULTS(VEC_GP);
	d = NONCANONICAL - 2;
	n = 4;
	GUEST_TRY("rep insl", : "+D"(d), "+c"(n) : "d"(PORT) : "memory");
	GUEST_TRUE(guest_vector() == VEC_GP || guest_vector() == VEC_PF);
	ucall_sync(0);
}

TEST_F(exceptions, non_canonical_addresses_in_string_instructions_are_protection_faults)
{
	vcpu_call(self->v, guest_noncanonical_string);
	serve(self->v);
	EXPECT_EQ(0, writes + outs);
}

static void guest_string_io(void)
{
	uint64_t d = WINDOW + PAGE - 3, n = 6;

	/* Bytes: of words, 6.1 writes those beyond the page's end too before it looks. */
	GUEST_TRY("rep insb", : "+D"(d), "+c"(n) : "d"(PORT) : "memory");
	GUEST_PF(PF_W, WINDOW + PAGE);
	GUEST_EQ(WINDOW + PAGE, d);
	GUEST_EQ(3, n);
	GUEST_EQ(0x7777, rd16(WINDOW + PAGE - 2));
	d = WINDOW + PAGE - 3;
	n = 6;
	GUEST_TRY("rep outsb", : "+S"(d), "+c"(n) : "d"(PORT) : "memory");
	GUEST_PF(0, WINDOW + PAGE);
	GUEST_EQ(WINDOW + PAGE, d);
	GUEST_EQ(3, n);
	ucall_sync(0);
}

TEST_F(exceptions, string_io_stops_at_the_page_that_faults)
{
	pt_map(self->vm, WINDOW, SCRATCH_GPA, PAGE, PTE_URW);
	pt_map(self->vm, WINDOW + PAGE, 0, PAGE, 0);
	vcpu_call(self->v, guest_string_io);
	serve(self->v);
	EXPECT_EQ(3, outs);
	EXPECT_LE(3, ins);
}

static void guest_read_only_target(void)
{
	uint64_t d = WINDOW + 0x40, s = DEV, n = 1;

	GUEST_TRY("rep movsq", : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	GUEST_PF(PF_P | PF_W, WINDOW + 0x40);
	GUEST_EQ(1, n);
	d = WINDOW + 0x40;
	GUEST_TRY("rep insb", : "+D"(d), "+c"(n) : "d"(PORT) : "memory");
	GUEST_PF(PF_P | PF_W, WINDOW + 0x40);
	/* Without WP it is allowed. */
	write_cr0(read_cr0() & ~CR0_WP);
	d = WINDOW + 0x40;
	n = 1;
	GUEST_TRY("rep movsq", : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	GUEST_FAULTS(NO_EXC);
	GUEST_EQ(0, n);
	write_cr0(read_cr0() | CR0_WP);
	ucall_sync(0);
}

TEST_F(exceptions, emulated_writes_obey_read_only_guest_pages)
{
	pt_map(self->vm, WINDOW, SCRATCH_GPA, PAGE, PTE_P | PTE_U);
	vcpu_call(self->v, guest_read_only_target);
	serve(self->v);
	EXPECT_EQ(0, *(uint64_t *)vm_hva(self->vm, SCRATCH_GPA + 0x48));
}

static void user_movs(uint64_t d, uint64_t s)
{
	uint64_t n = 1;

	asm volatile("rep movsl" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}

static void guest_user_movs(void)
{
	/* A user's move from the device to a supervisor page, and from there. */
	GUEST_EQ(VEC_PF, guest_user(user_movs, WINDOW + PAGE, DEV));
	GUEST_PF(PF_P | PF_W | PF_U, WINDOW + PAGE);
	GUEST_EQ(VEC_PF, guest_user(user_movs, DEV, WINDOW + PAGE));
	GUEST_PF(PF_P | PF_U, WINDOW + PAGE);
	GUEST_EQ(NO_EXC, guest_user(user_movs, DEV + 4, DEV));
	/* The device itself behind a supervisor page. */
	GUEST_EQ(VEC_PF, guest_user(user_read, WINDOW + 5 * PAGE, 0));
	GUEST_PF(PF_P | PF_U, WINDOW + 5 * PAGE);
	GUEST_EQ(VEC_PF, guest_user(user_write, WINDOW + 5 * PAGE + 8, 0));
	GUEST_PF(PF_P | PF_W | PF_U, WINDOW + 5 * PAGE + 8);
	ucall_sync(0);
}

TEST_F(exceptions, emulated_accesses_of_user_code_have_user_rights)
{
	map_window(self->vm);
	pt_map(self->vm, WINDOW + 5 * PAGE, DEV, PAGE, PTE_RW);
	vcpu_call(self->v, guest_user_movs);
	serve(self->v);
	EXPECT_EQ(1, writes);
}

/*
 * Segment limits and types in 32-bit mode. Every access goes to MMIO, so that the hypervisor has to
 * check what QEMU's TCG does not check for RAM. DS has base DEV and limit 0xfff.
 */
asm(".pushsection .text\n.code32\n"
    "limits:\n"
    "	mov $guest_cpus, %ebp\n"
    "limits_next:\n"		/* the answer: esi = what, edi = offset */
    "	mov $2, %eax\n	movw $0x3f0, %dx\n	outl %eax, %dx\n"
    "	movl $-1, %fs:16(%ebp)\n"
    "	movl $9f, %fs:8(%ebp)\n"
    "	cmp $0, %esi\n	je 1f\n"
    "	cmp $1, %esi\n	je 2f\n"
    "	cmp $2, %esi\n	je 3f\n"
    "	cmp $3, %esi\n	je 4f\n"
    "	mov %es:(%edi), %eax\n	jmp 9f\n"
    "1:	mov (%edi), %eax\n	jmp 9f\n"
    "2:	mov %eax, (%edi)\n	jmp 9f\n"
    "3:	mov %ss:(%edi), %eax\n	jmp 9f\n"
    "4:	mov %eax, %es:(%edi)\n	jmp 9f\n"
    "9:	movl $0, %fs:8(%ebp)\n"
    "	jmp limits_next\n"
    ".code64\n.popsection\n");
extern char limits[];

enum { DS_READ, DS_WRITE, SS_READ, ES_WRITE, ES_READ };

static uint64_t segment_access(struct vcpu *v, uint32_t what, uint32_t offset)
{
	struct guest_cpu *cpu = vm_hva(v->vm, (uintptr_t)&guest_cpus[0]);
	struct kvm_regs regs;

	vcpu_get(v, &regs);
	regs.rsi = what;
	regs.rdi = offset;
	vcpu_set(v, &regs);
	serve(v);
	return (uint64_t)(int32_t)cpu->vector;
}

TEST_F(exceptions, segment_limits_and_types_hold_for_mmio_in_32_bit_mode)
{
	struct guest_cpu *cpu = vm_hva(self->vm, (uintptr_t)&guest_cpus[0]);
	struct vcpu *v = self->v;
	struct kvm_sregs s;

	vcpu_prot32(v, limits, PAGING_NONE);
	vcpu_get_sregs(v, &s);
	s.ds = segment(SEL_FREE, 3, 0, DEV, 0xfff, 1, 0);
	s.es = segment(SEL_FREE + 8, 1, 0, DEV, 0xfff, 1, 0);	/* read-only */
	vcpu_set_sregs(v, &s);
	serve(v);
	EXPECT_EQ(NO_EXC, segment_access(v, DS_READ, 0));
	EXPECT_EQ(NO_EXC, segment_access(v, DS_READ, 0xffc));
	EXPECT_EQ(NO_EXC, segment_access(v, DS_WRITE, 0xffc));
	EXPECT_EQ(3, reads + writes);
	EXPECT_EQ(VEC_GP, segment_access(v, DS_READ, 0xffd));
	EXPECT_EQ(0, cpu->error);
	EXPECT_EQ(VEC_GP, segment_access(v, DS_WRITE, 0xfff));
	EXPECT_EQ(VEC_GP, segment_access(v, DS_READ, 0x1000));
	EXPECT_EQ(NO_EXC, segment_access(v, ES_READ, 0x10));
	EXPECT_EQ(VEC_GP, segment_access(v, ES_WRITE, 0x10));
	EXPECT_EQ(4, reads + writes);

	/* Expand-down: from the limit up. */
	vcpu_complete(v);
	vcpu_get_sregs(v, &s);
	s.ds = segment(SEL_FREE, 7, 0, DEV, 0xfff, 1, 0);
	vcpu_set_sregs(v, &s);
	EXPECT_EQ(VEC_GP, segment_access(v, DS_READ, 0x10));
	EXPECT_EQ(VEC_GP, segment_access(v, DS_READ, 0xfff));
	EXPECT_EQ(NO_EXC, segment_access(v, DS_READ, 0x1000));

	/* Through SS it is a stack fault. */
	vcpu_complete(v);
	vcpu_get_sregs(v, &s);
	s.ss = segment(SEL_DATA, 3, 0, 0, DEV + 0xfff, 1, 0);
	vcpu_set_sregs(v, &s);
	EXPECT_EQ(NO_EXC, segment_access(v, SS_READ, DEV + 0xffc));
	EXPECT_EQ(VEC_SS, segment_access(v, SS_READ, DEV + 0xffd));
	EXPECT_EQ(0, cpu->error);
}

/* #DB: how often, where, and whether DR7 guards the debug registers meanwhile. */
#define DR7_GD (1ul << 13)
#define DR6_BS (1ul << 14)
#define DR6_BD (1ul << 13)
static volatile struct {
	uint64_t traps, depth, rip[8], dr6, dr7;
} db;

static void on_db(struct guest_regs *regs)
{
	uint64_t v;

	if (db.traps < 8)
		db.rip[db.traps] = regs->rip;
	db.traps++;
	if (!db.depth++) {
		asm volatile("mov %%db7, %0" : "=r"(v));
		db.dr7 = v;
		asm volatile("mov %%db6, %0" : "=r"(v));
		db.dr6 = v;
		asm volatile("mov %0, %%db6" : : "r"(0xffff0ff0ul));
	}
	db.depth--;
	regs->rflags |= RFLAGS_RF;
	if (db.traps >= 8)	/* that is no single step any more */
		ucall_sync(db.traps);
}

static void on_db_clear_tf(struct guest_regs *regs)
{
	on_db(regs);
	regs->rflags &= ~RFLAGS_TF;
}

extern char int1_here[], int1_after[], int1_user_after[], sti_stepped[];
static void guest_int1(void)
{
	guest_handlers[VEC_DB] = on_db;
	/* The IDT and the stack are mapped by now: Bochs' SVM does not intercept INT1, and loses it to a nested fault. */
	GUEST_TRY("ud2", :);
	asm volatile(".globl int1_here, int1_after\nint1_here: .byte 0xf1\nint1_after: nop" : : : "memory");
	GUEST_EQ(1, db.traps);
	GUEST_EQ((uintptr_t)int1_after, db.rip[0]);
	GUEST_EQ(0, db.dr6 & (0xf | DR6_BS | DR6_BD));
}

TEST_F(exceptions, int1_is_a_trap_and_the_guest_goes_on_behind_it)
{
	vcpu_call(self->v, guest_int1);
	vcpu_finish(self->v);
}

static void on_db_once(struct guest_regs *regs)
{
	db.rip[db.traps++ & 7] = regs->rip;
	if (regs->rip == (uintptr_t)int1_user_after)
		regs->rflags &= ~RFLAGS_TF;
}

static void user_int1_in_a_shadow(void)
{
	asm volatile("mov %%ss, %%eax; pushfq; orq $0x100, (%%rsp); popfq\n"
		     "mov %%eax, %%ss; .byte 0xf1\n"
		     ".globl int1_user_after\nint1_user_after: nop; nop" : : : "rax", "memory", "cc");
}

static void guest_user_int1(void)
{
	guest_handlers[VEC_DB] = on_db_once;
	GUEST_EQ(NO_EXC, guest_user(user_read, SCRATCH_GPA, 0));
	GUEST_EQ(NO_EXC, guest_user(user_int1_in_a_shadow, 0, 0));
	GUEST_EQ((uintptr_t)int1_user_after, db.rip[(db.traps - 1) & 7]);
	ucall_sync(db.traps);
}

/* Emulated processors take the step of MOV SS as well: how many traps there are is theirs to say. */
TEST_F(exceptions, a_user_cannot_stop_the_vm_by_int1_in_the_shadow_of_mov_ss)
{
	vcpu_call(self->v, guest_user_int1);
	EXPECT_LE(1, vcpu_sync(self->v));
	vcpu_finish(self->v);
}

static void on_db_step(struct guest_regs *regs)
{
	db.rip[db.traps++ & 7] = regs->rip;
	if (db.traps == 3)
		regs->rflags &= ~RFLAGS_TF;
}

static void guest_step_sti(void)
{
	guest_handlers[VEC_DB] = on_db_step;
	asm volatile("pushfq; orq $0x100, (%%rsp); popfq\n"
		     "sti; .globl sti_stepped\nsti_stepped: nop; nop; nop; cli" : : : "memory", "cc");
	GUEST_EQ(3, db.traps);
	for (int i = 0; i < 3; i++)
		GUEST_EQ((uintptr_t)sti_stepped + i, db.rip[i]);
}

TEST_F(exceptions, sti_can_be_single_stepped)
{
	vcpu_call(self->v, guest_step_sti);
	vcpu_finish(self->v);
}

/* The instruction that is stepped exits; the handler may use the debug registers. */
static void guest_step_guarded(void)
{
	guest_handlers[VEC_DB] = on_db_clear_tf;
	asm volatile("mov %0, %%db7" : : "r"(0x400 | DR7_GD));
	asm volatile("pushfq; orq $0x100, (%%rsp); popfq; cpuid; nop"
		     : : "a"(0), "c"(0) : "rbx", "rdx", "memory", "cc");
	GUEST_EQ(1, db.traps);
	GUEST_EQ(0, db.dr7 & DR7_GD);
	GUEST_EQ(DR6_BS, db.dr6 & (DR6_BS | DR6_BD));
}

TEST_F(exceptions, every_debug_exception_opens_the_debug_registers)
{
	vcpu_call(self->v, guest_step_guarded);
	vcpu_finish(self->v);
}

/* Not in CPUID, and done as nothing, as long as the VMM does not ask for #UD. */
static void guest_mwait(void)
{
	GUEST_TRY("monitor", : : "a"(SCRATCH_GPA), "c"(0), "d"(0));
	GUEST_FAULTS(NO_EXC);
	GUEST_TRY("mwait", : : "a"(0), "c"(0));
	GUEST_FAULTS(NO_EXC);
}

TEST_F(exceptions, monitor_and_mwait_do_nothing)
{
	uint32_t a, b, c, d;

	__cpuid(1, a, b, c, d);
	if (!(c >> 3 & 1))
		SKIP(return, "this processor has no MONITOR");
	EXPECT_EQ(0, kvm_cpuid_leaf(1, 0)->ecx >> 3 & 1);
	vcpu_call(self->v, guest_mwait);
	vcpu_finish(self->v);
}

#define CR4_PCE (1ul << 8)

/* Whichever counter, and whoever may read them. */
static void guest_rdpmc(void)
{
	static const uint32_t index[] = { 0, 3, 0x40000000, 0x80000000, 0x10000, 0xffffffff };

	for (int pce = 0; pce < 2; pce++) {
		uint64_t cr4 = read_cr4() & ~CR4_PCE;

		asm volatile("mov %0, %%cr4" : : "r"(pce ? cr4 | CR4_PCE : cr4));
		for (int i = 0; i < 6; i++) {
			GUEST_TRY("rdpmc", : : "c"(index[i]) : "rax", "rdx");
			GUEST_FAULTS(VEC_GP);
			GUEST_EQ(0, guest_error());
		}
	}
}

TEST_F(exceptions, there_are_no_performance_counters_to_read)
{
	EXPECT_EQ(0, kvm_cpuid_leaf(0xa, 0)->eax & 0xff);
	vcpu_call(self->v, guest_rdpmc);
	vcpu_finish(self->v);
}

GUEST_TEST_MAIN
