# Sourced by what makes packages, in the folder of Cargo.toml: what a package says about itself, from one place.
#
# MEMBRIDGE_MAINTAINER ("Name <address>") and MEMBRIDGE_URL tell who packages and where it is published; without them
# Cargo.toml's `authors` and `repository` count, and for the URL an https remote named origin. What nobody has told is
# left out: a package never carries a made-up address.

# One line of Cargo.toml's [package]: its value without quotes and brackets.
cargo_field() {
    sed -n '/^\[package\]/,/^\[[a-z.]*\]$/p' Cargo.toml | sed -n "s/^$1 = \[\{0,1\}\"\([^\"]*\)\".*/\1/p" | head -n 1
}

version=$(cargo_field version)
description=$(cargo_field description)
maintainer=${MEMBRIDGE_MAINTAINER:-$(cargo_field authors)}
url=${MEMBRIDGE_URL:-$(cargo_field repository)}
if [ -z "$url" ]; then
    url=$(git config --get remote.origin.url 2> /dev/null | sed -n 's|^\(https://.*\)$|\1|p' | sed 's|\.git$||') || url=
fi
