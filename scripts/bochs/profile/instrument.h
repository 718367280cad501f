// SPDX-License-Identifier: GPL-2.0-only
// Bochs' instrumentation, for scripts/profile: counts instructions by address while a program inside asks for it.
// In place of Bochs' instrument/stubs.

#ifndef KVMXX_PROFILE_H
#define KVMXX_PROFILE_H

extern bool profile_on;
void profile_step();
void profile_mark(unsigned value);

#define PROFILE_PORT 0x8ae2 // no device is there: 1 begins, 2 ends and writes down

#define BX_INSTR_BEFORE_EXECUTION(cpu, i) { if (profile_on) profile_step(); }
#define BX_INSTR_OUTP(addr, len, value) { if ((addr) == PROFILE_PORT) profile_mark(value); }

#define BX_INSTR_INIT_ENV()
#define BX_INSTR_EXIT_ENV()
#define BX_INSTR_INITIALIZE(cpu)
#define BX_INSTR_EXIT(cpu)
#define BX_INSTR_RESET(cpu, type)
#define BX_INSTR_HLT(cpu)
#define BX_INSTR_MWAIT(cpu, addr, len, flags)
#define BX_INSTR_CNEAR_BRANCH_TAKEN(cpu, from, to)
#define BX_INSTR_CNEAR_BRANCH_NOT_TAKEN(cpu, from)
#define BX_INSTR_UCNEAR_BRANCH(cpu, what, from, to)
#define BX_INSTR_FAR_BRANCH(cpu, what, from_cs, from, to_cs, to)
#define BX_INSTR_OPCODE(cpu, i, opcode, len, is32, is64)
#define BX_INSTR_EXCEPTION(cpu, vector, error)
#define BX_INSTR_INTERRUPT(cpu, vector)
#define BX_INSTR_HWINTERRUPT(cpu, vector, cs, rip)
#define BX_INSTR_CLFLUSH(cpu, linear, physical)
#define BX_INSTR_CACHE_CNTRL(cpu, what)
#define BX_INSTR_TLB_CNTRL(cpu, what, cr3)
#define BX_INSTR_PREFETCH_HINT(cpu, what, segment, offset)
#define BX_INSTR_AFTER_EXECUTION(cpu, i)
#define BX_INSTR_REPEAT_ITERATION(cpu, i)
#define BX_INSTR_LIN_ACCESS(cpu, linear, physical, len, type, rw)
#define BX_INSTR_PHY_ACCESS(cpu, physical, len, type, rw)
#define BX_INSTR_INP(addr, len)
#define BX_INSTR_INP2(addr, len, value)
#define BX_INSTR_WRMSR(cpu, msr, value)
#define BX_INSTR_VMEXIT(cpu, reason, qualification)

#endif
