#!/bin/sh
# `make install` and `make uninstall`: the binary and the wrapper scripts, nothing else. Settings, memory, state and
# what is in ~/.claude are never touched. Usage: install-local.sh install|uninstall BINARY BIN_DIR HOOK_DIR
set -eu
cd "$(dirname "$0")/.."
action=$1 binary=$2 bin=$3 hooks=$4

case $action in
install)
    mkdir -p "$bin" "$hooks"
    install -m 755 "$binary" "$bin/membridge"
    echo "installed $bin/membridge"
    for script in hooks/claude-mem-*; do
        [ -f "$script" ] || continue
        install -m 755 "$script" "$hooks/"
        echo "installed $hooks/${script##*/}"
    done
    case :$PATH: in
    *":$bin:"*) ;;
    *) echo "$bin is not in PATH; this shell and the next ones find it after: export PATH=\"$bin:\$PATH\" (put it into ~/.profile)" ;;
    esac
    echo "next: membridge config init"
    ;;
uninstall)
    rm -f "$bin/membridge"
    for script in hooks/claude-mem-*; do
        [ -f "$script" ] || continue
        rm -f "$hooks/${script##*/}"
    done
    echo "removed; ~/.claude-mem, ~/.claude-mem-minio/config.env and ~/.membridge stay"
    ;;
*)
    echo "usage: $0 install|uninstall BINARY BIN_DIR HOOK_DIR" >&2
    exit 1
    ;;
esac
