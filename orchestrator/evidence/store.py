"""Signed envelopes by the digest of what they speak for: one small file each, written once, never half."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import TryAgainError
from orchestrator.private_file import create_private_file, sync_folder

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_BYTES = 4 << 20


class EvidenceStore:
    """Files `sha256-<hex>.json` in `folder` (made with mode 0700). The first envelope of a digest stands:
    a job that later claims the same digest cannot replace what the one that built it was given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half in folder.glob("*.new"):
            half.unlink(missing_ok=True)

    def put(self, digests: Sequence[str], envelope: str) -> None:
        """Keep `envelope` (DSSE JSON text) for each digest (`sha256:<hex>`).

        Raises:
            TryAgainError: reason `evidence_unwritable`; what was there before still stands.
        """
        try:
            if digests:
                self._put_first([self._path(digest) for digest in digests], envelope)
                sync_folder(self._folder)
        except OSError as error:
            detail = error.strerror or "unknown"
            raise TryAgainError(f"evidence cannot be written: {detail}", reason="evidence_unwritable") from error

    @staticmethod
    def _put_first(paths: Sequence[Path], envelope: str) -> None:
        """One file under many names: a job of hundreds of artifacts names all of them in each envelope."""
        # A name of its own: jobs of one digest may end at once, and none may write into what another has linked.
        fresh = paths[0].with_name(f"{paths[0].name}.{secrets.token_hex(8)}.new")
        try:
            create_private_file(fresh, envelope.encode())
            # A link, unlike a rename, fails when the name is taken.
            for path in paths:
                with contextlib.suppress(FileExistsError):
                    path.hardlink_to(fresh)
        finally:
            fresh.unlink(missing_ok=True)

    def get(self, digest: str) -> str:
        """The envelope for a digest; empty when there is none, or the digest is none."""
        if not _DIGEST.fullmatch(digest):
            return ""
        try:
            # What is no text any more proves nothing, and is told to be malformed.
            with self._path(digest).open(encoding="utf-8", errors="replace") as file:
                return file.read(_MAX_BYTES)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise TryAgainError(f"evidence cannot be read: {error.strerror}", reason="evidence_unreadable") from error

    def built_by(self, digest: str) -> str:
        """The id of the job that the provenance of record is of; empty where there is none. No signature is checked."""
        try:
            statement = json.loads(base64.b64decode(json.loads(self.get(digest))["payload"]))
            return str(statement["predicate"]["runDetails"]["metadata"]["invocationId"])
        except (ValueError, KeyError, TypeError):
            return ""

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.replace(':', '-')}.json"
