#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What the kernel's own KVM asks of the kernel, kvmxx asks as well, or hooks/ says why not: the symbols that kvm, kvm-amd and
# kvm-intel import, the processor features and bugs that switch alternatives in them, and what the way to user space does in
# the headers. (Debian's vmlinux has no symbols: of that way's assembly what can be read is the macros it is made of, in nospec-branch.h.)
# A line of hooks/ that none of the kernels needs is a failure as well. Wants a build for each KIND to be there.
# usage: check-hooks.sh KIND...
set -euo pipefail
. "$(dirname "$0")/lib.sh"
bad=0
complain() { echo "$*"; bad=1; }

# The names that hooks/FILE has reasons for: what is indented
listed() { sed -n '/^\t/s/[[:space:]]\+/\n/gp' "$scripts/hooks/$1" | sed '/^$/d'; }

# compare FILE: stdin has lines "NAME of whom", of things that we lack. Each is listed, and each that is listed is needed.
compare() {
	local file=$1 name who pattern lacking found
	lacking=$(sort -u)
	while read -r name who; do
		found=
		while read -r pattern; do
			# shellcheck disable=SC2053
			if [[ $name == $pattern ]]; then found=1; break; fi
		done < <(listed "$file")
		[ "$found" ] || complain "$name ($who) is neither used nor listed in hooks/$file"
	done <<<"$lacking"
	while read -r pattern; do
		found=
		while read -r name who; do
			# shellcheck disable=SC2053
			if [[ $name == $pattern ]]; then found=1; break; fi
		done <<<"$lacking"
		[ "$found" ] || complain "hooks/$file lists $pattern, which we do not lack on any kernel"
	done < <(listed "$file")
}

imports() { nm -u "$@" | awk 'NF == 2 { print $2 }' | sort -u; }

lacking_symbols() {
	local kind modules
	for kind; do
		modules=$("$scripts/get-kernel" "$kind")/modules
		imports "$modules"/kvm{,-amd,-intel}.ko |
			grep -vxFf <(nm --defined-only "$modules"/{kvm,irqbypass}.ko | awk 'NF == 3 { print $3 }'; imports "$build/$kind/kvmxx.ko") |
			sed "s/$/ $kind/"
	done
}

# Numbers and names of features, and of bugs, which come behind them
numbers() {
	# shellcheck disable=SC2086
	awk '
		/^#define NCAPINTS/ { words = $3 }
		/^#define X86_(FEATURE|BUG)_/ && match($0, /\([^)]*\)/) {
			split(substr($0, RSTART, RLENGTH), n, /[(*+ )]+/)	# (word*32 + bit), or (bit)
			name = substr($2, 5); sub(/\(.*/, "", name)
			if (name ~ /^BUG_/ && n[2] ~ /^[0-9]+$/) print words * 32 + (n[3] ? n[2] * 32 + n[4] : n[2]), name
			else if (n[2] ~ /^[0-9]+$/) print n[2] * 32 + n[4], name
		}' "$1"/usr/src/*-common/arch/x86/include/asm/cpufeatures.h | sort -u -k1,1
}

# The features that switch alternatives in an object. struct alt_instr has grown: its size is where the second one begins.
alternatives() {
	local size
	size=$(objdump -r -j .altinstructions "$1" 2>/dev/null | awk '/R_X86_64/ && ++n == 3 { print "0x" $1 }')
	[ -z "$size" ] || objcopy -O binary --only-section=.altinstructions --set-section-flags .altinstructions=alloc "$1" /dev/stdout |
		od -An -v -t u1 -w$((size)) | awk '{ print $9 + $10 % 128 * 256 }'
}

# Of each module: what its alternatives depend on and those of our counterpart do not
lacking_features() {
	local kind kernel module ours object
	for kind; do
		kernel=$("$scripts/get-kernel" "$kind")
		for module in kvm kvm-amd kvm-intel; do
			ours=$(for object in "$build/$kind"/cxxrt/linux/*.o; do alternatives "$object"; done
				case $module in
				kvm-amd) alternatives "$build/$kind/arch/x86/svm/entry.o" ;;
				kvm-intel) alternatives "$build/$kind/arch/x86/vmx/entry.o" ;;
				esac)
			alternatives "$kernel/modules/$module.ko" | sort -u | grep -vxFf <(echo "$ours") |
				join -a 1 - <(numbers "$kernel") | awk -v who="$module, $kind" '{ print (NF > 1 ? $2 : "number_" $1), who }'
		done
	done
}

# What is called and asked on the way to user space: in the inline functions of asm/entry-common.h, and, used by its assembly, in
# asm/nospec-branch.h. A feature is used if an alternative of ours depends on it.
lacking_on_the_way_out() {
	local kind kernel asm object used
	for kind; do
		kernel=$("$scripts/get-kernel" "$kind") asm=$(echo "$kernel"/usr/src/*-common/arch/x86/include/asm)
		used=$(cat "$top"/cxxrt/linux/*.c "$top"/arch/x86/*/entry.S | grep -oE '\b[A-Za-z_][A-Za-z0-9_]*\b'
			for object in "$build/$kind"/{cxxrt/linux/*,arch/x86/*/entry}.o; do alternatives "$object"; done | sort -u |
				join - <(numbers "$kernel") | sed 's/.* /X86_/')
		{
			awk '/^static.* arch_exit_(work|to_user_mode)/ { on = 1; next } on { print } /^}/ { on = 0 }' "$asm/entry-common.h" |
				sed -E 's,/\*.*\*/,,; /^[[:space:]]*(\/\*|\* )/d' | grep -oE '\b([a-z_0-9]+\(|X86_[A-Z]+_[A-Z0-9_]+)' |
				tr -d '(' | grep -vxE 'if|unlikely|likely'
			grep -oE '\bX86_(FEATURE|BUG)_[A-Z0-9_]+' "$asm/nospec-branch.h"
		} | grep -vxFf <(echo "$used") | sed "s/$/ $kind/"
	done
}

lacking_symbols "$@" >"$build/hooks.symbols"; compare symbols <"$build/hooks.symbols"
lacking_features "$@" >"$build/hooks.features"; compare features <"$build/hooks.features"
lacking_on_the_way_out "$@" >"$build/hooks.exit"; compare exit-to-user <"$build/hooks.exit"
exit $bad
