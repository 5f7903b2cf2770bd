#!/bin/sh
# Fetches the real claude-mem worker (three releases) and bun from the npm registry into a cache folder, once, and
# prints the folder. Nothing of it is committed; afterwards the tests need no network.
#   MEMBRIDGE_TEST_CLAUDE_MEM=$(sh tests/claude-mem/setup.sh) cargo test --test it real_worker
set -eu
cache=${MEMBRIDGE_TEST_CACHE:-$HOME/.cache/membridge-tests}
bun=1.3.14
releases="13.25.3 13.15.3 10.6.3"

if ! command -v npm >/dev/null 2>&1; then
    echo "npm is not installed: the tests with the real claude-mem worker are skipped" >&2
    exit 3
fi
mkdir -p "$cache"
if ! "$cache/bun/node_modules/.bin/bun" --version 2>/dev/null | grep -qx "$bun"; then
    mkdir -p "$cache/bun"
    npm install --prefix "$cache/bun" --no-audit --no-fund --silent "bun@$bun" >&2
fi
for release in $releases; do
    folder=$cache/claude-mem-$release
    [ -f "$folder/package/plugin/scripts/worker-service.cjs" ] && continue
    rm -rf "$folder.part"
    mkdir -p "$folder.part"
    (
        cd "$folder.part"
        npm pack --silent "claude-mem@$release" >/dev/null
        tar xzf claude-mem-*.tgz
        rm claude-mem-*.tgz
    )
    rm -rf "$folder"
    mv "$folder.part" "$folder"
done
echo "$cache"
