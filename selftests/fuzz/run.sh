#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs fuzzers one after the other for some seconds each. usage: run.sh SECONDS PROGRAM...
set -uo pipefail
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
seconds=$1 bad=0; shift
for program; do
	name=$(basename "$program") log=$program.log dir=$program.found
	mkdir -p "$dir"
	timeout $((seconds * 4 + 60)) "$program" -seed=1 -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 \
		-print_final_stats=1 -artifact_prefix="$dir/" >"$log" 2>&1
	status=$?
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	if [ $status = 0 ] && [ "${runs:-0}" -gt 0 ]; then
		verdict=ok
		echo "fuzz/$name: $runs runs"
	else
		verdict='not ok' bad=1
		echo "--- fuzz/$name: status $status; the end of $log:"
		tail -n 60 "$log"
	fi
	[ -z "${KVMXX_RESULTS:-}" ] || echo "$verdict fuzz/$name" >>"$KVMXX_RESULTS"
done
exit $bad
