"""What people and programs may know of artifacts, and add to them: the evidence behind the public API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.daemon.promotion.signers import SignersHolder
from orchestrator.daemon.records.attest import EvidenceKeeping
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.evidence.attestation_store import KeptAttestation, Standing
from orchestrator.evidence.attestations.examine import Examined, examine
from orchestrator.evidence.attestations.facts import ArtifactFacts, judge
from orchestrator.evidence.attestations.making import bundle_text
from orchestrator.evidence.attestations.reading import read_attestation
from orchestrator.evidence.attestations.whose import Tries
from orchestrator.lifecycle.ports import Clock
from orchestrator.model.job import Caller


class ArtifactDesk:
    """`server.deps.ArtifactDesk`."""

    def __init__(self, kept: EvidenceKeeping, signers: SignersHolder, notes: AuditNotes, clock: Clock) -> None:
        self._kept = kept
        self._signers = signers
        self._notes = notes
        self._clock = clock

    async def listed(self, limit: int) -> Sequence[str]:
        return await asyncio.to_thread(self._kept.attestations.digests, limit)

    async def show(self, digest: str) -> Mapping[str, Any] | None:
        return await asyncio.to_thread(self._show, digest)

    async def bundle(self, digest: str, attestation: str) -> str | None:
        return await asyncio.to_thread(self._bundle, digest, attestation)

    async def upload(self, digest: str, text: str, caller: Caller) -> tuple[Mapping[str, Any], bool]:
        found = await asyncio.to_thread(self._examine, digest, text)
        known = await asyncio.to_thread(self._kept.attestations.get, digest, found.id)
        if known is not None:
            return _view(known.id, known.standing, found), False
        # Somebody known must stand for all of it: nobody fills a signer's room with its words about other artifacts, or
        # with one of them under ever new signatures.
        signatures = len(read_attestation(text).signatures)
        vouched = found.covers and len(found.signers) == signatures
        standing = Standing.VOUCHED if vouched else Standing.LOOSE
        await self._notes.evidence_uploaded(digest, found.id, found.predicate_type, found.signers, caller)
        room = json.dumps([found.signers, found.predicate_type])
        said_at_ns = _said_at(found, self._clock.now_ns())
        kept = await asyncio.to_thread(
            self._kept.attestations.add, (digest,), text, standing, room=room, said_at_ns=said_at_ns
        )
        return _view(kept, standing, found), True

    def _show(self, digest: str) -> Mapping[str, Any] | None:
        of_record, kept = self._kept.of_record.get(digest), self._kept.attestations.of(digest)
        if not of_record and not kept:
            return None
        texts = [one.text for one in kept]
        judged = judge(
            digest, [of_record, *texts] if of_record else texts, self._signers.current(), self._clock.now_ns()
        )
        return {"digest": digest, "facts": judged.facts(), "attestations": _listed(judged, kept)}

    def _bundle(self, digest: str, attestation: str) -> str | None:
        text = self._text(digest, attestation)
        if text is None:
            return None
        found = read_attestation(text)
        named = self._signers.current().named(found.signatures[0].key) if found.signatures else None
        return bundle_text(found, named[0] if named else None)

    def _text(self, digest: str, attestation: str) -> str | None:
        kept = self._kept.attestations.get(digest, attestation)
        if kept is not None:
            return kept.text
        of_record = self._kept.of_record.get(digest)
        return of_record if of_record and read_attestation(of_record).id == attestation else None

    def _examine(self, digest: str, text: str) -> Examined:
        """Raises:
        GiveUpError: reason of `read_attestation`: nothing that could be kept.
        """
        read_attestation(text)
        return examine(digest, text, self._signers.current(), self._clock.now_ns(), Tries())


def _said_at(found: Examined, now_ns: int) -> int:
    """When a scan or a build ended by its signer's word; now for what tells no time. Unix nanoseconds."""
    told = [str(finding.entry.get("finished_at") or "") for finding in found.findings]
    return min(
        (int(datetime.fromisoformat(one).timestamp()) * 1_000_000_000 if one else now_ns for one in told),
        default=now_ns,
    )


def _listed(judged: ArtifactFacts, kept: Sequence[KeptAttestation]) -> list[dict[str, Any]]:
    standing = {one.id: one.standing for one in kept}
    counted = {entry["attestation"]: set[str]() for entries in judged.listed.values() for entry in entries}
    for claim, entries in judged.listed.items():
        for entry in entries:
            counted[entry["attestation"]].add(claim.value)
    refused = dict(judged.refused)
    return [
        {
            "id": one.id,
            "standing": standing.get(one.id, Standing.OWN).value,
            "predicate_type": one.predicate_type,
            "signers": list(one.signers),
            "counts_for": sorted(counted.get(one.id, ())),
            "reason": refused.get(one.id, ""),
        }
        for one in judged.attestations
    ]


def _view(attestation: str, standing: Standing, found: Examined) -> dict[str, Any]:
    return {
        "id": attestation,
        "standing": standing.value,
        "predicate_type": found.predicate_type,
        "signers": list(found.signers),
        "counts_for": sorted({finding.claim.value for finding in found.findings}),
        "reason": found.reason,
    }
