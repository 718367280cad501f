#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The world switches as assembled have what the kernel's mitigations want there, which no emulated processor shows missing, and
# survive SVM or VMX being switched off at any of their instructions. Wants a build for KIND to be there.
# usage: check-entry.sh KIND
set -euo pipefail
. "$(dirname "$0")/lib.sh"
kind=$1 bad=0
src=$("$scripts/get-kernel" "$kind")/usr/src
complain() { echo "$1 for $kind: $2"; bad=1; }

# Of a feature of cpufeatures.h, or a bug, which come behind the features: its number
number() {
	local header where
	header=$(echo "$src"/*/arch/x86/include/asm/cpufeatures.h)
	case $1 in
	BUG_*)
		where=$(sed -n 's/^#define NCAPINTS[[:space:]]*\([0-9]*\).*/\1/p' "$header")
		echo $((where * 32 + $(sed -n "s/^#define X86_$1[[:space:]]*X86_BUG(\([^)]*\)).*/\1/p" "$header"))) ;;
	*) echo $(($(sed -n "s/^#define X86_FEATURE_$1[[:space:]]*\(([^)]*)\).*/\1/p" "$header" | head -n 1))) ;;
	esac
}

# The features that switch alternatives there. struct alt_instr has grown: its size is where the second one begins.
alternatives() {
	local size
	size=$(objdump -r -j .altinstructions "$1" | awk '/R_X86_64/ && ++n == 3 { print "0x" $1 }')
	objcopy -O binary --only-section=.altinstructions --set-section-flags .altinstructions=alloc "$1" /dev/stdout |
		od -An -v -t u1 -w$((size)) | awk '{ print $9 + $10 % 128 * 256 }'
}

# entry VENDOR 'FEATURE...' 'SYMBOL...' 'INSTRUCTION|...': what alternatives depend on, what they call or read, and which
# instructions have to have an exception table entry
entry() {
	local object=$build/$kind/arch/x86/$1/entry.o feature name at there
	there=$(alternatives "$object")
	for feature in $2; do grep -qx "$(number "$feature")" <<<"$there" || complain "$1" "nothing depends on $feature"; done
	there=$(objdump -r "$object")
	for name in $3; do grep -qw "$name" <<<"$there" || complain "$1" "no use of $name"; done
	there=$(objdump -r -j __ex_table "$object" | awk '/R_X86_64/ && ++n % 2 { print $3 }')
	while read -r at name; do
		grep -qxE "\.text\+0x0*$at" <<<"$there" || complain "$1" "no exception table entry for $name at $at"
	done < <(objdump -d --no-show-raw-insn "$object" | sed -nE "s/^ *([0-9a-f]+):[[:space:]]+($4)\b.*/\1 \2/p")
}

entry vmx 'CLEAR_CPU_BUF CLEAR_BHB_LOOP_ON_VMEXIT RSB_VMEXIT RSB_VMEXIT_LITE MSR_SPEC_CTRL KERNEL_IBRS' \
	'clear_bhb_loop x86_verw_sel' 'vmwrite|vmlaunch|vmresume'
entry svm 'CLEAR_CPU_BUF_VM UNRET SRSO_ALIAS IBPB_ON_VMEXIT RSB_VMEXIT MSR_SPEC_CTRL V_SPEC_CTRL BUG_DIV0' \
	'entry_untrain_ret srso_alias_untrain_ret entry_ibpb x86_verw_sel' 'clgi|stgi|vmrun|vmload|vmsave'
# A guest's barrier is no alternative, and what the processor holds as in use is allocated for that
objdump -d --no-show-raw-insn --disassemble=kx_ibpb "$build/$kind/cxxrt/linux/cpu.o" | grep -qw wrmsr || complain cpu "a guest's IBPB is the host's"
! nm -u "$build/$kind"/arch/x86/svm/{cpu,host}.o | grep -qw kx_page_alloc || complain svm "a VMCB may begin 2 MiB"
# Whoever opens GIF has put SPEC_CTRL and the predictors right: there is one way to do so, for faults as well
[ "$(objdump -d --no-show-raw-insn "$build/$kind/arch/x86/svm/entry.o" | grep -cw stgi)" = 1 ] || complain svm "more than one way back"
exit $bad
