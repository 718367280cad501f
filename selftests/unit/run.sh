#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs test programs, as many at a time as there are processors, shows what fails, appends one result line a test to
# $KVMXX_RESULTS, with the command that repeats what failed. usage: run.sh PROGRAM...
set -uo pipefail
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_init_order=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

if [ "${1:-}" != --one ]; then
	printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 "$0" --one
	exit
fi

program=$2 name=$(basename "$2") config=$(basename "$(dirname "$2")") log=$2.log
[ "$config" = asan ] && prefix=unit || prefix=unit-$config
timeout "${TIMEOUT:-600}" "$program" --gtest_color=no >"$log" 2>&1 </dev/null
status=$?
lines=$(awk -v prefix="$prefix" '
	/^\[       OK \] / { sub(/,$/, "", $4); print "ok " prefix "/" $4 }
	/^\[  FAILED  \] .*\([0-9]+ ms\)$/ { sub(/,$/, "", $4); print "not ok " prefix "/" $4 }
	/^\[  SKIPPED \] .*\([0-9]+ ms\)$/ { sub(/,$/, "", $4); print "skip " prefix "/" $4 " - see log" }' "$log")
ran=$(grep -c . <<<"$lines")
if [ $status != 0 ] || [ "$ran" = 0 ]; then
	grep -q '^not ok' <<<"$lines" || lines+=$'\n'"not ok $prefix/$name (status $status, see $log)"
fi
# The sanitizers' settings are this script's: through make, with GoogleTest's filter where one test failed
again="make -C selftests/unit check T=$name"
lines=$(sed -E "s|^not ok [a-z-]+/([^ ]*)$|& # again: GTEST_FILTER=\1 $again|; s|^not ok .*\)$|& # again: $again|" <<<"$lines")
exec 8>"${program%/*/*}/lock"; flock 8	# one says what it has to say at a time
[ -z "${KVMXX_RESULTS:-}" ] || [ -z "$lines" ] || grep . <<<"$lines" >>"$KVMXX_RESULTS"
if [ $status != 0 ] || [ "$ran" = 0 ]; then
	echo "--- $prefix/$name: status $status; the end of $log:"
	tail -n "${LINES_SHOWN:-60}" "$log"
	sed -n 's/^not ok .* # again: /again: /p' <<<"$lines"
	exit 1
fi
echo "$prefix/$name: $ran tests"
