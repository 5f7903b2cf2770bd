#!/bin/sh
# Builds the static binaries that people install: one per architecture, stripped, and the same bytes from every folder.
# Result in dist/: membridge-VERSION-TARGET, SHA256SUMS, the SBOM. Usage: scripts/dist.sh [TARGET…]
set -eu
cd "$(dirname "$0")/.."
. scripts/toolchain.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
target_dir=${MEMBRIDGE_DIST_TARGET_DIR:-$(target_dir)/dist}
out=${MEMBRIDGE_DIST_DIR:-$PWD/dist}
[ $# -gt 0 ] || set -- x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf

need_zig
mkdir -p "$out"

# Paths of this machine must not reach the binary: neither through panic messages nor through C's __FILE__.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
unit=$(printf '\037')
CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$target_dir=/target${unit}--remap-path-prefix=$PWD=/membridge"
CARGO_ENCODED_RUSTFLAGS="$CARGO_ENCODED_RUSTFLAGS${unit}--remap-path-prefix=$cargo_home=/cargo${unit}--remap-path-prefix=$sysroot=/rust"
# Nothing unwinds where a panic aborts: no tables for it from our code, and the rest is left out by the linker.
CARGO_ENCODED_RUSTFLAGS="$CARGO_ENCODED_RUSTFLAGS${unit}-Cforce-unwind-tables=no"
maps="-ffile-prefix-map=$target_dir=/target -ffile-prefix-map=$PWD=/membridge -ffile-prefix-map=$cargo_home=/cargo"
CFLAGS="-g0 -fno-unwind-tables -fno-asynchronous-unwind-tables $maps"
SOURCE_DATE_EPOCH=0
MEMBRIDGE_LINK_SCRIPT=$PWD/scripts/no-unwind-tables.ld
export CARGO_ENCODED_RUSTFLAGS CFLAGS SOURCE_DATE_EPOCH MEMBRIDGE_LINK_SCRIPT
unset RUSTFLAGS
# Features that a dependency's build script would guess from this machine's folders are pinned by Cargo.lock; the
# incremental cache is off in the release profile.

built=
for target in "$@"; do
    if ! has_target "$target"; then
        echo "dist: $target is left out: $target_problem"
        continue
    fi
    echo "dist: building $target"
    cargo zigbuild --locked --release --bin membridge --target "$target" --target-dir "$target_dir"
    name=membridge-$version-$target
    cp "$target_dir/$target/release/membridge" "$out/$name"
    chmod 755 "$out/$name"
    built="$built $name"
done
[ -n "$built" ] || { echo "dist: nothing was built" >&2; exit 1; }

scripts/sbom.py "$version" > "$out/membridge-$version.cdx.json"
# A release is one folder: install.sh finds the rest beside itself.
cp install.sh sqlite_minio_sync.py config.env.example LICENSE "$out/"
extra="membridge-$version.cdx.json install.sh sqlite_minio_sync.py config.env.example LICENSE"
if [ -d hooks ]; then
    mkdir -p "$out/hooks"
    cp hooks/* "$out/hooks/"
    extra="$extra $(cd "$out" && echo hooks/*)"
fi
# Two lists of names without spaces, made above.
# shellcheck disable=SC2086
(cd "$out" && sha256sum $built $extra > SHA256SUMS)

limit=$((15 * 1000 * 1000 / 2))
status=0
for name in $built; do
    size=$(wc -c < "$out/$name")
    printf 'dist: %-50s %5s kB\n' "$name" $((size / 1000))
    if [ "$size" -gt "$limit" ]; then
        echo "dist: $name is larger than $((limit / 1000)) kB" >&2
        status=1
    fi
done
exit $status
