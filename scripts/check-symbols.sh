#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What the linked C++ part wants from outside is in the seam, in our own assembly, or is what the compiler itself calls.
# usage: check-symbols.sh OBJECT
set -euo pipefail
. "$(dirname "$0")/lib.sh"
object=$(realpath "$1")
cd "$(dirname "$0")/.."
unknown=$(nm -u "$object" | awk '{ print $2 }' |
	grep -vxE '__x86_indirect_thunk_[a-z0-9]+|__x86_return_thunk|__fentry__|__stack_chk_fail|mem(cpy|set|move|cmp)|__(a|ub)san_.*' |
	grep -vxFf <(grep -oE '\bkxc?_[a-z0-9_]+' cxxrt/seam.h
		find arch -name '*.S' -exec sed -n 's/^SYM_\([A-Z_]*START[A-Z_]*\|INNER_LABEL\)(\([a-z0-9_]*\).*/\2/p' {} +) || true)
[ -z "$unknown" ] || { echo "neither in cxxrt/seam.h nor in our assembly:"; echo "$unknown"; exit 1; }
