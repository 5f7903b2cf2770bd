#!/bin/sh
# Makes a folder that Alpine's `abuild -r` builds from: the source archive of a commit, and an APKBUILD that names its
# checksum. Usage: packaging/alpine/make.sh OUT_FOLDER [COMMIT]
set -eu
cd "$(dirname "$0")/../.."
out=$1 commit=${2:-HEAD}
. packaging/facts.sh
[ -n "$url" ] || {
    echo "abuild wants to know where membridge is published: set MEMBRIDGE_URL, or repository in Cargo.toml" >&2
    exit 1
}
mkdir -p "$out"
archive=$out/membridge-$version.tar.gz
# No time and no name in the gzip header: the same commit gives the same archive.
git archive --format=tar --prefix="membridge-$version/" "$commit" | gzip -9 -n > "$archive"
sum=$(sha512sum "$archive" | cut -d ' ' -f 1)
revision=$(git rev-parse --short=12 "$commit")
# Slashes and ampersands are words of sed.
quoted() { printf '%s' "$1" | sed 's/[&\\|]/\\&/g'; }
sed -e "s|@MAINTAINER@|$(quoted "$maintainer")|" -e "s|@URL@|$(quoted "$url")|" -e "s|@VERSION@|$version|g" \
    -e "s|@DESCRIPTION@|$(quoted "$description")|" -e "s|@REVISION@|$revision|" -e "s|@SHA512@|$sum|" \
    packaging/alpine/APKBUILD.in > "$out/APKBUILD"
echo "made $archive and $out/APKBUILD"
