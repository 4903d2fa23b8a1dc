"""The verification summary of each deploy job: signed from what policy judged, before a token is bound to it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from orchestrator.errors import GiveUpError
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO
from orchestrator.evidence.signing_key import EvidenceKey
from orchestrator.evidence.summary import (
    Verifier,
    statement_in,
    substance,
    summary_bytes,
    summary_digest,
    summary_statement,
)
from orchestrator.identity.exchange import Summary
from orchestrator.journal.port import JournalReader
from orchestrator.lifecycle.ports import Clock
from orchestrator.model.decision import Decision, Stage
from orchestrator.model.events import Fact, JobFinished, JobOffered, SummarySigned
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.policy.decide import Answered

_log = logging.getLogger(__name__)

_MOST_PENDING: Final = 256
"""Answers that wait for their exchange to go on. Those that it refuses afterwards stay until they are crowded out."""


class Summaries:
    """`identity.exchange.Summarize`, and a listener of policy's answers."""

    def __init__(self, journal: JournalReader, key: EvidenceKey, verifier: Verifier, clock: Clock) -> None:
        self._journal = journal
        self._key = key
        self._verifier = verifier
        self._clock = clock
        self._judged: OrderedDict[str, bytes] = OrderedDict()
        self._last: dict[JobId, tuple[str, str] | None] = {}
        journal.subscribe(self._hear)

    def answered(self, answer: Answered) -> None:
        """Remember what an exchange was decided by. For `PolicyDecider`; neither waits nor raises."""
        spec, decision = answer.record.offer.spec, answer.decision
        deploys = spec.deployment_environment and spec.artifact_digest
        if deploys and decision.stage is Stage.EXCHANGE and decision.allowed:
            self._judged[decision.id] = answer.input_json
            while len(self._judged) > _MOST_PENDING:
                self._judged.popitem(last=False)

    async def __call__(self, record: Record, decision: Decision) -> Summary | None:
        """The summary that stands for this decision; None for a job that deploys nothing we know by its digest.

        Raises:
            GiveUpError: reason `summary_unmade`: what was judged is not known any more.
            TryAgainError: the journal cannot be read now.
        """
        spec = record.offer.spec
        if not spec.deployment_environment or not spec.artifact_digest:
            return None
        judged = self._judged.pop(decision.id, b"")
        if not judged:
            raise GiveUpError(
                "what policy judged is not known any more, so no summary can be signed",
                reason="summary_unmade",
                fix="ask for the token again",
            )
        found = msgspec.json.decode(judged)
        statement = summary_statement(
            record, decision, found.get("artifact"), _consents(found, decision), self._verifier, self._clock.now_ns()
        )
        last = await self._last_of(record.id)
        if last is not None and last[0] == substance(statement):
            return Summary(last[1])
        data = summary_bytes(statement)
        signed = SummarySigned(
            envelope=sign_envelope(data, IN_TOTO, self._key),
            digest=summary_digest(data),
            artifact_digest=spec.artifact_digest,
            environment=spec.deployment_environment,
            decision_id=decision.id,
        )
        return Summary(signed.digest, signed)

    async def _last_of(self, job_id: JobId) -> tuple[str, str] | None:
        """Substance and digest of the job's last summary on record."""
        if job_id not in self._last:
            facts = await self._journal.facts_of(job_id)
            signed = [fact.event for fact in facts if isinstance(fact.event, SummarySigned)]
            self._last.setdefault(job_id, _known(signed[-1]) if signed else None)
        return self._last[job_id]

    def _hear(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            kind = type(fact.event)
            if kind is JobOffered:
                self._last[fact.job_id] = None
            elif kind is JobFinished:
                self._last.pop(fact.job_id, None)
            elif isinstance(fact.event, SummarySigned):
                self._last[fact.job_id] = _known(fact.event)


def _known(signed: SummarySigned) -> tuple[str, str] | None:
    statement = statement_in(signed.envelope)
    return (substance(statement), signed.digest) if statement is not None else None


def _consents(judged: Mapping[str, Any], decision: Decision) -> list[str]:
    """The ids of the approvals that were before policy, and of the exceptions it made use of."""
    approvals = [one["id"] for one in judged.get("approvals", ()) if isinstance(one.get("id"), str)]
    return [*approvals, *(waiver.exception for waiver in decision.waivers)]
