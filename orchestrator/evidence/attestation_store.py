"""Everything that was ever said about an artifact, by us or by others, as it was said: signed envelopes and bundles.

Nothing is judged here. Each kind of speaker has room of its own, so that nobody crowds out those whose word counts. In
most rooms the newest word takes the place of the oldest: a scan of each day does not end with a full room.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.evidence.attestations.reading import MAX_ATTESTATION_BYTES, read_attestation
from orchestrator.private_file import create_private_file, sync_folder

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NAME: Final = re.compile(r"(own|vouched|loose|hearsay)\.([0-9a-f]{16})-([0-9a-f]{64})-([0-9a-f]{64})\.json")


class Standing(enum.StrEnum):
    """By whom an attestation came: made here; uploaded, and by a configured signer when it came; uploaded; made here of
    the word of a job that neither built the artifact nor is listed. They are examined in this order."""

    OWN = "own"
    VOUCHED = "vouched"
    LOOSE = "loose"
    HEARSAY = "hearsay"


MOST: Final = {Standing.OWN: 320, Standing.VOUCHED: 128, Standing.LOOSE: 16, Standing.HEARSAY: 32}
"""Attestations of one artifact that are kept; together no more than are examined."""
MOST_IN_ROOM: Final = {Standing.OWN: 32, Standing.VOUCHED: 16, Standing.HEARSAY: 32}
"""Of one room; what comes then takes the place of the oldest."""
MOST_BYTES: Final = {Standing.LOOSE: 8 << 20, Standing.HEARSAY: 8 << 20}
"""Of one artifact: all of it is examined for each decision, and strangers must not make that slow."""
MAX_BYTES: Final = {Standing.LOOSE: 256 << 20, Standing.HEARSAY: 256 << 20}
"""Of all that nobody stands for whose word counts, over all artifacts."""


@dataclass(frozen=True, slots=True)
class KeptAttestation:
    """`text` is JSON, a DSSE envelope or a Sigstore bundle; `id` (`sha256:<hex>`) is `reading.Attestation.id`."""

    id: str
    text: str
    standing: Standing


class _Name(NamedTuple):
    standing: Standing
    room: str
    key: str
    id: str

    @property
    def file(self) -> str:
        return f"{self.standing}.{self.room}-{self.key}-{self.id}.json"


class _Kept(NamedTuple):
    """A file that is there. `at_ns` orders those of a room: when it was kept, or when it was said."""

    name: _Name
    path: Path
    at_ns: int
    size: int


class AttestationStore:
    """Files in a folder (made with mode 0700) for each artifact digest. All calls block, and may come from threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half in folder.glob("*/*.new"):
            half.unlink(missing_ok=True)
        self._bytes = {
            standing: sum(path.stat().st_size for path in folder.glob(f"*/{standing}.*.json")) for standing in MAX_BYTES
        }

    def add(
        self,
        digests: Sequence[str],
        text: str,
        standing: Standing,
        *,
        key: str = "",
        room: str = "",
        said_at_ns: int | None = None,
    ) -> str:
        """Keep `text` for each artifact digest (`sha256:<hex>`); its id, or that of what is kept under `key` already.

        `key` (hex of a SHA-256, of what is said) makes saying it again, with another signature, the same attestation;
        without one each signature is its own. `room` is any text, such as what kind of statement it is. `said_at_ns`
        (Unix nanoseconds) is when the statement says that it was made: among others of its room it is as old as that,
        so that nobody pushes the newest word out with older ones. Without it that is now.

        Raises:
            GiveUpError: reason `evidence_full`; `digest_malformed`; those of `read_attestation`.
            TryAgainError: reason `evidence_unwritable`; nothing that was there before is lost.
        """
        if not all(map(_DIGEST.fullmatch, digests)):
            raise GiveUpError("an artifact is named by sha256: and 64 hexadecimal digits", reason="digest_malformed")
        own_id = read_attestation(text).id.removeprefix("sha256:")
        data = text.encode()
        with self._lock:
            try:
                name = _Name(standing, hashlib.sha256(room.encode()).hexdigest()[:16], key or own_id, own_id)
                written: list[Path] = []
                found = [self._add(digest, data, name, said_at_ns, written) for digest in digests]
            except OSError as error:
                detail = error.strerror or "unknown"
                raise TryAgainError(f"evidence cannot be written: {detail}", reason="evidence_unwritable") from error
        return f"sha256:{found[0] if found else own_id}"

    def _add(self, digest: str, data: bytes, name: _Name, said_at_ns: int | None, written: list[Path]) -> str:
        folder = self._of(digest)
        there = list(_kept(folder))
        for one in there:
            if one.name.key == name.key or one.name.id == name.id:
                return one.name.id
        gone = _too_old(there, name, len(data), said_at_ns)
        left = [one for one in there if one.name.standing is name.standing and one not in gone]
        change = len(data) - sum(one.size for one in gone)
        bounded = name.standing in MAX_BYTES
        if (
            len(left) >= MOST[name.standing]
            or (bounded and sum(one.size for one in left) + len(data) > MOST_BYTES[name.standing])
            or (bounded and self._bytes[name.standing] + change > MAX_BYTES[name.standing])
        ):
            raise _full(digest)
        if not folder.exists():
            folder.mkdir(mode=0o700)
            sync_folder(self._folder)
        # One file under many names: a job of hundreds of artifacts names all of them in each envelope.
        if written:
            (folder / name.file).hardlink_to(written[0])
            sync_folder(folder)
        else:
            _write(folder / name.file, data, said_at_ns)
            written.append(folder / name.file)
        if bounded:
            self._bytes[name.standing] += change
        for one in gone:
            one.path.unlink(missing_ok=True)
        return name.id

    def of(self, digest: str) -> Sequence[KeptAttestation]:
        """All that is kept about an artifact, ours first, otherwise in the order of their ids; empty for none.

        Raises:
            TryAgainError: reason `evidence_unreadable`.
        """
        if not _DIGEST.fullmatch(digest):
            return ()
        folder = self._of(digest)
        try:
            found = (_read(folder, name) for name in sorted(_names(folder), key=_order))
            return [one for one in found if one is not None]
        except OSError as error:
            raise TryAgainError(f"evidence cannot be read: {error.strerror}", reason="evidence_unreadable") from error

    def get(self, digest: str, attestation: str) -> KeptAttestation | None:
        """One of them by its id (`sha256:<hex>`); None when there is none.

        Raises:
            TryAgainError: reason `evidence_unreadable`.
        """
        if not _DIGEST.fullmatch(digest) or not _DIGEST.fullmatch(attestation):
            return None
        folder = self._of(digest)
        try:
            for name in _names(folder):
                if name.id == attestation.removeprefix("sha256:"):
                    return _read(folder, name)
        except OSError as error:
            raise TryAgainError(f"evidence cannot be read: {error.strerror}", reason="evidence_unreadable") from error
        return None

    def digests(self, limit: int) -> Sequence[str]:
        """Artifacts about which something is kept, those first about which something was said last."""
        try:
            with os.scandir(self._folder) as entries:
                found = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if entry.is_dir()]
        except OSError as error:
            raise TryAgainError(f"evidence cannot be read: {error.strerror}", reason="evidence_unreadable") from error
        return [name.replace("-", ":", 1) for _, name in sorted(found, reverse=True)[:limit]]

    def _of(self, digest: str) -> Path:
        return self._folder / digest.replace(":", "-")


def _names(folder: Path) -> Iterator[_Name]:
    if not folder.exists():
        return
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match:
            yield _Name(Standing(match[1]), *match.groups()[1:])


def _kept(folder: Path) -> Iterator[_Kept]:
    for name in _names(folder):
        path = folder / name.file
        told = path.stat()
        yield _Kept(name, path, told.st_mtime_ns, told.st_size)


def _too_old(there: Sequence[_Kept], name: _Name, size: int, said_at_ns: int | None) -> Sequence[_Kept]:
    """What has to go from the room of `name` when it comes; nothing where the first words stand, and nothing that is
    newer than what comes."""
    most = MOST_IN_ROOM.get(name.standing)
    if most is None:
        return ()
    room = [one for one in there if (one.name.standing, one.name.room) == (name.standing, name.room)]
    room.sort(key=lambda one: (one.at_ns, one.name.id))
    bound = MOST_BYTES.get(name.standing, sum(one.size for one in room) + size)
    gone: list[_Kept] = []
    while room and (len(room) >= most or sum(one.size for one in room) + size > bound):
        gone.append(room.pop(0))
    if said_at_ns is not None and any(one.at_ns >= said_at_ns for one in gone):
        raise _full("what was said later about the artifact")
    return gone


def _full(what: str) -> GiveUpError:
    return GiveUpError(
        f"{what} has all the attestations that are kept of one artifact, or there are too many of no configured signer",
        reason="evidence_full",
        fix="upload attestations of signers that promotion.signers lists, the newest first",
    )


def _order(name: _Name) -> tuple[int, str]:
    return list(Standing).index(name.standing), name.id


def _read(folder: Path, name: _Name) -> KeptAttestation | None:
    """None when a newer one has just taken its place. What is no text proves nothing, and stops nobody."""
    try:
        with (folder / name.file).open(encoding="utf-8", errors="replace") as file:
            return KeptAttestation(f"sha256:{name.id}", file.read(MAX_ATTESTATION_BYTES), name.standing)
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes, said_at_ns: int | None) -> None:
    """Whole or not at all, and durable when this returns."""
    fresh = path.with_name(f"{secrets.token_hex(8)}.new")
    try:
        create_private_file(fresh, data, said_at_ns)
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)
