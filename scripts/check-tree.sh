#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Every file says its licence; none names a package mirror or a directory of one machine.
# usage: check-tree.sh
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/.."
files() { git -c safe.directory='*' ls-files -c -o --exclude-standard -- . ':!LICENSE' | while IFS= read -r file; do [ ! -f "$file" ] || echo "$file"; done; }
bad=0
complain() { echo "$1"; bad=1; }

while IFS= read -r file; do
	head -n 3 "$file" | grep -q 'SPDX-License-Identifier: GPL-2.0-only' || complain "$file: no SPDX line (GPL-2.0-only) in its first three lines"
	[ "${file##*/}" = check-tree.sh ] || {
		! grep -nHE '(https?|ftp)://[^ ]*(debian\.org|/debian|mirror|registry)' "$file" || complain "$file: names a mirror"
		! grep -nHE '(^|[^[:alnum:]_.$}/])/(root|home|work|Users)/' "$file" || complain "$file: names a directory of one machine"
	}
done < <(files)
exit $bad
