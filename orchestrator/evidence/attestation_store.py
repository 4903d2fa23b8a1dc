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
MAX_LOOSE_BYTES: Final = 256 << 20
"""Of all that no configured signer stands for, over all artifacts."""


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


class AttestationStore:
    """Files in a folder (made with mode 0700) for each artifact digest. All calls block, and may come from threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half in folder.glob("*/*.new"):
            half.unlink(missing_ok=True)
        self._loose_bytes = sum(path.stat().st_size for path in folder.glob("*/loose.*.json"))

    def add(self, digests: Sequence[str], text: str, standing: Standing, *, key: str = "", room: str = "") -> str:
        """Keep `text` for each artifact digest (`sha256:<hex>`); its id, or that of what is kept under `key` already.

        `key` (hex of a SHA-256, of what is said) makes saying it again, with another signature, the same attestation;
        without one each signature is its own. `room` is any text, such as what kind of statement it is.

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
                found = [self._add(digest, data, name) for digest in digests]
            except OSError as error:
                detail = error.strerror or "unknown"
                raise TryAgainError(f"evidence cannot be written: {detail}", reason="evidence_unwritable") from error
        return f"sha256:{found[0] if found else own_id}"

    def _add(self, digest: str, data: bytes, name: _Name) -> str:
        folder = self._of(digest)
        kept = list(_names(folder))
        for one in kept:
            if one.key == name.key or one.id == name.id:
                return one.id
        oldest = self._oldest(folder, name, kept)
        loose = len(data) if name.standing is Standing.LOOSE else 0
        if (not oldest and sum(one.standing is name.standing for one in kept) >= MOST[name.standing]) or (
            loose and self._loose_bytes + loose > MAX_LOOSE_BYTES
        ):
            raise GiveUpError(
                f"{digest} has all the attestations that are kept of one artifact, or there are too many of no "
                "configured signer",
                reason="evidence_full",
                fix="upload attestations of signers that promotion.signers lists",
            )
        if not folder.exists():
            folder.mkdir(mode=0o700)
            _sync(self._folder)
        _write(folder / name.file, data)
        self._loose_bytes += loose
        for path in oldest:
            path.unlink(missing_ok=True)
        return name.id

    @staticmethod
    def _oldest(folder: Path, name: _Name, kept: Sequence[_Name]) -> Sequence[Path]:
        """What has to go from the room of `name` when it comes; nothing where the first words stand."""
        most = MOST_IN_ROOM.get(name.standing)
        if most is None:
            return ()
        there = [folder / one.file for one in kept if (one.standing, one.room) == (name.standing, name.room)]
        there.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        return there[: max(0, len(there) - most + 1)]

    def of(self, digest: str) -> Sequence[KeptAttestation]:
        """All that is kept about an artifact, ours first, otherwise in the order of their ids; empty for none.

        Raises:
            TryAgainError: reason `evidence_unreadable`.
        """
        if not _DIGEST.fullmatch(digest):
            return ()
        folder = self._of(digest)
        try:
            return [_read(folder, name) for name in sorted(_names(folder), key=_order)]
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


def _order(name: _Name) -> tuple[int, str]:
    return list(Standing).index(name.standing), name.id


def _read(folder: Path, name: _Name) -> KeptAttestation:
    with (folder / name.file).open(encoding="utf-8") as file:
        return KeptAttestation(f"sha256:{name.id}", file.read(MAX_ATTESTATION_BYTES), name.standing)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and durable when this returns."""
    fresh = path.with_name(f"{secrets.token_hex(8)}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
