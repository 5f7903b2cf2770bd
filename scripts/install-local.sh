#!/bin/sh
# `make install` and `make uninstall`: the binary, the wrapper scripts, completions and the manual page, nothing else.
# Settings, memory, state and what is in ~/.claude are never touched; scripts of your own are kept as *.before-membridge and
# come back. Usage: install-local.sh install|uninstall BINARY BIN_DIR HOOK_DIR
set -eu
cd "$(dirname "$0")/.."
action=$1 binary=$2 bin=$3 hooks=$4
share=${bin%/bin}/share
# Elsewhere (a package's folder) there is nothing of a person's, and no Claude Code.
here=$HOME/.claude-mem-minio/bin

texts() {
    printf '%s\n' "man:$share/man/man1/membridge.1" "completions bash:$share/bash-completion/completions/membridge" \
        "completions zsh:$share/zsh/site-functions/_membridge" "completions fish:$share/fish/vendor_completions.d/membridge.fish"
}

case $action in
install)
    mkdir -p "$bin" "$hooks"
    install -m 755 "$binary" "$bin/membridge"
    echo "installed $bin/membridge"
    if [ "$hooks" = "$here" ]; then
        "$bin/membridge" hooks install --quiet
    else
        install -m 755 hooks/claude-mem-* "$hooks/"
    fi
    echo "installed the wrapper scripts in $hooks"
    texts | while IFS=: read -r words file; do
        mkdir -p "${file%/*}"
        # shellcheck disable=SC2086 # "completions bash" is two words
        "$bin/membridge" $words > "$file"
    done
    echo "installed completions and the manual page in $share"
    case :$PATH: in
    *":$bin:"*) ;;
    *) echo "$bin is not in PATH; this shell and the next ones find it after: export PATH=\"$bin:\$PATH\" (put it into ~/.profile)" ;;
    esac
    echo "next: membridge config init"
    ;;
uninstall)
    # The binary knows its scripts, gives yours back, and refuses while Claude Code would still call what is gone.
    if [ "$hooks" = "$here" ] && [ -x "$bin/membridge" ]; then
        "$bin/membridge" hooks uninstall --quiet
    else
        for script in hooks/claude-mem-*; do
            rm -f "$hooks/${script##*/}"
        done
    fi
    rm -f "$bin/membridge"
    texts | while IFS=: read -r _ file; do
        rm -f "$file"
    done
    echo "removed; ~/.claude-mem, ~/.claude-mem-minio/config.env and ~/.membridge stay"
    ;;
*)
    echo "usage: $0 install|uninstall BINARY BIN_DIR HOOK_DIR" >&2
    exit 1
    ;;
esac
