#!/usr/bin/env python3
"""Checks an SBOM against Cargo.lock and cargo's resolution, and the workflow files for what must hold in all of them.

The resolution comes from `cargo metadata`, the SBOM from `cargo tree`: two ways to the same set of crates.
Usage: check-papers.py SBOM
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
problems = []


def resolved(target):
    """The crates that are linked on a target: normal dependencies, without macros and what only those need."""
    text = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout
    metadata = json.loads(text)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    macros = {
        identity for identity, package in packages.items()
        if any("proc-macro" in part["kind"] for part in package["targets"])
    }
    found, waiting = set(), [metadata["resolve"]["root"]]
    while waiting:
        identity = waiting.pop()
        if identity in found:
            continue
        found.add(identity)
        for dependency in nodes[identity]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if normal and dependency["pkg"] not in macros:
                waiting.append(dependency["pkg"])
    return {(packages[identity]["name"], packages[identity]["version"]) for identity in found} 


def check_sbom(path):
    """Names, versions and checksums."""
    sbom = json.loads(pathlib.Path(path).read_text())
    crates = [part for part in sbom["components"] if part["purl"].startswith("pkg:cargo/")]
    listed = {(part["name"], part["version"]) for part in crates}
    wanted = set()
    for target in ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"):
        wanted |= resolved(target)
    wanted = {package for package in wanted if package[0] != "membridge"}
    # Dev-dependencies can switch features on in cargo metadata's one resolution; what cargo tree links must all be in it.
    if not listed <= wanted:
        problems.append("the SBOM lists what is not resolved: %s" % sorted(listed - wanted))
    direct = re.findall(r"^([a-z][\w-]*) = ", (ROOT / "Cargo.toml").read_text().split("\n[dependencies]\n")[1].split("\n[")[0], re.M)
    macros_only = {"thiserror", "serde"}
    for name in direct:
        if name not in {package[0] for package in listed} and name not in macros_only:
            problems.append("the SBOM lacks the direct dependency %s" % name)
    lock = (ROOT / "Cargo.lock").read_text()
    for part in crates:
        for digest in part.get("hashes", []):
            if digest["content"] not in lock:
                problems.append("%s: a checksum that Cargo.lock does not have" % part["name"])
        if "hashes" not in part and part["name"] != "crc-fast":
            problems.append("%s has no checksum" % part["name"])
        if "licenses" not in part and part["name"] != "crc-fast":
            problems.append("%s has no licence" % part["name"])
    for name in ("sqlite", "zstd"):
        if name not in {part["name"] for part in sbom["components"]}:
            problems.append("the SBOM lacks %s" % name)
    for name in ("s3s", "proptest", "insta"):
        if name in {package[0] for package in listed}:
            problems.append("the SBOM lists %s, which only tests use" % name)
    references = {part["bom-ref"] for part in sbom["components"]} | {sbom["metadata"]["component"]["bom-ref"]}
    for entry in sbom["dependencies"]:
        if not {entry["ref"], *entry["dependsOn"]} <= references:
            problems.append("the SBOM's graph names what it does not list: %s" % entry["ref"])
    print("SBOM: %d crates and %d C libraries" % (len(crates), len(sbom["components"]) - len(crates)))


def check_workflows():
    """Valid YAML, least rights, pinned actions, make targets that exist."""
    try:
        import yaml
    except ImportError:
        problems.append("PyYAML is missing: apt-get install python3-yaml, or pip install pyyaml")
        return
    makefile = (ROOT / "Makefile").read_text()
    files = sorted((ROOT / ".github/workflows").glob("*.yml"))
    for path in files:
        text = path.read_text()
        workflow = yaml.safe_load(text)
        name = path.name
        if workflow.get("permissions") != {"contents": "read"}:
            problems.append("%s: the rights of the whole file must be contents: read" % name)
        for job, body in workflow["jobs"].items():
            if "timeout-minutes" not in body:
                problems.append("%s: %s has no limit of time" % (name, job))
            for step in body["steps"]:
                if ("uses" in step) == ("run" in step):
                    problems.append("%s: %s: a step either uses or runs" % (name, job))
                if "uses" in step and not re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", step["uses"]):
                    problems.append("%s: %s is not pinned to a commit" % (name, step["uses"]))
                if "checkout@" in step.get("uses", "") and step.get("with", {}).get("persist-credentials") is not False:
                    problems.append("%s: %s: checkout keeps the token" % (name, job))
                run = step.get("run", "")
                # What an event carries is text of a stranger: it must come in as a variable.
                if "${{" in run:
                    problems.append("%s: %s: an expression in a script: %s" % (name, job, run))
                for target in re.findall(r"\bmake ([a-z][a-z-]*)", run):
                    if "\n%s:" % target not in makefile:
                        problems.append("%s: make %s does not exist" % (name, target))
        for line in text.splitlines():
            if "uses:" in line and not re.search(r"# v\d+\.\d+\.\d+$", line):
                problems.append("%s: which release is this? %s" % (name, line.strip()))
    print("workflows: %s" % ", ".join(path.name for path in files))


check_sbom(sys.argv[1])
check_workflows()
for problem in problems:
    print("ERROR: %s" % problem, file=sys.stderr)
sys.exit(1 if problems else 0)
