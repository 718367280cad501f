// SPDX-License-Identifier: GPL-2.0-only
/* The state of a vCPU, as user space sets and reads it and as the guest sees it. */
#include "test.h"

#include <sys/syscall.h>

VM_FIXTURE(regs)

static struct kvm_regs seen;

static void guest_registers(void)
{
	/* Stores all but rsp, adds one to each and reports. */
	asm volatile("mov %%rax, %0\n" : "=m"(seen.rax));
}

asm(".pushsection .text\n"
    "all_registers:\n"
    "	mov %rax, seen+0x00\n	mov %rbx, seen+0x08\n	mov %rcx, seen+0x10\n"
    "	mov %rdx, seen+0x18\n	mov %rsi, seen+0x20\n	mov %rdi, seen+0x28\n"
    "	mov %rsp, seen+0x30\n	mov %rbp, seen+0x38\n	mov %r8, seen+0x40\n"
    "	mov %r9, seen+0x48\n	mov %r10, seen+0x50\n	mov %r11, seen+0x58\n"
    "	mov %r12, seen+0x60\n	mov %r13, seen+0x68\n	mov %r14, seen+0x70\n"
    "	mov %r15, seen+0x78\n"
    "	inc %rax; inc %rbx; inc %rcx; inc %rdx; inc %rsi; inc %rdi; inc %rsp; inc %rbp\n"
    "	inc %r8; inc %r9; inc %r10; inc %r11; inc %r12; inc %r13; inc %r14; inc %r15\n"
    "	stc; std\n"
    "all_registers_hlt:\n"
    "	hlt\n"
    ".popsection\n");
extern char all_registers[], all_registers_hlt[];

TEST_F(regs, every_general_register_goes_in_and_comes_out)
{
	struct kvm_regs in, out;
	uint64_t *r = (uint64_t *)&in;

	vcpu_call(self->v, guest_registers);
	in.rip = 0;
	for (int i = 0; i < 16; i++)
		r[i] = 0x8877665544332200ul + (uint64_t)i * 0x0101010101010101ul;
	in.rip = (uintptr_t)all_registers;
	in.rflags = RFLAGS_FIXED;
	vcpu_set(self->v, &in);
	vcpu_get(self->v, &out);
	EXPECT_EQ(0, memcmp(&in, &out, sizeof(in)));
	vcpu_expect(self->v, KVM_EXIT_HLT);
	for (int i = 0; i < 16; i++)
		EXPECT_EQ(r[i], ((volatile uint64_t *)&G(self->vm, seen))[i]);
	vcpu_get(self->v, &out);
	for (int i = 0; i < 16; i++)
		EXPECT_EQ(r[i] + 1, ((uint64_t *)&out)[i]);
	EXPECT_EQ((uintptr_t)all_registers_hlt + 1, out.rip);
	EXPECT_EQ(RFLAGS_FIXED | RFLAGS_CF | RFLAGS_DF, out.rflags & ~0x8d4ul);
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_GET_REGS, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_REGS, NULL));
}

TEST_F(regs, the_fixed_flag_is_always_set)
{
	struct kvm_regs r;

	vcpu_call(self->v, guest_registers);
	vcpu_get(self->v, &r);
	r.rflags = 0;
	vcpu_set(self->v, &r);
	vcpu_get(self->v, &r);
	EXPECT_EQ(RFLAGS_FIXED, r.rflags);
}

static void guest_hlt(void)
{
	for (;;)
		asm volatile("hlt");
}

TEST_F(regs, system_registers_read_back_as_written_before_and_after_running)
{
	struct kvm_sregs a, b;

	vcpu_call(self->v, guest_hlt);
	vcpu_get_sregs(self->v, &a);
	a.ds = segment(SEL_DATA, 3, 0, 0x12345000, 0xfffff, 0, 0);
	a.es = segment(0x28, 3, 0, 0x1000, 0xfff0fff, 1, 0);
	a.es.avl = 1;
	a.fs.base = 0x7fff12345678;
	a.gs.base = 0xffff800012345678;
	a.idt.base = 0x123000;
	a.idt.limit = 0x123;
	a.gdt.base = 0xffffffff80001000;
	a.gdt.limit = 0xfff;
	a.cr2 = 0x123456789abcdef0;
	a.cr8 = 5;
	a.ldt = segment(0x50, 2, 0, 0x77000, 0x17, 0, 0);
	a.ldt.s = 0;
	vcpu_set_sregs(self->v, &a);
	vcpu_get_sregs(self->v, &b);
	EXPECT_EQ(0, memcmp(&a, &b, sizeof(a)));
	self->v->run->cr8 = 5;	/* KVM_RUN takes it from here */
	vcpu_expect(self->v, KVM_EXIT_HLT);
	vcpu_get_sregs(self->v, &b);
	/* The processor may set accessed and busy bits; here they were set. */
	EXPECT_EQ(0, memcmp(&a, &b, sizeof(a)));
	EXPECT_EQ(5, self->v->run->cr8);
	vcpu_set_sregs(self->v, &b);
	vcpu_expect(self->v, KVM_EXIT_HLT);
}

#define EXPECT_BAD_SREGS(base, change) do { \
	struct kvm_sregs __s = (base), s, __after; \
	s = __s; \
	change; \
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_SREGS, &s)) { \
		TH_LOG("with " #change); \
	} \
	vcpu_get_sregs(self->v, &__after); \
	EXPECT_EQ(0, memcmp(&__s, &__after, sizeof(__s))); \
} while (0)

TEST_F(regs, impossible_system_registers_are_refused_and_change_nothing)
{
	struct kvm_sregs l, r;

	vcpu_call(self->v, guest_hlt);
	vcpu_get_sregs(self->v, &l);
	EXPECT_BAD_SREGS(l, s.cr0 |= 1ul << 32);
	EXPECT_BAD_SREGS(l, s.cr0 &= ~CR0_PE);
	EXPECT_BAD_SREGS(l, s.cr0 |= CR0_NW);
	EXPECT_BAD_SREGS(l, s.cr4 |= 1ul << 31);
	EXPECT_BAD_SREGS(l, s.cr4 |= 1ul << 63);
	EXPECT_BAD_SREGS(l, s.cr4 |= 1ul << 13);	/* VMXE on AMD; a reserved bit elsewhere */
	EXPECT_BAD_SREGS(l, s.cr4 &= ~CR4_PAE);
	EXPECT_BAD_SREGS(l, s.efer &= ~EFER_LMA);
	EXPECT_BAD_SREGS(l, s.cr3 |= 1ul << 62);
	EXPECT_BAD_SREGS(l, s.apic_base |= 1ul << 62);
	EXPECT_BAD_SREGS(l, s.apic_base |= 1);
	if (kvm_maxphyaddr() < 52)
		EXPECT_BAD_SREGS(l, s.cr3 |= 1ul << kvm_maxphyaddr());
	vcpu_real(self->v, 0, REAL_GPA);
	vcpu_get_sregs(self->v, &r);
	EXPECT_BAD_SREGS(r, s.efer |= EFER_LMA);
	EXPECT_BAD_SREGS(r, s.cs.l = 1);
	EXPECT_BAD_SREGS(r, s.cr0 |= CR0_PG);
	/* LME without paging is what every kernel passes through. */
	r.efer |= EFER_LME;
	EXPECT_OK(ioctl(self->v->fd, KVM_SET_SREGS, &r));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_SREGS, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_GET_SREGS, NULL));
}

TEST_F(regs, control_register_bits_without_their_cpuid_bit_are_refused)
{
	static const struct { uint64_t bit; uint32_t leaf; char reg; uint8_t cpuid; } bits[] = {
		{ CR4_SMEP, 7, 'b', 7 }, { CR4_SMAP, 7, 'b', 20 }, { CR4_LA57, 7, 'c', 16 },
		{ CR4_UMIP, 7, 'c', 2 }, { 1ul << 22, 7, 'c', 3 }, { 1ul << 16, 7, 'b', 0 },
		{ 1ul << 17, 1, 'c', 17 }, { CR4_OSXSAVE, 1, 'c', 26 },
	};
	struct kvm_sregs s;

	vcpu_real(self->v, 0, REAL_GPA);
	vcpu_get_sregs(self->v, &s);
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		const struct kvm_cpuid_entry2 *e = kvm_cpuid_leaf(bits[i].leaf, 0);
		bool there = (bits[i].reg == 'b' ? e->ebx : e->ecx) >> bits[i].cpuid & 1;
		int want = there ? 0 : -1;

		s.cr4 = bits[i].bit;
		EXPECT_EQ(want, ioctl(self->v->fd, KVM_SET_SREGS, &s)) {
			TH_LOG("cr4 %lx", bits[i].bit);
		}
	}
}

/* FPU, SSE, AVX. */
static uint8_t vectors[16][32] __attribute__((aligned(64)));
static uint8_t area[4096] __attribute__((aligned(64)));
static uint32_t mxcsr;

static void guest_fpu(void)
{
	asm volatile("fninit; fld1; fldpi");
	asm volatile("movups vectors, %xmm0; movups vectors+32, %xmm1; movups vectors+480, %xmm15");
	asm volatile("ldmxcsr mxcsr");
	ucall_sync(1);
	asm volatile("movups %xmm0, vectors; movups %xmm1, vectors+32; movups %xmm15, vectors+480");
	asm volatile("stmxcsr mxcsr");
	asm volatile("fxsave64 area");
	ucall_sync(2);
}

static void fill_vectors(struct vm *vm, uint8_t seed)
{
	for (size_t i = 0; i < sizeof(vectors); i++)
		((volatile uint8_t *)&G(vm, vectors))[i] = (uint8_t)(seed + i * 3);
}

TEST_F(regs, fpu_state_goes_both_ways)
{
	struct kvm_fpu fpu;

	fill_vectors(self->vm, 9);
	vcpu_call(self->v, guest_fpu);
	G(self->vm, mxcsr) = 0x1fa0;
	EXPECT_EQ(1, vcpu_sync(self->v));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_FPU, &fpu));
	EXPECT_EQ(0x37f, fpu.fcw);
	EXPECT_EQ(6, fpu.fsw >> 11 & 7);
	EXPECT_EQ(0xc0, fpu.ftwx);
	EXPECT_EQ(0, memcmp("\x35\xc2\x68\x21\xa2\xda\x0f\xc9\x00\x40", fpu.fpr[0], 10));
	EXPECT_EQ(0, memcmp("\x00\x00\x00\x00\x00\x00\x00\x80\xff\x3f", fpu.fpr[1], 10));
	EXPECT_EQ(0, memcmp(vm_hva(self->vm, (uintptr_t)vectors), fpu.xmm[0], 16));
	EXPECT_EQ(0, memcmp(vm_hva(self->vm, (uintptr_t)vectors[1]), fpu.xmm[1], 16));
	EXPECT_EQ(0, memcmp(vm_hva(self->vm, (uintptr_t)vectors[15]), fpu.xmm[15], 16));

	fpu.fcw = 0x27f;
	fpu.mxcsr = 0x1fa0;	/* 6.1 ignores it here, and does not report it */
	memset(fpu.xmm[0], 0x5a, 16);
	memset(fpu.xmm[15], 0xa5, 16);
	memcpy(fpu.fpr[0], "\x00\x00\x00\x00\x00\x00\x00\xc0\x01\x40", 10);	/* 6.0 */
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_FPU, &fpu));
	EXPECT_EQ(2, vcpu_sync(self->v));
	for (int i = 0; i < 16; i++) {
		EXPECT_EQ(0x5a, G(self->vm, vectors)[0][i]);
		EXPECT_EQ(0xa5, G(self->vm, vectors)[15][i]);
	}
	EXPECT_EQ(0x1fa0, G(self->vm, mxcsr));
	EXPECT_EQ(0x7f, G(self->vm, area)[0]);
	EXPECT_EQ(0x02, G(self->vm, area)[1]);
	EXPECT_EQ(0, memcmp("\x00\x00\x00\x00\x00\x00\x00\xc0\x01\x40",
			    vm_hva(self->vm, (uintptr_t)area + 32), 10));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_FPU, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_GET_FPU, NULL));
}

static bool has_avx(void)
{
	return (kvm_cpuid_leaf(1, 0)->ecx >> 28 & 1) && (kvm_cpuid_leaf(0xd, 0)->eax & 4);
}

static void guest_avx(void)
{
	asm volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
	asm volatile("vmovups vectors+0, %ymm0; vmovups vectors+480, %ymm15");
	ucall_sync(1);
	asm volatile("vmovups %ymm0, vectors+0; vmovups %ymm15, vectors+480");
	ucall_sync(2);
}

static void get_xsave(struct vcpu *v, struct kvm_xsave *x)
{
	CHECK(!ioctl(v->fd, KVM_GET_XSAVE, x), "KVM_GET_XSAVE");
}

TEST_F(regs, avx_state_goes_both_ways)
{
	static struct kvm_xsave x;
	uint8_t *bytes = (uint8_t *)x.region;
	uint32_t at = kvm_cpuid_leaf(0xd, 2)->ebx;

	NEED_CAP(KVM_CAP_XSAVE);
	if (on_old_tcg())
		SKIP(return, "QEMU 7.2 does not intercept XSETBV");
	if (!has_avx())
		SKIP(return, "no AVX");
	fill_vectors(self->vm, 77);
	vcpu_call(self->v, guest_avx);
	EXPECT_EQ(1, vcpu_sync(self->v));
	get_xsave(self->v, &x);
	EXPECT_EQ(6, bytes[512] & 6);
	EXPECT_EQ(0, memcmp(bytes + 160, vm_hva(self->vm, (uintptr_t)vectors), 16));
	EXPECT_EQ(0, memcmp(bytes + at, vm_hva(self->vm, (uintptr_t)vectors + 16), 16));
	EXPECT_EQ(0, memcmp(bytes + 160 + 240, vm_hva(self->vm, (uintptr_t)vectors[15]), 16));
	EXPECT_EQ(0, memcmp(bytes + at + 240, vm_hva(self->vm, (uintptr_t)vectors[15] + 16), 16));
	memset(bytes + 160, 0x11, 16);
	memset(bytes + at, 0x22, 16);
	memset(bytes + at + 240, 0x33, 16);
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_XSAVE, &x));
	EXPECT_EQ(2, vcpu_sync(self->v));
	for (int i = 0; i < 16; i++) {
		EXPECT_EQ(0x11, G(self->vm, vectors)[0][i]);
		EXPECT_EQ(0x22, G(self->vm, vectors)[0][16 + i]);
		EXPECT_EQ(bytes[160 + 240 + i], G(self->vm, vectors)[15][i]);
		EXPECT_EQ(0x33, G(self->vm, vectors)[15][16 + i]);
	}
}

TEST_F(regs, a_new_vcpu_has_the_initial_fpu_state)
{
	static struct kvm_xsave x;
	struct kvm_fpu fpu;

	ASSERT_OK(ioctl(self->v->fd, KVM_GET_FPU, &fpu));
	EXPECT_EQ(0x37f, fpu.fcw);
	EXPECT_EQ(0, fpu.fsw);
	EXPECT_EQ(0, fpu.ftwx);
	NEED_CAP(KVM_CAP_XSAVE);
	memset(&x, 0xee, sizeof(x));
	get_xsave(self->v, &x);
	EXPECT_EQ(0x37f, x.region[0] & 0xffff);
	EXPECT_EQ(0x1f80, x.region[6]);
	for (int i = 40; i < 128 - 12; i++)
		EXPECT_EQ(0, x.region[i]);
	/* Every byte of the 4096 was written. */
	for (int i = 144; i < 1024; i++)
		EXPECT_EQ(0, x.region[i]);
}

TEST_F(regs, malformed_xsave_areas_are_refused)
{
	static struct kvm_xsave good, x;

	NEED_CAP(KVM_CAP_XSAVE);
	if (!(kvm_cpuid_leaf(1, 0)->ecx >> 26 & 1))
		SKIP(return, "no XSAVE");
	get_xsave(self->v, &good);
	EXPECT_OK(ioctl(self->v->fd, KVM_SET_XSAVE, &good));
	x = good;
	x.region[129] |= 0x40000000;	/* XSTATE_BV bit 62 */
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_XSAVE, &x));
	x = good;
	x.region[128] |= 1 << 19;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_XSAVE, &x));
	x = good;
	x.region[128] |= 2;
	x.region[6] = 0xffff0000;	/* MXCSR */
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_XSAVE, &x));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_XSAVE, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_GET_XSAVE, NULL));
	get_xsave(self->v, &x);
	EXPECT_EQ(0, memcmp(&good, &x, sizeof(x)));
}

TEST_F(regs, xsave2_is_as_large_as_it_says)
{
	int size = kvm_has(KVM_CAP_XSAVE2);
	uint8_t *p;

	NEED_CAP(KVM_CAP_XSAVE2);
	EXPECT_LE(4096, size);
	p = map_anon((size_t)size + PAGE);
	memset(p, 0xee, (size_t)size + PAGE);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_XSAVE2, p));
	EXPECT_EQ(0x7f, p[0]);
	EXPECT_EQ(0xee, p[size]);
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_XSAVE, p));
}

/* Two guests and the host, each with vectors of its own. */
static void guest_keep(uint64_t seed)
{
	uint64_t r;

	asm volatile("movq %0, %%xmm3; movq %0, %%xmm15" : : "r"(seed));
	for (int i = 0; i < 20; i++) {
		ucall_sync((uint64_t)i);
		asm volatile("movq %%xmm3, %0" : "=r"(r));
		GUEST_EQ(seed, r);
		asm volatile("movq %%xmm15, %0" : "=r"(r));
		GUEST_EQ(seed, r);
	}
}

TEST_F(regs, vector_registers_of_two_vcpus_and_of_the_host_do_not_mix)
{
	struct vcpu *w = vcpu_new(self->vm, 1), *turn[2] = { self->v, w };
	uint64_t host = 0x0123456789abcdef, back3, back15, fcw = 0;

	vcpu_call(self->v, guest_keep, 0x1111111111111111);
	vcpu_call(w, guest_keep, 0x2222222222222222);
	for (int i = 0; i < 40; i++) {
		long r;

		asm volatile("movq %4, %%xmm3; movq %4, %%xmm15; fninit; fldpi\n"
			     "syscall\n"
			     "movq %%xmm3, %1; movq %%xmm15, %2\n"
			     "fnstcw %3; fstp %%st(0)"
			     : "=a"(r), "=&r"(back3), "=&r"(back15), "+m"(fcw)
			     : "r"(host), "0"(SYS_ioctl), "D"(turn[i & 1]->fd), "S"(KVM_RUN),
			       "d"(0) : "rcx", "r11", "memory");
		ASSERT_EQ(0, r);
		EXPECT_EQ(host, back3);
		EXPECT_EQ(host, back15);
		EXPECT_EQ(0x37f, fcw & 0xffff);
		host = host * 3 + 1;
		struct ucall u;

		ASSERT_TRUE(vcpu_is_ucall(turn[i & 1], &u));
		ASSERT_EQ(UCALL_SYNC, u.kind);
		EXPECT_EQ(i / 2, u.arg[0]);
	}
	vcpu_finish(self->v);
	vcpu_finish(w);
}

/* XCR0. */
static int set_xcr0(struct vcpu *v, uint64_t value)
{
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = value } };

	return ioctl(v->fd, KVM_SET_XCRS, &x);
}

static uint64_t get_xcr0(struct vcpu *v)
{
	struct kvm_xcrs x = {};

	CHECK(!ioctl(v->fd, KVM_GET_XCRS, &x), "KVM_GET_XCRS");
	CHECK(x.nr_xcrs == 1 && x.flags == 0 && x.xcrs[0].xcr == 0, "%u", x.nr_xcrs);
	return x.xcrs[0].value;
}

static void guest_xcr0(void)
{
	uint32_t lo, hi;

	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	ucall_sync(lo);
	GUEST_TRY("xsetbv", : : "a"(3), "d"(0), "c"(0));
	GUEST_EQ(NO_EXC, guest_vector());
	ucall_sync(3);
	GUEST_TRY("xsetbv", : : "a"(0), "d"(0), "c"(0));
	GUEST_EQ(VEC_GP, guest_vector());
	GUEST_TRY("xsetbv", : : "a"(4), "d"(0), "c"(0));
	GUEST_EQ(VEC_GP, guest_vector());
	GUEST_TRY("xsetbv", : : "a"(3), "d"(0), "c"(1));
	GUEST_EQ(VEC_GP, guest_vector());
	GUEST_TRY("xsetbv", : : "a"(3), "d"(0x80000000), "c"(0));
	GUEST_EQ(VEC_GP, guest_vector());
	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	GUEST_EQ(3, lo);
}

#define CR4_PKE (1ul << 22)

static inline uint32_t rdpkru(void)
{
	uint32_t a, d;

	asm volatile(".byte 0x0f, 0x01, 0xee" : "=a"(a), "=d"(d) : "c"(0));
	return a;
}

static inline void wrpkru(uint32_t v)
{
	asm volatile(".byte 0x0f, 0x01, 0xef" : : "a"(v), "c"(0), "d"(0) : "memory");
}

static void guest_pkru(uint64_t cr4_bits, uint64_t value)
{
	write_cr4((read_cr4() & ~(CR4_OSXSAVE | CR4_PKE)) | cr4_bits);
	wrpkru((uint32_t)value);
	ucall_sync(1);
	GUEST_EQ(value, rdpkru());
	wrpkru(0);
	ucall_sync(2);
}

/* WRPKRU needs CR4.PKE and not CR4.OSXSAVE. */
TEST_F(regs, protection_keys_of_guest_and_vmm_do_not_mix)
{
	const uint64_t bits[] = { CR4_PKE, CR4_PKE | CR4_OSXSAVE };
	int key = (int)syscall(SYS_pkey_alloc, 0, 0);
	uint32_t mine;

	if (key < 0)
		SKIP(return, "this host has no protection keys");
	ASSERT_TRUE(kvm_cpuid_leaf(7, 0)->ecx & 1 << 3);
	mine = rdpkru() | 1u << 30;
	wrpkru(mine);
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		vcpu_call(self->v, guest_pkru, bits[i], 0x15555554);
		EXPECT_EQ(1, vcpu_sync(self->v));
		EXPECT_EQ(mine, rdpkru());
		EXPECT_EQ(2, vcpu_sync(self->v));
		EXPECT_EQ(mine, rdpkru());
		vcpu_finish(self->v);
	}
}

TEST_F(regs, xcr0_goes_both_ways_and_refuses_what_the_processor_refuses)
{
	struct kvm_xcrs x = { .nr_xcrs = 1, .flags = 1 };
	uint64_t all = kvm_cpuid_leaf(0xd, 0)->eax | (uint64_t)kvm_cpuid_leaf(0xd, 0)->edx << 32;

	NEED_CAP(KVM_CAP_XCRS);
	if (on_old_tcg())
		SKIP(return, "QEMU 7.2 does not intercept XSETBV");
	if (!has_avx())
		SKIP(return, "no AVX");
	EXPECT_EQ(1, get_xcr0(self->v));
	EXPECT_ERRNO(EINVAL, set_xcr0(self->v, 0));
	EXPECT_ERRNO(EINVAL, set_xcr0(self->v, 2));
	EXPECT_ERRNO(EINVAL, set_xcr0(self->v, 5));
	EXPECT_ERRNO(EINVAL, set_xcr0(self->v, 1ul << 62 | 1));
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_XCRS, &x));
	x = (struct kvm_xcrs){ .nr_xcrs = 17 };
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_XCRS, &x));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_XCRS, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_GET_XCRS, NULL));
	EXPECT_EQ(1, get_xcr0(self->v));
	EXPECT_OK(set_xcr0(self->v, all));
	EXPECT_EQ(all, get_xcr0(self->v));
	EXPECT_OK(set_xcr0(self->v, 7));
	vcpu_call(self->v, guest_xcr0);
	EXPECT_EQ(7, vcpu_sync(self->v));
	EXPECT_EQ(3, vcpu_sync(self->v));
	EXPECT_EQ(3, get_xcr0(self->v));
	vcpu_finish(self->v);
}

/* Debug registers. */
#define READ_DR(n) ({ uint64_t __v; asm volatile("mov %%db" #n ", %0" : "=r"(__v)); __v; })
#define WRITE_DR(n, v) asm volatile("mov %0, %%db" #n : : "r"((uint64_t)(v)))

static void guest_dr(void)
{
	GUEST_EQ(0x1000, READ_DR(0));
	GUEST_EQ(0x2000, READ_DR(1));
	GUEST_EQ(0x3000, READ_DR(2));
	GUEST_EQ(0xffff800000004000, READ_DR(3));
	GUEST_EQ(0xffff0ff1, READ_DR(6));
	GUEST_EQ(0x400, READ_DR(7));
	WRITE_DR(0, 0xffff800000001111);
	WRITE_DR(3, 0x4444);
	WRITE_DR(6, 0xffff4ff0);
	WRITE_DR(7, 0x700);
	GUEST_EQ(0x4444, READ_DR(3));
	GUEST_EQ(0x2000, READ_DR(1));
	ucall_sync(1);
	GUEST_EQ(0x4444, READ_DR(3));
}

TEST_F(regs, debug_registers_go_both_ways)
{
	struct kvm_debugregs d, bad;

	NEED_CAP(KVM_CAP_DEBUGREGS);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_DEBUGREGS, &d));
	EXPECT_EQ(0, d.db[0] | d.db[1] | d.db[2] | d.db[3]);
	EXPECT_EQ(0xffff0ff0, d.dr6);
	EXPECT_EQ(0x400, d.dr7);
	EXPECT_EQ(0, d.flags);
	d = (struct kvm_debugregs){ .db = { 0x1000, 0x2000, 0x3000, 0xffff800000004000 },
				    .dr6 = 0xffff0ff1, .dr7 = 0x400 };
	bad = d;
	bad.flags = 1;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_DEBUGREGS, &bad));
	bad = d;
	bad.dr6 |= 1ul << 40;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_DEBUGREGS, &bad));
	bad = d;
	bad.dr7 |= 1ul << 32;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_DEBUGREGS, &bad));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_DEBUGREGS, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_GET_DEBUGREGS, NULL));
	ASSERT_OK(ioctl(self->v->fd, KVM_SET_DEBUGREGS, &d));
	vcpu_call(self->v, guest_dr);
	EXPECT_EQ(1, vcpu_sync(self->v));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_DEBUGREGS, &d));
	EXPECT_EQ(0xffff800000001111, d.db[0]);
	EXPECT_EQ(0x2000, d.db[1]);
	EXPECT_EQ(0x3000, d.db[2]);
	EXPECT_EQ(0x4444, d.db[3]);
	EXPECT_EQ(0xffff4ff0, d.dr6);
	EXPECT_EQ(0x700, d.dr7);
	vcpu_finish(self->v);
}

TEST_F(regs, vcpu_events_read_back_and_refuse_nonsense)
{
	struct kvm_vcpu_events e, bad;

	NEED_CAP(KVM_CAP_VCPU_EVENTS);
	memset(&e, 0xee, sizeof(e));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(0, e.exception.injected | e.interrupt.injected | e.nmi.injected | e.nmi.pending |
		  e.nmi.masked | e.interrupt.shadow);
	for (size_t i = 0; i < sizeof(e.reserved); i++)
		EXPECT_EQ(0, e.reserved[i]);
	EXPECT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
	bad = e;
	bad.flags = 1u << 31;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &bad));
	bad = e;
	bad.exception.injected = 1;
	bad.exception.nr = 32;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &bad));
	bad.exception.nr = VEC_NMI;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &bad));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, NULL));
	e.nmi.masked = 1;
	e.nmi.pending = 1;
	e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	EXPECT_OK(ioctl(self->v->fd, KVM_SET_VCPU_EVENTS, &e));
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, e.nmi.masked);
	EXPECT_EQ(1, e.nmi.pending);
}

TEST_F(regs, without_an_interrupt_controller_a_vcpu_is_always_runnable)
{
	struct kvm_mp_state m = { 77 };

	NEED_CAP(KVM_CAP_MP_STATE);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_MP_STATE, &m));
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, m.mp_state);
	EXPECT_OK(ioctl(self->v->fd, KVM_SET_MP_STATE, &m));
	m.mp_state = KVM_MP_STATE_HALTED;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_MP_STATE, &m));
	m.mp_state = KVM_MP_STATE_UNINITIALIZED;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_MP_STATE, &m));
	m.mp_state = 1000;
	EXPECT_ERRNO(EINVAL, ioctl(self->v->fd, KVM_SET_MP_STATE, &m));
	EXPECT_ERRNO(EFAULT, ioctl(self->v->fd, KVM_SET_MP_STATE, NULL));
	vcpu_call(self->v, guest_hlt);
	vcpu_expect(self->v, KVM_EXIT_HLT);
	ASSERT_OK(ioctl(self->v->fd, KVM_GET_MP_STATE, &m));
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, m.mp_state);
}

/* The whole state of one vCPU moved into another, at every message. */
static void guest_migrate(void)
{
	uint64_t x = 1;

	asm volatile("movq %0, %%xmm7; fninit; fldpi" : : "r"(0x7777ul));
	wrmsr(0xc0000102, 0x1234567);
	WRITE_DR(1, 0x5555);
	for (uint64_t i = 0; i < 10; i++) {
		uint64_t r;

		x = x * 3 + i;
		ucall_sync(x);
		asm volatile("movq %%xmm7, %0" : "=r"(r));
		GUEST_EQ(0x7777, r);
		GUEST_EQ(0x1234567, rdmsr(0xc0000102));
		GUEST_EQ(0x5555, READ_DR(1));
	}
}

static void move_state(struct vcpu *from, struct vcpu *to)
{
	static struct kvm_xsave x;
	struct { struct kvm_msrs head; struct kvm_msr_entry e[6]; } m = {
		.head.nmsrs = 6, .e = { { .index = 0xc0000102 }, { .index = 0xc0000081 },
		{ .index = 0xc0000082 }, { .index = 0x277 }, { .index = 0x174 },
		{ .index = 0x10 } },
	};
	struct kvm_debugregs d;
	struct kvm_vcpu_events e;
	struct kvm_xcrs c;
	struct kvm_sregs s;
	struct kvm_regs r;

	vcpu_complete(from);
	vcpu_get_sregs(from, &s);
	vcpu_set_sregs(to, &s);
	vcpu_get(from, &r);
	vcpu_set(to, &r);
	CHECK(!ioctl(from->fd, KVM_GET_XSAVE, &x) && !ioctl(to->fd, KVM_SET_XSAVE, &x), "xsave");
	CHECK(!ioctl(from->fd, KVM_GET_XCRS, &c) && !ioctl(to->fd, KVM_SET_XCRS, &c), "xcrs");
	CHECK(ioctl(from->fd, KVM_GET_MSRS, &m) == 6 && ioctl(to->fd, KVM_SET_MSRS, &m) == 6,
	      "msrs");
	CHECK(!ioctl(from->fd, KVM_GET_DEBUGREGS, &d) && !ioctl(to->fd, KVM_SET_DEBUGREGS, &d),
	      "debugregs");
	CHECK(!ioctl(from->fd, KVM_GET_VCPU_EVENTS, &e) &&
	      !ioctl(to->fd, KVM_SET_VCPU_EVENTS, &e), "events");
}

TEST_F(regs, a_guest_goes_on_in_another_vcpu_that_is_given_its_state)
{
	uint64_t x = 1;
	struct vcpu *now = self->v;

	NEED_CAP(KVM_CAP_XSAVE);
	vcpu_call(now, guest_migrate);
	for (uint64_t i = 0; i < 10; i++) {
		struct vcpu *next = vcpu_new(self->vm, (int)i + 1);

		x = x * 3 + i;
		EXPECT_EQ(x, vcpu_sync(now));
		move_state(now, next);
		now = next;
	}
	vcpu_finish(now);
}

TEST_F(regs, registers_may_travel_in_kvm_run)
{
	uint64_t all = (uint64_t)kvm_has(KVM_CAP_SYNC_REGS);
	struct kvm_run *run = self->v->run;

	NEED_CAP(KVM_CAP_SYNC_REGS);
	vcpu_call(self->v, guest_hlt);
	run->kvm_valid_regs = 1ull << 40;
	EXPECT_EQ(-EINVAL, vcpu_try_run(self->v));
	run->kvm_valid_regs = 0;
	run->kvm_dirty_regs = 1ull << 40;
	EXPECT_EQ(-EINVAL, vcpu_try_run(self->v));
	run->kvm_dirty_regs = 0;
	run->kvm_valid_regs = all & (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
	vcpu_expect(self->v, KVM_EXIT_HLT);
	EXPECT_EQ(vcpu_rip(self->v), run->s.regs.regs.rip);
	EXPECT_EQ(self->vm->cr3, run->s.regs.sregs.cr3);
	run->s.regs.regs.rbx = 0x1234;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	vcpu_expect(self->v, KVM_EXIT_HLT);
	EXPECT_EQ(0x1234, run->s.regs.regs.rbx);
}

GUEST_TEST_MAIN
