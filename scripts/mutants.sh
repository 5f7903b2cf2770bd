#!/bin/sh
# Changes the code in one place at a time and asks whether the unit tests notice: in the modules that only decide, or, with
# SINCE ("1 day ago"), in what changed since. Works in this checkout, so that the dependencies are not built again.
set -eu
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
decides="src/rows/verdict.rs src/rows/merge.rs src/rows/stamp.rs src/rows/held.rs src/lock/decide.rs src/lock/term.rs
    src/lock/contest.rs src/leadership/decide.rs"
git diff --quiet || { echo "commit first: mutants are made in the files themselves" >&2; exit 1; }
command -v cargo-mutants > /dev/null || cargo install --quiet --locked --version 27.1.0 cargo-mutants

set --
if [ -n "${SINCE:-}" ]; then
    before=$(git log -1 --format=%H --before="$SINCE")
    [ -n "$before" ] || { echo "no commit before $SINCE"; exit 0; }
    mkdir -p "$target"
    git diff "$before" -- src > "$target/since.diff"
    [ -s "$target/since.diff" ] || { echo "nothing below src/ changed since $SINCE"; exit 0; }
    set -- --in-diff "$target/since.diff"
else
    for file in ${MUTANTS_FILES:-$decides}; do set -- "$@" --file "$file"; done
fi
exec cargo mutants --in-place --no-shuffle --timeout 300 --output "$target" "$@" -- --lib
