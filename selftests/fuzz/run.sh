#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs fuzzers, as many at a time as there are processors, and appends a result line each to $KVMXX_RESULTS, with the command
# that repeats a failure. usage: [SEED=n] run.sh {LIMIT PROGRAM}...     LIMIT: libFuzzer's -runs=N or -max_total_time=S
set -uo pipefail
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

if [ "$1" != --one ]; then
	printf '%s\n' "$@" | xargs -P "$(nproc)" -n 2 "$0" --one
	exit
fi

limit=$2 program=$3
name=$(basename "$program") log=$program.log dir=$program.found
mkdir -p "$dir"
touch "$dir/.before"
timeout 3600 "$program" -seed="${SEED:-1}" "$limit" -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$dir/" \
	>"$log" 2>&1 </dev/null
status=$?
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
exec 8>"${program%/*}/lock"; flock 8	# one says what it has to say at a time
if [ $status = 0 ] && [ "${runs:-0}" -gt 0 ]; then
	[ -z "${KVMXX_RESULTS:-}" ] || echo "ok fuzz/$name" >>"$KVMXX_RESULTS"
	echo "fuzz/$name: $runs runs"
else
	found=$(find "$dir" -type f -newer "$dir/.before" ! -name .before | head -n 1)
	again="$program ${found:-"-seed=${SEED:-1} $limit"}"
	[ -z "${KVMXX_RESULTS:-}" ] || echo "not ok fuzz/$name (status $status, see $log) # again: $again" >>"$KVMXX_RESULTS"
	echo "--- fuzz/$name: status $status; the end of $log:"
	tail -n 60 "$log"
	echo "again: $again"
	exit 1
fi
