#!/usr/bin/env python3
"""What the binary is made of: a CycloneDX list of its crates, and their licences with texts.

Asks `cargo metadata`, so that nothing has to be installed and no network is needed where the
crates are at hand. Only what is linked into the binary counts: neither tests nor build scripts.
"""

import argparse
import json
import pathlib
import subprocess

ROOT = "pilothouse"
TEXTS = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")


def metadata():
    host = next(
        line.split()[1]
        for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines()
        if line.startswith("host:")
    )
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    return json.loads(subprocess.check_output(command))


def linked(data):
    """Packages that the binary is linked from, those of this workspace left out."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    start = next(p["id"] for p in data["packages"] if p["name"] == ROOT and p["source"] is None)
    seen, waiting = {start}, [start]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_linked and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    found = [packages[i] for i in seen if packages[i]["source"]]
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def component(package):
    purl = f"pkg:cargo/{package['name']}@{package['version']}"
    part = {
        "type": "library",
        "bom-ref": purl,
        "purl": purl,
        "name": package["name"],
        "version": package["version"],
    }
    if package.get("license"):
        # Some crates still write "MIT/Apache-2.0" for "either".
        part["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return part


def sbom(packages, version):
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": ROOT, "version": version}},
        "components": [component(package) for package in packages],
    }


def licences(packages):
    """A line for each crate, then each text once, with the crates that carry it."""
    lines = [f"{p['name']} {p['version']}: {p.get('license') or 'see its text below'}" for p in packages]
    texts = {}
    for package in packages:
        directory = pathlib.Path(package["manifest_path"]).parent
        for file in sorted(directory.iterdir()):
            if file.is_file() and file.name.upper().startswith(TEXTS):
                text = file.read_text(errors="replace").strip()
                texts.setdefault(text, []).append(f"{package['name']} {package['version']}")
    for text, users in texts.items():
        lines += ["", "=" * 80, ", ".join(users), "=" * 80, text]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", required=True)
    parser.add_argument("--sbom", type=pathlib.Path, required=True)
    parser.add_argument("--licences", type=pathlib.Path, required=True)
    wanted = parser.parse_args()
    packages = linked(metadata())
    wanted.sbom.write_text(json.dumps(sbom(packages, wanted.version), indent=1) + "\n")
    wanted.licences.write_text(licences(packages))


if __name__ == "__main__":
    main()
