// SPDX-License-Identifier: GPL-2.0-only
/* Virtual CPUs. */
#include "vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "pgtable.h"

struct vcpu *vcpu_new_raw(struct vm *vm, int id)
{
	struct vcpu *v = calloc(1, sizeof(*v));
	int size = ioctl(kvm_fd(), KVM_GET_VCPU_MMAP_SIZE, 0ul);

	CHECK(size > 0, "KVM_GET_VCPU_MMAP_SIZE");
	v->vm = vm;
	v->id = id;
	v->run_size = (size_t)size;
	v->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)id);
	CHECK(v->fd >= 0, "KVM_CREATE_VCPU %d", id);
	v->run = mmap(NULL, v->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	CHECK(v->run != MAP_FAILED, "mmap of a vCPU");
	return v;
}

struct vcpu *vcpu_new(struct vm *vm, int id)
{
	struct vcpu *v = vcpu_new_raw(vm, id);

	CHECK(!ioctl(v->fd, KVM_SET_CPUID2, kvm_cpuid()), "KVM_SET_CPUID2");
	return v;
}

void vcpu_free(struct vcpu *v)
{
	munmap(v->run, v->run_size);
	close(v->fd);
	free(v);
}

void vcpu_get(struct vcpu *v, struct kvm_regs *regs)
{
	CHECK(!ioctl(v->fd, KVM_GET_REGS, regs), "KVM_GET_REGS");
}

void vcpu_set(struct vcpu *v, const struct kvm_regs *regs)
{
	CHECK(!ioctl(v->fd, KVM_SET_REGS, regs), "KVM_SET_REGS");
}

void vcpu_get_sregs(struct vcpu *v, struct kvm_sregs *sregs)
{
	CHECK(!ioctl(v->fd, KVM_GET_SREGS, sregs), "KVM_GET_SREGS");
}

void vcpu_set_sregs(struct vcpu *v, const struct kvm_sregs *sregs)
{
	CHECK(!ioctl(v->fd, KVM_SET_SREGS, sregs), "KVM_SET_SREGS");
}

uint64_t vcpu_rip(struct vcpu *v)
{
	struct kvm_regs regs;

	vcpu_get(v, &regs);
	return regs.rip;
}

struct kvm_segment segment(uint16_t selector, uint8_t type, uint8_t dpl, uint64_t base,
			   uint32_t limit, int db, int l)
{
	return (struct kvm_segment){
		.base = base, .limit = limit, .selector = selector, .type = type, .dpl = dpl,
		.present = 1, .s = 1, .db = (uint8_t)db, .l = (uint8_t)l, .g = limit > 0xfffff,
	};
}

static struct kvm_segment system_segment(uint16_t selector, uint8_t type, uint64_t base,
					 uint32_t limit)
{
	struct kvm_segment s = segment(selector, type, 0, base, limit, 0, 0);

	s.s = 0;
	return s;
}

static void set_protected(struct vcpu *v, struct kvm_sregs *s)
{
	struct kvm_segment data = segment(SEL_DATA, 3, 0, 0, 0xffffffff, 1, 0);

	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->tr = system_segment((uint16_t)(SEL_TSS + v->id * 16), 11,
			       TSS_GPA + (uint64_t)v->id * TSS_SIZE, TSS_SIZE - 1);
	s->ldt = (struct kvm_segment){ .unusable = 1, .type = 2 };
	s->gdt.base = GDT_GPA;
	s->gdt.limit = SEL_TSS + MAX_VCPUS * 16 - 1;
	s->gs.base = (uintptr_t)&guest_cpus[v->id];
}

void vcpu_long_mode(struct vcpu *v)
{
	struct kvm_sregs s;

	vcpu_get_sregs(v, &s);
	set_protected(v, &s);
	s.cs = segment(SEL_CODE64, 11, 0, 0, 0xffffffff, 0, 1);
	s.idt.base = IDT_GPA;
	s.idt.limit = 256 * 16 - 1;
	s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	s.cr3 = v->vm->cr3;
	s.cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	if (kvm_cpuid_leaf(1, 0)->ecx & (1 << 26))
		s.cr4 |= CR4_OSXSAVE;
	if (v->vm->levels == 5)
		s.cr4 |= CR4_LA57;
	s.efer = EFER_LME | EFER_LMA | EFER_NX | EFER_SCE;
	vcpu_set_sregs(v, &s);
}

static uint64_t stack_top(struct vcpu *v)
{
	return STACK_GPA + (uint64_t)(v->id + 1) * STACK_SIZE;
}

void vcpu_call_(struct vcpu *v, uint64_t rip, const uint64_t args[6])
{
	struct kvm_regs r = {
		.rip = rip, .rflags = RFLAGS_FIXED, .rsp = stack_top(v) - 8,
		.rdi = args[0], .rsi = args[1], .rdx = args[2], .rcx = args[3], .r8 = args[4],
		.r9 = args[5],
	};
	uint64_t back = (uintptr_t)guest_return;

	vcpu_long_mode(v);
	vm_copy(v->vm, r.rsp, &back, sizeof(back));
	vcpu_set(v, &r);
}

void vcpu_prot32(struct vcpu *v, const void *entry, enum paging paging)
{
	struct kvm_regs r = {
		.rip = (uintptr_t)entry, .rflags = RFLAGS_FIXED, .rsp = stack_top(v) - 16,
	};
	struct kvm_sregs s;

	vcpu_get_sregs(v, &s);
	set_protected(v, &s);
	s.cs = segment(SEL_CODE32, 11, 0, 0, 0xffffffff, 1, 0);
	s.idt.base = IDT32_GPA;
	s.idt.limit = 256 * 8 - 1;
	s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP;
	s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	s.efer = 0;
	if (paging == PAGING_32) {
		s.cr3 = pt32_identity(v->vm);
		s.cr0 |= CR0_PG;
		s.cr4 |= CR4_PSE;
	} else if (paging == PAGING_PAE) {
		s.cr3 = pae_identity(v->vm);
		s.cr0 |= CR0_PG;
		s.cr4 |= CR4_PAE;
		s.efer = EFER_NX;
	}
	vcpu_set_sregs(v, &s);
	vcpu_set(v, &r);
}

void vcpu_real(struct vcpu *v, uint16_t cs, uint16_t ip)
{
	struct kvm_segment data = segment(0, 3, 0, 0, 0xffff, 0, 0);
	struct kvm_regs r = { .rip = ip, .rflags = RFLAGS_FIXED, .rsp = 0xfff0 };
	struct kvm_sregs s;

	vcpu_get_sregs(v, &s);
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cs = segment(cs, 11, 0, (uint64_t)cs << 4, 0xffff, 0, 0);
	s.tr = system_segment(0, 11, 0, 0xffff);
	s.ldt = system_segment(0, 2, 0, 0xffff);
	s.idt.base = 0;
	s.idt.limit = 0x3ff;
	s.gdt.base = 0;
	s.gdt.limit = 0xffff;
	s.cr0 = CR0_ET | CR0_CD | CR0_NW;
	s.cr4 = 0;
	s.cr3 = 0;
	s.efer = 0;
	vcpu_set_sregs(v, &s);
	vcpu_set(v, &r);
}

int vcpu_try_run(struct vcpu *v)
{
	return ioctl(v->fd, KVM_RUN, 0ul) ? -errno : 0;
}

void vcpu_run(struct vcpu *v)
{
	int r = vcpu_try_run(v);

	CHECK(!r, "KVM_RUN gave %d, last exit: %s", r, exit_text(v));
}

void vcpu_complete(struct vcpu *v)
{
	int r;

	v->run->immediate_exit = 1;
	r = vcpu_try_run(v);
	CHECK(r == -EINTR, "KVM_RUN with immediate_exit gave %d, %s", r, exit_text(v));
	v->run->immediate_exit = 0;
}

void *vcpu_io_data(struct vcpu *v)
{
	return (uint8_t *)v->run + v->run->io.data_offset;
}

const char *exit_text(struct vcpu *v)
{
	static __thread char text[400];
	struct kvm_run *run = v->run;
	struct kvm_regs regs;
	char more[200] = "";

	if (ioctl(v->fd, KVM_GET_REGS, &regs))
		memset(&regs, 0, sizeof(regs));
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		snprintf(more, sizeof(more), " io %s port %x size %d count %u data %x",
			 run->io.direction ? "out" : "in", run->io.port, run->io.size,
			 run->io.count, *(uint32_t *)vcpu_io_data(v));
		break;
	case KVM_EXIT_MMIO:
		snprintf(more, sizeof(more), " mmio %s %llx len %u data %llx",
			 run->mmio.is_write ? "write" : "read",
			 (unsigned long long)run->mmio.phys_addr, run->mmio.len,
			 *(unsigned long long *)run->mmio.data);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(more, sizeof(more), " internal error %u (%llx)", run->internal.suberror,
			 run->internal.ndata ? (unsigned long long)run->internal.data[0] : 0);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(more, sizeof(more), " hardware entry failure %llx",
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	}
	snprintf(text, sizeof(text), "exit %u%s at rip %llx rax %llx rsp %llx rflags %llx",
		 run->exit_reason, more, (unsigned long long)regs.rip,
		 (unsigned long long)regs.rax, (unsigned long long)regs.rsp,
		 (unsigned long long)regs.rflags);
	return text;
}

void vcpu_expect(struct vcpu *v, uint32_t exit_reason)
{
	struct ucall u;

	vcpu_run(v);
	if (v->run->exit_reason == exit_reason)
		return;
	if (vcpu_is_ucall(v, &u))
		FAIL("expected exit %u, but the guest says %u: %lx %lx %lx %lx", exit_reason,
		     u.kind, u.arg[0], u.arg[1], u.arg[2], u.arg[3]);
	FAIL("expected exit %u, got %s", exit_reason, exit_text(v));
}

bool vcpu_is_ucall(struct vcpu *v, struct ucall *u)
{
	struct kvm_run *run = v->run;
	struct kvm_regs regs;

	if (run->exit_reason != KVM_EXIT_IO || run->io.port != UCALL_PORT ||
	    run->io.direction != KVM_EXIT_IO_OUT || run->io.size != 4)
		return false;
	vcpu_get(v, &regs);
	*u = (struct ucall){ *(uint32_t *)vcpu_io_data(v),
			     { regs.rdi, regs.rsi, regs.rcx, regs.r8 } };
	return true;
}

struct ucall vcpu_ucall(struct vcpu *v)
{
	struct ucall u;

	vcpu_run(v);
	if (!vcpu_is_ucall(v, &u))
		FAIL("expected a message of the guest, got %s", exit_text(v));
	if (u.kind == UCALL_ASSERT)
		FAIL("guest line %lu: %s: expected 0x%lx, seen 0x%lx", u.arg[0],
		     (const char *)u.arg[3], u.arg[1], u.arg[2]);
	if (u.kind == UCALL_EXC)
		FAIL("guest exception %lu error 0x%lx at rip 0x%lx, cr2 0x%lx", u.arg[0],
		     u.arg[1], u.arg[2], u.arg[3]);
	return u;
}

uint64_t vcpu_sync(struct vcpu *v)
{
	struct ucall u = vcpu_ucall(v);

	CHECK(u.kind == UCALL_SYNC, "message %u", u.kind);
	return u.arg[0];
}

void vcpu_finish(struct vcpu *v)
{
	struct ucall u = vcpu_ucall(v);

	CHECK(u.kind == UCALL_DONE, "message %u, %lx", u.kind, u.arg[0]);
}

int vcpu_try_set_msr(struct vcpu *v, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };
	int r = ioctl(v->fd, KVM_SET_MSRS, &m);

	CHECK(r == 0 || r == 1, "KVM_SET_MSRS gave %d", r);
	return r - 1;
}

int vcpu_try_get_msr(struct vcpu *v, uint32_t index, uint64_t *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = index } };
	int r = ioctl(v->fd, KVM_GET_MSRS, &m);

	CHECK(r == 0 || r == 1, "KVM_GET_MSRS gave %d", r);
	*value = m.entry.data;
	return r - 1;
}

uint64_t vcpu_msr(struct vcpu *v, uint32_t index)
{
	uint64_t value;

	CHECK(!vcpu_try_get_msr(v, index, &value), "MSR %x cannot be read", index);
	return value;
}

static void nothing(int sig)
{
	(void)sig;
}

void kick_setup(void)
{
	struct sigaction sa = { .sa_handler = nothing };

	CHECK(!sigaction(SIGUSR1, &sa, NULL), "sigaction");
}

static void *runner_main(void *arg)
{
	struct runner *r = arg;

	r->fn(r);
	return NULL;
}

void runner_start(struct runner *r, struct vcpu *v, void (*fn)(struct runner *r))
{
	kick_setup();
	r->vcpu = v;
	r->fn = fn;
	r->stop = false;
	r->loops = 0;
	CHECK(!pthread_create(&r->thread, NULL, runner_main, r), "pthread_create");
}

void runner_stop(struct runner *r)
{
	r->stop = true;
	r->vcpu->run->immediate_exit = 1;
	pthread_kill(r->thread, SIGUSR1);
	runner_join(r);
	r->vcpu->run->immediate_exit = 0;
}

void runner_join(struct runner *r)
{
	CHECK(!pthread_join(r->thread, NULL), "pthread_join");
}

void runner_spin(struct runner *r)
{
	while (!r->stop) {
		int err = vcpu_try_run(r->vcpu);
		struct ucall u;

		r->loops++;
		if (err == -EINTR)
			continue;
		if (!err && vcpu_is_ucall(r->vcpu, &u))
			FAIL("guest message %u: %lx %lx %lx %lx", u.kind, u.arg[0], u.arg[1],
			     u.arg[2], u.arg[3]);
		FAIL("KVM_RUN of a spinning guest gave %d, %s", err, exit_text(r->vcpu));
	}
}
