"""An OCI archive (image-spec, image layout, in a tar) whose bytes depend on the image alone."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Archive:
    name: str
    digest: str
    """`sha256:...` of the manifest: what a pod names the image by, once it was pushed unchanged."""
    path: Path
    compressed_bytes: int
    unpacked_bytes: int
    layers: int


def write(layout: Path, target: Path, name: str, epoch: int) -> Archive:
    """Pack the layout, sorted and dated `epoch`. `ctr images import`, `podman load` and `skopeo` find it as `name`."""
    index = json.loads((layout / "index.json").read_text("utf-8"))
    (described,) = index["manifests"]
    described["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    manifest = json.loads(_blob(layout, described["digest"]).read_text("utf-8"))
    partial = target.with_suffix(".partial")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "index.json", json.dumps(index, sort_keys=True).encode(), epoch)
        _add(tar, "oci-layout", (layout / "oci-layout").read_bytes(), epoch)
        for path in sorted((layout / "blobs").rglob("*")):
            if path.is_file():
                _add(tar, path.relative_to(layout).as_posix(), path.read_bytes(), epoch)
    partial.replace(target)
    unpacked = sum(_unpacked(_blob(layout, layer["digest"])) for layer in manifest["layers"])
    packed = sum(layer["size"] for layer in manifest["layers"])
    return Archive(name, described["digest"], target, packed, unpacked, len(manifest["layers"]))


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def _unpacked(layer: Path) -> int:
    """Bytes of the files in a layer, which is a gzipped tar."""
    with gzip.open(layer) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        return sum(member.size for member in tar if member.isfile())


def _add(tar: tarfile.TarFile, name: str, content: bytes, epoch: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), epoch, 0o644
    tar.addfile(entry, io.BytesIO(content))
