#!/usr/bin/env python3
"""Sums up what `cov show` prints: lines of src/ that were run, by folder; those that were not, into a file.

Usage: scripts/coverage.py ANNOTATED UNCOVERED    ends with 1 where a folder named below is under LEAST percent
"""

import collections
import pathlib
import re
import sys

LEAST = 90
# What the promise rests on (issue 21).
WATCHED = ["rows", "sync", "install", "lock", "leadership", "database", "history", "seal"]

root = pathlib.Path(__file__).resolve().parent.parent / "src"
counts = collections.defaultdict(dict)
texts = {}
path = None
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    found = re.match(r" *(\d+)\| *(\d*)\|(.*)", line)
    if not found:
        name = pathlib.Path(line.strip())
        path = name.relative_to(root) if name.is_relative_to(root) else None
    elif path is not None and found[2]:
        number = int(found[1])
        counts[path][number] = max(counts[path].get(number, 0), int(found[2]))
        texts[path, number] = found[3]


def ends(path):
    """The line at which a file's tests begin."""
    if path.stem.endswith("_tests"):
        return 0
    for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#[cfg(test)]"):
            return number
    return sys.maxsize


folders = collections.defaultdict(lambda: [0, 0])
with open(sys.argv[2], "w", encoding="utf-8") as missing:
    for path, lines in sorted(counts.items()):
        end = ends(path)
        for number, count in sorted(lines.items()):
            if number >= end:
                continue
            folder = path.parts[0] if len(path.parts) > 1 else path.stem
            folders[folder][0] += count > 0
            folders[folder][1] += 1
            if not count:
                missing.write(f"src/{path}:{number}:{texts[path, number]}\n")

low = []
for folder, (run, all_lines) in sorted(folders.items()):
    percent = 100 * run / all_lines
    print(f"{percent:6.1f} %  {run:6,} of {all_lines:6,}  {folder}")
    if folder in WATCHED and percent < LEAST:
        low.append(folder)
run, all_lines = (sum(each[at] for each in folders.values()) for at in (0, 1))
print(f"{100 * run / all_lines:6.1f} %  {run:6,} of {all_lines:6,}  in all; what no test runs: {sys.argv[2]}")
if low:
    sys.exit(f"under {LEAST} %: {', '.join(low)}")
