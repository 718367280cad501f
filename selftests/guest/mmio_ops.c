// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every instruction of mmio_ops.S does to MMIO what it does to RAM: the processor executes it on
 * RAM, the hypervisor on MMIO. Memory, registers and defined flags must agree, and the device must
 * see exactly the reads and writes of that instruction.
 */
#include "test.h"

#define AREA 64		/* bytes looked at; the operand is in the middle */
#define MIDDLE 16
#define DEVICE (MMIO_GPA + 0x400)

struct op_state {
	uint64_t rax, rbx, rcx, rdx, rflags, xmm[2];
};

struct op {
	void (*fn)(uint64_t addr, struct op_state *s);
	const char *text;
	uint32_t group, size, reads, writes, flags, pad;
};
extern const struct op mmio_ops[], mmio_ops_end[];

static const struct input {
	uint64_t memory[2];
	struct op_state state;
} inputs[] = {
	{ { 0x8877665544332211, 0x1122334455667788 },
	  { 0x0123456789abcdef, 0xfedcba9876543210, 0x1111, 0x2222, 0x002, { 0x1111, 0x2222 } } },
	{ { 0xffffffffffffffff, 0xffffffffffffffff },
	  { 0x0000000000000001, 0x0000000000000001, 0x3333, 0x4444, 0x003, { ~0ull, 5 } } },
	{ { 0x7f80807f7f807f80, 0x8001800180018001 },
	  { 0x8000000080008080, 0x7fffffff7fff7f7f, 0x5555, 0x6666, 0x8d7, { 1, ~0ull } } },
	{ { 0x0102030405060708, 0x0807060504030201 },
	  { 0x0102030405060708, 0x0102030405060708, 0x7777, 0x01020304, 0x046, { 7, 8 } } },
};

/* What the guest saw; the host reads these. */
static uint8_t ram_area[AREA] __attribute__((aligned(64)));
static struct op_state ram_state, mmio_state;

static void call_op(const struct op *op, uint64_t addr, struct op_state *s)
{
	uint64_t fn = (uintptr_t)op->fn;

	asm volatile("call *%0" : "+a"(fn), "+D"(addr), "+S"(s)
		     : : "rbx", "rcx", "rdx", "r8", "memory", "cc");
}

static void guest_ops(uint64_t from, uint64_t group)
{
	for (const struct op *op = mmio_ops + from; op < mmio_ops_end; op++) {
		if (op->group != group)
			continue;
		for (uint64_t j = 0; j < ARRAY_SIZE(inputs); j++) {
			for (int k = 0; k < AREA / 8; k++)
				wr64((uintptr_t)ram_area + k * 8, inputs[j].memory[k & 1]);
			ram_state = inputs[j].state;
			mmio_state = inputs[j].state;
			call_op(op, (uintptr_t)ram_area + MIDDLE, &ram_state);
			ucall_sync3(op - mmio_ops, j, 0);
			call_op(op, DEVICE + MIDDLE, &mmio_state);
			ucall_sync3(op - mmio_ops, j, 1);
		}
	}
}

static struct {
	uint8_t bytes[AREA];
	uint32_t read, written;
} device;

static void serve_access(struct kvm_run *run)
{
	uint64_t at = run->mmio.phys_addr - DEVICE;

	CHECK(at + run->mmio.len <= AREA && run->mmio.len <= 8, "access at %llx, %u bytes",
	      (unsigned long long)run->mmio.phys_addr, run->mmio.len);
	if (run->mmio.is_write) {
		memcpy(device.bytes + at, run->mmio.data, run->mmio.len);
		device.written += run->mmio.len;
	} else {
		memcpy(run->mmio.data, device.bytes + at, run->mmio.len);
		device.read += run->mmio.len;
	}
}

/* NULL if the guest's two runs agree, else what differs. */
static const char *compare(struct vm *vm, const struct op *op)
{
	const struct op_state a = G(vm, ram_state), b = G(vm, mmio_state);
	bool may_skip_write = !!strstr(op->text, "cmpxchg") && !(a.rflags & RFLAGS_ZF);

	if (memcmp(vm_hva(vm, (uintptr_t)ram_area), device.bytes, AREA))
		return "memory";
	if (a.rax != b.rax || a.rcx != b.rcx || a.rdx != b.rdx || a.rbx != b.rbx)
		return "registers";
	if (memcmp(a.xmm, b.xmm, sizeof(a.xmm)))
		return "xmm0";
	if ((a.rflags ^ b.rflags) & op->flags)
		return "flags";
	if (device.read != op->reads * op->size)
		return "reads of the device";
	/* A cmpxchg that fails may write the old value back, or not write. */
	if (device.written != op->writes * op->size && !(may_skip_write && !device.written))
		return "writes to the device";
	return NULL;
}

FIXTURE(mmio_ops) { struct vm *vm; struct vcpu *v; };
FIXTURE_VARIANT(mmio_ops) { uint32_t group; };
FIXTURE_SETUP(mmio_ops)
{
	self->vm = vm_new();
	self->v = vcpu_new(self->vm, 0);
}
FIXTURE_TEARDOWN(mmio_ops)
{
	vcpu_free(self->v);
	vm_free(self->vm);
}
FIXTURE_VARIANT_ADD(mmio_ops, moves) { .group = 0 };
FIXTURE_VARIANT_ADD(mmio_ops, arithmetic) { .group = 1 };
FIXTURE_VARIANT_ADD(mmio_ops, bits) { .group = 2 };
FIXTURE_VARIANT_ADD(mmio_ops, shifts) { .group = 3 };
FIXTURE_VARIANT_ADD(mmio_ops, multiply_divide) { .group = 4 };
FIXTURE_VARIANT_ADD(mmio_ops, locked) { .group = 5 };
FIXTURE_VARIANT_ADD(mmio_ops, vector) { .group = 6 };
FIXTURE_VARIANT_ADD(mmio_ops, misc) { .group = 7 };
/* What no driver does to a device: executed all the same, or handed to the VMM with its bytes. */
#define RARE 8
FIXTURE_VARIANT_ADD(mmio_ops, rare) { .group = RARE };

static bool refused_with_its_bytes(const struct kvm_run *run)
{
	const uint64_t has_bytes = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;

	return run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
	       run->emulation_failure.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	       run->emulation_failure.ndata >= 3 && run->emulation_failure.insn_size > 2 &&
	       (run->emulation_failure.flags & has_bytes);
}

TEST_F(mmio_ops, mmio_gets_what_ram_gets)
{
	struct kvm_run *run = self->v->run;
	uint64_t op = 0, done = 0;

	vcpu_call(self->v, guest_ops, 0, variant->group);
	for (;;) {
		const char *what;
		struct ucall u;

		vcpu_run(self->v);
		if (run->exit_reason == KVM_EXIT_MMIO) {
			serve_access(run);
			continue;
		}
		if (!vcpu_is_ucall(self->v, &u) || u.kind == UCALL_EXC) {
			if (variant->group == RARE && refused_with_its_bytes(run)) {
				TH_LOG("left to the VMM (6.1 executes it): %s", mmio_ops[op].text);
				done++;
			} else {
				EXPECT_TRUE(false) {
					TH_LOG("%s: %s", mmio_ops[op].text, exit_text(self->v));
				}
			}
			vcpu_call(self->v, guest_ops, op + 1, variant->group);
			continue;
		}
		if (u.kind == UCALL_DONE)
			break;
		op = u.arg[0];
		if (!u.arg[2]) {
			for (size_t k = 0; k < AREA / 8; k++)
				memcpy(device.bytes + k * 8, &inputs[u.arg[1]].memory[k & 1], 8);
			device.read = device.written = 0;
			continue;
		}
		done++;
		what = compare(self->vm, &mmio_ops[op]);
		if (what) {
			const struct op_state a = G(self->vm, ram_state);
			const struct op_state b = G(self->vm, mmio_state);

			EXPECT_TRUE(false) {
				TH_LOG("%s, input %lu: %s differ", mmio_ops[op].text, u.arg[1],
				       what);
				TH_LOG("RAM:  rax %lx rbx %lx rcx %lx rdx %lx rflags %lx", a.rax,
				       a.rbx, a.rcx, a.rdx, a.rflags);
				TH_LOG("MMIO: rax %lx rbx %lx rcx %lx rdx %lx rflags %lx", b.rax,
				       b.rbx, b.rcx, b.rdx, b.rflags);
				TH_LOG("%u read, %u written", device.read, device.written);
			}
		}
	}
	EXPECT_LT(0, done);
}

GUEST_TEST_MAIN
