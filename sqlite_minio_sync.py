#!/usr/bin/env python3
"""Stands where the old sync script stood, for callers that still name it: everything is done by the membridge binary.

As a program it becomes the binary. As a module it offers the functions that the old agent imports: each returns when
the command ended with 0 and otherwise raises SystemExit with its exit code, as the script did.
The binary is $MEMBRIDGE_BIN, or ~/.local/bin/membridge, or membridge in PATH; never one that a project brings along.
"""

import os
import shutil
import subprocess
import sys


def _in_path():
    """The binary in PATH, named by its whole path; not one of the folder that we stand in, nor of an npm package."""
    found = shutil.which("membridge")
    if found and os.path.isabs(found) and os.sep + "node_modules" + os.sep not in found:
        return found
    return None


def binary():
    """The path of the binary; SystemExit(1) when there is none."""
    home = os.path.expanduser("~/.local/bin/membridge")
    found = os.environ.get("MEMBRIDGE_BIN") or (os.path.exists(home) and home) or _in_path()
    if not found:
        print("ERROR: membridge is not installed: neither in PATH nor in ~/.local/bin", flush=True)
        raise SystemExit(1)
    return found


def _cannot_run(path, error):
    print(f"ERROR: cannot run {path}: {error.strerror}; check MEMBRIDGE_BIN, or install membridge", flush=True)
    raise SystemExit(1)


def _run(command):
    sys.stdout.flush()
    path = binary()
    try:
        code = subprocess.run([path, command], check=False).returncode
    except OSError as error:
        _cannot_run(path, error)
    if code != 0:
        raise SystemExit(code)


def push_sqlite():
    """Uploads the local database."""
    _run("push_sqlite")


def pull_sqlite():
    """Replaces the local database by the one in the bucket."""
    _run("pull_sqlite")


def doctor():
    """Prints the state of everything."""
    _run("doctor")


if __name__ == "__main__":
    # The script looked at its first argument only.
    path = binary()
    try:
        os.execv(path, [path, *sys.argv[1:2]])
    except OSError as error:
        _cannot_run(path, error)
