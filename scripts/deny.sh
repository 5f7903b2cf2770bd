#!/bin/sh
# Licences, sources, bans — and, when asked for by name, advisories, whose database comes from the network.
# Usage: scripts/deny.sh [CHECK…]
set -eu
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
need_deny
[ $# -gt 0 ] || set -- bans licenses sources
exec cargo-deny --locked check "$@"
