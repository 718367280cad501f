#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs test programs, shows what fails, appends one result line a test to $KVMXX_RESULTS. usage: run.sh PROGRAM...
set -uo pipefail
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_init_order=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

bad=0 count=0
for program; do
	name=$(basename "$program") config=$(basename "$(dirname "$program")")
	[ "$config" = asan ] && prefix=unit || prefix=unit-$config
	log=$program.log
	timeout "${TIMEOUT:-600}" "$program" --gtest_color=no >"$log" 2>&1
	status=$?
	lines=$(awk -v prefix="$prefix" '
		/^\[       OK \] / { sub(/,$/, "", $4); print "ok " prefix "/" $4 }
		/^\[  FAILED  \] .*\([0-9]+ ms\)$/ { sub(/,$/, "", $4); print "not ok " prefix "/" $4 }
		/^\[  SKIPPED \] .*\([0-9]+ ms\)$/ { sub(/,$/, "", $4); print "skip " prefix "/" $4 " - see log" }' "$log")
	ran=$(grep -c . <<<"$lines")
	count=$((count + ran))
	[ -z "${KVMXX_RESULTS:-}" ] || [ -z "$lines" ] || printf '%s\n' "$lines" >>"$KVMXX_RESULTS"
	if [ $status != 0 ] || [ "$ran" = 0 ]; then
		bad=1
		echo "--- $prefix/$name: status $status; the end of $log:"
		tail -n "${LINES_SHOWN:-60}" "$log"
		if ! grep -q '^not ok' <<<"$lines" && [ -n "${KVMXX_RESULTS:-}" ]; then
			echo "not ok $prefix/$name (status $status, see $log)" >>"$KVMXX_RESULTS"
		fi
	else
		echo "$prefix/$name: $ran tests"
	fi
done
echo "$count tests ran"
exit $bad
