"""The promotion gate put together: what is known of artifacts, what is signed about them, what policy may look up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator import __version__
from orchestrator.daemon.promotion.signers import SignersHolder
from orchestrator.daemon.promotion.summary import Summaries
from orchestrator.daemon.records.attest import EvidenceAttester, EvidenceKeeping, ReportDesk
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.evidence.attestation_store import AttestationStore
from orchestrator.evidence.attestations.facts import facts
from orchestrator.evidence.attestations.signers import Signers
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.evidence.provenance import Builder
from orchestrator.evidence.reported_store import ReportedDocuments
from orchestrator.evidence.signing_key import EvidenceKey, open_evidence_key
from orchestrator.evidence.store import EvidenceStore
from orchestrator.evidence.summary import Verifier
from orchestrator.journal.logs import LogStore
from orchestrator.journal.trail import KeptJournal
from orchestrator.lifecycle.ports import Clock
from orchestrator.model.job import PoolName
from orchestrator.model.pool import Pool
from orchestrator.policy.lookups import ConsentLookup, Lookups, SecretsLookup, SourceLookup, TicketLookup
from orchestrator.settings import Settings


@dataclass(frozen=True)
class Promotion:
    """`artifact` is policy's lookup of what was verified about an artifact; `desk` takes what jobs report."""

    key: EvidenceKey
    kept: EvidenceKeeping
    attester: EvidenceAttester
    artifact: ArtifactLookup
    signers: SignersHolder
    desk: ReportDesk
    summaries: Summaries


class ArtifactLookup:
    """What we verified about an artifact, for policy's input; None when nothing was ever said about it."""

    def __init__(self, kept: EvidenceKeeping, signers: SignersHolder, clock: Clock) -> None:
        self._kept = kept
        self._signers = signers
        self._clock = clock

    async def __call__(self, digest: str) -> Mapping[str, Any] | None:
        # Reading and checking take milliseconds of processor time: the loop is not kept from others for it.
        return await asyncio.to_thread(self._facts, digest, self._signers.current(), self._clock.now_ns())

    def _facts(self, digest: str, signers: Signers, now_ns: int) -> Mapping[str, Any] | None:
        of_record = self._kept.of_record.get(digest)
        said = [one.text for one in self._kept.attestations.of(digest)]
        if not of_record and not said:
            return None
        return facts(digest, [of_record, *said] if of_record else said, signers, now_ns)


def open_lookups(
    promotion: Promotion,
    *,
    consent: ConsentLookup | None = None,
    source: SourceLookup | None = None,
    ticket: TicketLookup | None = None,
    secrets: SecretsLookup | None = None,
) -> Lookups:
    """What policy may look up: artifacts, and whatever else is configured. What is None knows nothing."""
    given = {"consent": consent, "source": source, "ticket": ticket, "secrets": secrets}
    plugged: dict[str, Any] = {name: lookup for name, lookup in given.items() if lookup is not None}
    return Lookups(promotion.artifact, **plugged)


async def open_promotion(
    settings: Settings,
    url: str,
    pools: Mapping[PoolName, Pool],
    journal: KeptJournal,
    logs: LogStore,
    notes: AuditNotes,
    clock: Clock,
) -> Promotion:
    """Open the evidence and all that reads and writes it; `url` is the daemon's own.

    Raises:
        OrchestratorError: the key or the folder is not fit.
    """
    key = open_evidence_key(settings.state_dir / "keys" / "evidence")
    folder = settings.state_dir / "evidence"
    kept = EvidenceKeeping(
        EvidenceStore(folder), AttestationStore(folder / "attestations"), ReportedDocuments(folder / "reported")
    )
    live = [told[0].job_id for told in await journal.live()]
    await asyncio.to_thread(kept.reported.keep_only, live)
    builder = Builder(url, __version__)
    signers = SignersHolder(settings, pools, builder, key)
    await signers.load(partial(notes.signers_loaded, actor=DAEMON))
    return Promotion(
        key=key,
        kept=kept,
        attester=EvidenceAttester(journal, pools, builder, key, kept, logs, signers.lists_reporter),
        artifact=ArtifactLookup(kept, signers, clock),
        signers=signers,
        desk=ReportDesk(kept.reported),
        summaries=Summaries(journal, key, Verifier(url, __version__), clock),
    )
