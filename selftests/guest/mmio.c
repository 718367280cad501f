// SPDX-License-Identifier: GPL-2.0-only
/* Memory-mapped I/O: how accesses are split, addressed and completed. */
#include "test.h"

#define DEV MMIO_GPA
#define DEV_SIZE 0x4000ul
#define WINDOW 0x7000000000ull	/* guest-virtual; tests map it as they like */
#define RAM_A SCRATCH_GPA

/* A device that is plain memory and keeps a log. */
static struct {
	uint8_t bytes[DEV_SIZE];
	struct { uint64_t at; uint32_t len; bool write; } log[4096];
	size_t n;
} dev;

FIXTURE(mmio) { struct vm *vm; struct vcpu *v; };
FIXTURE_SETUP(mmio)
{
	self->vm = vm_new();
	self->v = vcpu_new(self->vm, 0);
	for (size_t i = 0; i < DEV_SIZE; i++)
		dev.bytes[i] = (uint8_t)(i * 5 + (i >> 8) + 1);
}
FIXTURE_TEARDOWN(mmio)
{
	vcpu_free(self->v);
	vm_free(self->vm);
}

static uint8_t dev_byte(size_t i)
{
	return (uint8_t)(i * 5 + (i >> 8) + 1);
}

static bool serve_one(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint64_t at = run->mmio.phys_addr - DEV;

	if (run->exit_reason != KVM_EXIT_MMIO)
		return false;
	CHECK(at + run->mmio.len <= DEV_SIZE, "%s", exit_text(v));
	CHECK(run->mmio.len >= 1 && run->mmio.len <= 8, "%s", exit_text(v));
	CHECK(dev.n < ARRAY_SIZE(dev.log), "too many accesses");
	dev.log[dev.n].at = at;
	dev.log[dev.n].len = run->mmio.len;
	dev.log[dev.n++].write = run->mmio.is_write;
	if (run->mmio.is_write)
		memcpy(dev.bytes + at, run->mmio.data, run->mmio.len);
	else
		memcpy(run->mmio.data, dev.bytes + at, run->mmio.len);
	return true;
}

/* Runs to the guest's next message. */
static struct ucall serve(struct vcpu *v)
{
	struct ucall u;

	dev.n = 0;
	do
		vcpu_run(v);
	while (serve_one(v));
	CHECK(vcpu_is_ucall(v, &u), "%s", exit_text(v));
	CHECK(u.kind != UCALL_ASSERT, "guest line %lu: %s: expected %lx, seen %lx", u.arg[0],
	      (const char *)u.arg[3], u.arg[1], u.arg[2]);
	CHECK(u.kind != UCALL_EXC, "guest exception %lu error %lx at %lx, cr2 %lx", u.arg[0],
	      u.arg[1], u.arg[2], u.arg[3]);
	return u;
}

static size_t bytes_in_log(bool write)
{
	size_t n = 0;

	for (size_t i = 0; i < dev.n; i++)
		if (dev.log[i].write == write)
			n += dev.log[i].len;
	return n;
}

static void guest_sizes(uint64_t a)
{
	wr8(a + 1, 0x81);
	wr16(a + 2, 0x8283);
	wr32(a + 4, 0x84858687);
	wr64(a + 8, 0x88898a8b8c8d8e8f);
	wr64(a + 0x13, 0x1112131415161718);
	GUEST_EQ(0xa1, rd8(a + 1));
	GUEST_EQ(0xa2a1, rd16(a + 2));
	GUEST_EQ(0xa4a3a2a1, rd32(a + 4));
	GUEST_EQ(0xa8a7a6a5a4a3a2a1, rd64(a + 8));
	GUEST_EQ(0xa8a7a6a5a4a3a2a1, rd64(a + 0x13));
}

TEST_F(mmio, an_access_inside_a_page_is_one_exit_with_its_address_size_and_data)
{
	static const struct { uint32_t at, len; uint64_t data; } want[] = {
		{ 1, 1, 0x81 }, { 2, 2, 0x8283 }, { 4, 4, 0x84858687 },
		{ 8, 8, 0x88898a8b8c8d8e8f }, { 0x13, 8, 0x1112131415161718 },
	};
	struct kvm_run *run = self->v->run;

	vcpu_call(self->v, guest_sizes, DEV);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(want); i++) {
		size_t k = i % ARRAY_SIZE(want);
		uint64_t data = 0;

		vcpu_expect(self->v, KVM_EXIT_MMIO);
		EXPECT_EQ(DEV + want[k].at, run->mmio.phys_addr);
		EXPECT_EQ(want[k].len, run->mmio.len);
		EXPECT_EQ(i < ARRAY_SIZE(want), run->mmio.is_write);
		memcpy(&data, run->mmio.data, want[k].len);
		if (run->mmio.is_write) {
			EXPECT_EQ(want[k].data, data);
			continue;
		}
		memcpy(run->mmio.data, "\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8", 8);
	}
	vcpu_finish(self->v);
}

/* An access of so many bytes at a, where two pages meet that the test has chosen. */
static void guest_straddle(uint64_t size, uint64_t a)
{
	uint64_t value = 0;

	switch (size) {
	case 2:
		value = rd16(a);
		wr16(a, 0xb1b0);
		break;
	case 4:
		value = rd32(a);
		wr32(a, 0xb3b2b1b0);
		break;
	case 8:
		value = rd64(a);
		wr64(a, 0xb7b6b5b4b3b2b1b0);
		break;
	}
	ucall_sync(value);
}

static void straddle(struct __test_metadata *_metadata, struct vm *vm, struct vcpu *v,
		     uint64_t first, uint64_t second)
{
	/* Never where a mapping was before: page tables the guest has used are the guest's. */
	static uint64_t window = WINDOW;

	window += 2 * PAGE;
	pt_map(vm, window, first, PAGE, PTE_URW);
	pt_map(vm, window + PAGE, second, PAGE, PTE_URW);
	for (uint64_t size = 2; size <= 8; size *= 2) {
		for (uint64_t split = 1; split < size; split++) {
			uint64_t expected = 0, seen;
			size_t on_dev = (first >= DEV ? split : 0) +
					(second >= DEV ? size - split : 0);
			uint8_t *byte[8];

			for (uint64_t i = 0; i < size; i++) {
				uint64_t gpa = i < split ? first + PAGE - split + i :
							   second + i - split;

				byte[i] = gpa >= DEV ? dev.bytes + (gpa - DEV) : vm_hva(vm, gpa);
				*byte[i] = (uint8_t)(0xc0 + i);
				expected |= (uint64_t)*byte[i] << (8 * i);
			}
			vcpu_call(v, guest_straddle, size, window + PAGE - split);
			seen = serve(v).arg[0];
			EXPECT_EQ(expected, seen);
			for (uint64_t i = 0; i < size; i++)
				EXPECT_EQ(0xb0 + i, *byte[i]);
			EXPECT_EQ(on_dev, bytes_in_log(false));
			EXPECT_EQ(on_dev, bytes_in_log(true));
			for (size_t i = 0; i < dev.n; i++)
				EXPECT_EQ(dev.log[i].at / PAGE,
					  (dev.log[i].at + dev.log[i].len - 1) / PAGE);
		}
	}
}

TEST_F(mmio, an_access_may_start_in_ram_and_end_in_mmio)
{
	straddle(_metadata, self->vm, self->v, RAM_A, DEV);
}

TEST_F(mmio, an_access_may_start_in_mmio_and_end_in_ram)
{
	straddle(_metadata, self->vm, self->v, DEV, RAM_A);
}

TEST_F(mmio, an_access_may_straddle_two_mmio_pages_in_any_order)
{
	straddle(_metadata, self->vm, self->v, DEV, DEV + PAGE);
	straddle(_metadata, self->vm, self->v, DEV + 2 * PAGE, DEV);
}

static uint8_t sse_area[16] __attribute__((aligned(16)));

static void guest_sse(uint64_t a)
{
	asm volatile("movups (%0), %%xmm1; movups %%xmm1, (%1)" : : "r"(a), "r"(sse_area)
		     : "memory");
	ucall_sync(0);
	asm volatile("movups (%1), %%xmm1; movups %%xmm1, (%0)" : : "r"(a), "r"(sse_area)
		     : "memory");
}

TEST_F(mmio, a_16_byte_access_may_straddle_pages)
{
	static const uint64_t firsts[] = { RAM_A, DEV, DEV + PAGE };

	for (size_t i = 0; i < ARRAY_SIZE(firsts); i++) {
		for (uint64_t split = 1; split < 16; split += 5) {
			uint64_t window = WINDOW + i * 2 * PAGE;
			uint8_t *byte[16];

			pt_map(self->vm, window, firsts[i], PAGE, PTE_URW);
			pt_map(self->vm, window + PAGE, DEV + 2 * PAGE, PAGE, PTE_URW);
			for (uint64_t k = 0; k < 16; k++) {
				uint64_t gpa = k < split ? firsts[i] + PAGE - split + k :
							   DEV + 2 * PAGE + k - split;

				byte[k] = gpa >= DEV ? dev.bytes + (gpa - DEV) :
						       vm_hva(self->vm, gpa);
				*byte[k] = (uint8_t)(0xd0 + k);
			}
			vcpu_call(self->v, guest_sse, window + PAGE - split);
			serve(self->v);
			for (uint64_t k = 0; k < 16; k++) {
				EXPECT_EQ(0xd0 + k, G(self->vm, sse_area)[k]);
				G(self->vm, sse_area)[k] = (uint8_t)(0x30 + k);
			}
			serve(self->v);
			for (uint64_t k = 0; k < 16; k++)
				EXPECT_EQ(0x30 + k, *byte[k]);
		}
	}
}

/* String instructions; each reports rsi, rdi, rcx. */
#define STRING(name, insn) \
static void name(uint64_t d, uint64_t s, uint64_t n, uint64_t a) \
{ \
	asm volatile(insn : "+D"(d), "+S"(s), "+c"(n), "+a"(a) : : "memory", "cc"); \
	ucall(UCALL_SYNC, s, d, n, a); \
}
STRING(guest_movsb, "rep movsb")
STRING(guest_movsw, "rep movsw")
STRING(guest_movsl, "rep movsl")
STRING(guest_movsq, "rep movsq")
STRING(guest_movsb_down, "std; rep movsb; cld")
STRING(guest_movsl_down, "std; rep movsl; cld")
STRING(guest_stosb, "rep stosb")
STRING(guest_stosl, "rep stosl")
STRING(guest_stosq, "rep stosq")
STRING(guest_stosw_down, "std; rep stosw; cld")
STRING(guest_lodsw, "rep lodsw")
STRING(guest_cmpsb, "repe cmpsb; sete %%al; movzbl %%al, %%eax")
STRING(guest_scasb, "repne scasb; sete %%al; movzbl %%al, %%eax")
STRING(guest_movsb_addr32, "addr32 rep movsb")

TEST_F(mmio, rep_movs_copies_between_ram_and_mmio)
{
	static const struct { void *fn; uint64_t size; } kinds[] = {
		{ guest_movsb, 1 }, { guest_movsw, 2 }, { guest_movsl, 4 }, { guest_movsq, 8 },
	};
	uint8_t *ram = vm_hva(self->vm, RAM_A);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		uint64_t n = 24, bytes = n * kinds[i].size;
		struct ucall u;

		/* The last element straddles two pages, except for bytes. */
		memset(ram, 0, bytes + 8);
		vcpu_call(self->v, kinds[i].fn, RAM_A, DEV + PAGE - bytes + 1, n);
		u = serve(self->v);
		EXPECT_EQ(0, memcmp(ram, dev.bytes + PAGE - bytes + 1, bytes));
		EXPECT_EQ(0, ram[bytes]);
		EXPECT_EQ(bytes, bytes_in_log(false));
		EXPECT_EQ(0, bytes_in_log(true));
		EXPECT_EQ(DEV + PAGE + 1, u.arg[0]);
		EXPECT_EQ(RAM_A + bytes, u.arg[1]);
		EXPECT_EQ(0, u.arg[2]);

		for (size_t k = 0; k < bytes; k++)
			ram[k] = (uint8_t)(k ^ 0x5a);
		vcpu_call(self->v, kinds[i].fn, DEV + 3, RAM_A, n);
		u = serve(self->v);
		EXPECT_EQ(0, memcmp(ram, dev.bytes + 3, bytes));
		EXPECT_EQ(dev_byte(3 + bytes), dev.bytes[3 + bytes]);
		EXPECT_EQ(0, bytes_in_log(false));
		EXPECT_EQ(bytes, bytes_in_log(true));
		EXPECT_EQ(DEV + 3 + bytes, u.arg[1]);
		for (size_t k = 0; k < bytes; k++)
			dev.bytes[3 + k] = dev_byte(3 + k);
	}
}

TEST_F(mmio, rep_movs_copies_from_mmio_to_mmio)
{
	struct ucall u;

	vcpu_call(self->v, guest_movsl, DEV + 2 * PAGE, DEV + 0x10, 6);
	u = serve(self->v);
	for (size_t i = 0; i < 24; i++)
		EXPECT_EQ(dev_byte(0x10 + i), dev.bytes[2 * PAGE + i]);
	EXPECT_EQ(12, dev.n);
	for (size_t i = 0; i < dev.n; i++)
		EXPECT_EQ(i & 1, dev.log[i].write);
	EXPECT_EQ(DEV + 0x10 + 24, u.arg[0]);
	EXPECT_EQ(DEV + 2 * PAGE + 24, u.arg[1]);
}

TEST_F(mmio, string_instructions_go_backward_with_the_direction_flag)
{
	uint8_t *ram = vm_hva(self->vm, RAM_A);
	struct ucall u;

	memset(ram, 0, 64);
	vcpu_call(self->v, guest_movsb_down, RAM_A + 15, DEV + 47, 16);
	u = serve(self->v);
	EXPECT_EQ(0, memcmp(ram, dev.bytes + 32, 16));
	EXPECT_EQ(DEV + 47, DEV + dev.log[0].at);
	EXPECT_EQ(DEV + 31, u.arg[0]);
	EXPECT_EQ(RAM_A - 1, u.arg[1]);

	for (size_t i = 0; i < 32; i++)
		ram[i] = (uint8_t)(0x40 + i);
	vcpu_call(self->v, guest_movsl_down, DEV + 28, RAM_A + 28, 8);
	u = serve(self->v);
	EXPECT_EQ(0, memcmp(ram, dev.bytes, 32));
	EXPECT_EQ(28, dev.log[0].at);
	EXPECT_EQ(DEV - 4, u.arg[1]);

	vcpu_call(self->v, guest_stosw_down, DEV + PAGE, 0, 3, 0xabcd);
	u = serve(self->v);
	EXPECT_EQ(0, memcmp(dev.bytes + PAGE - 4, "\xcd\xab\xcd\xab\xcd\xab", 6));
	EXPECT_EQ(DEV + PAGE - 6, u.arg[1]);
}

TEST_F(mmio, rep_stos_fills_mmio)
{
	struct ucall u;

	vcpu_call(self->v, guest_stosb, DEV + 1, 0, 9, 0x11);
	u = serve(self->v);
	EXPECT_EQ(9, bytes_in_log(true));
	EXPECT_EQ(DEV + 10, u.arg[1]);
	vcpu_call(self->v, guest_stosl, DEV + 0x20, 0, 5, 0x44332211);
	serve(self->v);
	vcpu_call(self->v, guest_stosq, DEV + PAGE - 4, 0, 2, 0x8877665544332211);
	serve(self->v);
	EXPECT_EQ(dev_byte(0), dev.bytes[0]);
	for (size_t i = 1; i < 10; i++)
		EXPECT_EQ(0x11, dev.bytes[i]);
	EXPECT_EQ(dev_byte(10), dev.bytes[10]);
	for (size_t i = 0; i < 20; i++)
		EXPECT_EQ(0x11 * (i % 4 + 1), dev.bytes[0x20 + i]);
	for (size_t i = 0; i < 16; i++)
		EXPECT_EQ(0x11 * (i % 8 + 1), dev.bytes[PAGE - 4 + i]);
}

TEST_F(mmio, rep_lods_cmps_and_scas_read_mmio)
{
	uint8_t *ram = vm_hva(self->vm, RAM_A);
	struct ucall u;

	vcpu_call(self->v, guest_lodsw, 0, DEV, 5, 0xffff0000);
	u = serve(self->v);
	EXPECT_EQ(5, dev.n);
	EXPECT_EQ(DEV + 10, u.arg[0]);
	EXPECT_EQ(0xffff0000 | dev_byte(9) << 8 | dev_byte(8), u.arg[3]);

	memcpy(ram, dev.bytes, 32);
	ram[9] ^= 1;
	vcpu_call(self->v, guest_cmpsb, RAM_A, DEV, 20);
	u = serve(self->v);
	EXPECT_EQ(10, u.arg[2]);
	EXPECT_EQ(DEV + 10, u.arg[0]);
	EXPECT_EQ(0, u.arg[3]);
	vcpu_call(self->v, guest_cmpsb, RAM_A, DEV, 9);
	u = serve(self->v);
	EXPECT_EQ(0, u.arg[2]);
	EXPECT_EQ(1, u.arg[3]);

	dev.bytes[0x40 + 12] = 0;
	for (size_t i = 0; i < 12; i++)
		dev.bytes[0x40 + i] = 1;
	vcpu_call(self->v, guest_scasb, DEV + 0x40, 0, 100, 0);
	u = serve(self->v);
	EXPECT_EQ(87, u.arg[2]);
	EXPECT_EQ(DEV + 0x40 + 13, u.arg[1]);
	EXPECT_EQ(1, u.arg[3]);
	vcpu_call(self->v, guest_scasb, DEV + 0x40, 0, 0, 0);
	u = serve(self->v);
	EXPECT_EQ(0, dev.n);
	EXPECT_EQ(DEV + 0x40, u.arg[1]);
}

TEST_F(mmio, addr32_strings_use_the_low_halves)
{
	struct ucall u;

	memset(vm_hva(self->vm, RAM_A), 0x77, 8);
	vcpu_call(self->v, guest_movsb_addr32, DEV | 0x100000000, RAM_A | 0x200000000,
		  0x300000004);
	u = serve(self->v);
	EXPECT_EQ(0, memcmp(dev.bytes, "\x77\x77\x77\x77", 4));
	EXPECT_EQ(4, bytes_in_log(true));
	EXPECT_EQ(DEV + 4, u.arg[1]);
	EXPECT_EQ(0, (uint32_t)u.arg[2]);
}

static void guest_addressing(void)
{
	uint64_t r, base = DEV;

	asm volatile("mov %1, %%r12; mov $4, %%r13; movl 8(%%r12, %%r13, 4), %%r9d; mov %%r9, %0"
		     : "=r"(r) : "r"(base) : "r9", "r12", "r13", "memory");
	ucall_sync3(24, 4, r);
	asm volatile("mov %1, %%r13; movl (%%r13), %k0" : "=r"(r) : "r"(base) : "r13", "memory");
	ucall_sync3(0, 4, r);
	asm volatile("mov %1, %%rbp; push %%rbp; pop %%rbp; movl -4(%%rbp), %k0"
		     : "=&r"(r) : "r"(base + 0x20) : "rbp", "memory");
	ucall_sync3(28, 4, r);
	asm volatile("mov $0x100, %%r14; movzbl %c1(, %%r14, 8), %k0" : "=r"(r) : "i"(0x10000000)
		     : "r14", "memory");
	ucall_sync3(0x10000000 + 0x800 - DEV, 1, r);
	/* RIP-relative, with an immediate behind the displacement. */
	asm volatile("movl $0x55667788, 0x20000010(%%rip)" : : : "memory");
	ucall_sync3(0, 0, 0);
	asm volatile("movabsl 0xd0000040, %%eax; mov %%rax, %0" : "=r"(r) : : "rax", "memory");
	ucall_sync3(0x40, 4, r);
	asm volatile("movabsb %%al, 0xd0000041" : : "a"(0x99) : "memory");
	ucall_sync3(0x41, 1, 0x99);
	asm volatile("movl %%gs:(%1), %k0" : "=r"(r)
		     : "r"(base + 0x50 - (uint64_t)(uintptr_t)&guest_cpus[0]) : "memory");
	ucall_sync3(0x50, 4, r);
	asm volatile("movl (%k1), %k0" : "=r"(r) : "r"(base + 0x60 + 0x900000000) : "memory");
	ucall_sync3(0x60, 4, r);
	asm volatile("mov $0x1122, %%esi; movb %%sil, (%0)" : : "r"(base + 0x70) : "rsi", "memory");
	ucall_sync3(0x70, 1, 0x22);
	asm volatile("mov $0x1122, %%ecx; movb %%ch, (%0)" : : "r"(base + 0x71) : "rcx", "memory");
	ucall_sync3(0x71, 1, 0x11);
	asm volatile("mov $0x1122, %%r15d; movw %%r15w, (%0)" : : "r"(base + 0x72)
		     : "r15", "memory");
	ucall_sync3(0x72, 2, 0x1122);
	/* Useless prefixes, as many as fit. */
	asm volatile(".byte 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e; movl %0, 0x74(%1)"
		     : : "r"(0x12344321), "r"(base) : "memory");
	ucall_sync3(0x74, 4, 0x12344321);
}

TEST_F(mmio, every_addressing_form_reaches_the_device)
{
	static const uint8_t zero[4];
	struct kvm_run *run = self->v->run;
	uint64_t at = 0, data = 0;
	size_t messages = 0, accesses = 0;

	vcpu_call(self->v, guest_addressing);
	for (;;) {
		struct ucall u;

		vcpu_run(self->v);
		if (run->exit_reason == KVM_EXIT_MMIO) {
			at = run->mmio.phys_addr;
			accesses++;
			data = 0;
			if (run->mmio.is_write)
				memcpy(&data, run->mmio.data, run->mmio.len);
			else
				for (uint32_t i = 0; i < run->mmio.len; i++)
					run->mmio.data[i] = (uint8_t)((at + i) ^ 0x80);
			continue;
		}
		ASSERT_TRUE(vcpu_is_ucall(self->v, &u)) {
			TH_LOG("message %zu: %s", messages, exit_text(self->v));
		}
		if (u.kind == UCALL_DONE)
			break;
		ASSERT_EQ(UCALL_SYNC, u.kind) {
			TH_LOG("message %zu: exception %lu at %lx", messages, u.arg[0], u.arg[2]);
		}
		EXPECT_EQ(++messages, accesses);
		if (!u.arg[1]) {
			EXPECT_EQ(0x55667788, data);
			EXPECT_EQ(0x20, at >> 24);
			continue;
		}
		EXPECT_EQ((uint32_t)(DEV + u.arg[0]), at) {
			TH_LOG("message %zu", messages);
		}
		for (uint64_t i = 0; !data && i < u.arg[1]; i++)
			EXPECT_EQ((uint8_t)((at + i) ^ 0x80), (uint8_t)(u.arg[2] >> 8 * i));
		if (data)
			EXPECT_EQ(u.arg[2], data);
		EXPECT_EQ(0, memcmp(zero, (uint8_t *)&u.arg[2] + 4, 4));
	}
	EXPECT_EQ(13, messages);
}

/* An indirect jump and a call fetch their target from the device, which answers with pointers. */
static void guest_jumps(uint64_t a)
{
	uint64_t r = 0;

	asm volatile("movq $1f, (%1); jmp *(%1); mov $1, %k0; 1:" : "+r"(r) : "r"(a) : "memory");
	GUEST_EQ(0, r);
	asm volatile("movq $1f, (%1); call *(%1); jmp 2f; 1: mov $7, %k0; ret; 2:"
		     : "+r"(r) : "r"(a) : "memory");
	GUEST_EQ(7, r);
}

TEST_F(mmio, jumps_and_calls_may_take_their_target_from_mmio)
{
	struct ucall u;

	vcpu_call(self->v, guest_jumps, DEV + 8);
	u = serve(self->v);
	EXPECT_EQ(UCALL_DONE, u.kind);
	EXPECT_EQ(16, bytes_in_log(false));
	EXPECT_EQ(16, bytes_in_log(true));
}

static void guest_stack(uint64_t a)
{
	uint64_t sp, sum;

	asm volatile("mov %%rsp, %%r12; mov %2, %%rsp\n"
		     "pushq $0x1234\n"
		     "pushq $-2\n"
		     "call 1f\n"
		     "jmp 2f\n"
		     "1: ret\n"
		     "2: popq %%rax\n"
		     "popq %%rcx\n"
		     "pushfq; popq %%rdx\n"
		     "mov %%rsp, %0; mov %%r12, %%rsp\n"
		     "lea (%%rax, %%rcx), %1\n"
		     : "=&D"(sp), "=&S"(sum) : "r"(a) : "rax", "rcx", "rdx", "r12", "memory");
	GUEST_EQ(a, sp);
	GUEST_EQ(0x1232, sum);
	ucall_sync(0);
}

TEST_F(mmio, the_stack_may_be_in_mmio)
{
	vcpu_call(self->v, guest_stack, DEV + 0x100);
	serve(self->v);
	EXPECT_EQ(-2ul, *(uint64_t *)(dev.bytes + 0xf0));
	EXPECT_EQ(32, bytes_in_log(true));
	EXPECT_EQ(32, bytes_in_log(false));
}

/* movl $0x11223344, 0x10(%rdi); ret: seven bytes, then one. */
static const uint8_t store_insn[] = { 0xc7, 0x47, 0x10, 0x44, 0x33, 0x22, 0x11, 0xc3 };

static void guest_call_at(uint64_t a, uint64_t code)
{
	asm volatile("call *%1" : "+D"(a) : "r"(code) : "memory");
	ucall_sync(0);
}

TEST_F(mmio, the_instruction_may_straddle_two_pages)
{
	uint8_t *one = vm_hva(self->vm, SCRATCH_GPA + 0x4000);
	uint8_t *two = vm_hva(self->vm, SCRATCH_GPA + 0x2000);

	pt_map(self->vm, WINDOW, SCRATCH_GPA + 0x4000, PAGE, PTE_URW);
	pt_map(self->vm, WINDOW + PAGE, SCRATCH_GPA + 0x2000, PAGE, PTE_URW);
	for (size_t split = 1; split < sizeof(store_insn) - 1; split++) {
		memcpy(one + PAGE - split, store_insn, split);
		memcpy(two, store_insn + split, sizeof(store_insn) - split);
		memset(dev.bytes, 0, 0x20);
		vcpu_call(self->v, guest_call_at, DEV, WINDOW + PAGE - split);
		serve(self->v);
		EXPECT_EQ(1, dev.n);
		EXPECT_EQ(0x11223344, *(uint32_t *)(dev.bytes + 0x10));
	}
}

static void guest_two_reads(uint64_t a)
{
	GUEST_EQ(0x1111111111111111, rd64(a));
	GUEST_EQ(0x2222222222222222, rd64(a + 8));
	wr64(a + 16, 5);
	wr64(a + 24, 6);
}

static void guest_load(uint64_t at)
{
	ucall_sync(*(volatile uint64_t *)at);
}

/* The processor cannot mark entries there, and its fault names the entry: not where the operand is, which has
 * the same offset in its page. */
TEST_F(mmio, page_tables_may_be_read_only)
{
	const uint64_t tables = 0x1000000, data = 0x1122334455667788;
	uint64_t *rom = map_anon(PAGE), *pde;

	if (!kvm_is_kvmxx())
		SKIP(return, "the in-tree module takes the one for the other");
	pt_map(self->vm, WINDOW, RAM_A, PAGE, PTE_RW);
	*rom = *pt_entry(self->vm, WINDOW, 1) & ~(PTE_A | PTE_D);
	vm_slot(self->vm, 1, KVM_MEM_READONLY, tables, PAGE, rom);
	pde = pt_entry(self->vm, WINDOW, 2);
	*pde = (*pde & ~PTE_ADDR) | tables;
	*(volatile uint64_t *)vm_hva(self->vm, RAM_A) = data;
	vcpu_call(self->v, guest_load, WINDOW);
	EXPECT_EQ(data, serve(self->v).arg[0]);
	unmap(rom, PAGE);
}

TEST_F(mmio, immediate_exit_completes_the_pending_access_first)
{
	struct kvm_run *run = self->v->run;
	uint64_t rip;

	vcpu_call(self->v, guest_two_reads, DEV);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	rip = vcpu_rip(self->v);
	memset(run->mmio.data, 0x11, 8);
	run->immediate_exit = 1;
	EXPECT_EQ(-EINTR, vcpu_try_run(self->v));
	EXPECT_NE(rip, vcpu_rip(self->v));
	memset(run->mmio.data, 0xff, 8);
	run->immediate_exit = 0;
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(DEV + 8, run->mmio.phys_addr);
	memset(run->mmio.data, 0x22, 8);
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(DEV + 16, run->mmio.phys_addr);
	rip = vcpu_rip(self->v);
	run->immediate_exit = 1;
	EXPECT_EQ(-EINTR, vcpu_try_run(self->v));
	run->immediate_exit = 0;
	vcpu_expect(self->v, KVM_EXIT_MMIO);
	EXPECT_EQ(DEV + 24, run->mmio.phys_addr);
	vcpu_finish(self->v);
}

static void guest_high(uint64_t a)
{
	wr32(a, 0x600d);
	GUEST_EQ(0x600d, rd32(a));
}

TEST_F(mmio, mmio_reaches_up_to_the_highest_physical_address)
{
	struct kvm_run *run = self->v->run;

	for (unsigned int bit = 33; bit <= kvm_maxphyaddr(); bit++) {
		uint64_t gpa = (1ull << bit) - PAGE, window = WINDOW + bit * PAGE;

		pt_map(self->vm, window, gpa, PAGE, PTE_URW);
		vcpu_call(self->v, guest_high, window + 0xffc);
		vcpu_expect(self->v, KVM_EXIT_MMIO);
		EXPECT_EQ(gpa + 0xffc, run->mmio.phys_addr);
		EXPECT_EQ(1, run->mmio.is_write);
		vcpu_expect(self->v, KVM_EXIT_MMIO);
		EXPECT_EQ(gpa + 0xffc, run->mmio.phys_addr);
		*(uint32_t *)run->mmio.data = 0x600d;
		vcpu_finish(self->v);
	}
}

/* 32-bit code: segment bases, every operand size, absolute addresses. Ends with UCALL_SYNC. */
asm(".pushsection .text\n.code32\n"
    "mmio32:\n"
    "	mov $0x44332211, %eax\n"
    "	mov %eax, 0xd0000000\n"
    "	movw %ax, 0xd0000004\n"
    "	mov $0xd0000000, %ebx\n"
    "	movb %ah, 6(%ebx)\n"
    "	mov %eax, %es:0x10(%ebx)\n"
    "	mov %eax, %fs:0x20\n"		/* the test gives fs the base 0xd0000000 */
    "	movw 0x40(%ebx), %dx\n"
    "	movzbl 0x42(%ebx), %esi\n"
    "	mov %fs:0x44, %edi\n"
    "	lock addl $1, 0x48(%ebx)\n"
    "	mov $0x20, %bx\n"		/* 0xd0000020 */
    "	movzwl %dx, %ecx\n"
    "	mov $2, %eax\n"
    "	mov $0x3f0, %dx\n"
    "	outl %eax, %dx\n"
    "	hlt\n"
    "mmio32_end:\n"
    ".code16\n"
    "mmio16:\n"				/* ds has the base 0xd0000000 */
    "	movl $0x44332211, %eax\n"
    "	movl %eax, 0\n"
    "	movw %ax, 4\n"
    "	mov $6, %bx\n"
    "	mov %ah, (%bx)\n"
    "	mov $0x8, %si\n"
    "	movl %eax, 8(%bx,%si)\n"	/* 0x16 */
    "	movl $0x20, %ebx\n"
    "	addr32 movl %eax, 2(%ebx)\n"	/* 0x22 */
    "	movb $1, 0x40\n"
    "	incb 0x40\n"
    "	mov $0x40, %si\n"
    "	lodsw\n"
    "	hlt\n"
    "mmio16_end:\n"
    ".code64\n.popsection\n");
extern char mmio32[], mmio16[], mmio16_end[];

static void protected_mode(struct __test_metadata *_metadata, struct vm *vm, struct vcpu *v,
			   enum paging paging)
{
	struct kvm_sregs s;
	struct ucall u;

	vcpu_prot32(v, mmio32, paging);
	vcpu_get_sregs(v, &s);
	s.fs.base = DEV;
	vcpu_set_sregs(v, &s);
	*(uint32_t *)(dev.bytes + 0x48) = 0xffffffff;
	u = serve(v);
	EXPECT_EQ(0, memcmp(dev.bytes, "\x11\x22\x33\x44\x11\x22\x22", 7));
	EXPECT_EQ(0x44332211, *(uint32_t *)(dev.bytes + 0x10));
	EXPECT_EQ(0x44332211, *(uint32_t *)(dev.bytes + 0x20));
	EXPECT_EQ(*(uint32_t *)(dev.bytes + 0x44), u.arg[0]);
	EXPECT_EQ(dev.bytes[0x42], u.arg[1]);
	EXPECT_EQ(*(uint16_t *)(dev.bytes + 0x40), u.arg[2]);
	EXPECT_EQ(0, *(uint32_t *)(dev.bytes + 0x48));
}

TEST_F(mmio, works_in_protected_mode_without_paging)
{
	protected_mode(_metadata, self->vm, self->v, PAGING_NONE);
}

TEST_F(mmio, works_in_protected_mode_with_two_level_paging)
{
	protected_mode(_metadata, self->vm, self->v, PAGING_32);
}

TEST_F(mmio, works_in_protected_mode_with_pae_paging)
{
	protected_mode(_metadata, self->vm, self->v, PAGING_PAE);
}

TEST_F(mmio, works_in_real_mode_behind_a_high_segment_base)
{
	struct kvm_regs regs;
	struct kvm_sregs s;

	vm_copy_code(self->vm, REAL_GPA, mmio16);
	vcpu_real(self->v, 0, REAL_GPA);
	vcpu_get_sregs(self->v, &s);
	s.ds.base = DEV;
	vcpu_set_sregs(self->v, &s);
	do
		vcpu_run(self->v);
	while (serve_one(self->v));
	ASSERT_EQ(KVM_EXIT_HLT, self->v->run->exit_reason) {
		TH_LOG("%s", exit_text(self->v));
	}
	EXPECT_EQ(0, memcmp(dev.bytes, "\x11\x22\x33\x44\x11\x22\x22", 7));
	EXPECT_EQ(0x44332211, *(uint32_t *)(dev.bytes + 0x16));
	EXPECT_EQ(0x44332211, *(uint32_t *)(dev.bytes + 0x22));
	EXPECT_EQ(2, dev.bytes[0x40]);
	vcpu_get(self->v, &regs);
	EXPECT_EQ(0x44330000 | dev.bytes[0x41] << 8 | 2, regs.rax);
	EXPECT_EQ(0x42, regs.rsi);
}

GUEST_TEST_MAIN
