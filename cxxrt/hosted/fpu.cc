/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest's FPU as an image that nobody computes with. */
#include <cstring>
#include "sizes.h"
#include "state.hpp"
#include "thread.hpp"

using namespace kx::hosted;

namespace {

constexpr unsigned image_size = 4096, xmm = 160;

struct Fpu {
	unsigned char *image;
};
static_assert(sizeof(Fpu) <= KX_SIZEOF_FPU);

unsigned char *image_of(void *f) { return static_cast<Fpu *>(f)->image; }

/* Of the guest whose FPU the thread has. */
unsigned char *vector(unsigned n)
{
	if (!this_thread().fpu)
		fail("a vector register of no guest");
	return image_of(this_thread().fpu) + xmm + n * 16;
}

}

extern "C" {

int kx_fpu_init(void *f)
{
	static_cast<Fpu *>(f)->image = static_cast<unsigned char *>(kx_vzalloc(image_size));
	return image_of(f) ? 0 : -12;
}
void kx_fpu_destroy(void *f) { kx_free(image_of(f)); }
void kx_fpu_load(void *f)
{
	if (this_thread().fpu)
		fail("a thread loads an FPU while it has one");
	this_thread().fpu = f;
}
void kx_fpu_save(void *f)
{
	if (this_thread().fpu != f)
		fail("a thread saves an FPU that it has not loaded");
	this_thread().fpu = nullptr;
}
void kx_fpu_return(void)
{
	if (!context.irqs_off || !this_thread().fpu)
		fail("kx_fpu_return with interrupts on, or without an FPU");
	this_thread().flags &= ~static_cast<unsigned long>(KX_THREAD_NEED_FPU);
}

unsigned kx_fpu_image_size(void *) { return image_size; }
/* (without the upper halves) */
void kx_fpu_read_vector(unsigned n, void *to, unsigned bytes)
{
	std::memset(to, 0, bytes);
	std::memcpy(to, vector(n), 16);
}
void kx_fpu_write_vector(unsigned n, const void *from, unsigned, int) { std::memcpy(vector(n), from, 16); }
void kx_fpu_get(void *f, void *to, unsigned bytes, kx_u64, kx_u32)
{
	if (this_thread().fpu == f)
		fail("an FPU's image is read while a thread has it");
	std::memcpy(to, image_of(f), bytes);
}
int kx_fpu_set(void *f, const void *from, kx_u64, kx_u32 *)
{
	if (this_thread().fpu == f)
		fail("an FPU's image is written while a thread has it");
	std::memcpy(image_of(f), from, image_size);
	return 0;
}
kx_u64 kx_fpu_host_xcr0(void) { return 3; }
kx_u64 kx_fpu_user_features(void) { return 3; }
kx_u32 kx_host_pkru(void) { return 0; }

}
