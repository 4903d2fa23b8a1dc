"""The file a backup is: a compressed tar, whose last member lists all others with their digests.

A file that was cut off has no such list and is no backup. Format 1 of the list:

{"format": 1, "made_at": RFC 3339, "version": of the program, "jobs": {"last_seq", "unfinished"},
 "files": [{"name": "<place>/<path>", "size": bytes, "sha256": hex}]}
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Self

from orchestrator.daemon.backup.copying import Copied, Hashed
from orchestrator.errors import GiveUpError

FORMAT: Final = 1
MANIFEST: Final = "MANIFEST.json"

_MAX_MANIFEST_BYTES: Final = 256 << 20
_COMPRESSION: Final = 1
_CHUNK: Final = 1 << 20
_MAX_HEAD_BYTES: Final = 64 << 10
"""Of what describes a member, such as a long name: it is read into memory as a whole."""
_MAX_FILES: Final = 2_000_000
"""More than the largest list has room for."""
_MAX_NAME_BYTES: Final = 1024
_MAX_NAME_PARTS: Final = 32
_MAX_AFTER_BYTES: Final = 1 << 20
"""Of what may come after the archive's end, which is padding only."""
# The tar library tells some damage by plain ValueErrors.
_BROKEN: Final = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """See the module. `unfinished` are the jobs that were not at their end."""

    made_at: str
    version: str
    last_seq: int
    unfinished: int
    files: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    def as_json(self) -> dict[str, Any]:
        """What it comes to, for people and scripts."""
        return {
            "made_at": self.made_at,
            "version": self.version,
            "files": len(self.files),
            "bytes": self.size,
            "last_seq": self.last_seq,
            "unfinished_jobs": self.unfinished,
        }

    def encode(self) -> bytes:
        document = {
            "format": FORMAT,
            "made_at": self.made_at,
            "version": self.version,
            "jobs": {"last_seq": self.last_seq, "unfinished": self.unfinished},
            "files": [asdict(entry) for entry in self.files],
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """
        Raises:
            GiveUpError: reason `backup_damaged`, or `backup_newer`.
        """
        try:
            document = json.loads(data)
            if isinstance(document["format"], int) and document["format"] > FORMAT:
                raise GiveUpError(
                    f"the backup was made by version {document['version']}, in a form that this one does not know",
                    reason="backup_newer",
                    fix="restore it with that version",
                )
            jobs = document["jobs"]
            files = tuple(Entry(str(one["name"]), int(one["size"]), str(one["sha256"])) for one in document["files"])
            return cls(
                str(document["made_at"]),
                str(document["version"]),
                int(jobs["last_seq"]),
                int(jobs["unfinished"]),
                files,
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise damaged("its list of files cannot be read") from error


def damaged(why: str) -> GiveUpError:
    return GiveUpError(
        f"this is no whole backup: {why}", reason="backup_damaged", fix="take another one; keep this to look into it"
    )


class Writer:
    """Adds files one by one; `finish` makes it a backup. `out` is not closed."""

    def __init__(self, out: IO[bytes]) -> None:
        self._packed = gzip.GzipFile(fileobj=out, mode="wb", compresslevel=_COMPRESSION, mtime=0)
        self._tar = tarfile.open(fileobj=self._packed, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 -- `finish` closes it

    def add(self, name: str, path: Path, progress: Callable[[int], None]) -> Copied:
        """
        Raises:
            OSError: it cannot be read, or the backup not be written.
            EOFError: it became shorter meanwhile.
        """
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            hashed = Hashed(file, size, progress)
            self._tar.addfile(_head(name, size), hashed)
        return hashed.copied

    def finish(self, manifest: Manifest) -> None:
        data = manifest.encode()
        self._tar.addfile(_head(MANIFEST, len(data)), io.BytesIO(data))
        self._tar.close()
        self._packed.close()


def _head(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


class _Head(tarfile.TarInfo):
    """One that is never large, whatever it claims."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Raises TarError."""
        info = super().frombuf(buf, encoding, errors)
        if info.type not in tarfile.REGULAR_TYPES and info.size > _MAX_HEAD_BYTES:
            raise tarfile.ReadError("a head is too large")
        return info


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a backup; `read` gives its bytes once, and may be left."""

    name: str
    size: int
    read: Callable[[int], bytes]


def members(file: IO[bytes]) -> Iterator[Member]:
    """What the archive holds, in order; each is to be read before the next.

    Raises:
        GiveUpError: reason `backup_damaged`: it is no such archive, or it ends too soon.
    """
    try:
        with gzip.GzipFile(fileobj=file) as packed, tarfile.open(fileobj=packed, mode="r|", tarinfo=_Head) as tar:
            for info in tar:
                content = tar.extractfile(info) if info.isreg() and not info.issparse() else None
                if content is None or not _plain(info.name):
                    raise damaged(f"it holds {info.name[:200]!r}, which is no file of ours")
                yield Member(info.name, info.size, content.read)
            after = 0
            while data := packed.read(_CHUNK):  # the sum over everything comes last
                after += len(data)
                if after > _MAX_AFTER_BYTES:
                    raise damaged("something follows its end")
    except _BROKEN as error:
        raise _cut_off() from error


def _plain(name: str) -> bool:
    """A name that stays below its folder, and that a file system can have."""
    if len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME_BYTES or "\0" in name:
        return False
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and str(path) == name
    return inside and 0 < len(path.parts) <= _MAX_NAME_PARTS


def read_all(file: IO[bytes], take: Callable[[Member], Callable[[bytes], Any]]) -> Manifest:
    """Read a whole backup, give each file's bytes to what `take` returns for it, and hold them against the list.

    Raises:
        GiveUpError: reason `backup_damaged` or `backup_newer`.
        OSError: it cannot be read.
    """
    found: dict[str, Copied] = {}
    manifest: Manifest | None = None
    for member in members(file):
        if manifest is not None or member.name in found:
            raise damaged("a file comes twice, or after the list")
        if len(found) >= _MAX_FILES:
            raise damaged(f"it holds more than {_MAX_FILES} files")
        if member.name == MANIFEST:
            manifest = Manifest.decode(_small(member))
        else:
            found[member.name] = _through(member, take(member))
    if manifest is None:
        raise damaged("its list of files is missing, so it was cut off")
    _compare(manifest, found)
    return manifest


def _small(member: Member) -> bytes:
    if member.size > _MAX_MANIFEST_BYTES:
        raise damaged("its list of files is too large")
    return _read(member, member.size)


def _read(member: Member, size: int) -> bytes:
    try:
        return member.read(size)
    except _BROKEN as error:
        raise _cut_off() from error


def _cut_off() -> GiveUpError:
    return damaged("it is cut off, or something else")


def _through(member: Member, give: Callable[[bytes], Any]) -> Copied:
    digest, size = hashlib.sha256(), 0
    while data := _read(member, _CHUNK):
        digest.update(data)
        size += len(data)
        give(data)
    return Copied(size, digest.hexdigest())


def _compare(manifest: Manifest, found: Mapping[str, Copied]) -> None:
    listed = {entry.name: Copied(entry.size, entry.sha256) for entry in manifest.files}
    for name in sorted(listed.keys() | found.keys()):
        if listed.get(name) != found.get(name):
            raise damaged(f"{name} is not what the list says")
