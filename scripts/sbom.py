#!/usr/bin/env python3
"""Prints a CycloneDX 1.5 SBOM of what is linked into the binaries, from cargo's own metadata and Cargo.lock: every crate
(no build script's, no macro's), and the C libraries that some of them carry.

Sorted and without a time or a random serial number, so that the same sources give the same bytes.
Usage: sbom.py VERSION
"""

import json
import pathlib
import re
import subprocess
import sys

TARGETS = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]

version = sys.argv[1]
root = pathlib.Path(__file__).resolve().parent.parent


def cargo(*words):
    """What cargo prints."""
    return subprocess.run(["cargo", *words, "--locked"], cwd=root, check=True, capture_output=True, text=True).stdout


linked = {}
edges = {}
above = []
for target in TARGETS:
    tree = cargo("tree", "--edges", "normal,no-proc-macro", "--target", target, "--prefix", "depth", "--no-dedupe",
                 "--format", "|{p}|{l}")
    for line in tree.splitlines():
        depth, package, licence = line.split("|", 2)
        name, _, rest = package.partition(" v")
        this = (name, rest.split(" ")[0])
        linked[this] = licence.strip()
        del above[int(depth):]
        if above:
            edges.setdefault(above[-1], set()).add(this)
        above.append(this)

checksums = {}
for block in (root / "Cargo.lock").read_text().split("[[package]]")[1:]:
    fields = dict(re.findall(r'^(\w+) = "(.*)"$', block, re.MULTILINE))
    checksums[(fields["name"], fields["version"])] = fields.get("checksum")


def ref(package):
    """The package URL of a crate."""
    return "pkg:cargo/%s@%s" % package


components = []
for package, licence in sorted(linked.items()):
    name, number = package
    if name == "membridge":
        continue
    component = {"type": "library", "bom-ref": ref(package), "name": name, "version": number, "purl": ref(package)}
    checksum = checksums.get(package)
    if checksum:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if licence:
        component["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    components.append(component)


def bundled(crate, header, macro):
    """The version of a C library, as the header inside its crate defines it."""
    folders = [pathlib.Path(package["manifest_path"]).parent
               for package in json.loads(cargo("metadata", "--format-version", "1"))["packages"] if package["name"] == crate]
    text = (folders[0] / header).read_text()
    return macro(text)


def quoted(text):
    """#define SQLITE_VERSION "3.53.0" """
    return re.search(r'#define SQLITE_VERSION\s+"([0-9.]+)"', text).group(1)


def numbered(text):
    """#define ZSTD_VERSION_MAJOR 1, and so on."""
    return ".".join(re.search(r"#define ZSTD_VERSION_%s\s+(\d+)" % part, text).group(1) for part in ("MAJOR", "MINOR", "RELEASE"))


for name, number, crate, licence in [
    ("sqlite", bundled("libsqlite3-sys", "sqlite3/sqlite3.h", quoted), "libsqlite3-sys", "blessing"),
    ("zstd", bundled("zstd-sys", "zstd/lib/zstd.h", numbered), "zstd-sys", "BSD-3-Clause"),
]:
    generic = "pkg:generic/%s@%s" % (name, number)
    components.append({"type": "library", "bom-ref": generic, "name": name, "version": number, "purl": generic,
                       "licenses": [{"license": {"id": licence}}]})
    for package in linked:
        if package[0] == crate:
            edges.setdefault(package, set()).add(("generic", generic))


def target_ref(package):
    """A crate's URL, or the one that a C library has."""
    return package[1] if package[0] == "generic" else ref(package)


json.dump(
    {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": ref(("membridge", version)),
                "name": "membridge",
                "version": version,
                "licenses": [{"expression": "MIT"}],
            }
        },
        "components": components,
        "dependencies": [
            {"ref": ref(package), "dependsOn": sorted(target_ref(other) for other in others)}
            for package, others in sorted(edges.items())
        ],
    },
    sys.stdout,
    indent=2,
)
print()
