#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Instructions below each bench_* function of a program, by the file they were written in: those of arch/x86 and of
# cxxrt, and apart from them the test's own, the hosted seam's and the C++ library's.
# usage: count.sh PROGRAM...
set -euo pipefail
command -v valgrind >/dev/null || { echo "count.sh: apt-get install valgrind"; exit 1; }
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
for program; do
	"$program" >"$tmp/units"
	while read -r name units; do
		valgrind --tool=callgrind --callgrind-out-file="$tmp/out" --toggle-collect="$name(*" "$program" >/dev/null 2>&1
		callgrind_annotate --auto=no --threshold=100 "$tmp/out" 2>/dev/null | tr -d , |
		awk -v name="$name" -v units="$units" '
			$1 ~ /^[0-9]+$/ && !/PROGRAM TOTALS/ {
				ours = /%\)  ([^:]*\/)?(arch\/x86|cxxrt)\/[^:]*:/ && !/%\)  ([^:]*\/)?cxxrt\/hosted\//
				if (ours) n += $1; else other += $1
			}
			END { printf "%-28s %8.1f instructions (and %.0f around them)\n", name, n / units, other / units }'
	done <"$tmp/units"
done
