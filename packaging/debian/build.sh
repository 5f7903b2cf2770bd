#!/bin/sh
# Wraps a static binary of dist/ into a .deb with dpkg-deb alone. It depends on nothing.
# Usage: packaging/debian/build.sh BINARY ARCHITECTURE OUT_FOLDER   (ARCHITECTURE: amd64, arm64, armhf)
set -eu
cd "$(dirname "$0")/../.."
binary=$1 architecture=$2 out=$3
. packaging/facts.sh
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
# The package's own root; mktemp makes it for us alone.
chmod 755 "$root"

install -Dm755 "$binary" "$root/usr/bin/membridge"
install -Dm644 config.env.example "$root/usr/share/doc/membridge/config.env.example"
install -Dm644 LICENSE "$root/usr/share/doc/membridge/copyright"
# For those who want it in the background: units to copy and adapt, none of them switched on.
install -Dm644 packaging/systemd/membridge-watch.service "$root/usr/share/doc/membridge/membridge-watch.service"
for hook in hooks/claude-mem-*; do
    [ -f "$hook" ] || continue
    install -Dm755 "$hook" "$root/usr/share/membridge/$hook"
done
mkdir -p "$root/DEBIAN"
cat > "$root/DEBIAN/control" <<CONTROL
Package: membridge
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Section: utils
Priority: optional
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f1)
${url:+Homepage: $url
}Description: keeps claude-mem databases of several machines in step
 One static binary that pushes and pulls the memory of claude-mem through an
 S3-compatible bucket or a directory, compares before it copies, and backs up
 before it replaces.
CONTROL
mkdir -p "$out"
# The same input gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
export SOURCE_DATE_EPOCH
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --build "$root" "$out/membridge_${version}_$architecture.deb"
