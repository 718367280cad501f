#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The module's C++ through clang as well, warnings as failures: code only, nothing is linked. Wants a build for KIND to be there.
# usage: check-clang.sh KIND
set -euo pipefail
. "$(dirname "$0")/lib.sh"

"$scripts/get-deps" hosted
src=$("$scripts/get-kernel" "$1")/usr/src
include=() dir=
for dir in "$src"/*/{arch/x86/include/{uapi,generated/uapi},include/{uapi,generated/uapi}}; do [ ! -d "$dir" ] || include+=("-I$dir"); done
cd "$top"
find arch -name '*.cc' -print0 | xargs -0 -P "$(nproc)" -n 1 clang++ -std=gnu++20 -O2 -ffreestanding -fno-exceptions -fno-rtti \
	-mcmodel=kernel -mno-red-zone -mno-sse -mno-mmx -Wall -Wextra -Werror -Wno-address-of-packed-member \
	-I. "-I$build/$1/generated" -Icxxrt/uapi-shim -D__EXPORTED_HEADERS__ "${include[@]}" -c -o /dev/null
