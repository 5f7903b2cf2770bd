#!/bin/sh
# Installs membridge for this user from the folder that this script lies in (a release, or what `make dist` made).
#
#   sh install.sh [--dry-run] [--bin-dir DIR] [--uninstall] [agent|server|all|migrate|cleanup]
#
# A word at the end goes on to `membridge install WORD` (docs/fleet.md) once the binary is there; migrate and cleanup
# install nothing.
#
# The binary for this machine's architecture goes to ~/.local/bin, after its checksum was compared; the wrapper scripts,
# where the release has them, to ~/.claude-mem-minio/bin. Nothing else is written: not ~/.claude-mem, not ~/.claude, not
# ~/.claude-mem-minio/config.env. --dry-run shows what would be done. --uninstall removes exactly these files.
set -eu

from=$(cd "$(dirname "$0")" && pwd)
bin_dir=${HOME:?HOME is not set}/.local/bin
hook_dir=$HOME/.claude-mem-minio/bin
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

# What claude-mem's hooks have in their settings.
wrappers="claude-mem-hook-pull claude-mem-hook-push claude-mem-push claude-mem-pull claude-mem-status claude-mem-doctor"

if [ "$action" = uninstall ]; then
    run rm -f "$bin_dir/membridge"
    for name in $wrappers; do
        [ -e "$hook_dir/$name" ] && run rm -f "$hook_dir/$name"
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
for wrapper in $wrappers; do
    [ -f "$from/hooks/$wrapper" ] || continue
    run mkdir -p "$hook_dir"
    place "$from/hooks/$wrapper" "$hook_dir/$wrapper"
done

case :$PATH: in
*:"$bin_dir":*) ;;
*) say "note: $bin_dir is not in PATH; add it in ~/.profile" ;;
esac
[ -e "$HOME/.claude-mem-minio/config.env" ] || say "next: write ~/.claude-mem-minio/config.env (config.env.example shows how)"
[ -n "$dry" ] || "$bin_dir/membridge" --version || fail "$bin_dir/membridge does not start on this machine"
[ -n "$mode" ] || exit 0
if [ -n "$dry" ]; then
    exec "$binary" install "$mode" --dry-run
fi
exec "$bin_dir/membridge" install "$mode"
