#!/bin/sh
# One .deb per binary in dist/. Run by `make deb` after `make dist`.
set -eu
cd "$(dirname "$0")/../.."
made=0
for pair in x86_64-unknown-linux-musl:amd64 aarch64-unknown-linux-musl:arm64 armv7-unknown-linux-musleabihf:armhf; do
    for binary in dist/membridge-*-"${pair%%:*}"; do
        [ -f "$binary" ] || continue
        packaging/debian/build.sh "$binary" "${pair##*:}" dist
        made=$((made + 1))
    done
done
[ "$made" -gt 0 ] || { echo "dist/ holds no binary; run: make dist" >&2; exit 1; }
