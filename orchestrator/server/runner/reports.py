"""What a job reports with its own identity: artifacts, and documents about them, such as a bill of materials.

Documents are kept as they come, and signed at the job's end as what they are: this job's word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from aiohttp import web

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.journal.redact import Masker
from orchestrator.model.events import ArtifactAttested, ArtifactReported, Event
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.server import schemas
from orchestrator.server.entrance.body import read_body, require_media_type, strict_json, validated
from orchestrator.server.entrance.problems import Fault, ProblemError

MAX_REPORTS: Final = 32
"""Requests of one runner that are taken in."""
BODY_SECONDS: Final = 20.0
MAX_PREDICATE_BYTES: Final = 4 << 20
_FRAME_BYTES: Final = 4096
"""What is around the document in a request."""

Report = Callable[[Record, str, str, bytes], Awaitable[ArtifactAttested]]
"""Keeps a document (JSON) of a running job about an artifact's digest, of a predicate type; the fact to record.

GiveUpError `predicate_type_refused`, `document_too_large`, `too_many_documents`; TryAgainError.
"""


class _Raw(msgspec.Struct):
    predicate: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Reported:
    digest: str
    predicate_type: str
    predicate: bytes


Note = Callable[[JobId, Event], Awaitable[None]]
"""Has a fact of a job durable when it returns; OrchestratorError when it is not."""


@dataclass(slots=True, eq=False)
class Reporting:
    """One runner's reports: what is on record of them, and that only one document is in memory at a time.

    A job whose answer was lost says the same again: that is no fact more. An artifact then counts no more either; of
    documents each that came counts, as reading one is work.
    """

    taken: int = 0
    artifacts: set[ArtifactReported] = field(default_factory=set)
    documents: set[ArtifactAttested] = field(default_factory=set)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    noting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def artifact(self, job_id: JobId, artifact: ArtifactReported, most: int, note: Note) -> None:
        """Have an artifact on record, if that makes no more than `most` of them.

        Raises:
            OrchestratorError: it is not; reason `too_many_artifacts`, or by `note`.
        """
        async with self.noting:  # of two at once one is first, and the other leaves no fact
            if artifact in self.artifacts:
                return
            if len(self.artifacts) >= most:
                raise GiveUpError(f"A job may report {most} artifacts.", reason="too_many_artifacts")
            await note(job_id, artifact)
            self.artifacts.add(artifact)

    async def take(
        self,
        request: web.BaseRequest,
        report: Report | None,
        running: Callable[[], Record],
        masker: Masker,
        note: Note,
    ) -> ArtifactAttested:
        """Keep the document in a request and have it on record; the fact. `running` raises when the job is over.

        Raises:
            OrchestratorError: it is not on record, and why.
        """
        if report is None:
            raise ProblemError("There is nothing here.", reason="not_found")
        running()
        async with self.turn:
            if self.taken >= MAX_REPORTS:
                raise GiveUpError(f"A job may report {MAX_REPORTS} documents.", reason="too_many_documents")
            self.taken += 1
            try:
                record, fact = await _kept(request, report, running, masker)
                if fact not in self.documents:
                    await note(record.id, fact)
                    self.documents.add(fact)
            except TryAgainError:
                self.taken -= 1  # it will come again
                raise
            return fact


async def _kept(
    request: web.BaseRequest, report: Report, running: Callable[[], Record], masker: Masker
) -> tuple[Record, ArtifactAttested]:
    told = await read_report(request)
    record = running()  # a slow body must not outlive the job
    if masker.holds(record.id, told.predicate):
        raise GiveUpError(
            "The document holds a secret of this job: evidence is kept, and shown to others.",
            reason="document_holds_secret",
            fix="make it without the job's environment and tokens, and report it again",
        )
    return record, await report(record, told.digest, told.predicate_type, told.predicate)


async def read_report(request: web.BaseRequest) -> Reported:
    """A request's body, checked; the document's bytes are those of the request.

    Raises:
        ProblemError: for everything that is wrong with it.
    """
    require_media_type(request, "application/json")
    limit = MAX_PREDICATE_BYTES + _FRAME_BYTES
    body = await read_body(request, limit_bytes=limit, timeout_seconds=BODY_SECONDS)
    # It may be large: others are not to wait while it is parsed.
    return await asyncio.to_thread(_checked, body)


def _checked(body: bytes) -> Reported:
    found = strict_json(body)
    predicate = found.pop("predicate", None) if isinstance(found, dict) else None
    frame = validated(schemas.AttestationRequest, found)
    if not isinstance(predicate, dict):
        fault = Fault("#/predicate", "must be a JSON object: the document itself")
        raise ProblemError("The request does not fit the schema.", reason="validation_failed", faults=(fault,))
    return Reported(frame.digest, frame.predicate_type, bytes(msgspec.json.decode(body, type=_Raw).predicate))
