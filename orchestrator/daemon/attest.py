"""Provenance at a job's end, and its evidence for policy later."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.evidence.artifacts import artifact_evidence
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, Builder, provenance, statement_bytes
from orchestrator.evidence.signing_key import EvidenceKey
from orchestrator.evidence.store import EvidenceStore
from orchestrator.journal.port import JournalReader
from orchestrator.model.events import ArtifactReported, Event, Fact, JobFinished, JobOffered, ProvenanceSigned
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.outcome import Result
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record


class ProvenanceAttester:
    """Signs one statement for each successful job that reported artifacts; `lifecycle.ports.Attester`."""

    def __init__(
        self,
        journal: JournalReader,
        pools: Mapping[PoolName, Pool],
        builder: Builder,
        key: EvidenceKey,
        store: EvidenceStore,
    ) -> None:
        self._journal = journal
        self._pools = pools
        self._builder = builder
        self._key = key
        self._store = store
        self._bare: set[JobId] = set()  # jobs offered since we are here that reported nothing; most never do
        journal.subscribe(self._hear)

    async def attest(self, record: Record) -> Sequence[Event]:
        pool = self._pools.get(record.offer.spec.pool)
        if pool is None or record.outcome is None or record.outcome.result is not Result.SUCCESS:
            return ()
        if record.id in self._bare:
            return ()
        facts = await self._journal.facts_of(record.id)
        digests = tuple(fact.event.digest for fact in facts if isinstance(fact.event, ArtifactReported))
        statement = provenance(facts, pool, self._builder) if digests else None
        if statement is None:
            return ()
        envelope = sign_envelope(statement_bytes(statement), IN_TOTO, self._key)
        await asyncio.to_thread(self._store.put, digests, envelope)
        return (ProvenanceSigned(envelope, digests),)

    def _hear(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            kind = type(fact.event)
            if kind is JobOffered:
                self._bare.add(fact.job_id)
            elif kind is ArtifactReported or kind is JobFinished:
                self._bare.discard(fact.job_id)


class EvidenceLookup:
    """What we verified about an artifact, for policy's input; None when nothing was ever said about it."""

    def __init__(
        self, store: EvidenceStore, key: EvidenceKey, builder: Builder, pools: Mapping[PoolName, Pool]
    ) -> None:
        self._store = store
        self._keys = {key.id: key.public}
        self._builders = frozenset(builder.id_for(pool) for pool in pools.values())

    async def __call__(self, digest: str) -> Mapping[str, Any] | None:
        envelope = await asyncio.to_thread(self._store.get, digest)
        if not envelope:
            return None
        return artifact_evidence(digest, envelope, self._keys, self._builders).facts()
