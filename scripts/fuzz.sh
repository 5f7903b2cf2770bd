#!/bin/sh
# Runs each fuzz target for some time: libFuzzer with coverage feedback, from the stable compiler (no sanitizer, as
# `cargo fuzz --sanitizer none` does it; the crate has no unsafe code). Usage: scripts/fuzz.sh [SECONDS [TARGET…]]
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
targets=${*:-"commit pack pagemap sealed segment record node envelope signed export"}
dir=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

flags="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
    flags="$flags -Cllvm-args=-sanitizer-coverage-$flag"
done
# With a named target the flags stay away from build scripts.
RUSTFLAGS=$flags CARGO_TARGET_DIR=$dir cargo build --release --manifest-path fuzz/Cargo.toml --target "$host"

for target in $targets; do
    corpus=$dir/corpus/$target
    mkdir -p "$corpus"
    # Real samples, written by the tests: random bytes seldom get past a checksum.
    [ ! -d "$dir/seeds/$target" ] || cp "$dir/seeds/$target"/* "$corpus"/
    echo "fuzz: $target for $seconds s"
    "$dir/$host/release/$target" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=512 -print_final_stats=1 \
        -artifact_prefix="$dir/crash-$target-" "$corpus" 2> "$dir/$target.log" || {
        tail -n 40 "$dir/$target.log"
        exit 1
    }
    grep -E 'stat::number_of_executed_units|stat::peak_rss_mb' "$dir/$target.log"
done
