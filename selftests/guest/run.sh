#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs test programs of this directory (all, or those named) inside a test host, and sums up.
# usage: [KVM_DEV=/dev/kvm] run.sh [-t seconds] [test...]
here=$(cd "$(dirname "$0")" && pwd)
limit=120
if [ "$1" = -t ]; then
	limit=$2
	shift 2
fi
if [ $# = 0 ]; then
	for f in "$here"/*; do
		[ -f "$f" ] && [ -x "$f" ] && [ "$f" != "$here/run.sh" ] && set -- "$@" "${f##*/}"
	done
fi
log=$(mktemp)
passed=0 failed=0 skipped=0
for t in "$@"; do
	echo "# test $t"
	start=$(cut -d' ' -f1 /proc/uptime)
	{ timeout -s KILL "$limit" "$here/$t" 2>&1; echo $? > "$log.rc"; } | tee "$log"
	rc=$(cat "$log.rc")
	s=$(grep -c '^ok .*# SKIP' "$log")
	p=$(($(grep -c '^ok ' "$log") - s))
	f=$(grep -c '^not ok ' "$log")
	plan=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$log" | head -n 1)
	# A program that died half-way, or without a plan, has failed in what it did not report.
	lost=$((${plan:-1} - p - f - s))
	[ "$lost" -lt 0 ] && lost=0
	if [ "$rc" != 0 ] && [ $((f + lost)) = 0 ]; then
		lost=1
	fi
	[ "$lost" -gt 0 ] && echo "not ok - $t ended with status $rc, $lost cases without a result"
	echo "# time $t $start $(cut -d' ' -f1 /proc/uptime)"
	passed=$((passed + p)) failed=$((failed + f + lost)) skipped=$((skipped + s))
done
rm -f "$log" "$log.rc"
echo "# guest tests: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
