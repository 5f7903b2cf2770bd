#!/usr/bin/env python3
"""Prints a CycloneDX 1.5 SBOM of what is linked into the binary, from cargo's own metadata and Cargo.lock.

Sorted and without a time or a random serial number, so that the same sources give the same bytes.
Usage: sbom.py VERSION
"""

import json
import pathlib
import re
import subprocess
import sys

version = sys.argv[1]
root = pathlib.Path(__file__).resolve().parent.parent

tree = subprocess.run(
    ["cargo", "tree", "--locked", "--edges", "normal", "--target", "x86_64-unknown-linux-musl",
     "--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"],
    cwd=root, check=True, capture_output=True, text=True,
).stdout
linked = {}
for line in tree.splitlines():
    package, _, licence = line.partition("|")
    name, _, rest = package.partition(" v")
    linked[(name, rest.split(" ")[0])] = licence.strip()

checksums = {}
for block in (root / "Cargo.lock").read_text().split("[[package]]")[1:]:
    fields = dict(re.findall(r'^(\w+) = "(.*)"$', block, re.MULTILINE))
    checksums[(fields["name"], fields["version"])] = fields.get("checksum")

components = []
for (name, number), licence in sorted(linked.items()):
    if name == "membridge":
        continue
    component = {
        "type": "library",
        "bom-ref": f"pkg:cargo/{name}@{number}",
        "name": name,
        "version": number,
        "purl": f"pkg:cargo/{name}@{number}",
    }
    checksum = checksums.get((name, number))
    if checksum:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if licence:
        component["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    components.append(component)

json.dump(
    {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"pkg:cargo/membridge@{version}",
                "name": "membridge",
                "version": version,
                "licenses": [{"expression": "MIT"}],
            }
        },
        "components": components,
    },
    sys.stdout,
    indent=2,
)
print()
