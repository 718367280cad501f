// SPDX-License-Identifier: GPL-2.0-only
/* Port I/O that a guest does and user space completes. */
#include "test.h"

#define PORT 0x5a0
#define SRC (SCRATCH_GPA + 0x800)
#define WINDOW 0x7000000000ull	/* guest-virtual; scattered pages */

VM_FIXTURE(io)

/* Everything that went over PORT until the next message of the guest. */
struct traffic {
	size_t out_bytes, in_bytes, exits;
	uint8_t out[32768];
};
static struct traffic traffic;

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + (i >> 8) + 3);
}

static struct ucall serve(struct vcpu *v, uint16_t port, uint8_t size)
{
	struct traffic *t = &traffic;
	struct ucall u;

	memset(t, 0, sizeof(*t));
	for (;;) {
		size_t n;
		uint8_t *data;

		vcpu_run(v);
		if (vcpu_is_ucall(v, &u))
			break;
		CHECK(v->run->exit_reason == KVM_EXIT_IO, "%s", exit_text(v));
		CHECK(v->run->io.port == port && v->run->io.size == size, "%s", exit_text(v));
		CHECK(v->run->io.count >= 1, "%s", exit_text(v));
		n = (size_t)v->run->io.size * v->run->io.count;
		CHECK(v->run->io.data_offset + n <= v->run_size, "%s", exit_text(v));
		data = vcpu_io_data(v);
		t->exits++;
		if (v->run->io.direction == KVM_EXIT_IO_OUT) {
			CHECK(t->out_bytes + n <= sizeof(t->out), "too much");
			memcpy(t->out + t->out_bytes, data, n);
			t->out_bytes += n;
		} else {
			for (size_t i = 0; i < n; i++)
				data[i] = pattern(t->in_bytes++);
		}
	}
	CHECK(u.kind != UCALL_ASSERT, "guest line %lu: %s: expected %lx, seen %lx", u.arg[0],
	      (const char *)u.arg[3], u.arg[1], u.arg[2]);
	CHECK(u.kind != UCALL_EXC, "guest exception %lu at %lx", u.arg[0], u.arg[2]);
	return u;
}

static void guest_out_sizes(void)
{
	uint64_t v = 0x1122334455667788;

	asm volatile("outb %%al, %%dx" : : "a"(v), "d"(PORT));
	asm volatile("outw %%ax, %%dx" : : "a"(v), "d"(PORT + 1));
	asm volatile("outl %%eax, %%dx" : : "a"(v), "d"(PORT + 2));
	asm volatile("outb %%al, $0x42" : : "a"(v));
	asm volatile("outw %%ax, $0x43" : : "a"(v));
	asm volatile("outl %%eax, $0x44" : : "a"(v));
	asm volatile("outb %%al, %%dx" : : "a"(v), "d"(0xffff));
	asm volatile("outb %%al, %%dx" : : "a"(v), "d"(0));
}

TEST_F(io, an_out_reports_its_port_size_and_value)
{
	static const struct { uint16_t port; uint8_t size; uint32_t value; } want[] = {
		{ PORT, 1, 0x88 }, { PORT + 1, 2, 0x7788 }, { PORT + 2, 4, 0x55667788 },
		{ 0x42, 1, 0x88 }, { 0x43, 2, 0x7788 }, { 0x44, 4, 0x55667788 },
		{ 0xffff, 1, 0x88 }, { 0, 1, 0x88 },
	};
	struct kvm_run *run = self->v->run;

	vcpu_call(self->v, guest_out_sizes);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		uint32_t value = 0;

		vcpu_expect(self->v, KVM_EXIT_IO);
		EXPECT_EQ(KVM_EXIT_IO_OUT, run->io.direction);
		EXPECT_EQ(want[i].port, run->io.port);
		EXPECT_EQ(want[i].size, run->io.size);
		EXPECT_EQ(1, run->io.count);
		EXPECT_LE(run->io.data_offset + 4, self->v->run_size);
		memcpy(&value, vcpu_io_data(self->v), want[i].size);
		EXPECT_EQ(want[i].value, value);
	}
	vcpu_finish(self->v);
}

static void guest_in_sizes(void)
{
	uint64_t v = 0x1122334455667788, r;

	asm volatile("inb %%dx, %%al" : "=a"(r) : "a"(v), "d"(PORT));
	GUEST_EQ(0x11223344556677a1, r);
	asm volatile("inw %%dx, %%ax" : "=a"(r) : "a"(v), "d"(PORT));
	GUEST_EQ(0x112233445566b2a1, r);
	asm volatile("inl %%dx, %%eax" : "=a"(r) : "a"(v), "d"(PORT));
	GUEST_EQ(0xd4c3b2a1, r);
	asm volatile("inb $0x42, %%al" : "=a"(r) : "a"(v));
	GUEST_EQ(0x11223344556677a1, r);
	asm volatile("inl $0x42, %%eax" : "=a"(r) : "a"(v));
	GUEST_EQ(0xd4c3b2a1, r);
}

TEST_F(io, an_in_merges_into_the_accumulator_by_operand_size)
{
	static const uint8_t sizes[] = { 1, 2, 4, 1, 4 };
	struct kvm_run *run = self->v->run;

	vcpu_call(self->v, guest_in_sizes);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		vcpu_expect(self->v, KVM_EXIT_IO);
		EXPECT_EQ(KVM_EXIT_IO_IN, run->io.direction);
		EXPECT_EQ(sizes[i], run->io.size);
		EXPECT_EQ(1, run->io.count);
		memcpy(vcpu_io_data(self->v), "\xa1\xb2\xc3\xd4", sizes[i]);
	}
	vcpu_finish(self->v);
}

static void guest_in_two(void)
{
	uint32_t a, b;

	asm volatile("inl %%dx, %%eax" : "=a"(a) : "d"(PORT));
	asm volatile("inl %%dx, %%eax" : "=a"(b) : "d"(PORT));
	GUEST_EQ(0x01020304, a);
	GUEST_EQ(0x05060708, b);
}

TEST_F(io, immediate_exit_completes_the_pending_in_first)
{
	struct kvm_regs before, after;

	vcpu_call(self->v, guest_in_two);
	vcpu_expect(self->v, KVM_EXIT_IO);
	vcpu_get(self->v, &before);
	*(uint32_t *)vcpu_io_data(self->v) = 0x01020304;
	self->v->run->immediate_exit = 1;
	EXPECT_EQ(-EINTR, vcpu_try_run(self->v));
	self->v->run->immediate_exit = 0;
	vcpu_get(self->v, &after);
	EXPECT_EQ(0x01020304, after.rax);
	EXPECT_EQ(before.rip + 1, after.rip);
	/* What user space leaves in the page now belongs to nobody. */
	*(uint32_t *)vcpu_io_data(self->v) = 0xffffffff;
	vcpu_expect(self->v, KVM_EXIT_IO);
	*(uint32_t *)vcpu_io_data(self->v) = 0x05060708;
	vcpu_finish(self->v);
}

#define STRING(name, insn, addr) \
static void name(uint64_t p, uint64_t n, uint64_t port) \
{ \
	asm volatile(insn : "+S"(p), "+c"(n), "+d"(port) : : "memory", "rdi"); \
	ucall_sync3(p, n, 0); \
}
STRING(guest_outsb, "rep outsb", )
STRING(guest_outsw, "rep outsw", )
STRING(guest_outsl, "rep outsl", )
STRING(guest_outsb_down, "std; rep outsb; cld", )
STRING(guest_outsl_down, "std; rep outsl; cld", )
STRING(guest_outsb_once, "outsb", )
STRING(guest_insb, "mov %0, %%rdi; rep insb; mov %%rdi, %0", )
STRING(guest_insw, "mov %0, %%rdi; rep insw; mov %%rdi, %0", )
STRING(guest_insl, "mov %0, %%rdi; rep insl; mov %%rdi, %0", )
STRING(guest_insb_down, "mov %0, %%rdi; std; rep insb; cld; mov %%rdi, %0", )
STRING(guest_insw_down, "mov %0, %%rdi; std; rep insw; cld; mov %%rdi, %0", )
STRING(guest_insl_once, "mov %0, %%rdi; insl; mov %%rdi, %0", )
STRING(guest_outsb_addr32, "addr32 rep outsb", )
STRING(guest_insb_addr32, "mov %0, %%rdi; addr32 rep insb; mov %%rdi, %0", )
STRING(guest_outsb_gs, "rep gs outsb", )

static void fill(struct vm *vm, uint64_t gpa, size_t n)
{
	uint8_t *p = vm_hva(vm, gpa);

	for (size_t i = 0; i < n; i++)
		p[i] = pattern(i);
}

static bool same(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != pattern(i))
			return false;
	return true;
}

TEST_F(io, rep_outs_sends_every_element_in_order)
{
	static const struct { void *fn; uint8_t size; } kinds[] = {
		{ guest_outsb, 1 }, { guest_outsw, 2 }, { guest_outsl, 4 },
	};

	fill(self->vm, SRC, 6000);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		uint64_t n = 1500;
		struct ucall u;

		vcpu_call(self->v, kinds[i].fn, SRC, n, PORT);
		u = serve(self->v, PORT, kinds[i].size);
		EXPECT_EQ(n * kinds[i].size, traffic.out_bytes);
		EXPECT_TRUE(same(traffic.out, n * kinds[i].size));
		EXPECT_EQ(SRC + n * kinds[i].size, u.arg[0]);
		EXPECT_EQ(0, u.arg[1]);
		vcpu_finish(self->v);
	}
}

TEST_F(io, rep_outs_backward_sends_every_element_in_order)
{
	struct ucall u;
	uint8_t *p = vm_hva(self->vm, SRC);

	for (size_t i = 0; i < 3000; i++)
		p[-(long)i] = pattern(i);
	vcpu_call(self->v, guest_outsb_down, SRC, 1500, PORT);
	u = serve(self->v, PORT, 1);
	EXPECT_EQ(1500, traffic.out_bytes);
	EXPECT_TRUE(same(traffic.out, 1500));
	EXPECT_EQ(SRC - 1500, u.arg[0]);

	memcpy(p, "\x01\x02\x03\x04", 4);
	memcpy(p - 4, "\x05\x06\x07\x08", 4);
	vcpu_call(self->v, guest_outsl_down, SRC, 2, PORT);
	serve(self->v, PORT, 4);
	EXPECT_EQ(8, traffic.out_bytes);
	EXPECT_EQ(0, memcmp(traffic.out, "\x01\x02\x03\x04\x05\x06\x07\x08", 8));
}

TEST_F(io, rep_outs_follows_the_page_tables_across_pages)
{
	struct ucall u;

	/* Virtual pages 0, 1, 2 are physical pages 5, 1, 3. */
	pt_map(self->vm, WINDOW, SCRATCH_GPA + 0x5000, PAGE, PTE_URW);
	pt_map(self->vm, WINDOW + 0x1000, SCRATCH_GPA + 0x1000, PAGE, PTE_URW);
	pt_map(self->vm, WINDOW + 0x2000, SCRATCH_GPA + 0x3000, PAGE, PTE_URW);
	for (size_t i = 0; i < 3 * PAGE; i++) {
		static const uint64_t pages[] = { 0x5000, 0x1000, 0x3000 };
		uint8_t *p = vm_hva(self->vm, SCRATCH_GPA + pages[i / PAGE] + i % PAGE);

		*p = i >= 0xffd ? pattern(i - 0xffd) : 0;
	}
	/* A double word straddles each border. */
	vcpu_call(self->v, guest_outsl, WINDOW + 0xffd, 1025, PORT);
	u = serve(self->v, PORT, 4);
	EXPECT_EQ(4100, traffic.out_bytes);
	EXPECT_TRUE(same(traffic.out, 4100));
	EXPECT_EQ(WINDOW + 0xffd + 4100, u.arg[0]);
}

TEST_F(io, rep_ins_stores_every_element_in_order)
{
	static const struct { void *fn; uint8_t size; } kinds[] = {
		{ guest_insb, 1 }, { guest_insw, 2 }, { guest_insl, 4 },
	};
	uint8_t *p = vm_hva(self->vm, SRC);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		uint64_t n = 1500, bytes = n * kinds[i].size;
		struct ucall u;

		memset(p - 8, 0xee, bytes + 16);
		vcpu_call(self->v, kinds[i].fn, SRC, n, PORT);
		u = serve(self->v, PORT, kinds[i].size);
		EXPECT_EQ(bytes, traffic.in_bytes);
		EXPECT_TRUE(same(p, bytes));
		EXPECT_EQ(0xee, p[-1]);
		EXPECT_EQ(0xee, p[bytes]);
		EXPECT_EQ(SRC + bytes, u.arg[0]);
		EXPECT_EQ(0, u.arg[1]);
		vcpu_finish(self->v);
	}
}

TEST_F(io, rep_ins_backward_stores_every_element_in_order)
{
	uint8_t *p = vm_hva(self->vm, SRC);
	struct ucall u;

	memset(p - 4000, 0xee, 5000);
	vcpu_call(self->v, guest_insb_down, SRC, 3000, PORT);
	u = serve(self->v, PORT, 1);
	EXPECT_EQ(3000, traffic.in_bytes);
	EXPECT_EQ(SRC - 3000, u.arg[0]);
	for (size_t i = 0; i < 3000; i++)
		ASSERT_EQ(pattern(i), p[-(long)i]);
	EXPECT_EQ(0xee, p[1]);
	EXPECT_EQ(0xee, p[-3000]);

	memset(p - 4000, 0xee, 5000);
	vcpu_call(self->v, guest_insw_down, SRC, 3, PORT);
	serve(self->v, PORT, 2);
	for (size_t i = 0; i < 6; i++)
		EXPECT_EQ(pattern(i), p[-(long)(i & ~1ul) + (long)(i & 1)]);
}

TEST_F(io, rep_ins_follows_the_page_tables_across_pages)
{
	uint8_t *one = vm_hva(self->vm, SCRATCH_GPA + 0x5000);
	uint8_t *two = vm_hva(self->vm, SCRATCH_GPA + 0x1000);
	uint8_t joined[10];

	pt_map(self->vm, WINDOW, SCRATCH_GPA + 0x5000, PAGE, PTE_URW);
	pt_map(self->vm, WINDOW + 0x1000, SCRATCH_GPA + 0x1000, PAGE, PTE_URW);
	vcpu_call(self->v, guest_insl, WINDOW + 0xff6, 4, PORT);
	serve(self->v, PORT, 4);
	EXPECT_EQ(16, traffic.in_bytes);
	memcpy(joined, one + 0xff6, 10);
	EXPECT_TRUE(same(joined, 10));
	for (size_t i = 10; i < 16; i++)
		EXPECT_EQ(pattern(i), two[i - 10]);
	EXPECT_EQ(0, two[6]);
}

TEST_F(io, a_single_string_instruction_moves_one_element)
{
	struct ucall u;

	fill(self->vm, SRC, 16);
	vcpu_call(self->v, guest_outsb_once, SRC, 7, PORT);
	u = serve(self->v, PORT, 1);
	EXPECT_EQ(1, traffic.out_bytes);
	EXPECT_EQ(SRC + 1, u.arg[0]);
	EXPECT_EQ(7, u.arg[1]);
	memset(vm_hva(self->vm, SRC), 0, 16);
	vcpu_call(self->v, guest_insl_once, SRC, 7, PORT);
	u = serve(self->v, PORT, 4);
	EXPECT_EQ(4, traffic.in_bytes);
	EXPECT_TRUE(same(vm_hva(self->vm, SRC), 4));
	EXPECT_EQ(0, ((uint8_t *)vm_hva(self->vm, SRC))[4]);
	EXPECT_EQ(SRC + 4, u.arg[0]);
	EXPECT_EQ(7, u.arg[1]);
}

TEST_F(io, rep_with_a_zero_count_does_nothing)
{
	struct ucall u;

	vcpu_call(self->v, guest_outsb, SRC, 0, PORT);
	u = serve(self->v, PORT, 1);
	EXPECT_EQ(0, traffic.exits);
	EXPECT_EQ(SRC, u.arg[0]);
	vcpu_call(self->v, guest_insl, SRC, 0, PORT);
	u = serve(self->v, PORT, 4);
	EXPECT_EQ(0, traffic.exits);
	EXPECT_EQ(SRC, u.arg[0]);
}

TEST_F(io, a_32_bit_address_size_uses_the_low_halves)
{
	struct ucall u;

	fill(self->vm, SRC, 16);
	vcpu_call(self->v, guest_outsb_addr32, SRC | 0x500000000, 0x700000005, PORT);
	u = serve(self->v, PORT, 1);
	EXPECT_EQ(5, traffic.out_bytes);
	EXPECT_TRUE(same(traffic.out, 5));
	EXPECT_EQ(SRC + 5, u.arg[0]);
	EXPECT_EQ(0, (uint32_t)u.arg[1]);
	memset(vm_hva(self->vm, SRC), 0, 16);
	vcpu_call(self->v, guest_insb_addr32, SRC | 0x500000000, 0x700000005, PORT);
	u = serve(self->v, PORT, 1);
	EXPECT_EQ(5, traffic.in_bytes);
	EXPECT_TRUE(same(vm_hva(self->vm, SRC), 5));
	EXPECT_EQ(SRC + 5, u.arg[0]);
	EXPECT_EQ(0, (uint32_t)u.arg[1]);
}

TEST_F(io, outs_obeys_a_segment_override)
{
	struct kvm_sregs s;

	fill(self->vm, SRC, 16);
	vcpu_call(self->v, guest_outsb_gs, SRC - (uintptr_t)&guest_cpus[0], 16, PORT);
	vcpu_get_sregs(self->v, &s);
	ASSERT_EQ((uintptr_t)&guest_cpus[0], s.gs.base);
	serve(self->v, PORT, 1);
	EXPECT_EQ(16, traffic.out_bytes);
	EXPECT_TRUE(same(traffic.out, 16));
}

/* Real mode: the index registers wrap at 64 KiB. */
asm(".pushsection .text\n.code16\n"
    "io16: cld\n"
    "	mov $0x2000, %ax; mov %ax, %es; mov %ax, %ds\n"
    "	mov $0x5a0, %dx\n"
    "	mov $0xfffc, %di; mov $8, %cx; rep insb\n"
    "	mov $0xfffc, %si; mov $8, %cx; rep outsb\n"
    "	mov $0xfffc, %si; mov $4, %cx; rep outsw\n"
    "	hlt\n"
    "io16_end:\n.code64\n.popsection\n");
extern char io16[], io16_end[];

TEST_F(io, string_io_in_real_mode_wraps_at_64_kib)
{
	/* 2000:0000 is page-table pool, unused while this VM runs real mode. */
	uint8_t *seg = vm_hva(self->vm, 0x20000);
	size_t in = 0, out = 0;
	uint8_t sent[32];

	memset(seg, 0, 0x10000);
	vm_copy_code(self->vm, REAL_GPA, io16);
	vcpu_real(self->v, 0, REAL_GPA);
	for (;;) {
		struct kvm_run *run = self->v->run;
		size_t n;

		vcpu_run(self->v);
		if (run->exit_reason == KVM_EXIT_HLT)
			break;
		ASSERT_EQ(KVM_EXIT_IO, run->exit_reason) {
			TH_LOG("%s", exit_text(self->v));
		}
		n = (size_t)run->io.count * run->io.size;
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			ASSERT_LE(out + n, sizeof(sent));
			memcpy(sent + out, vcpu_io_data(self->v), n);
			out += n;
		} else {
			for (size_t i = 0; i < n; i++)
				((uint8_t *)vcpu_io_data(self->v))[i] = pattern(in++);
		}
	}
	EXPECT_EQ(8, in);
	for (size_t i = 0; i < 8; i++)
		EXPECT_EQ(pattern(i), seg[(0xfffc + i) & 0xffff]);
	EXPECT_EQ(16, out);
	EXPECT_EQ(0, memcmp(sent, sent + 8, 8));
	EXPECT_TRUE(same(sent, 8));
}

static uint8_t mmio_bytes[16];

TEST_F(io, string_io_may_have_mmio_on_its_other_side)
{
	struct kvm_run *run = self->v->run;
	size_t sent = 0, written = 0, in = 0;
	struct ucall u;

	vcpu_call(self->v, guest_outsb, MMIO_GPA, 4, PORT);
	for (;;) {
		vcpu_run(self->v);
		if (vcpu_is_ucall(self->v, &u))
			break;
		if (run->exit_reason == KVM_EXIT_MMIO) {
			ASSERT_EQ(0, run->mmio.is_write);
			for (uint32_t i = 0; i < run->mmio.len; i++)
				run->mmio.data[i] = pattern(run->mmio.phys_addr - MMIO_GPA + i);
			continue;
		}
		ASSERT_EQ(KVM_EXIT_IO, run->exit_reason);
		ASSERT_LE(sent + run->io.count, sizeof(mmio_bytes));
		memcpy(mmio_bytes + sent, vcpu_io_data(self->v), run->io.count);
		sent += run->io.count;
	}
	EXPECT_EQ(UCALL_SYNC, u.kind);
	EXPECT_EQ(4, sent);
	EXPECT_TRUE(same(mmio_bytes, 4));

	memset(mmio_bytes, 0, sizeof(mmio_bytes));
	vcpu_call(self->v, guest_insb, MMIO_GPA, 4, PORT);
	for (;;) {
		vcpu_run(self->v);
		if (vcpu_is_ucall(self->v, &u))
			break;
		if (run->exit_reason == KVM_EXIT_MMIO) {
			ASSERT_EQ(1, run->mmio.is_write);
			ASSERT_LT(run->mmio.phys_addr - MMIO_GPA, 8);
			memcpy(mmio_bytes + (run->mmio.phys_addr - MMIO_GPA), run->mmio.data,
			       run->mmio.len);
			written += run->mmio.len;
			continue;
		}
		ASSERT_EQ(KVM_EXIT_IO, run->exit_reason);
		for (uint32_t i = 0; i < run->io.count; i++)
			((uint8_t *)vcpu_io_data(self->v))[i] = pattern(in++);
	}
	EXPECT_EQ(UCALL_SYNC, u.kind);
	EXPECT_EQ(4, written);
	EXPECT_TRUE(same(mmio_bytes, 4));
}

static void guest_many_outs(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		asm volatile("outl %%eax, %%dx" : : "a"((uint32_t)i), "d"(PORT));
}

TEST_F(io, a_long_row_of_outs_loses_none)
{
	vcpu_call(self->v, guest_many_outs, 2000);
	serve(self->v, PORT, 4);
	EXPECT_EQ(2000, traffic.exits);
	for (uint32_t i = 0; i < 2000; i++)
		ASSERT_EQ(i, ((uint32_t *)traffic.out)[i]);
}

GUEST_TEST_MAIN
