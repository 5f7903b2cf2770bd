#!/bin/sh
# Runs each binary of dist/: statically linked, small enough, a tour through the commands over the in-process S3 server, a
# push and a pull of a large database within the memory limit, and a start in an empty root. Foreign architectures run
# under qemu-user. EXAMPLES is the folder of examples that `make test-dist` built.
set -eu
cd "$(dirname "$0")/.."
dist=${MEMBRIDGE_DIST_DIR:-$PWD/dist}
examples=${EXAMPLES:?run this with: make test-dist}
megabytes=${MEGABYTES:-100}
limit_mb=24
limit_bytes=7500000
wrappers=$(mktemp -d)
trap 'rm -rf "$wrappers"' EXIT
. scripts/toolchain.sh

fail() { echo "test-dist: $*" >&2; exit 1; }

need_command file file
need_command readelf binutils

# Static: nothing to load it, nothing to load with it.
is_static() {
    kind=$(file -b "$1")
    case $kind in
    *interpreter*) fail "$name asks for an interpreter: $kind" ;;
    *"statically linked"* | *"static-pie linked"*) ;;
    *) fail "$name is not static: $kind" ;;
    esac
    case $kind in
    *"not stripped"*) fail "$name is not stripped" ;;
    esac
    if readelf --wide --program-headers "$1" | grep -q ' INTERP '; then fail "$name has a program interpreter"; fi
    if readelf --wide --dynamic "$1" 2> /dev/null | grep -q '(NEEDED)'; then fail "$name needs libraries"; fi
    echo "  static: ${kind%%, BuildID*}"
}

# In a root that holds the binary and nothing else: no libc, no /etc/resolv.conf, no CA certificates, no /proc.
# shellcheck disable=SC2086 # $chroot can be several words
in_an_empty_root() {
    root=$wrappers/root-$arch
    mkdir -p "$root/work"
    cp "$1" "$root/membridge"
    chroot=$(command -v chroot || echo /usr/sbin/chroot)
    if [ "$(id -u)" != 0 ]; then chroot="unshare --user --map-root-user $chroot"; fi
    empty() { env -i $chroot "$root" /membridge "$@"; }
    empty --version > /dev/null || fail "$name does not start in an empty root"
    env -i HOME=/work CLAUDE_PROJECT_ID=mem $chroot "$root" /membridge print_project | grep -q 'canonical_project_id: 6fe2e0f6071ac2bb' \
        || fail "$name does not know its project in an empty root"
    code=0
    said=$(env -i HOME=/work CLAUDE_PROJECT_ID=mem CLAUDE_MEM_DB=/work/claude-mem.db MINIO_ENDPOINT=https://store.invalid:9000 \
        MINIO_ACCESS_KEY=key MINIO_SECRET_KEY=secret MINIO_BUCKET=memory $chroot "$root" /membridge pull_sqlite 2>&1) || code=$?
    [ "$code" = 1 ] || fail "$name ended with $code in an empty root: $said"
    case $said in
    *panicked*) fail "$name panicked in an empty root: $said" ;;
    *ERROR*store.invalid*) ;;
    *) fail "$name says nothing useful in an empty root: $said" ;;
    esac
    echo "  empty root: ok; without /etc/resolv.conf it says: $(echo "$said" | grep ERROR | head -n 1)"
}

(cd "$dist" && sha256sum --check --quiet SHA256SUMS)
echo "test-dist: checksums ok"
here=$(uname -m)
tried=0
for binary in "$dist"/membridge-*-linux-musl*; do
    [ -f "$binary" ] || continue
    name=${binary##*/}
    arch=$(echo "$name" | sed -n 's/.*-\([a-z0-9_]*\)-unknown-linux-musl.*/\1/p')
    size=$(wc -c < "$binary")
    echo "test-dist: $name, $size bytes (limit $limit_bytes)"
    [ "$size" -le "$limit_bytes" ] || fail "$name is too big"
    is_static "$binary"
    run=$binary
    unset GUEST_BASE GUEST_SIZE || true
    if [ "$arch" != "$here" ]; then
        case $arch in
        armv7)
            # A 32-bit guest's whole address space, at a place that is easy to tell from the emulator's own.
            qemu="qemu-arm-static" GUEST_BASE=0x4000000000 GUEST_SIZE=0xf0000000
            ;;
        *) qemu="qemu-$arch-static" GUEST_BASE=0x4000000000 GUEST_SIZE=0x80000000 ;;
        esac
        need_command "$qemu" qemu-user-static
        export GUEST_BASE GUEST_SIZE
        run=$wrappers/$name
        printf '#!/bin/sh\nexec %s -B %s -R %s %s "$@"\n' "$(command -v "$qemu")" $GUEST_BASE $GUEST_SIZE "$binary" > "$run"
        chmod 755 "$run"
        echo "  runs under $($qemu --version | head -n 1)"
    fi
    MEMBRIDGE_BIN=$run "$examples/tour"
    MEMBRIDGE_BIN=$run "$examples/bench_memory" "$megabytes" "$limit_mb" | sed 's/^/  /' > "$wrappers/said" || true
    cat "$wrappers/said"
    grep -q 'rows are the same' "$wrappers/said" || fail "$name: the measurement did not end"
    if grep -q 'NOT OK' "$wrappers/said"; then fail "$name needs too much memory"; fi
    if [ "$arch" = "$here" ]; then in_an_empty_root "$binary"; fi
    tried=$((tried + 1))
done
[ "$tried" -gt 0 ] || fail "$dist holds no binary; run: make dist"
echo "test-dist: $tried binaries passed"
