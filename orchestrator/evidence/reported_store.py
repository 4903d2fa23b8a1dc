"""Documents that jobs reported and that nobody has signed yet: kept until the job's end, by job and by content."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.model.job import JobId
from orchestrator.private_file import create_private_file, sync_folder

MAX_DOCUMENT_BYTES: Final = 4 << 20
MAX_DOCUMENTS: Final = 32
"""Of one job."""
MAX_JOB_BYTES: Final = 16 << 20
"""All documents of one job together: what it says of an artifact is kept for good, and read for each decision."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class ReportedDocuments:
    """Files in a folder (made with mode 0700) for each job. All calls block, and may come from threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep(self, job_id: JobId, document: bytes) -> str:
        """Its digest (`sha256:<hex>`), once it is durable.

        Raises:
            GiveUpError: reason `too_many_documents` or `document_too_large`.
            TryAgainError: reason `evidence_unwritable`.
        """
        if len(document) > MAX_DOCUMENT_BYTES:
            raise GiveUpError(
                f"a document may have {MAX_DOCUMENT_BYTES} bytes",
                reason="document_too_large",
                fix="report a shorter one, such as a scan without its source snippets",
            )
        digest = hashlib.sha256(document).hexdigest()
        folder = self._of(job_id)
        path = folder / f"{digest}.json"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if not path.exists():
                sizes = [there.stat().st_size for there in folder.glob("*.json")]
                if len(sizes) >= MAX_DOCUMENTS or sum(sizes) + len(document) > MAX_JOB_BYTES:
                    raise GiveUpError(
                        f"a job may report {MAX_DOCUMENTS} documents, of {MAX_JOB_BYTES} bytes together",
                        reason="too_many_documents",
                    )
                _write(path, document)
        except OSError as error:
            detail = error.strerror or "unknown"
            raise TryAgainError(f"evidence cannot be written: {detail}", reason="evidence_unwritable") from error
        return f"sha256:{digest}"

    def read(self, job_id: JobId, digest: str) -> bytes | None:
        """A document by its digest; None when it is not there, or is another one by now.

        Raises:
            TryAgainError: reason `evidence_unreadable`.
        """
        if not _DIGEST.fullmatch(digest):
            return None
        hex_ = digest.removeprefix("sha256:")
        try:
            with (self._of(job_id) / f"{hex_}.json").open("rb") as file:
                document = file.read(MAX_DOCUMENT_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TryAgainError(f"evidence cannot be read: {error.strerror}", reason="evidence_unreadable") from error
        return document if hashlib.sha256(document).hexdigest() == hex_ else None

    def forget(self, job_id: JobId) -> None:
        """The job is finished: what counts of its documents is signed. Never raises."""
        shutil.rmtree(self._of(job_id), ignore_errors=True)

    def keep_only(self, jobs: Collection[JobId]) -> None:
        """Forget what jobs left that are none of `jobs` and that a killed daemon could not forget. Never raises."""
        live = {self._of(job_id).name for job_id in jobs}
        with contextlib.suppress(OSError):
            for folder in self._folder.iterdir():
                if folder.name not in live:
                    shutil.rmtree(folder, ignore_errors=True)

    def _of(self, job_id: JobId) -> Path:
        return self._folder / hashlib.sha256(job_id.encode()).hexdigest()[:32]


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f"{secrets.token_hex(8)}.new")
    try:
        create_private_file(fresh, data)
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent):
        sync_folder(folder)
