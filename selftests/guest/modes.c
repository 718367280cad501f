// SPDX-License-Identifier: GPL-2.0-only
/* Processor modes: real, protected with each kind of paging, long; and the ways between them. */
#include "test.h"

#define HIGH 0x200000000000ull

extern char real_segments[], real_segments_end[], real_ints[], real_ints_end[];
extern char climb[], climb_end[], climb_cr3[];
extern char prot_exceptions[], prot_far[], prot_ring3[], prot_ring3_back[], prot_paging[];

VM_FIXTURE(modes)

TEST_F(modes, a_new_vcpu_starts_like_a_processor_after_reset)
{
	struct vcpu *v = vcpu_new(self->vm, 1);
	struct kvm_regs regs;
	struct kvm_sregs s;
	uint8_t *rom = map_anon(PAGE);

	vcpu_get(v, &regs);
	vcpu_get_sregs(v, &s);
	EXPECT_EQ(0xfff0, regs.rip);
	EXPECT_EQ(2, regs.rflags);
	EXPECT_EQ(0, regs.rax);
	EXPECT_EQ(0xf000, s.cs.selector);
	EXPECT_EQ(0xffff0000, s.cs.base);
	EXPECT_EQ(0xffff, s.cs.limit);
	EXPECT_EQ(0, s.ds.selector | s.ss.selector | s.es.selector);
	EXPECT_EQ(0xffff, s.ds.limit);
	EXPECT_EQ(0x60000010, s.cr0);
	EXPECT_EQ(0, s.cr4);
	EXPECT_EQ(0, s.efer);
	EXPECT_EQ(0, s.idt.base);
	EXPECT_EQ(0xffff, s.idt.limit);
	EXPECT_EQ(0xffff, s.gdt.limit);

	/* The reset vector: mov $0x12, %al; out %al, $0x80; hlt */
	memcpy(rom + 0xff0, "\xb0\x12\xe6\x80\xf4", 5);
	vm_slot(self->vm, 1, kvm_has(KVM_CAP_READONLY_MEM) ? KVM_MEM_READONLY : 0, 0xfffff000,
		PAGE, rom);
	vcpu_expect(v, KVM_EXIT_IO);
	EXPECT_EQ(0x80, v->run->io.port);
	EXPECT_EQ(0x12, *(uint8_t *)vcpu_io_data(v));
	vcpu_expect(v, KVM_EXIT_HLT);
}

TEST_F(modes, real_mode_segments_are_selectors_times_sixteen)
{
	struct ucall u;
	uint8_t *low = vm_hva(self->vm, 0);

	vm_copy_code(self->vm, REAL_GPA, real_segments);
	vcpu_real(self->v, 0, REAL_GPA);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(0x3800, u.arg[0]);
	EXPECT_EQ(0x7ffe, u.arg[1]);
	EXPECT_EQ(0x3333, u.arg[2]);
	EXPECT_EQ(0x1111, *(uint16_t *)(low + 0x20010));
	EXPECT_EQ(0x2222, *(uint16_t *)(low + 0x30010));
	EXPECT_EQ(0x4444, *(uint16_t *)(low + 0x40010));
	EXPECT_EQ(0x3333, *(uint16_t *)(low + 0x3fffe));
	u = vcpu_ucall(self->v);
	EXPECT_EQ(0x980, u.arg[0]);
	EXPECT_EQ(0x56781234, u.arg[1]);
	EXPECT_EQ(0x900, u.arg[2]);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

TEST_F(modes, real_mode_interrupts_go_through_the_vector_table)
{
	struct ucall u;

	vm_copy_code(self->vm, REAL_GPA, real_ints);
	vcpu_real(self->v, 0, REAL_GPA);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(2, u.arg[0]);
	EXPECT_EQ(0x11, u.arg[1]);
	EXPECT_EQ(RFLAGS_IF, u.arg[2] & RFLAGS_IF);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

TEST_F(modes, a_guest_climbs_from_real_mode_to_long_mode_and_back)
{
	struct kvm_sregs s;
	struct ucall u;

	vm_copy_code(self->vm, REAL_GPA, climb);
	*(uint32_t *)vm_hva(self->vm, REAL_GPA + (uint64_t)(climb_cr3 - climb)) =
		(uint32_t)self->vm->cr3;
	vcpu_real(self->v, 0, REAL_GPA);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(1, u.arg[0]);
	EXPECT_EQ(0x60000010, u.arg[1]);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(2, u.arg[0]);
	EXPECT_EQ(0x11, u.arg[1]);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(SEL_CODE32, s.cs.selector);
	EXPECT_EQ(1, s.cs.db);
	EXPECT_EQ(0xffffffff, s.ds.limit);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(3, u.arg[0]);
	EXPECT_EQ(0x10, u.arg[1]);
	EXPECT_EQ(0xb16b00b5, u.arg[2]);
	EXPECT_EQ(0xb16b00b5, *(uint32_t *)vm_hva(self->vm, 0x200000));
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(0, s.cs.selector);
	EXPECT_EQ(0, s.cs.base);
	EXPECT_EQ(0xffffffff, s.ds.limit);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(4, u.arg[0]);
	EXPECT_EQ(EFER_LME | EFER_LMA, u.arg[1]);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(EFER_LME | EFER_LMA, s.efer);
	EXPECT_EQ(0, s.cs.l);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(5, u.arg[0]);
	EXPECT_EQ(0x123456789abcdef0, u.arg[1]);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(1, s.cs.l);
	EXPECT_EQ(self->vm->cr3, s.cr3);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(6, u.arg[0]);
	EXPECT_EQ(EFER_LME, u.arg[1]);
	vcpu_expect(self->v, KVM_EXIT_HLT);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(0, s.efer);
	EXPECT_EQ(0x11, s.cr0);
}

/* The entry insists on a 64-bit TSS there; the guest loads one when it is there. */
TEST_F(modes, a_task_register_of_16_bits_is_one_of_64_in_long_mode)
{
	struct kvm_sregs s;
	struct ucall u;

	if (!on_intel())
		SKIP(return, "the processor switches modes itself, and says #GP");
	vm_copy_code(self->vm, REAL_GPA, climb);
	*(uint32_t *)vm_hva(self->vm, REAL_GPA + (uint64_t)(climb_cr3 - climb)) =
		(uint32_t)self->vm->cr3;
	vcpu_real(self->v, 0, REAL_GPA);
	vcpu_get_sregs(self->v, &s);
	s.tr.type = 3;
	vcpu_set_sregs(self->v, &s);
	do {
		u = vcpu_ucall(self->v);
	} while (u.arg[0] < 4);
	EXPECT_EQ(EFER_LME | EFER_LMA, u.arg[1]);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(11, s.tr.type);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(5, u.arg[0]);
}

FIXTURE(prot32) { struct vm *vm; struct vcpu *v; };
FIXTURE_VARIANT(prot32) { enum paging paging; };
FIXTURE_SETUP(prot32)
{
	self->vm = vm_new();
	self->v = vcpu_new(self->vm, 0);
}
FIXTURE_TEARDOWN(prot32)
{
	vcpu_free(self->v);
	vm_free(self->vm);
}
FIXTURE_VARIANT_ADD(prot32, no_paging) { .paging = PAGING_NONE };
FIXTURE_VARIANT_ADD(prot32, two_levels) { .paging = PAGING_32 };
FIXTURE_VARIANT_ADD(prot32, pae) { .paging = PAGING_PAE };

TEST_F(prot32, exceptions_and_interrupts_go_through_the_idt)
{
	struct ucall u;

	vcpu_prot32(self->v, prot_exceptions, variant->paging);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(VEC_BP, u.arg[0]);
	EXPECT_EQ(VEC_UD, u.arg[1]);
	EXPECT_EQ(0x77, u.arg[2]);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(VEC_GP, u.arg[0]);
	EXPECT_EQ(0xfff8, u.arg[1]);
	EXPECT_EQ(4, u.arg[2]);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

TEST_F(prot32, far_calls_reach_16_bit_segments)
{
	uint64_t base = (uintptr_t)prot_far, d;
	struct ucall u;

	d = 0x00009b000000ffff | (base & 0xffffff) << 16 | (base >> 24) << 56;
	vm_copy(self->vm, GDT_GPA + SEL_FREE, &d, 8);
	vcpu_prot32(self->v, prot_far, variant->paging);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(SEL_CODE32, u.arg[0]);
	EXPECT_EQ(0x77, u.arg[1]);
	EXPECT_EQ(1, u.arg[2]);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

TEST_F(prot32, cpl_3_is_entered_by_iret_and_left_by_an_interrupt_gate)
{
	uint64_t target = (uintptr_t)prot_ring3_back;
	/* The 32-bit TSS: esp0 at 4, ss0 at 8. */
	uint32_t stack[2] = { STACK_GPA + STACK_SIZE - 0x100, SEL_DATA };
	uint64_t gate = (target & 0xffff) | (uint64_t)SEL_CODE32 << 16 | 0xeeull << 40 |
			(target & 0xffff0000) << 32;
	struct kvm_sregs s;
	struct ucall u;

	vm_copy(self->vm, IDT32_GPA + 0x50 * 8, &gate, 8);
	vm_copy(self->vm, TSS_GPA + 4, stack, 8);
	vcpu_prot32(self->v, prot_ring3, variant->paging);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(SEL_UCODE32, u.arg[0]);
	EXPECT_EQ(0x108000, u.arg[1]);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(3, s.cs.dpl);
	EXPECT_EQ(3, s.ss.dpl);
	u = vcpu_ucall(self->v);
	EXPECT_EQ(SEL_CODE32, u.arg[0]);
	EXPECT_EQ(0x108000, u.arg[1]);
	EXPECT_EQ(SEL_UCODE32, u.arg[2]);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(0, s.cs.dpl);
	EXPECT_EQ(SEL_DATA, s.ss.selector);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

/* Paging in 32-bit mode, driven by the test: do() makes the guest do one thing. */
enum { READ, WRITE, EXECUTE, INVLPG, POKE, LOAD_CR3 };

struct result {
	uint64_t value, vector, error, cr2;
};

static struct result ask(struct vcpu *v, int what, uint32_t address)
{
	struct guest_cpu *cpu = vm_hva(v->vm, (uintptr_t)&guest_cpus[0]);
	struct kvm_regs regs;
	struct ucall u;

	vcpu_get(v, &regs);
	regs.rdi = address;
	regs.rsi = (uint64_t)what;
	vcpu_set(v, &regs);
	u = vcpu_ucall(v);
	return (struct result){ u.arg[2], (int32_t)cpu->vector, cpu->error, cpu->cr2 };
}

/* Memory written by the guest itself, for page tables in use. */
static void poke(struct vcpu *v, uint32_t address, uint32_t value)
{
	struct kvm_regs regs;

	vcpu_get(v, &regs);
	regs.rbp = value;
	vcpu_set(v, &regs);
	ask(v, POKE, address);
}

#define EXPECT_FAULT(r, err, address) do { \
	struct result __r = (r); \
	EXPECT_EQ(VEC_PF, __r.vector); \
	EXPECT_EQ(err, __r.error); \
	EXPECT_EQ(address, __r.cr2); \
} while (0)
#define EXPECT_VALUE(expected, r) do { \
	struct result __r = (r); \
	EXPECT_EQ(NO_EXC, __r.vector); \
	EXPECT_EQ(expected, __r.value); \
} while (0)

TEST_F(modes, two_level_paging_maps_4_kib_and_4_mib_pages_and_faults_right)
{
	struct vcpu *v = self->v;
	struct kvm_sregs s;
	uint32_t *pd, *pt;
	uint64_t table, pt_gpa;

	vcpu_prot32(v, prot_paging, PAGING_32);
	vcpu_get_sregs(v, &s);
	pd = vm_hva(self->vm, s.cr3);
	table = pt_gpa = pt_page(self->vm);
	pt = vm_hva(self->vm, table);
	pd[0x200] = (uint32_t)(table | PTE_URW);		/* 0x80000000 */
	pt[0] = (uint32_t)((SCRATCH_GPA + 0x3000) | PTE_URW);
	pt[1] = (uint32_t)((SCRATCH_GPA + 0x1000) | PTE_P | PTE_U);
	pt[3] = (uint32_t)(SCRATCH_GPA | PTE_RW);
	pd[0x201] = 0x400000 | PTE_URW | PTE_PS;		/* 0x80400000: at 4 MiB */
	pd[0x300] = 0;
	*(uint32_t *)vm_hva(self->vm, SCRATCH_GPA + 0x3010) = 0x1111;
	*(uint32_t *)vm_hva(self->vm, SCRATCH_GPA + 0x1010) = 0x2222;
	*(uint32_t *)vm_hva(self->vm, HIGH_SCRATCH_GPA + 0x10) = 0x3333;

	vcpu_ucall(v);
	EXPECT_VALUE(0x1111, ask(v, READ, 0x80000010));
	EXPECT_VALUE(0x2222, ask(v, READ, 0x80001010));
	EXPECT_VALUE(0x3333, ask(v, READ, 0x80600010));
	EXPECT_EQ(PTE_A, pt[0] & (PTE_A | PTE_D));
	EXPECT_EQ(PTE_A, pd[0x201] & (PTE_A | PTE_D));
	EXPECT_EQ(0, pt[3] & (PTE_A | PTE_D));
	EXPECT_VALUE(0, ask(v, WRITE, 0x80000010));
	EXPECT_EQ(0xabcd1234, *(uint32_t *)vm_hva(self->vm, SCRATCH_GPA + 0x3010));
	EXPECT_EQ(PTE_A | PTE_D, pt[0] & (PTE_A | PTE_D));
	EXPECT_VALUE(0, ask(v, WRITE, 0x80600010));
	EXPECT_EQ(PTE_A | PTE_D, pd[0x201] & (PTE_A | PTE_D));
	EXPECT_FAULT(ask(v, WRITE, 0x80001010), 3, 0x80001010);	/* present, write */
	EXPECT_FAULT(ask(v, READ, 0x80002010), 0, 0x80002010);
	EXPECT_FAULT(ask(v, WRITE, 0x80002ffe), 2, 0x80002ffe);
	EXPECT_FAULT(ask(v, READ, 0xc0000000), 0, 0xc0000000);

	/* A change by the guest, and INVLPG. */
	poke(v, (uint32_t)pt_gpa, (uint32_t)(SCRATCH_GPA | PTE_URW));
	*(uint32_t *)vm_hva(self->vm, SCRATCH_GPA + 0x10) = 0x4444;
	ask(v, INVLPG, 0x80000010);
	EXPECT_VALUE(0x4444, ask(v, READ, 0x80000010));
	poke(v, (uint32_t)pt_gpa, 0);
	ask(v, INVLPG, 0x80000010);
	EXPECT_FAULT(ask(v, READ, 0x80000010), 0, 0x80000010);
	/* A copy of the directory without the entry. */
	table = pt_page(self->vm);
	vm_copy(self->vm, table, pd, PAGE);
	((uint32_t *)vm_hva(self->vm, table))[0x201] = 0;
	EXPECT_EQ(NO_EXC, ask(v, LOAD_CR3, (uint32_t)table).vector);
	EXPECT_FAULT(ask(v, READ, 0x80600010), 0, 0x80600010);
	EXPECT_EQ(NO_EXC, ask(v, LOAD_CR3, (uint32_t)s.cr3).vector);
	EXPECT_VALUE(0xabcd1234, ask(v, READ, 0x80600010));
}

TEST_F(modes, pae_paging_maps_4_kib_and_2_mib_pages_with_no_execute)
{
	struct vcpu *v = self->v;
	struct kvm_sregs s;
	uint64_t *pdpt, *pd, *pt, table;
	uint8_t *high = vm_add_ram(self->vm, 1, 0, 0x140000000, 2 * MiB);	/* above 4 GiB */

	vcpu_prot32(v, prot_paging, PAGING_PAE);
	vcpu_get_sregs(v, &s);
	pdpt = vm_hva(self->vm, s.cr3);
	pd = vm_hva(self->vm, pdpt[2] & PTE_ADDR);		/* 0x80000000 */
	table = pt_page(self->vm);
	pt = vm_hva(self->vm, table);
	pd[0] = table | PTE_URW;
	pt[0] = (SCRATCH_GPA + 0x3000) | PTE_URW;
	pt[1] = (SCRATCH_GPA + 0x1000) | PTE_P | PTE_NX;
	pd[1] = 0x140000000 | PTE_URW | PTE_PS;			/* 0x80200000 */
	*(uint32_t *)vm_hva(self->vm, SCRATCH_GPA + 0x3010) = 0x1111;
	*(uint8_t *)vm_hva(self->vm, SCRATCH_GPA + 0x3020) = 0xc3;	/* ret */
	*(uint32_t *)vm_hva(self->vm, SCRATCH_GPA + 0x1010) = 0x2222c3c3;
	*(uint32_t *)(high + 0x12340) = 0x5555;

	vcpu_ucall(v);
	EXPECT_VALUE(0x1111, ask(v, READ, 0x80000010));
	EXPECT_VALUE(0x2222c3c3, ask(v, READ, 0x80001010));
	EXPECT_VALUE(0x5555, ask(v, READ, 0x80212340));
	EXPECT_VALUE(0, ask(v, WRITE, 0x80212340));
	EXPECT_EQ(0xabcd1234, *(uint32_t *)(high + 0x12340));
	EXPECT_EQ(PTE_A | PTE_D, pd[1] & (PTE_A | PTE_D));
	EXPECT_VALUE(0, ask(v, EXECUTE, 0x80000020));
	EXPECT_FAULT(ask(v, EXECUTE, 0x80001010), 0x11, 0x80001010);	/* present, fetch */
	EXPECT_FAULT(ask(v, WRITE, 0x80001010), 3, 0x80001010);
	EXPECT_FAULT(ask(v, READ, 0x80002010), 0, 0x80002010);
	if (kvm_maxphyaddr() < 52) {
		pt[2] = SCRATCH_GPA | PTE_URW | 1ull << 51;	/* a reserved bit */
		/* QEMU's TCG forgets to set P beside RSVD. */
		EXPECT_EQ(9, ask(v, READ, 0x80002010).error | 1);
	}
	/* A PDPTE that is not present. */
	table = pt_page(self->vm);
	vm_copy(self->vm, table, pdpt, 32);
	((uint64_t *)vm_hva(self->vm, table))[3] = 0;
	EXPECT_EQ(NO_EXC, ask(v, LOAD_CR3, (uint32_t)table).vector);
	EXPECT_FAULT(ask(v, READ, 0xc0000000), 0, 0xc0000000);
	EXPECT_EQ(NO_EXC, ask(v, LOAD_CR3, (uint32_t)s.cr3).vector);
	EXPECT_EQ(NO_EXC, ask(v, INVLPG, 0xc0000000).vector);
}

/* Long mode. */
static void guest_read(uint64_t a)
{
	ucall_sync(rd64(a));
}

TEST_F(modes, long_mode_maps_4_kib_and_2_mib_pages_anywhere)
{
	static const uint64_t vas[] = { 0x100000000, 0x7fffffe00000, 0xffff800000000000,
					0xffffffff80000000, 0xffffffffffe00000, HIGH };

	for (size_t i = 0; i < ARRAY_SIZE(vas); i++) {
		uint64_t *gpa = vm_hva(self->vm, SCRATCH_GPA + i * PAGE);

		*gpa = 0x1000 + i;
		pt_map(self->vm, vas[i], SCRATCH_GPA + i * PAGE, PAGE, PTE_URW);
		vcpu_call(self->v, guest_read, vas[i]);
		EXPECT_EQ(0x1000 + i, vcpu_sync(self->v));
	}
	for (size_t i = 0; i < ARRAY_SIZE(vas); i++) {
		uint64_t va = vas[i] & ~(2 * MiB - 1);

		*(uint64_t *)vm_hva(self->vm, HIGH_SCRATCH_GPA + 0x123008) = 0x2000 + i;
		pt_map_large(self->vm, va, HIGH_SCRATCH_GPA, PTE_URW);
		vcpu_call(self->v, guest_read, va + 0x123008);
		EXPECT_EQ(0x2000 + i, vcpu_sync(self->v));
	}
}

static void guest_ad(uint64_t a)
{
	rd64(a);
	ucall_sync(1);
	wr64(a, 5);
	ucall_sync(2);
}

TEST_F(modes, accessed_and_dirty_bits_are_set_when_and_only_when_due)
{
	uint64_t *pte, *next;

	pt_map(self->vm, HIGH, SCRATCH_GPA, 2 * PAGE, PTE_URW);
	pte = pt_entry(self->vm, HIGH, 1);
	next = pt_entry(self->vm, HIGH + PAGE, 1);
	vcpu_call(self->v, guest_ad, HIGH + 8);
	EXPECT_EQ(1, vcpu_sync(self->v));
	EXPECT_EQ(PTE_A, *pte & (PTE_A | PTE_D));
	EXPECT_EQ(PTE_A, *pt_entry(self->vm, HIGH, 2) & (PTE_A | PTE_D));
	EXPECT_EQ(2, vcpu_sync(self->v));
	EXPECT_EQ(PTE_A | PTE_D, *pte & (PTE_A | PTE_D));
	EXPECT_EQ(0, *next & (PTE_A | PTE_D));
}

TEST_F(modes, long_mode_maps_1_gib_pages)
{
	uint64_t *e, gpa = 0x280000000;
	uint64_t *ram = vm_add_ram(self->vm, 1, 0, gpa + 0x200000, 2 * MiB);

	if (!(kvm_cpuid_leaf(0x80000001, 0)->edx & (1 << 26)))
		SKIP(return, "no 1 GiB pages");
	pt_map(self->vm, HIGH, 0, PAGE, PTE_URW);
	e = pt_entry(self->vm, HIGH, 3);
	*e = gpa | PTE_URW | PTE_PS;
	ram[1] = 0x9999;
	vcpu_call(self->v, guest_read, HIGH + 0x200008);
	EXPECT_EQ(0x9999, vcpu_sync(self->v));
}

static void guest_five(uint64_t a)
{
	GUEST_TRUE(read_cr4() & CR4_LA57);
	ucall_sync(rd64(a));
}

TEST_F(modes, long_mode_translates_57_bit_addresses)
{
	static const uint64_t vas[] = { 0x100000000, 0x00ffffffffe00000, 0xff00000000000000,
					0xffff800000000000, 0xffffffffffe00000 };

	if (!(kvm_cpuid_leaf(7, 0)->ecx & (1 << 16)))
		SKIP(return, "no 5-level paging");
	self->vm->pool = POOL_GPA;
	pt_identity(self->vm, 5);
	for (size_t i = 0; i < ARRAY_SIZE(vas); i++) {
		*(uint64_t *)vm_hva(self->vm, SCRATCH_GPA + i * PAGE) = 0x5000 + i;
		pt_map(self->vm, vas[i], SCRATCH_GPA + i * PAGE, PAGE, PTE_URW);
		vcpu_call(self->v, guest_five, vas[i]);
		EXPECT_EQ(0x5000 + i, vcpu_sync(self->v));
	}
}

/* Compatibility mode: 32-bit code under a 64-bit kernel. */
asm(".pushsection .text\n.code32\n"
    "compat: mov $0x11223344, %eax\n"
    "	push %eax\n"
    "	pop %ebx\n"
    "	add $0x11111111, %ebx\n"
    "	inc %ebx\n"		/* in 64-bit code this byte is a REX prefix */
    "	mov %ebx, (%edi)\n"
    "	int $0x80\n"
    ".code64\n.popsection\n");
extern char compat[];
static uint64_t compat_result;

static void guest_compat(void)
{
	struct guest_cpu *cpu = guest_self();

	asm volatile("push %%rbx; push %%rbp; push %%r12; push %%r13; push %%r14; push %%r15\n"
		     "mov %%rsp, %0\n"
		     "pushq %1; pushq %2; pushfq; pushq %3; pushq %4; iretq\n"
		     : "=m"(cpu->user_rsp)
		     : "i"(SEL_UDATA), "r"(STACK_GPA + STACK_SIZE / 4), "i"(SEL_UCODE32),
		       "r"(compat), "D"(&compat_result) : "memory");
}

static void guest_compat_outer(void)
{
	guest_compat();
	GUEST_EQ(VEC_GP, guest_self()->vector);
	GUEST_EQ(0x80 * 8 + 2, guest_self()->error);
	GUEST_EQ(0x22334456, compat_result);
}

TEST_F(modes, compatibility_mode_runs_32_bit_code_under_a_64_bit_kernel)
{
	vcpu_call(self->v, guest_compat_outer);
	vcpu_finish(self->v);
}

GUEST_TEST_MAIN
