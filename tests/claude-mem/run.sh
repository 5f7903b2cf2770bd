#!/bin/sh
# The tests with the real claude-mem worker. In a process namespace where the system allows one: the 10.6.3 worker
# kills every other claude-mem worker that it can see when it boots, and that must not be the one you work with.
set -eu
cd "$(dirname "$0")/../.."
if ! MEMBRIDGE_TEST_CLAUDE_MEM=$(sh tests/claude-mem/setup.sh); then
    echo "SKIPPED: there is no npm here, or no registry, so there is no real claude-mem worker to test with"
    # Where it must not be skipped, absence is an error.
    [ -z "${MEMBRIDGE_TEST_REQUIRED:-}" ]
    exit
fi
export MEMBRIDGE_TEST_CLAUDE_MEM
cargo=${CARGO:-cargo}
$cargo test --locked --test it --no-run
# Words for the test program: others than the tests, for those who measure.
# shellcheck disable=SC2086
set -- "$cargo" test --locked --test it -- --nocapture ${MEMBRIDGE_WORKER_TESTS:-real_worker::}
if unshare --user --map-current-user --pid --fork --mount-proc true 2>/dev/null; then
    # The first process there is everybody's last parent, and must reap: to 10.6.3 a dead worker that nobody has reaped is
    # alive, and it starts no other. cargo reaps nobody else; a shell that waits does.
    exec unshare --user --map-current-user --pid --fork --mount-proc sh -c '"$@" & wait $!' sh "$@"
elif [ -n "${CI:-}" ] || [ -n "${MEMBRIDGE_TEST_KILL_OTHER_WORKERS:-}" ]; then
    exec "$@"
else
    echo "SKIPPED: no process namespace can be made here (unshare). MEMBRIDGE_TEST_KILL_OTHER_WORKERS=1 runs the tests"
    echo "anyway; the old worker among them then kills every claude-mem worker of yours that runs now."
fi
