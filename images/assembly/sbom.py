"""The software bill of materials of an image, in CycloneDX 1.6 (ECMA-424), and the records scanners look for.

Listed are the Debian packages that files were copied from, and the Python distributions that are installed.
Run as a program (`sbom.py ROOT NAME PART DIGEST`) it lists every package of this machine and one part more.
"""

from __future__ import annotations

import email.parser
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

DPKG = Path("/var/lib/dpkg")
OS_RELEASE = Path("/etc/os-release")


@dataclass(frozen=True, slots=True)
class DebianPackage:
    name: str
    version: str
    architecture: str
    record: str
    """Its paragraph in dpkg's status file."""

    @property
    def purl(self) -> str:
        release = _os_release()
        system, number = release.get("ID", "debian"), release.get("VERSION_ID", "0")
        place = f"{quote(self.name)}@{quote(self.version, safe='')}"
        return f"pkg:deb/{system}/{place}?arch={self.architecture}&distro={system}-{number}"


def debian_packages(sources: Iterable[Path]) -> list[DebianPackage]:
    """The packages that `sources` (real paths) belong to. Configuration that a package made itself has none."""
    if not (DPKG / "status").is_file():
        return []
    owners = {
        _real(line): path.name.removesuffix(".list")
        for path in (DPKG / "info").glob("*.list")
        for line in path.read_text().splitlines()
    }
    names = {owners[str(source)].partition(":")[0] for source in sources if str(source) in owners}
    return [package for package in installed() if package.name in names]


def installed() -> list[DebianPackage]:
    """All packages of this machine, by name."""
    found = []
    for paragraph in (DPKG / "status").read_text().split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][\w-]*): ?(.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            found.append(
                DebianPackage(fields["Package"], fields["Version"], fields["Architecture"], paragraph.strip() + "\n")
            )
    return sorted(found, key=lambda package: package.name)


def keep_records(root: Path, packages: Iterable[DebianPackage]) -> None:
    """What a scanner reads where no dpkg is (`status.d`), and the licences that must go with the files."""
    records = root / "var/lib/dpkg/status.d"
    for package in packages:
        records.mkdir(parents=True, exist_ok=True)
        (records / package.name).write_text(package.record)
        notice = Path("/usr/share/doc", package.name, "copyright")
        if notice.is_file():
            target = root / notice.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(notice, target)


def components(
    packages: Path, wheels: Path | None, debian: Iterable[DebianPackage], interpreter: Path
) -> list[dict[str, object]]:
    """CycloneDX components, sorted by their purl. `packages` is the image's site-packages folder."""
    listed = [_component(one.name, one.version, one.purl) for one in debian]
    if not any(one.name.startswith("python3") for one in debian):
        version = sys.version.split()[0]
        listed.append(_component("python", version, f"pkg:generic/python@{version}"))
    hashes = _wheel_hashes(wheels)
    for folder in packages.glob("*.dist-info"):
        metadata = email.parser.Parser().parsestr((folder / "METADATA").read_text("utf-8"), headersonly=True)
        name, version = re.sub(r"[-_.]+", "-", metadata["Name"]).lower(), metadata["Version"]
        made = _component(name, version, f"pkg:pypi/{name}@{quote(version)}")
        if metadata["License-Expression"]:
            made["licenses"] = [{"expression": metadata["License-Expression"]}]
        if digest := hashes.get((name, version)):
            made["hashes"] = [{"alg": "SHA-256", "content": digest}]
        listed.append(made)
    return sorted(listed, key=lambda one: str(one["purl"]))


def write(root: Path, name: str, listed: list[dict[str, object]]) -> None:
    """Below /usr/share/sbom. Its serial number is that of its content (UUID version 5), its time that of the source."""
    version = os.environ.get("VERSION") or "unknown"
    made = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH") or 0), UTC)
    itself = {"type": "container", "bom-ref": name, "name": name, "version": version}
    document: dict[str, object] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": itself,
            "properties": [{"name": "orchestrator:base", "value": os.environ.get("BASE", "")}],
        },
        "components": listed,
        "dependencies": [{"ref": name, "dependsOn": [one["bom-ref"] for one in listed]}],
    }
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}"
    path = root / "usr/share/sbom" / f"{name}.cdx.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def _component(name: str, version: str, purl: str) -> dict[str, object]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _wheel_hashes(wheels: Path | None) -> dict[tuple[str, str], str]:
    """By name and version as they are in a wheel's file name (PEP 427)."""
    found = {}
    for path in wheels.glob("*.whl") if wheels else ():
        name, version = path.name.split("-")[:2]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[re.sub(r"[-_.]+", "-", name).lower(), version] = digest
    return found


def _real(line: str) -> str:
    """A path as dpkg lists it, with the links of a merged `/usr` followed."""
    folder, _, name = line.rpartition("/")
    return f"{_real_folder(folder or '/')}/{name}"


@functools.cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _os_release() -> dict[str, str]:
    if not OS_RELEASE.is_file():
        return {}
    return {
        key: value.strip('"') for key, value in re.findall(r"^([A-Z_]+)=(.*)$", OS_RELEASE.read_text(), re.MULTILINE)
    }


def main() -> None:
    root, name, part, digest = sys.argv[1:]
    content = digest.removeprefix("sha256:")
    more = _component(part, digest, f"pkg:generic/{part}?checksum={digest}")
    more["hashes"] = [{"alg": "SHA-256", "content": content}]
    write(Path(root), name, [*(_component(one.name, one.version, one.purl) for one in installed()), more])


if __name__ == "__main__":
    main()
