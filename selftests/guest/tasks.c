// SPDX-License-Identifier: GPL-2.0-only
/* Hardware task switches: by CALL, JMP, IRET, task gates; what goes where, and faults of the new task. */
#include "test.h"

#define SEL_B SEL_FREE
#define SEL_C (SEL_FREE + 8)	/* a 16-bit task */
#define SEL_X (SEL_FREE + 16)	/* for one test or the other */
#define TSS_B FREE_GPA
#define TSS_C (FREE_GPA + 0x100)
#define LDT (FREE_GPA + 0x200)
#define TSS_X (FREE_GPA + 0x300)
#define STACK_B (SCRATCH_GPA + 0x2000)
#define GATE 0x50
#define RFLAGS_NT (1ul << 14)

#define CODES(x) extern char x[], x##_back[]
CODES(task_call); CODES(task_call16); CODES(task_jump); CODES(task_int); CODES(task_ud); CODES(task_gp);
extern char task_wait[], task_wait_end[], task_b[], task_b_again[], task_b_jump[], task_b_error[];
extern char task_16[], task_16_end[], task_vm86[], task_vm86_end[];

struct tss32 {
	uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, iomap;
} __attribute__((packed));
struct tss16 {
	uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di;
	uint16_t es, cs, ss, ds, ldt;
};
_Static_assert(sizeof(struct tss32) == 104 && sizeof(struct tss16) == 44, "SDM vol. 3 8.2.1, 8.6");

FIXTURE(tasks) {
	struct vm *vm;
	struct vcpu *v;
	struct tss32 *a, *b;
	uint64_t *gdt;
	uint64_t cr3, cr3_b;
};
FIXTURE_VARIANT(tasks) { enum paging paging; };
FIXTURE_SETUP(tasks)
{
	if (on_tcg())
		SKIP_CASE("QEMU's TCG switches tasks itself, and loses its way when a nested fault comes between");
	if (variant->paging == PAGING_NONE && on_intel() && vmx_without("unrestricted_guest"))
		SKIP_CASE("this processor does not run guests without paging");
	self->vm = vm_new();
	self->v = vcpu_new(self->vm, 0);
	self->a = vm_hva(self->vm, TSS_GPA);
	self->b = vm_hva(self->vm, TSS_B);
	self->gdt = vm_hva(self->vm, GDT_GPA);
}
FIXTURE_TEARDOWN(tasks)
{
	vcpu_free(self->v);
	vm_free(self->vm);
}
FIXTURE_VARIANT_ADD(tasks, no_paging) { .paging = PAGING_NONE };
FIXTURE_VARIANT_ADD(tasks, two_levels) { .paging = PAGING_32 };
FIXTURE_VARIANT_ADD(tasks, pae) { .paging = PAGING_PAE };

static uint64_t descriptor(uint8_t access, uint64_t base, uint32_t limit)
{
	return (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)access << 40 | (base >> 24 & 0xff) << 56;
}
static int busy(uint64_t d) { return d >> 41 & 1; }

/* The first task begins at entry; the second, at task_b, has a stack and numbers of its own. */
static void start(struct __test_metadata *_metadata, FIXTURE_DATA(tasks) *self, enum paging paging, const void *entry)
{
	struct kvm_sregs s;
	uint64_t copy;

	vcpu_prot32(self->v, entry, paging);
	vcpu_get_sregs(self->v, &s);
	self->cr3 = self->cr3_b = s.cr3;
	if (paging != PAGING_NONE) {
		copy = pt_page(self->vm);
		vm_copy(self->vm, copy, vm_hva(self->vm, s.cr3), PAGE);
		self->cr3_b = copy;
	}
	self->gdt[SEL_TSS / 8] = descriptor(0x89, TSS_GPA, TSS_SIZE - 1);
	self->gdt[SEL_B / 8] = descriptor(0x89, TSS_B, sizeof(*self->b) - 1);
	memset(self->a, 0, sizeof(*self->a));
	self->a->cr3 = (uint32_t)self->cr3;
	*self->b = (struct tss32){
		.cr3 = (uint32_t)self->cr3_b, .eip = (uint32_t)(uintptr_t)task_b, .eflags = 2 | RFLAGS_DF | RFLAGS_ZF,
		.eax = 0xb0, .ecx = 0xb3, .ebx = 0xb4, .esp = STACK_B, .ebp = 0xb5, .esi = 0xb2, .edi = 0xb1,
		.esp0 = STACK_B - 0x800, .ss0 = SEL_DATA,
		.cs = SEL_CODE32, .ss = SEL_DATA, .ds = SEL_DATA, .es = SEL_DATA, .iomap = sizeof(struct tss32),
	};
}
#define START(entry) start(_metadata, self, variant->paging, (entry))

static void task_gate(struct vm *vm, int vector, uint16_t task)
{
	uint64_t gate = (uint64_t)task << 16 | 0x85ull << 40;

	vm_copy(vm, IDT32_GPA + (uint64_t)vector * 8, &gate, 8);
}

#define EXPECT_TASK(u, n) do { \
	EXPECT_EQ((n) + 1, (u).arg[0]); \
	EXPECT_EQ((n) + 2, (u).arg[1]); \
	EXPECT_EQ((n) + 3, (u).arg[2]); \
} while (0)

TEST_F(tasks, call_and_iret_go_there_and_back)
{
	struct kvm_debugregs d;
	struct kvm_sregs s, was;
	struct kvm_regs r;
	struct ucall u;

	START(task_call);
	vcpu_get_sregs(self->v, &was);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_DEBUGREGS, &d));
	d.dr7 = 0x400 | 3;	/* a breakpoint of this task, and of all */
	d.db[0] = 0xfffff000;
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_DEBUGREGS, &d));
	self->a->gs = 0x12340000;
	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xb0);
	vcpu_get(self->v, &r);
	EXPECT_EQ(0xb4, r.rbx);
	EXPECT_EQ(STACK_B, r.rsp);
	EXPECT_EQ(0xb5, r.rbp);
	EXPECT_EQ(2 | RFLAGS_DF | RFLAGS_ZF | RFLAGS_NT, r.rflags);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(SEL_B, s.tr.selector);
	EXPECT_EQ(TSS_B, s.tr.base);
	EXPECT_EQ(sizeof(struct tss32) - 1, s.tr.limit);
	EXPECT_EQ(11, s.tr.type);
	EXPECT_EQ(SEL_CODE32, s.cs.selector);
	EXPECT_EQ(SEL_DATA, s.ss.selector);
	EXPECT_EQ(0xffffffff, s.es.limit);
	EXPECT_EQ(0, s.fs.selector);
	EXPECT_EQ(1, s.fs.unusable);
	EXPECT_EQ(was.cr0 | CR0_TS, s.cr0);
	EXPECT_EQ(self->cr3_b, s.cr3);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_DEBUGREGS, &d));
	EXPECT_EQ(0x402, d.dr7);
	EXPECT_EQ(SEL_TSS, self->b->link & 0xffff);
	EXPECT_EQ(1, busy(self->gdt[SEL_TSS / 8]));
	EXPECT_EQ(1, busy(self->gdt[SEL_B / 8]));
	/* The first task as it was left. */
	EXPECT_EQ((uintptr_t)task_call_back, self->a->eip);
	EXPECT_EQ(2, self->a->eflags & ~(RFLAGS_RF | RFLAGS_ZF | RFLAGS_PF));
	EXPECT_EQ(0xa4, self->a->ebx);
	EXPECT_EQ(0xa1, self->a->edi);
	EXPECT_EQ(STACK_GPA + STACK_SIZE - 16, self->a->esp);
	EXPECT_EQ(SEL_CODE32, self->a->cs);
	EXPECT_EQ(SEL_DATA, self->a->ss);
	EXPECT_EQ(SEL_DATA, self->a->gs & 0xffff);
	EXPECT_EQ(self->cr3, self->a->cr3);
	EXPECT_EQ(0, self->a->link);

	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xa0);
	vcpu_get(self->v, &r);
	EXPECT_EQ(0xa4, r.rbx);
	EXPECT_EQ(0, r.rflags & (RFLAGS_NT | RFLAGS_DF));
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(SEL_TSS, s.tr.selector);
	EXPECT_EQ(TSS_GPA, s.tr.base);
	EXPECT_EQ(was.cr3, s.cr3);
	EXPECT_EQ(0, s.fs.unusable);
	EXPECT_EQ(1, busy(self->gdt[SEL_TSS / 8]));
	EXPECT_EQ(0, busy(self->gdt[SEL_B / 8]));
	EXPECT_EQ((uintptr_t)task_b_again, self->b->eip);
	EXPECT_EQ(0, self->b->eflags & RFLAGS_NT);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

TEST_F(tasks, jmp_leaves_no_way_back)
{
	struct kvm_regs r;
	struct ucall u;

	START(task_jump);
	self->b->eip = (uint32_t)(uintptr_t)task_b_jump;
	self->b->link = 0x7777;
	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xb0);
	vcpu_get(self->v, &r);
	EXPECT_EQ(0, r.rflags & RFLAGS_NT);
	EXPECT_EQ(0x7777, self->b->link);
	EXPECT_EQ(0, busy(self->gdt[SEL_TSS / 8]));
	EXPECT_EQ(1, busy(self->gdt[SEL_B / 8]));
	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xa0);
	EXPECT_EQ(1, busy(self->gdt[SEL_TSS / 8]));
	EXPECT_EQ(0, busy(self->gdt[SEL_B / 8]));
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

TEST_F(tasks, a_tss_may_lie_across_pages_and_be_16_bit)
{
	struct tss16 *c = vm_hva(self->vm, TSS_C);
	struct kvm_sregs s;
	struct kvm_regs r;
	struct ucall u;

	START(task_call16);
	vm_copy_code(self->vm, REAL_GPA, task_16);
	self->gdt[SEL_C / 8] = descriptor(0x81, TSS_C, sizeof(*c) - 1);
	*c = (struct tss16){
		.ip = REAL_GPA, .flags = 2 | RFLAGS_DF, .cx = 0xc3, .sp = 0x9ff0, .si = 0xc2, .di = 0xc1,
		.cs = SEL_CODE16, .ss = SEL_DATA16, .ds = SEL_DATA16, .es = SEL_DATA16,
	};
	u = vcpu_ucall(self->v);
	EXPECT_EQ(0xc1, u.arg[0] & 0xffff);
	EXPECT_EQ(0xc2, u.arg[1] & 0xffff);
	EXPECT_EQ(0xc3, u.arg[2] & 0xffff);
	vcpu_get(self->v, &r);
	EXPECT_EQ(2 | RFLAGS_DF | RFLAGS_NT, r.rflags);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(SEL_C, s.tr.selector);
	EXPECT_EQ(3, s.tr.type);
	EXPECT_EQ(SEL_CODE16, s.cs.selector);
	EXPECT_EQ(self->cr3, s.cr3);
	EXPECT_EQ(SEL_TSS, c->link);
	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xa0);
	EXPECT_EQ(REAL_GPA + (uintptr_t)(task_16_end - task_16), c->ip);
	EXPECT_EQ(2 | RFLAGS_DF, c->flags);
	vcpu_expect(self->v, KVM_EXIT_HLT);

	/* Half of it here, half of it there. */
	START(task_call);
	self->gdt[SEL_B / 8] = descriptor(0x89, FREE_GPA + 2 * PAGE - 0x30, sizeof(*self->b) - 1);
	self->gdt[SEL_TSS / 8] = descriptor(0x89, FREE_GPA + 3 * PAGE - 0x30, 0x7f);
	vm_copy(self->vm, FREE_GPA + 2 * PAGE - 0x30, self->b, sizeof(*self->b));
	vm_copy(self->vm, FREE_GPA + 3 * PAGE - 0x30, self->a, sizeof(*self->a));
	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xb0);
	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xa0);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

/* length: of the instruction, where a fault leaves it to be done again */
static void through_gate(struct __test_metadata *_metadata, FIXTURE_DATA(tasks) *self, enum paging paging,
			 const char *entry, const char *back, unsigned int length, int vector)
{
	struct kvm_regs r;
	struct ucall u;

	start(_metadata, self, paging, entry);
	task_gate(self->vm, vector, SEL_B);
	if (vector == VEC_GP)
		self->b->eip = (uint32_t)(uintptr_t)task_b_error;
	u = vcpu_ucall(self->v);
	EXPECT_EQ(0xb1, u.arg[0]);
	EXPECT_EQ(vector == VEC_GP ? 0xfff8 : 0xb3, u.arg[2]);
	vcpu_get(self->v, &r);
	EXPECT_EQ(STACK_B, r.rsp);
	EXPECT_EQ(RFLAGS_NT, r.rflags & RFLAGS_NT);
	EXPECT_EQ((uintptr_t)back - length, self->a->eip);
	self->a->eip = (uint32_t)(uintptr_t)back;
	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xa0);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}
#define THROUGH_GATE(name, ...) through_gate(_metadata, self, variant->paging, name, name##_back, __VA_ARGS__)

TEST_F(tasks, task_gates_serve_exceptions_and_software_interrupts)
{
	THROUGH_GATE(task_int, 0, GATE);
	THROUGH_GATE(task_ud, 2, VEC_UD);
}

TEST_F(tasks, the_error_code_of_an_exception_is_on_the_stack_of_the_task)
{
	THROUGH_GATE(task_gp, 7, VEC_GP);
}

TEST_F(tasks, task_gates_serve_interrupts_and_nmis)
{
	struct kvm_run *run = self->v->run;
	struct kvm_interrupt irq = { .irq = GATE };
	struct kvm_vcpu_events e;
	struct kvm_regs r;
	struct ucall u;

	START(task_wait);
	task_gate(self->vm, GATE, SEL_B);
	task_gate(self->vm, VEC_NMI, SEL_B);
	u = vcpu_ucall(self->v);
	for (int i = 0; i < 3; i++) {
		run->request_interrupt_window = 1;
		vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
		run->request_interrupt_window = 0;
		ASSERT_OK(ioctl(self->v->fd, KVM_INTERRUPT, &irq));
		u = vcpu_ucall(self->v);
		EXPECT_TASK(u, 0xb0);
		vcpu_get(self->v, &r);
		EXPECT_EQ(0, r.rflags & RFLAGS_IF);
		EXPECT_EQ(RFLAGS_IF, self->a->eflags & RFLAGS_IF);
		self->b->eip = (uint32_t)(uintptr_t)task_b;
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		EXPECT_EQ(0, e.interrupt.injected);
	}
	for (int i = 0; i < 2; i++) {
		run->request_interrupt_window = 1;
		vcpu_expect(self->v, KVM_EXIT_IRQ_WINDOW_OPEN);
		run->request_interrupt_window = 0;
		ASSERT_OK(ioctl(self->v->fd, KVM_NMI, 0));
		u = vcpu_ucall(self->v);
		EXPECT_TASK(u, 0xb0);
		ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
		EXPECT_EQ(1, e.nmi.masked);
		EXPECT_EQ(0, e.nmi.injected | e.nmi.pending);
	}
}

TEST_F(tasks, what_the_new_task_cannot_load_is_its_own_fault)
{
	static const struct { int field; uint16_t selector; uint64_t x; uint64_t vector, error; } bad[] = {
		{ 0, SEL_X, 0x00cf93000000ffff, VEC_TS, SEL_X },	/* LDTR: a data segment */
		{ 0, SEL_X, 0x000002000000ffff, VEC_TS, SEL_X },	/* ... not present */
		{ 1, SEL_X, 0x00cf93000000ffff, VEC_TS, SEL_X },	/* CS: a data segment */
		{ 1, SEL_X, 0x00cf1b000000ffff, VEC_NP, SEL_X },	/* ... not present */
		{ 1, 0, 0, VEC_TS, 0 },					/* ... null */
		{ 2, SEL_X, 0x00cf99000000ffff, VEC_TS, SEL_X },	/* DS: code that cannot be read */
		{ 2, SEL_X, 0x00cf13000000ffff, VEC_NP, SEL_X },	/* ... not present */
		{ 3, 0xfff8, 0, VEC_TS, 0xfff8 },			/* ES: beyond the GDT */
		{ 3, SEL_X | 4, 0, VEC_TS, SEL_X | 4 },			/* ... of an LDT that is not there */
	};
	struct kvm_sregs s;
	struct kvm_regs r;

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		START(task_call);
		self->gdt[SEL_X / 8] = bad[i].x;
		*(bad[i].field == 0 ? &self->b->ldt : bad[i].field == 1 ? &self->b->cs :
		  bad[i].field == 2 ? &self->b->ds : &self->b->es) = bad[i].selector;
		vcpu_expect(self->v, KVM_EXIT_IO);
		vcpu_get(self->v, &r);
		EXPECT_EQ(bad[i].vector, r.rdi) TH_LOG("case %u", i);
		EXPECT_EQ(bad[i].error, r.rsi) TH_LOG("case %u", i);
		EXPECT_EQ((uintptr_t)task_b, r.rcx) TH_LOG("case %u", i);
		vcpu_get_sregs(self->v, &s);
		EXPECT_EQ(SEL_B, s.tr.selector);
		EXPECT_EQ(0xb4, r.rbx);
	}
}

/* The fault needs a stack of its own, and finds the task in whatever mode its CS says. */
TEST_F(tasks, a_stack_that_cannot_be_loaded_is_told_to_a_third_task)
{
	struct tss32 *x = vm_hva(self->vm, TSS_X);
	struct kvm_sregs s;
	struct ucall u;

	if (on_intel() && vmx_without("unrestricted_guest"))
		SKIP(return, "without «unrestricted guest» no entry has a stack segment of another RPL");
	for (int user = 0; user < 2; user++) {
		START(task_call);
		self->gdt[SEL_X / 8] = descriptor(0x89, TSS_X, sizeof(*x) - 1);
		task_gate(self->vm, VEC_TS, SEL_X);
		*x = *self->b;
		x->eip = (uint32_t)(uintptr_t)task_b_error;
		self->b->cs = user ? SEL_UCODE32 : SEL_CODE32;
		self->b->ss = user ? SEL_DATA : SEL_CODE32;
		u = vcpu_ucall(self->v);
		EXPECT_EQ(0xb1, u.arg[0]);
		EXPECT_EQ(self->b->ss, u.arg[2]);
		vcpu_get_sregs(self->v, &s);
		EXPECT_EQ(SEL_X, s.tr.selector);
		EXPECT_EQ(SEL_B, x->link & 0xffff);
		EXPECT_EQ((uintptr_t)task_b, self->b->eip);
		EXPECT_EQ(user ? SEL_UCODE32 : SEL_CODE32, self->b->cs);
		EXPECT_EQ(SEL_TSS, self->b->link & 0xffff);
	}
}

TEST_F(tasks, an_ldt_and_its_segments_are_loaded)
{
	uint64_t *ldt = vm_hva(self->vm, LDT);
	struct kvm_sregs s;
	struct ucall u;

	START(task_call);
	self->gdt[SEL_X / 8] = descriptor(0x82, LDT, 15);
	ldt[0] = 0;
	ldt[1] = 0x00cf92000000ffff;	/* not accessed yet */
	self->b->ldt = SEL_X;
	self->b->fs = 12;
	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xb0);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(SEL_X, s.ldt.selector);
	EXPECT_EQ(LDT, s.ldt.base);
	EXPECT_EQ(12, s.fs.selector);
	EXPECT_EQ(0xffffffff, s.fs.limit);
	EXPECT_EQ(0x00cf93000000ffff, ldt[1]);
	u = vcpu_ucall(self->v);
	EXPECT_TASK(u, 0xa0);
	vcpu_get_sregs(self->v, &s);
	EXPECT_EQ(0, s.ldt.selector);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

TEST_F(tasks, a_task_may_be_in_virtual_8086_mode)
{
	struct kvm_regs r;

	START(task_call);
	vm_copy_code(self->vm, REAL_GPA, task_vm86);
	self->b->eflags = 2 | RFLAGS_VM | 3 << 12;
	self->b->cs = 0x900;
	self->b->eip = REAL_GPA - 0x9000;
	self->b->ss = 0x2345;
	self->b->ds = 0x1234;
	self->b->esp = 0x100;
	vcpu_expect(self->v, KVM_EXIT_IO);
	vcpu_get(self->v, &r);
	EXPECT_EQ(VEC_UD, r.rdi);
	EXPECT_EQ(REAL_GPA - 0x9000 + (uintptr_t)(task_vm86_end - task_vm86) - 2, r.rcx);
	EXPECT_EQ(0x1234, r.rbx);
}

TEST_F(tasks, the_trap_flag_of_a_task_is_a_debug_exception)
{
	struct kvm_debugregs d;
	struct kvm_regs r;

	START(task_call);
	self->b->trap = 1;
	vcpu_expect(self->v, KVM_EXIT_IO);
	vcpu_get(self->v, &r);
	EXPECT_EQ(VEC_DB, r.rdi);
	EXPECT_EQ((uintptr_t)task_b, r.rcx);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_DEBUGREGS, &d));
	EXPECT_EQ(1ull << 15, d.dr6 & 1 << 15);
}

TEST_F(tasks, tables_that_are_not_there_fault_before_anything_changes)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	if (variant->paging != PAGING_32)
		SKIP(return, "with two-level paging alone");
	/* The new TSS, then where the old one is saved, in a page that is not mapped. */
	for (int old = 0; old < 2; old++) {
		uint32_t *pd, *pt, address = 0x80000ff0;
		uint64_t table;

		START(task_call);
		vcpu_get_sregs(self->v, &s);
		pd = vm_hva(self->vm, s.cr3);
		table = pt_page(self->vm);
		pt = vm_hva(self->vm, table);
		pd[0x200] = (uint32_t)(table | PTE_URW);
		pt[0] = SCRATCH_GPA | PTE_URW;
		pt[1] = 0;
		if (old) {
			self->gdt[SEL_TSS / 8] = descriptor(0x89, address, 0x7f);
			vm_copy(self->vm, SCRATCH_GPA + 0xff0, self->a, 16);
		} else {
			self->gdt[SEL_B / 8] = descriptor(0x89, address, sizeof(*self->b) - 1);
			vm_copy(self->vm, SCRATCH_GPA + 0xff0, self->b, 16);
		}
		vcpu_expect(self->v, KVM_EXIT_IO);
		vcpu_get(self->v, &r);
		EXPECT_EQ(VEC_PF, r.rdi);
		EXPECT_EQ(0, r.rsi & ~2ul);
		EXPECT_EQ((uintptr_t)task_call_back - 7, r.rcx);
		EXPECT_EQ(0xa4, r.rbx);
		vcpu_get_sregs(self->v, &s);
		EXPECT_EQ(0x80001000, s.cr2 & ~0xfffull);
		EXPECT_EQ(SEL_TSS, s.tr.selector);
	}
}

GUEST_TEST_MAIN
