#!/bin/sh
# Installs membridge for this user from the folder that this script lies in (a release, or what `make dist` made).
#
#   sh install.sh [--dry-run] [--bin-dir DIR] [--uninstall] [agent|server|all|migrate|cleanup]
#
# A word at the end goes on to `membridge install WORD` (docs/fleet.md) once the binary is there; migrate and cleanup
# install nothing.
#
# The binary for this machine's architecture goes to ~/.local/bin, after its checksum was compared; the wrapper scripts
# to ~/.claude-mem-minio/bin, where scripts of your own of these names are kept as *.before-membridge; completions and the
# manual page to ~/.local/share and ~/.config/fish. Nothing else is written: not ~/.claude-mem, not ~/.claude, not
# ~/.claude-mem-minio/config.env. --dry-run shows what would be done. --uninstall removes exactly these files and gives your
# scripts back; while Claude Code's settings name ours, it says what to type first.
set -eu

from=$(cd "$(dirname "$0")" && pwd)
bin_dir=${HOME:?HOME is not set}/.local/bin
hook_dir=$HOME/.claude-mem-minio/bin
data_dir=${XDG_DATA_HOME:-$HOME/.local/share}
fish_dir=${XDG_CONFIG_HOME:-$HOME/.config}/fish/completions
action=install
dry=
mode=

say() { printf '%s\n' "$*"; }
fail() { printf 'ERROR: %s\n' "$*" >&2; exit 1; }
run() {
    if [ -n "$dry" ]; then say "would run: $*"; else "$@"; fi
}

while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry=1 ;;
    --uninstall) action=uninstall ;;
    --bin-dir)
        [ $# -ge 2 ] || fail "--bin-dir needs a folder"
        bin_dir=$2
        shift
        ;;
    -h | --help)
        sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    agent | server | all | migrate | cleanup) mode=$1 ;;
    *) fail "unknown option $1 (see --help)" ;;
    esac
    shift
done

# Where a path leads, links followed; what is not there yet is taken as it is written.
real_path() {
    there=$1 rest=
    while [ ! -d "$there" ]; do
        rest=/${there##*/}$rest
        case $there in */*) there=${there%/*} ;; *) there=. ;; esac
        [ -n "$there" ] || there=/
    done
    printf '%s%s' "$(cd "$there" && pwd -P)" "$rest"
}

case /$bin_dir/ in
*/../*) fail "--bin-dir $bin_dir: name the folder without '..'" ;;
esac
case $bin_dir in
/*) ;;
*) bin_dir=$PWD/$bin_dir ;;
esac
case $(real_path "$bin_dir")/ in
"$(real_path "$HOME/.claude")/"* | "$(real_path "$HOME/.claude-mem")/"*)
    fail "$bin_dir belongs to Claude; choose another --bin-dir"
    ;;
esac

# What the binary says of itself, and where it belongs: one pair a line.
texts() {
    printf '%s\n' "man:$data_dir/man/man1/membridge.1" "completions bash:$data_dir/bash-completion/completions/membridge" \
        "completions zsh:$data_dir/zsh/site-functions/_membridge" "completions fish:$fish_dir/membridge.fish"
}

if [ "$action" = uninstall ]; then
    # The binary knows its scripts, gives yours back, and refuses while Claude Code would still call what is gone.
    if [ -x "$bin_dir/membridge" ]; then
        "$bin_dir/membridge" hooks uninstall --quiet ${dry:+--dry-run} || exit 1
    fi
    run rm -f "$bin_dir/membridge"
    texts | while IFS=: read -r _ file; do
        [ ! -e "$file" ] || run rm -f "$file"
    done
    say "removed from $bin_dir and $hook_dir; your memory, settings and state stay where they are"
    exit 0
fi

[ "$(uname -s)" = Linux ] || fail "these binaries are for Linux; on $(uname -s) build from source: make install"
machine=${MEMBRIDGE_MACHINE:-$(uname -m)}
case $machine in
x86_64 | amd64) target=x86_64-unknown-linux-musl ;;
aarch64 | arm64) target=aarch64-unknown-linux-musl ;;
armv7l | armv8l | armhf) target=armv7-unknown-linux-musleabihf ;;
*) fail "there is no binary for $machine; build from source: make install" ;;
esac
# A 64-bit kernel with a 32-bit system (Raspberry Pi OS) runs static 64-bit binaries too, so the kernel decides.

binary=
for candidate in "$from"/membridge-*-"$target"; do
    [ -f "$candidate" ] && binary=$candidate
done
[ -n "$binary" ] || [ ! -f "$from/Cargo.toml" ] || fail "this is a clone, not a release: make install"
[ -n "$binary" ] || fail "$from has no membridge-VERSION-$target"
[ -f "$from/SHA256SUMS" ] || fail "$from has no SHA256SUMS: nothing is installed unchecked"

name=${binary##*/}
wanted=$(awk -v name="$name" '$2 == name || $2 == "*" name { print $1 }' "$from/SHA256SUMS")
[ -n "$wanted" ] || fail "SHA256SUMS does not name $name"
found=$(sha256sum "$binary" | awk '{ print $1 }')
[ "$wanted" = "$found" ] || fail "$name is not what SHA256SUMS says ($found); download it again"
say "checksum ok: $name"

case $mode in
migrate | cleanup) exec "$binary" install "$mode" ${dry:+--dry-run} ;;
esac

# Beside the old one first, then one rename: a hook that starts meanwhile finds the old one or the new one.
place() {
    if [ -n "$dry" ]; then
        say "would install: $2"
        return
    fi
    cp "$1" "$2.new.$$"
    chmod 755 "$2.new.$$"
    mv -f "$2.new.$$" "$2"
    say "installed $2"
}

run mkdir -p "$bin_dir"
place "$binary" "$bin_dir/membridge"
if [ -n "$dry" ]; then
    say "would install: the wrapper scripts in $hook_dir, completions and the manual page"
else
    "$bin_dir/membridge" --version || fail "$bin_dir/membridge does not start on this machine"
    "$bin_dir/membridge" hooks install --quiet || exit 1
    say "installed the wrapper scripts in $hook_dir"
    texts | while IFS=: read -r words file; do
        # shellcheck disable=SC2086 # "completions bash" is two words
        if mkdir -p "${file%/*}" && "$bin_dir/membridge" $words > "$file.new.$$"; then
            mv -f "$file.new.$$" "$file"
        else
            say "note: $file cannot be written"
        fi
    done
    say "installed completions and the manual page in $data_dir and $fish_dir"
fi

case :$PATH: in
*:"$bin_dir":*) ;;
*) say "note: $bin_dir is not in PATH; add it in ~/.profile" ;;
esac
[ -e "$HOME/.claude-mem-minio/config.env" ] || say "next: membridge config init"
[ -n "$mode" ] || exit 0
if [ -n "$dry" ]; then
    exec "$binary" install "$mode" --dry-run
fi
exec "$bin_dir/membridge" install "$mode"
