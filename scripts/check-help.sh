#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Every command in scripts/ answers --help with its usage, and does nothing else. (init and guest-checks.sh are not commands:
# they run by themselves in a test host, and in a guest.) usage: check-help.sh
set -euo pipefail
. "$(dirname "$0")/lib.sh"
bad=0
for script in "$scripts"/*; do
	[ -f "$script" ] && [ -x "$script" ] || continue
	case ${script##*/} in init|guest-checks.sh) continue ;; esac
	for option in --help -h; do
		said=$(timeout 10 "$script" $option </dev/null) && grep -qi usage <<<"$said" ||
			{ echo "scripts/${script##*/} $option: no usage, or an error"; bad=1; }
	done
done
exit $bad
