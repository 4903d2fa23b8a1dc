"""Reads what `make images` left: an image's settings, its files as the layer records them, and its root folder."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "images"
NAMES = {"daemon": "orchestrator", "agent": "orchestrator-agent"}

SECRETS = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}"
    rb"|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bglpat-[\w-]{20}"
    rb"|\beyJ[\w-]{16,}\.eyJ[\w-]{16,}\.[\w-]{32,}"
)
"""Key material and tokens by their shape: PEM, AWS, GitHub, GitLab, a signed JWT."""
EXAMPLES = re.compile(r".*/site-packages/pyjwt-[\d.]+\.dist-info/METADATA")
"""Files that show a secret's shape on purpose: the manual of a library for signed tokens."""
SECRET_NAMES = frozenset({".netrc", ".pypirc", ".git", ".env", ".npmrc", ".docker", "pip.conf", "id_rsa", "id_ed25519"})


@dataclass
class Image:
    name: str
    reference: str
    digest: str
    archive: Path
    config: dict
    history: list
    entries: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)

    def text(self, path: str) -> str:
        return self.contents[path].decode("utf-8")

    def sbom(self) -> str:
        return self.text(self.config["Labels"]["orchestrator.dev/sbom"].lstrip("/"))

    def unpack(self, folder: Path) -> Path:
        with tarfile.open(self.archive) as outer:
            for layer in _layers(outer):
                layer.extractall(folder, filter="tar")
        return folder


def read(name: str) -> Image:
    """Skips the test where nothing was built; with REQUIRE_IMAGES=1 that fails it."""
    archive = FOLDER / f"{name}.oci.tar"
    if not archive.is_file():
        reason = "no images were built here; `make images` builds them where buildah and root are"
        pytest.fail(reason) if os.environ.get("REQUIRE_IMAGES") == "1" else pytest.skip(reason)
    with tarfile.open(archive) as outer:
        described, manifest = _manifest(outer)
        config = json.loads(_blob(outer, manifest["config"]["digest"]).read())
        image = Image(
            name,
            described["annotations"]["io.containerd.image.name"],
            described["digest"],
            archive,
            config["config"],
            config["history"],
        )
        for layer in _layers(outer):
            for entry in layer:
                path = entry.name.removeprefix("./").rstrip("/")
                image.entries[path] = entry
                if entry.isfile():
                    image.contents[path] = layer.extractfile(entry).read()
    return image


def secrets_in(files: Iterable[tuple[str, bytes]]) -> list[str]:
    """Names of files that look like secrets or hold one."""
    return [
        name
        for name, content in files
        if SECRET_NAMES & set(name.split("/")) or (SECRETS.search(content) and not EXAMPLES.fullmatch(name))
    ]


def _manifest(outer: tarfile.TarFile) -> tuple[dict, dict]:
    (described,) = json.loads(outer.extractfile("index.json").read())["manifests"]
    return described, json.loads(_blob(outer, described["digest"]).read())


def _layers(outer: tarfile.TarFile) -> Iterator[tarfile.TarFile]:
    for one in _manifest(outer)[1]["layers"]:
        with tarfile.open(fileobj=_blob(outer, one["digest"])) as layer:
            yield layer


def _blob(outer: tarfile.TarFile, digest: str) -> io.BytesIO:
    return io.BytesIO(outer.extractfile("blobs/" + digest.replace(":", "/")).read())
