#!/bin/sh
# Which lines the tests run, in this process and in every membridge that they start: a table by folder, and all lines that
# none runs in TARGET/coverage/uncovered.txt. llvm-cov of another release cannot read what rustc writes; llvm_profparser can.
set -eu
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=${MEMBRIDGE_COVERAGE_TOOLS:-$HOME/.cache/membridge-coverage}
[ -x "$tools/bin/cov" ] || cargo install --quiet --root "$tools" --version 0.15.0 llvm_profparser

folder=$target/coverage
rm -rf "$folder"
mkdir -p "$folder"
export RUSTC_WORKSPACE_WRAPPER="$PWD/scripts/covered-rustc" CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$target"
cargo test --locked --lib --bins --test it --no-run --message-format=json > "$folder/built.json"
# One file for each binary, merged as each process ends.
LLVM_PROFILE_FILE="$folder/%2m.profraw" cargo test --locked --no-fail-fast --lib --bins --test it -- "$@" ||
    echo "some tests failed: what they did counts all the same"

set --
for profile in "$folder"/*.profraw; do set -- "$@" --instr-profile "$profile"; done
{
    python3 -c 'import json, sys
for line in sys.stdin:
    print(json.loads(line).get("executable") or "")' < "$folder/built.json" | grep .
    echo "$target/debug/membridge"
} | sort -u | while read -r binary; do
    "$tools/bin/cov" show "$@" --object "$binary"
done > "$folder/annotated.txt"
scripts/coverage.py "$folder/annotated.txt" "$folder/uncovered.txt"
