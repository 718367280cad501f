#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Who may include whom. A layer is a directory (or a file that joins two); what is not in the table may not be included.
# And what is one place's alone: entries of linked tables change in direct.hpp, the guest's paging registers in vcpu_paging.hpp,
# and mmu knows of no operating system.
# usage: check-layers.sh [TREE]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "${1:-$(dirname "$0")/..}"

# shellcheck disable=SC2046
find $(ls -d uapi cxxrt arch 2>/dev/null) -type f \( -name '*.h' -o -name '*.hpp' -o -name '*.c' -o -name '*.cc' -o -name '*.S' \) | sort |
xargs awk '
	BEGIN {
		may["uapi"]    = ""
		may["seam"]    = ""
		may["cxxrt"]   = "seam"
		may["linux"]   = "seam cxxrt uapi"
		may["hosted"]  = "seam cxxrt"
		may["uapi-shim"] = ""
		may["mmu"]     = "cxxrt"
		may["cpu"]     = "cxxrt uapi mmu seam"
		may["emulate"] = "cxxrt uapi mmu cpu"
		may["memory"]  = "cxxrt uapi mmu seam"
		may["irq"]     = "cxxrt uapi mmu cpu seam"
		may["vm"]      = "cxxrt uapi mmu memory cpu emulate irq vendor seam"
		may["vendor"]  = "cxxrt uapi mmu cpu emulate"
		may["svm"]     = "cxxrt uapi mmu cpu vendor seam"
		may["vmx"]     = "cxxrt uapi mmu cpu vendor seam"
		may["vendors"] = "cxxrt uapi mmu memory cpu emulate irq vm vendor svm vmx seam"
		# C++ without an OS underneath: of the library only what is freestanding, of the kernel only plain data of its ABI
		plain = "cstddef cstdint type_traits concepts compare limits bit new utility initializer_list version source_location cstdarg coroutine atomic numbers " \
			"linux/kvm.h linux/errno.h asm/kvm.h linux/types.h asm/types.h linux/kvm_para.h asm/kvm_para.h"
		n = split(plain, list, " "); for (i = 1; i <= n; i++) is_plain[list[i]] = 1
	}
	function layer(path) {
		if (path ~ /^uapi\//) return "uapi"
		if (path ~ /^cxxrt\/(seam|sizes)\.h$/) return "seam"
		if (path ~ /^cxxrt\/(linux|hosted|uapi-shim)\//) { sub(/^cxxrt\//, "", path); sub(/\/.*/, "", path); return path }
		if (path ~ /^cxxrt\//) return "cxxrt"
		if (path ~ /^arch\/x86\/vendor\.hpp$/) return "vendor"
		if (path ~ /^arch\/x86\/vendors\./) return "vendors"
		if (path ~ /^arch\/x86\/[a-z]+\//) { sub(/^arch\/x86\//, "", path); sub(/\/.*/, "", path); return path }
		return "?"
	}
	function exists(path,   line, there) { there = (getline line < path) >= 0; close(path); return there }
	function complain(what) { printf "%s:%d: %s\n", FILENAME, FNR, what; bad = 1 }
	/Words::(compare_)?exchange[ \t]*\(/ && FILENAME !~ /^arch\/x86\/mmu\/direct\.hpp$/ { complain("changes an entry past Direct") }
	/hw\.set_(cr[034]|efer)[ \t]*\(/ && FILENAME !~ /^arch\/x86\/vm\/vcpu_paging\.hpp$/ { complain("writes a paging register past Vcpu::set_control_regs()") }
	/(^|[^A-Za-z0-9_])kx_[a-z]/ && FILENAME ~ /^arch\/x86\/mmu\// { complain("mmu reaches the world through policies and cxxrt, not the seam") }
	/^[ \t]*#[ \t]*include[ \t]*[<"]/ {
		own = layer(FILENAME)
		if (!(own in may)) { complain("a directory that scripts/check-layers.sh has no rule for"); next }
		name = $0; sub(/^[^<"]*[<"]/, "", name); sub(/[>"].*/, "", name)
		if ($0 ~ /</ && $0 !~ /"/) {
			if (own == "linux" || own == "hosted" || own == "uapi-shim" || own == "seam" || FILENAME ~ /\.S$/ || name in is_plain) next
			complain("<" name "> is not for this layer (" own ")")
			next
		}
		dir = FILENAME; sub(/\/[^\/]*$/, "", dir)
		path = dir "/" name
		while (path ~ /\/[^\/]+\/\.\.\//) sub(/\/[^\/]+\/\.\.\//, "/", path)
		if (name ~ /(^|\/)sizes\.h$/) path = "cxxrt/sizes.h"
		else if (!exists(path)) path = name
		other = layer(path)
		if (other == own || (" " may[own] " ") ~ (" " other " ")) next
		complain(own " may not include " other " (\"" name "\")")
	}
	END { exit bad }'
