#!/bin/sh
# Runs each binary of dist/: statically linked, small enough, starts, pushes and pulls over the in-process S3 server within
# its memory limit. Foreign architectures run under qemu-user. TRY is the bench_memory example that `make test-dist` built.
set -eu
cd "$(dirname "$0")/.."
dist=${MEMBRIDGE_DIST_DIR:-$PWD/dist}
try=${TRY:?run this with: make test-dist}
megabytes=${MEGABYTES:-100}
wrappers=$(mktemp -d)
trap 'rm -rf "$wrappers"' EXIT

need() {
    command -v "$1" > /dev/null && return 0
    echo "test-dist: installing $2"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" > /dev/null 2>&1 || {
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" > /dev/null
    }
}
need file file

(cd "$dist" && sha256sum --check --quiet SHA256SUMS)
echo "test-dist: checksums ok"
here=$(uname -m)
tried=0
for binary in "$dist"/membridge-*-linux-musl*; do
    [ -f "$binary" ] || continue
    name=${binary##*/}
    kind=$(file -b "$binary")
    case $kind in
    *"interpreter"*) echo "test-dist: $name asks for an interpreter: $kind" >&2; exit 1 ;;
    *"statically linked"* | *"static-pie linked"*) ;;
    *) echo "test-dist: $name is not static: $kind" >&2; exit 1 ;;
    esac
    case $kind in
    *stripped*) ;;
    *) echo "test-dist: $name is not stripped" >&2; exit 1 ;;
    esac
    arch=$(echo "$name" | sed -n 's/.*-\([a-z0-9_]*\)-unknown-linux-musl.*/\1/p')
    run=$binary
    emulated=
    if [ "$arch" != "$here" ]; then
        case $arch in armv7) qemu=qemu-arm-static ;; *) qemu=qemu-$arch-static ;; esac
        need "$qemu" qemu-user-static
        run=$wrappers/$name
        printf '#!/bin/sh\nexec %s %s "$@"\n' "$(command -v "$qemu")" "$binary" > "$run"
        chmod 755 "$run"
        emulated=1
    fi
    printf 'test-dist: %s, %s kB%s\n' "$name" $(($(wc -c < "$binary") / 1000)) "${emulated:+, under qemu}"
    if [ -n "$emulated" ]; then export EMULATED=1; else unset EMULATED || true; fi
    MEMBRIDGE_BIN=$run "$try" "$megabytes" 24
    tried=$((tried + 1))
done
[ "$tried" -gt 0 ] || { echo "test-dist: $dist holds no binary; run: make dist" >&2; exit 1; }
echo "test-dist: $tried binaries passed"
