#!/usr/bin/env python3
"""What the binary is made of: a CycloneDX list of its crates, and their licences with texts.

Asks `cargo metadata`, so that nothing has to be installed and no network is needed where the
crates are at hand. Only what is linked into the binary counts: neither tests nor build scripts.
Of a static binary the C library and the compiler's own library are parts too.
"""

import argparse
import json
import pathlib
import subprocess

ROOT = "pilothouse"
TEXTS = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")

# What a static binary holds besides crates: name, licence, the command that tells its version, and
# where Debian keeps the texts. glibc may be linked in because whoever has these sources can link
# them anew with another one.
SYSTEM = [
    (
        "glibc",
        "LGPL-2.1-or-later",
        ["getconf", "GNU_LIBC_VERSION"],
        ["libc6-dev/copyright", "../common-licenses/LGPL-2.1"],
    ),
    (
        "libgcc",
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        ["cc", "-dumpfullversion"],
        ["libgcc-*-dev/copyright"],
    ),
]


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


def system_parts():
    """Shaped as packages of Cargo are, with the files of their licences."""
    documents = pathlib.Path("/usr/share/doc")
    parts = []
    for name, licence, command, patterns in SYSTEM:
        version = subprocess.check_output(command, text=True).split()[-1]
        files = [file for pattern in patterns for file in documents.glob(pattern)]
        parts.append({"name": name, "version": version, "license": licence, "texts": files})
    return parts


def component(package):
    registry = "generic" if "texts" in package else "cargo"
    purl = f"pkg:{registry}/{package['name']}@{package['version']}"
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


def texts_of(package):
    if "texts" in package:
        return package["texts"]
    directory = pathlib.Path(package["manifest_path"]).parent
    return [f for f in sorted(directory.iterdir()) if f.is_file() and f.name.upper().startswith(TEXTS)]


def licences(packages):
    """A line for each part, then each text once, with the parts that carry it."""
    lines = [f"{p['name']} {p['version']}: {p.get('license') or 'see its text below'}" for p in packages]
    texts = {}
    for package in packages:
        for file in texts_of(package):
            text = file.read_text(errors="replace").strip()
            texts.setdefault(text, []).append(f"{package['name']} {package['version']}")
    for text, users in texts.items():
        lines += ["", "=" * 80, ", ".join(users), "=" * 80, text]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--static", action="store_true", help="the binary is linked statically")
    parser.add_argument("--sbom", type=pathlib.Path, help="where the list of parts goes")
    parser.add_argument("--licences", type=pathlib.Path, help="where the licences go")
    wanted = parser.parse_args()
    data = metadata()
    packages = linked(data) + (system_parts() if wanted.static else [])
    if wanted.sbom:
        version = next(p["version"] for p in data["packages"] if p["name"] == ROOT)
        wanted.sbom.write_text(json.dumps(sbom(packages, version), indent=1) + "\n")
    if wanted.licences:
        wanted.licences.write_text(licences(packages))


if __name__ == "__main__":
    main()
