# SPDX-License-Identifier: GPL-2.0-only
# Common to all scripts: where things are, one line a step, and a cache whose entries appear whole or not at all.
# A get-* script prints the path of what it got on stdout; everything said to the user goes to stderr.

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=${scripts%/*}
cache=${KVMXX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvmxx}
build=${KVMXX_BUILD:-$top/build}
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

# --help: what the head of the calling script says, unless it has a usage of its own
if [[ ${1:-} =~ ^(-h|--help)$ ]] && ! grep -q '^usage()' "$0"; then
	sed -n '3,${/^#/!q;s/^# \?//p}' "$0"
	exit
fi
mkdir -p "$cache"/{log,lock}

say() { printf 'kvmxx: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
seconds_since() { echo $((SECONDS - $1)); }

# The test machines of a vendor: Bochs' name of the one that has most; and the vendor of such a name (QEMU's machine: no name)
bochs_of() { case $1 in amd) echo ryzen ;; intel) echo corei7_skylake_x ;; *) die "VENDOR is amd or intel, not $1" ;; esac; }
vendor_of() { case $1 in ''|ryzen|amd_*|*athlon*|turion*|phenom*|trinity*|zambezi*) echo amd ;; *) echo intel ;; esac; }

# step 'what it does' COMMAND...: output into a log; shown, with the log's name, only when the command fails.
# A function of the calling script runs as a process of its own (through dispatch): inside a condition, bash would ignore set -e.
step() {
	local what=$1 start=$SECONDS status=0 run; shift
	step_log=$cache/log/$(tr -cs '[:alnum:]._' '-' <<<"$what" | sed 's/^-*//;s/-*$//').log
	run=("$@")
	if [ "$(type -t "$1")" = function ]; then run=("$scripts/${0##*/}" --step "$@"); fi
	"${run[@]}" >"$step_log" 2>&1 </dev/null || status=$?
	if [ $status = 0 ]; then
		say "$what ... $(seconds_since "$start") s"
	else
		say "$what ... failed after $(seconds_since "$start") s; the end of $step_log:"
		tail -n 25 "$step_log" | sed 's/^/    /' >&2
		return $status
	fi
}

# Scripts with such functions say: dispatch "$@", once they are defined
dispatch() { if [ "${1:-}" = --step ]; then shift; "$@"; exit; fi; }

# cached NAME 'what it does' FUNCTION...: unless it is there, makes the directory $cache/NAME: FUNCTION... gets a temporary
# directory as its last argument and is renamed into place when it succeeds. Prints the path.
# Whoever comes second waits for the first.
cached() {
	local name=$1 what=$2 dir=$cache/$1; shift 2
	if [ ! -d "$dir" ]; then
		(
			exec 9>"$cache/lock/$name"; flock 9
			[ ! -d "$dir" ] || exit 0
			tmp=$(mktemp -d "$cache/.$name.XXXXXX"); trap 'rm -rf "$tmp"' EXIT
			chmod 755 "$tmp"
			step "$what" "$@" "$tmp" || exit
			mv -T "$tmp" "$dir"
			# what the same thing was under other contents, two weeks ago
			if [[ $name =~ ^(.*)-[0-9a-f]{12}$ ]]; then
				find "$cache" -maxdepth 1 -regextype egrep -regex "$cache/${BASH_REMATCH[1]}-[0-9a-f]{12}" -mtime +14 -exec rm -rf {} +
			fi
		) || return
	fi
	echo "$dir"
}

# A short hash of files' contents: the part of a cache key that follows our own changes
hash_of() { cat "$@" | sha256sum | cut -c1-12; }

# remember NAME COMMAND...: COMMAND's output, asked for once, so that later runs need neither apt nor the network
remember() {
	local file=$cache/$1 value; shift
	if [ ! -s "$file" ]; then
		value=$("$@")
		[ -n "$value" ] || die "apt does not know it: $*"
		echo "$value" >"$file.$$"; mv "$file.$$" "$file"
	fi
	cat "$file"
}

# The Debian mirror this machine already uses
mirror() {
	local uri
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Label: Debian' | head -n 1)
	[ -n "$uri" ] || die "apt knows no Debian 12 (bookworm) repository; run apt-get update"
	echo "$uri"
}

# apt with its own lists and one other suite of Debian: nothing of the system's configuration changes
suite_apt() {
	local suite=$1 dir=$cache/apt/$1; shift
	if [ -z "$(find "$dir/ready" -mtime -1 2>/dev/null)" ]; then
		mkdir -p "$dir/lists/partial" "$dir/archives/partial"
		printf '%s [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
			deb "$(mirror)" "$suite" deb-src "$(mirror)" "$suite" >"$dir/sources.list"
		cat >"$dir/apt.conf" <<-X
			Dir::Etc::sourcelist "$dir/sources.list";
			Dir::Etc::sourceparts "-";
			Dir::State::lists "$dir/lists";
			Dir::Cache "$dir";
			APT::Sandbox::User "root";
		X
		APT_CONFIG=$dir/apt.conf step "reading the package lists of $suite" apt-get -q update
		touch "$dir/ready"
	fi
	APT_CONFIG=$dir/apt.conf "$@"
}
backports_apt() { suite_apt bookworm-backports "$@"; }
trixie_apt() { suite_apt trixie "$@"; }

# In the suites the machine already has; its lists are refreshed once where they turn out to be missing or old
bookworm_apt() { "$@" || { as_root apt-get -q update && "$@"; }; }

# fetch SUITE DIR PACKAGE...: downloads packages and unpacks them into DIR, installing nothing
fetch() {
	local suite=$1 dir=$2 debs; shift 2
	debs=$(mktemp -d "$cache/.debs.XXXXXX")
	(cd "$debs"; "${suite}_apt" apt-get -q -o APT::Sandbox::User=root download "$@")
	local deb
	for deb in "$debs"/*.deb; do dpkg -x "$deb" "$dir"; done
	rm -rf "$debs"
}
