#!/bin/sh
# Builds the static binaries twice, from copies of the sources in two different folders with two different target folders,
# and compares the bytes. Usage: scripts/reproducible.sh [TARGET…]
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for copy in first a-second-one-elsewhere; do
    git clone --quiet . "$work/$copy"
    MEMBRIDGE_DIST_TARGET_DIR=$work/$copy-target MEMBRIDGE_DIST_DIR=$work/$copy-out "$work/$copy/scripts/dist.sh" "$@"
done
diff "$work/first-out/SHA256SUMS" "$work/a-second-one-elsewhere-out/SHA256SUMS"
echo "reproducible: both builds gave the same bytes"
cat "$work/first-out/SHA256SUMS"
