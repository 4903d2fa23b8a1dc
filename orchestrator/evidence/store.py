"""Signed envelopes by the digest of what they speak for: one small file each, written once, never half."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import TryAgainError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_BYTES = 4 << 20


class EvidenceStore:
    """Files `sha256-<hex>.json` in `folder` (made with mode 0700). The newest envelope of a digest counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, digests: Sequence[str], envelope: str) -> None:
        """Keep `envelope` (DSSE JSON text) for each digest (`sha256:<hex>`).

        Raises:
            TryAgainError: reason `evidence_unwritable`; what was there before still stands.
        """
        try:
            for digest in digests:
                path = self._path(digest)
                fresh = path.with_suffix(".new")
                fresh.write_text(envelope, encoding="utf-8")
                fresh.replace(path)
        except OSError as error:
            raise TryAgainError(f"evidence cannot be written: {error.strerror}", reason="evidence_unwritable") from error

    def get(self, digest: str) -> str:
        """The envelope for a digest; empty when there is none, or the digest is none."""
        if not _DIGEST.fullmatch(digest):
            return ""
        try:
            with self._path(digest).open(encoding="utf-8") as file:
                return file.read(_MAX_BYTES)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise TryAgainError(f"evidence cannot be read: {error.strerror}", reason="evidence_unreadable") from error

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.replace(':', '-')}.json"
