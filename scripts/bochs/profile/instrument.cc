// SPDX-License-Identifier: GPL-2.0-only
// Instructions of the kernel by address, of user space and of guests as one sum each. Every end of a count appends to the file
// that $KVMXX_PROFILE names: "count", then lines "ADDRESS N" (or "user N", "guest N"). One CPU.

#include "bochs.h"
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool profile_on;

// The kernel and its modules are in the last 2 GiB; what it runs elsewhere counts as its address 0 there.
static const Bit64u base = 0xffffffff80000000ull;
static const unsigned page = 4096;
static Bit64u *pages[0x80000000u / page];
static Bit64u user, guest, *last;
static Bit64u last_icount;

static Bit64u *counter(Bit64u address)
{
  Bit64u offset = address >= base ? address - base : 0;
  Bit64u *&counters = pages[offset / page];
  if (! counters) counters = (Bit64u *) calloc(page, sizeof(Bit64u));
  return &counters[offset % page];
}

// Time goes on by the instruction, and by each repetition of a string instruction: what it went on by is the last one's.
void profile_step()
{
  BX_CPU_C *cpu = BX_CPU(0);
  Bit64u now = cpu->icount;
  if (last) *last += now - last_icount;
  last_icount = now;
  if (cpu->in_vmx_guest || cpu->in_svm_guest) last = &guest;
  else if (cpu->sregs[BX_SEG_REG_CS].selector.rpl == 3) last = &user;
  else last = counter(cpu->get_instruction_pointer());
}

static void write_down()
{
  const char *name = getenv("KVMXX_PROFILE");
  FILE *file = name ? fopen(name, "a") : NULL;
  if (! file) return;
  fprintf(file, "count\nuser " FMT_LL "u\nguest " FMT_LL "u\n", user, guest);
  for (unsigned n = 0; n < sizeof(pages) / sizeof(*pages); n++)
    for (unsigned i = 0; pages[n] && i < page; i++)
      if (pages[n][i]) fprintf(file, FMT_LL "x " FMT_LL "u\n", base + n * (Bit64u) page + i, pages[n][i]);
  fclose(file);
}

void profile_mark(unsigned value)
{
  if (value == 2 && profile_on) write_down();
  for (unsigned n = 0; n < sizeof(pages) / sizeof(*pages); n++)
    if (pages[n]) memset(pages[n], 0, page * sizeof(Bit64u));
  user = guest = 0;
  last = NULL;
  profile_on = value == 1;
}
