"""`python -m membridge.validate_install`: becomes `membridge validate-install`, with its report and its exit code."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import sqlite_minio_sync  # noqa: E402  (beside this folder)


def main():
    """Becomes the binary."""
    path = sqlite_minio_sync.binary()
    os.execv(path, [path, "validate-install", *sys.argv[1:]])


if __name__ == "__main__":
    main()
