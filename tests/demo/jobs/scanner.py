"""A small scanner: which components of a bill of materials have an advisory. Writes a report in Trivy's form.

Usage: scanner.py ARTIFACT SBOM ADVISORIES FINISHED_AT. The artifact must be a wheel whose metadata require nothing that
the bill of materials leaves out; the advisories are a list of {id, name, below, severity}. Standard library only.
"""

import json
import re
import sys
import zipfile
from pathlib import Path

REQUIRES = re.compile(r"^Requires-Dist: ([A-Za-z0-9._-]+)(?!.*extra ==)", re.MULTILINE)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])


def required(wheel: str) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode("utf-8")
    lines = [line for line in metadata.splitlines() if "extra ==" not in line]
    return {plain(found) for found in REQUIRES.findall("\n".join(lines))}


def main() -> None:
    wheel, sbom, advisories, finished = sys.argv[1:5]
    listed = json.loads(Path(sbom).read_text(encoding="utf-8"))["components"]
    components = {plain(one["name"]): one["version"] for one in listed}
    if missing := required(wheel) - set(components):
        sys.exit(f"the bill of materials leaves out: {', '.join(sorted(missing))}")
    found = [
        {
            "VulnerabilityID": one["id"],
            "PkgName": one["name"],
            "InstalledVersion": components[one["name"]],
            "FixedVersion": one["below"],
            "Severity": one["severity"],
        }
        for one in json.loads(Path(advisories).read_text(encoding="utf-8"))
        if one["name"] in components and number(components[one["name"]]) < number(one["below"])
    ]
    report = {
        "SchemaVersion": 2,
        "CreatedAt": finished,
        "ArtifactName": wheel,
        "Results": [{"Target": sbom, "Vulnerabilities": found}],
    }
    json.dump(report, sys.stdout)


main()
