"""Everything that was ever said about an artifact, by us or by others, as it was said: signed envelopes and bundles.

Nothing is judged here. What the control plane says itself has room of its own, so that nobody can crowd it out.
"""

from __future__ import annotations

import enum
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.evidence.attestations.reading import MAX_ATTESTATION_BYTES, read_attestation

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NAME: Final = re.compile(r"(own|vouched|loose)-([0-9a-f]{64})-([0-9a-f]{64})\.json")


class Standing(enum.StrEnum):
    """By whom an attestation came: made here, or uploaded and by a configured signer when it came, or uploaded."""

    OWN = "own"
    VOUCHED = "vouched"
    LOOSE = "loose"


MOST: Final = {Standing.OWN: 256, Standing.VOUCHED: 128, Standing.LOOSE: 16}
"""Attestations of one artifact that are kept."""
MAX_LOOSE_BYTES: Final = 256 << 20
"""Of all that no configured signer stands for, over all artifacts."""


@dataclass(frozen=True, slots=True)
class KeptAttestation:
    """`text` is JSON, a DSSE envelope or a Sigstore bundle; `id` (`sha256:<hex>`) is `reading.Attestation.id`."""

    id: str
    text: str
    standing: Standing


class AttestationStore:
    """Files in a folder (made with mode 0700) for each artifact digest. All calls block, and may come from threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half in folder.glob("*/*.new"):
            half.unlink(missing_ok=True)
        self._loose_bytes = sum(path.stat().st_size for path in folder.glob("*/loose-*.json"))

    def add(self, digests: Sequence[str], text: str, standing: Standing, *, key: str = "") -> str:
        """Keep `text` for each artifact digest (`sha256:<hex>`); its id, or that of what is kept under `key` already.

        `key` (hex of a SHA-256, of what is said) makes saying it again, with another signature, the same attestation;
        without one each signature is its own.

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
                found = [self._add(digest, data, standing, key or own_id, own_id) for digest in digests]
            except OSError as error:
                detail = error.strerror or "unknown"
                raise TryAgainError(f"evidence cannot be written: {detail}", reason="evidence_unwritable") from error
        return f"sha256:{found[0] if found else own_id}"

    def _add(self, digest: str, data: bytes, standing: Standing, key: str, own_id: str) -> str:
        folder = self._of(digest)
        kept = list(_names(folder))
        for _, kept_key, kept_id in kept:
            if kept_key == key or kept_id == own_id:
                return kept_id
        loose = len(data) if standing is Standing.LOOSE else 0
        if sum(kind == standing for kind, _, _ in kept) >= MOST[standing] or (
            loose and self._loose_bytes + loose > MAX_LOOSE_BYTES
        ):
            raise GiveUpError(
                f"{digest} has all the attestations that are kept of one artifact, or there are too many of no "
                "configured signer",
                reason="evidence_full",
                fix="upload attestations of signers that promotion.signers lists",
            )
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder / f"{standing}-{key}-{own_id}.json", data)
        self._loose_bytes += loose
        return own_id

    def of(self, digest: str) -> Sequence[KeptAttestation]:
        """All that is kept about an artifact, ours first, otherwise in the order of their ids; empty for none.

        Raises:
            TryAgainError: reason `evidence_unreadable`.
        """
        if not _DIGEST.fullmatch(digest):
            return ()
        folder = self._of(digest)
        try:
            return [_read(folder, *name) for name in sorted(_names(folder), key=_order)]
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
                if name[2] == attestation.removeprefix("sha256:"):
                    return _read(folder, *name)
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


def _names(folder: Path) -> Iterator[tuple[Standing, str, str]]:
    if not folder.exists():
        return
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match:
            yield Standing(match[1]), match[2], match[3]


def _order(name: tuple[Standing, str, str]) -> tuple[int, str]:
    return list(Standing).index(name[0]), name[2]


def _read(folder: Path, standing: Standing, key: str, own_id: str) -> KeptAttestation:
    with (folder / f"{standing}-{key}-{own_id}.json").open(encoding="utf-8") as file:
        return KeptAttestation(f"sha256:{own_id}", file.read(MAX_ATTESTATION_BYTES), standing)


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
    for folder in (path.parent, path.parent.parent):
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
