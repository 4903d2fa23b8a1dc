"""Keeps each bundle that was in force, with when and by whom it was loaded: what a digest in a decision means."""

from __future__ import annotations

import contextlib
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from orchestrator.policy.files import MAX_BUNDLE_BYTES, Bundle, digest_of
from orchestrator.private_file import create_private_file

MAX_LOADS: Final = 2000
"""Loads that are remembered; of more the oldest are forgotten, and with them bundles that none is left of."""
_MAX_KEPT_BYTES = 64 << 20
_MAX_LOADS_BYTES = 4 << 20
_LOADS = "loads.jsonl"
_NAME = re.compile(r"sha256-[0-9a-f]{64}\.json\.z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Load(msgspec.Struct, frozen=True):
    """A bundle came into force. `by` is who did it, `before` the digest of the one it took over from, if any. `folder`
    is where it was read, on the daemon's machine; `version` the program's."""

    at: str
    digest: str
    by: str
    folder: str
    before: str = ""
    version: str = ""


class BundleArchive:
    """The folder of kept bundles; made at the first `keep`.

    Raises:
        OSError: each of its members but `loads` and `read`, which find nothing then.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, bundle: Bundle, load: Load) -> None:
        """Remember that the bundle came into force, and all that is in it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(bundle.digest)
        if not path.exists():
            contents = {name: content.decode() for name, content in bundle.contents.items()}
            self._write(path, zlib.compress(msgspec.json.encode(contents, order="sorted")))
        loads = [*self.loads(), load]
        if len(loads) > MAX_LOADS:
            loads = loads[-MAX_LOADS:]
            self._forget({one.digest for one in loads})
        self._write(self._folder / _LOADS, b"".join(msgspec.json.encode(one) + b"\n" for one in loads))

    def loads(self) -> Sequence[Load]:
        """All that are remembered, oldest first; lines that are none are left out."""
        found = []
        for line in _read(self._folder / _LOADS, _MAX_LOADS_BYTES).splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                found.append(msgspec.json.decode(line, type=Load))
        return found

    def read(self, digest: str) -> Mapping[str, bytes] | None:
        """The files of a bundle, path to content; None when it was not kept, or is not what its digest says."""
        if not _DIGEST.fullmatch(digest):
            return None
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(_read(self._path(digest), _MAX_KEPT_BYTES), 2 * MAX_BUNDLE_BYTES)
            files = msgspec.json.decode(text, type=dict[str, str])
        except (zlib.error, msgspec.DecodeError):
            return None
        contents = {name: content.encode() for name, content in files.items()}
        return contents if digest_of(contents) == digest else None

    def _forget(self, wanted: set[str]) -> None:
        for path in self._folder.iterdir():
            if _NAME.fullmatch(path.name) and path not in {self._path(digest) for digest in wanted}:
                path.unlink()

    def _write(self, path: Path, content: bytes) -> None:
        """All of it or nothing."""
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
        try:
            create_private_file(fresh, content)
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.replace(':', '-')}.json.z"


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return b""
