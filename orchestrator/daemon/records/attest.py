"""What the control plane signs at a job's end: provenance, its signature, and who reported which document."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.errors import GiveUpError
from orchestrator.evidence.attestation_store import AttestationStore, Standing
from orchestrator.evidence.attestations.making import SIGNATURE_TYPE, signature_statement
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import (
    IN_TOTO,
    PREDICATE_TYPE,
    Builder,
    KeptLog,
    provenance,
    statement_bytes,
    subjects_of,
)
from orchestrator.evidence.reported import REPORTABLE, SCANS, Reporter, reported_statement
from orchestrator.evidence.reported_store import ReportedDocuments
from orchestrator.evidence.signing_key import EvidenceKey
from orchestrator.evidence.store import EvidenceStore
from orchestrator.evidence.summary import SUMMARY_TYPE
from orchestrator.journal.logs import LogStore
from orchestrator.journal.port import JournalReader
from orchestrator.lifecycle.pools import Pools
from orchestrator.model.events import (
    AlarmRaised,
    ArtifactAttested,
    ArtifactReported,
    AttestationSigned,
    Event,
    Fact,
    JobFinished,
    JobOffered,
    ProvenanceSigned,
    SummarySigned,
)
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.outcome import Result
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

_log = logging.getLogger(__name__)

_TELLING: Final = frozenset({ArtifactReported, ArtifactAttested, SummarySigned})
"""Facts without which there is nothing to sign or keep at a job's end."""


@dataclass(frozen=True, slots=True)
class EvidenceKeeping:
    """Where evidence lies: of each artifact the provenance of record, everything that was signed about it, and what
    jobs reported and nobody has signed yet."""

    of_record: EvidenceStore
    attestations: AttestationStore
    reported: ReportedDocuments


@dataclass(slots=True)
class _Told:
    """The facts of a job that matter here, each said once."""

    artifacts: list[ArtifactReported] = field(default_factory=list)
    documents: dict[ArtifactAttested, int] = field(default_factory=dict)
    """Each with when it was first reported, Unix nanoseconds."""
    summaries: list[SummarySigned] = field(default_factory=list)

    @classmethod
    def by(cls, facts: Sequence[Fact]) -> _Told:
        told = cls()
        for fact in facts:
            match fact.event:
                case ArtifactReported():
                    told.artifacts.append(fact.event)
                case ArtifactAttested():
                    told.documents.setdefault(fact.event, fact.at_ns)
                case SummarySigned():
                    told.summaries.append(fact.event)
                case _:
                    pass
        return told

    def name_of(self, digest: str) -> str:
        """What the job called the artifact, if it built it."""
        return next((one.name for one in self.artifacts if one.digest == digest), "")


class EvidenceAttester:
    """`lifecycle.ports.Attester`. May be asked again for the same job: what is kept already is not kept twice."""

    def __init__(
        self,
        journal: JournalReader,
        pools: Mapping[PoolName, Pool],
        builder: Builder,
        key: EvidenceKey,
        kept: EvidenceKeeping,
        logs: LogStore,
        listed: Callable[[str, str, str], bool],
    ) -> None:
        """`listed` says whether documents of a predicate type count from jobs of a pool and a caller (id) that did not
        build what they are about."""
        self._journal = journal
        self._pools = Pools.over(pools)
        self._builder = builder
        self._key = key
        self._kept = kept
        self._logs = logs
        self._listed = listed
        self._bare: set[JobId] = set()  # jobs offered since we are here that reported nothing; most never do
        self._reporting: set[JobId] = set()
        journal.subscribe(self._hear)

    async def attest(self, record: Record) -> Sequence[Event]:
        """See the port.

        Raises:
            TryAgainError: journal or evidence cannot be read or written now.
        """
        pool, outcome = self._pools.of(record), record.outcome
        if pool is None or outcome is None or record.id in self._bare:
            return ()
        facts = await self._journal.facts_of(record.id)
        told = _Told.by(facts)
        if told.documents:
            self._reporting.add(record.id)  # an earlier daemon may have heard of them
        succeeded = outcome.result is Result.SUCCESS
        notes: list[Event] = []
        if succeeded and told.artifacts:
            notes += await self._provenance(record, facts, pool, told)
        for document, at_ns in told.documents.items():
            # A scanner that finds something fails its job; any other document of a job that failed is worth nothing.
            if succeeded or document.predicate_type in SCANS:
                reporter = Reporter.of(record, pool, self._builder, at_ns)
                notes.append(await self._document(record, told.name_of(document.digest), document, reporter))
        for summary in told.summaries:
            await self._keep_summary(record, summary)
        return tuple(notes)

    async def _provenance(self, record: Record, facts: Sequence[Fact], pool: Pool, told: _Told) -> Sequence[Event]:
        statement = provenance(facts, pool, self._builder, await kept_log(self._logs, record.id))
        if statement is None:
            return ()
        digests = tuple(dict.fromkeys(f"sha256:{one['digest']['sha256']}" for one in subjects_of(told.artifacts)))
        payload = statement_bytes(statement)
        envelope = sign_envelope(payload, IN_TOTO, self._key)
        await asyncio.to_thread(self._kept.of_record.put, digests, envelope)
        notes: list[Event] = [ProvenanceSigned(envelope, digests)]
        reporter = Reporter.of(record, pool, self._builder, record.ended_at_ns)
        signature = signature_statement([(told.name_of(digest), digest) for digest in digests], reporter.annotation())
        try:
            await asyncio.to_thread(self._keep, record, digests, payload, envelope, PREDICATE_TYPE)
            signed = await self._sign(record, digests, statement_bytes(signature), SIGNATURE_TYPE)
            notes.append(AttestationSigned(SIGNATURE_TYPE, digests, signed))
        except GiveUpError as error:
            notes.append(AlarmRaised(error.reason, str(error)))
        return notes

    async def _document(self, record: Record, name: str, document: ArtifactAttested, reporter: Reporter) -> Event:
        predicate = await asyncio.to_thread(self._kept.reported.read, record.id, document.predicate_digest)
        if predicate is None:
            return AlarmRaised("evidence_lost", f"the document {document.predicate_digest} is not there any more")
        subjects = [(name, document.digest)]
        statement = reported_statement(subjects, document.predicate_type, predicate, reporter)
        try:
            signed = await self._sign(record, (document.digest,), statement, document.predicate_type)
        except GiveUpError as error:
            return AlarmRaised(error.reason, str(error))
        return AttestationSigned(document.predicate_type, (document.digest,), signed)

    async def _keep_summary(self, record: Record, summary: SummarySigned) -> None:
        digests = (summary.artifact_digest,)
        try:
            await asyncio.to_thread(
                self._kept.attestations.add, digests, summary.envelope, Standing.OWN, room=SUMMARY_TYPE
            )
        except GiveUpError as error:  # the journal has it, and it is what was sworn
            extra = {"job_id": record.id, "reason": error.reason}
            _log.warning("a verification summary is kept with its job only", extra=extra)

    async def _sign(self, record: Record, digests: Sequence[str], payload: bytes, kind: str) -> str:
        """The id of the attestation, once it is kept. Documents are large: not on the loop."""

        def sign() -> str:
            return self._keep(record, digests, payload, sign_envelope(payload, IN_TOTO, self._key), kind)

        return await asyncio.to_thread(sign)

    def _keep(self, record: Record, digests: Sequence[str], payload: bytes, envelope: str, kind: str) -> str:
        key, found = hashlib.sha256(payload).hexdigest(), ""
        rooms: dict[tuple[Standing, str], list[str]] = {}
        for digest in digests:
            # Any job may claim any digest: those that nobody asked must not crowd out those that count.
            heard = self._listed(kind, record.offer.spec.pool, record.offer.caller.id) or (
                kind not in SCANS and self._kept.of_record.built_by(digest) == record.id
            )
            rooms.setdefault((Standing.OWN, kind) if heard else (Standing.HEARSAY, ""), []).append(digest)
        for (standing, room), those in rooms.items():
            found = self._kept.attestations.add(those, envelope, standing, key=key, room=room)
        return found

    def _hear(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            kind = type(fact.event)
            if kind is JobOffered:
                self._bare.add(fact.job_id)
            elif kind in _TELLING:
                self._bare.discard(fact.job_id)
                if kind is ArtifactAttested:
                    self._reporting.add(fact.job_id)
            elif kind is JobFinished:
                self._bare.discard(fact.job_id)
                if fact.job_id in self._reporting:
                    self._reporting.discard(fact.job_id)
                    self._kept.reported.forget(fact.job_id)


class ReportDesk:
    """Takes the documents that jobs report; `server.deps.ReportDesk`."""

    def __init__(self, reported: ReportedDocuments) -> None:
        self._reported = reported

    async def report(self, record: Record, digest: str, predicate_type: str, predicate: bytes) -> ArtifactAttested:
        """The fact to record; the document is durable.

        Raises:
            GiveUpError: `predicate_type_refused`, `document_too_large`, `too_many_documents`.
            TryAgainError: `evidence_unwritable`.
        """
        if predicate_type not in REPORTABLE:
            raise GiveUpError(
                "a job cannot report documents of this predicate type",
                reason="predicate_type_refused",
                fix=f"use one of: {', '.join(sorted(REPORTABLE))}",
            )
        kept = await asyncio.to_thread(self._reported.keep, record.id, predicate)
        return ArtifactAttested(digest, predicate_type, kept, len(predicate))


async def kept_log(logs: LogStore, job_id: JobId) -> KeptLog | None:
    """The job's output as it was kept; None while it is still written, and where none is."""
    if logs.writing(job_id):
        return None
    digest, size = hashlib.sha256(), 0
    async for chunk in logs.read(job_id):
        digest.update(chunk)
        size += len(chunk)
    return KeptLog(digest.hexdigest(), size) if size else None
