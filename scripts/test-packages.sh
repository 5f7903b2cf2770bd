#!/bin/sh
# Tries what is around the binaries of dist/: shell scripts, units, install.sh in several shells, the .deb in a dpkg root
# of its own, the APKBUILD's functions, the SBOM, the workflows. Installs what it needs on Debian; says what it left out.
set -eu
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
. packaging/facts.sh
dist=${MEMBRIDGE_DIST_DIR:-$PWD/dist}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$(uname -m)
binary=$dist/membridge-$version-$here-unknown-linux-musl

fail() { echo "test-packages: $*" >&2; exit 1; }
ok() { echo "test-packages: $*: ok"; }

[ -x "$binary" ] || fail "there is no $binary; run: make dist"

for file in install.sh sqlite_minio_sync.py config.env.example hooks/*; do
    cmp -s "$file" "$dist/$file" || fail "$dist/$file is not the one of the sources; run: make dist"
done

# --- every script
need_command shellcheck shellcheck
# SC2034: what the files that are sourced define is used by those who source them.
shellcheck --external-sources --shell=sh --exclude=SC2034 install.sh scripts/*.sh packaging/*.sh packaging/*/*.sh \
    hooks/claude-mem-*
# abuild and openrc-run set and read these.
shellcheck --shell=sh --exclude=SC2034,SC2154,SC2164 packaging/alpine/APKBUILD.in packaging/openrc/membridge-watch
ok "shellcheck"

# --- install.sh, in an empty home whose path has a space, in each shell that boards have
need_command dash dash
need_command busybox busybox
tree() { (cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2); }
expect_failure() {
    wanted=$1
    shift
    if said=$("$@" 2>&1); then fail "went through: $*: $said"; fi
    case $said in *"$wanted"*) ;; *) fail "$* said: $said" ;; esac
    [ "$(tree "$home")" = "$before" ] || fail "changed something: $*"
}
# shellcheck disable=SC2086 # "busybox sh" is a program and a word
try_install() {
    shell=$1
    home="$work/the home of $shell"
    release="$work/a release for $shell"
    mkdir -p "$home/.claude" "$home/.claude-mem" "$home/.claude-mem-minio" "$release"
    cp -R "$dist/." "$release/"
    for protected in .claude/settings.json .claude/settings.local.json .claude/.credentials.json .claude-mem/claude-mem.db \
        .claude-mem-minio/config.env; do
        echo "mine: $protected" > "$home/$protected"
    done
    before=$(tree "$home")
    install_sh() { env -i HOME="$home" PATH="$PATH" $shell "$release/install.sh" "$@"; }
    install_sh --dry-run > "$work/said"
    grep -q "would install: $home/.local/bin/membridge" "$work/said" || fail "$shell: --dry-run: $(cat "$work/said")"
    [ "$(tree "$home")" = "$before" ] || fail "$shell: --dry-run changed something"
    install_sh > "$work/said"
    grep -q 'checksum ok' "$work/said" || fail "$shell: $(cat "$work/said")"
    [ "$("$home/.local/bin/membridge" --version)" = "$("$binary" --version)" ] || fail "$shell installed something else"
    [ "$(find "$home/.claude-mem-minio/bin" -type f | wc -l)" = 6 ] || fail "$shell: not six wrapper scripts"
    install_sh > /dev/null
    install_sh --uninstall > /dev/null
    [ "$(tree "$home")" = "$before" ] || fail "$shell: uninstall left or took something"
    install_sh --bin-dir "$work/bin of $shell" > /dev/null
    [ -x "$work/bin of $shell/membridge" ] || fail "$shell: --bin-dir"
    install_sh --bin-dir "$work/bin of $shell" --uninstall > /dev/null
    [ ! -e "$work/bin of $shell/membridge" ] || fail "$shell: --bin-dir --uninstall"

    # From here on nothing may be changed.
    before=$(tree "$home")
    expect_failure "belongs to Claude" install_sh --bin-dir "$home/.claude/bin"
    expect_failure "belongs to Claude" install_sh --bin-dir "$home/.claude-mem"
    expect_failure "without '..'" install_sh --bin-dir "$home/x/../.claude-mem/bin"
    ln -s .claude "$home/link"
    expect_failure "belongs to Claude" install_sh --bin-dir "$home/link/bin"
    expect_failure "unknown option" install_sh --nonsense
    expect_failure "there is no binary for riscv64" env MEMBRIDGE_MACHINE=riscv64 HOME="$home" $shell "$release/install.sh"
    printf 'more' >> "$release/${binary##*/}"
    expect_failure "is not what SHA256SUMS says" install_sh
    rm "$release/SHA256SUMS"
    expect_failure "nothing is installed unchecked" install_sh
    rm "$release/${binary##*/}"
    expect_failure "has no membridge-VERSION" install_sh
    ok "install.sh in $shell: dry run, install, again, uninstall, wrong sum, no sum, unknown machine, protected folders"
}
for shell in dash "busybox sh"; do try_install "$shell"; done

# --- systemd: the unit in packaging/ and the ones in DEPLOYMENT.md
need_command systemd-analyze systemd
units=$work/units
mkdir -p "$units" "$work/run" "$work/home/.local/bin"
cp "$binary" "$work/home/.local/bin/membridge"
cp packaging/systemd/*.service "$units/"
for unit in membridge.service membridge.timer; do
    sed -n "/^cat > .*\\/$unit <<'UNIT'\$/,/^UNIT\$/p" DEPLOYMENT.md | sed '1d;$d' > "$units/$unit"
    [ -s "$units/$unit" ] || fail "DEPLOYMENT.md has no $unit"
done
for unit in "$units"/*; do
    HOME=$work/home XDG_RUNTIME_DIR=$work/run SYSTEMD_LOG_LEVEL=warning systemd-analyze --user verify "$unit" > "$work/said" 2>&1 \
        || fail "systemd-analyze verify ${unit##*/}: $(cat "$work/said")"
    # It ends with 0 for what it merely ignores, such as a misspelt key.
    if grep -q "${unit##*/}" "$work/said"; then fail "${unit##*/}: $(cat "$work/said")"; fi
done
ok "systemd-analyze verify of $(find "$units" -type f | wc -l) units"

# --- OpenRC: its interpreter is sh with functions of its own; what start_pre leaves is what supervise-daemon would be told
cat > "$work/openrc" <<'SH'
getent() { echo "$2:x:1000:1000::/home/$2:/bin/sh"; }
use() { :; }
after() { :; }
MEMBRIDGE_USER=ann
. "$1"
depend
start_pre
echo "$command $command_args|$command_user|$supervise_daemon_args"
SH
for shell in dash "busybox sh"; do
    said=$($shell "$work/openrc" "$PWD/packaging/openrc/membridge-watch")
    [ "$said" = "/usr/local/bin/membridge watch|ann| --env HOME=/home/ann --chdir /home/ann" ] || fail "OpenRC in $shell: $said"
done
ok "OpenRC's init file in dash and busybox"

# --- the .deb: in a dpkg root of its own, installed, run, upgraded, removed
if command -v dpkg-deb > /dev/null; then
    packaging/debian/all.sh > "$work/said" || fail "$(cat "$work/said")"
    for package in "$dist"/*.deb; do
        if dpkg-deb --field "$package" | grep -E 'example\.|\.invalid|<>|: *$'; then fail "${package##*/} carries a placeholder"; fi
        case $(dpkg-deb --field "$package" Architecture) in
        amd64) target=x86_64-unknown-linux-musl ;;
        arm64) target=aarch64-unknown-linux-musl ;;
        *) target=armv7-unknown-linux-musleabihf ;;
        esac
        dpkg-deb --extract "$package" "$work/${package##*/}.d"
        cmp "$work/${package##*/}.d/usr/bin/membridge" "$dist/membridge-$version-$target" || fail "${package##*/} holds another binary"
    done
    architecture=$(dpkg --print-architecture)
    package=$dist/membridge_${version}_$architecture.deb
    root=$work/root
    mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
    : > "$root/var/lib/dpkg/status"
    dpkg_root() { dpkg --root="$root" --log=/dev/null --force-not-root,script-chrootless "$@" > "$work/said" 2>&1 || fail "dpkg $*: $(cat "$work/said")"; }
    dpkg_root --install "$package"
    [ "$(env -i "$(command -v chroot || echo /usr/sbin/chroot)" "$root" /usr/bin/membridge --version)" = "$("$binary" --version)" ] \
        || fail "the installed binary does not run"
    dpkg_root --install "$package"
    dpkg_root --purge membridge
    left=$(cd "$root" && find . -path ./var -prune -o -type f -print)
    [ -z "$left" ] || fail "the package left behind: $left"
    first=$(sha256sum < "$package")
    packaging/debian/build.sh "$dist/membridge-$version-$here-unknown-linux-musl" "$architecture" "$work/again" > /dev/null
    [ "$first" = "$(sha256sum < "$work/again/${package##*/}")" ] || fail "two builds of the package differ"
    ok ".deb: fields, installed, run in its root, upgraded, purged, the same bytes twice"
else
    echo "test-packages: .deb left out: there is no dpkg here"
fi

# --- Alpine: the archive and the APKBUILD's own functions, with dist's binary as what cargo builds
MEMBRIDGE_URL=${url:-https://git.test/membridge} packaging/alpine/make.sh "$work/apk" > /dev/null
cat > "$work/abuild" <<'SH'
set -eu
cd "$1"
startdir=$1
default_prepare() { :; }
cargo() {
    [ "$1" != build ] && return 0
    [ -n "$MEMBRIDGE_REVISION" ]
    mkdir -p target/release
    cp "$BINARY" target/release/membridge
}
. "$startdir/APKBUILD"
echo "$sha512sums" | sed '/^$/d' | sha512sum -c - > /dev/null
tar -xzf "$source"
cd "$pkgname-$pkgver"
pkgdir=$startdir/pkg
prepare
build
check > /dev/null
package
echo "$pkgver"
SH
for shell in dash "busybox sh"; do
    rm -rf "$work/apk/pkg" "$work/apk/membridge-$version"
    [ "$(BINARY=$binary $shell "$work/abuild" "$work/apk")" = "$version" ] || fail "APKBUILD in $shell"
    [ "$("$work/apk/pkg/usr/bin/membridge" --version)" = "$("$binary" --version)" ] || fail "APKBUILD packs another binary"
    [ "$(find "$work/apk/pkg/usr/share/membridge/hooks" -type f | wc -l)" = 6 ] || fail "APKBUILD: not six wrapper scripts"
done
if grep -n -i -E '@[A-Z0-9]+@|example\.|\.invalid' "$work/apk/APKBUILD"; then fail "the APKBUILD carries a placeholder"; fi
ok "APKBUILD: checksum, prepare, build, check and package in dash and busybox (abuild itself is Alpine's and did not run)"

# --- SBOM and workflows
scripts/check-papers.py "$dist/membridge-$version.cdx.json" || fail "see above"
(cd "$dist" && sha256sum --check --quiet SHA256SUMS)
ok "SHA256SUMS, SBOM and workflows"
