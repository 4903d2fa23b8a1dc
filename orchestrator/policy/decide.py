"""Asks policy about a job: builds the input, evaluates, and turns the answer into a recorded decision."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from orchestrator.lifecycle.ports import Clock
from orchestrator.model.decision import Decision, Obligations, Reason, Stage, Verdict
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.policy.document import Evaluation
from orchestrator.policy.engine import RegoEngine
from orchestrator.policy.input import EvidenceError, admission_input, exchange_input, is_digest
from orchestrator.policy.obligations import bind_obligations

EvidenceLookup = Callable[[str], Awaitable[Mapping[str, Any] | None]]
"""Artifact digest (`sha256:<hex>`) to what we verified about it: `signed`, `sbom`, `provenance` (booleans),
`base` (the name of its base), and whatever else the evidence room knows; None where we know nothing."""

InputBuilder = Callable[[int, Mapping[str, Any] | None], dict[str, Any]]


def decision_id(now_ns: int) -> str:
    """A unique id that sorts by time (UUID version 7, RFC 9562 section 5.7)."""
    value = ((now_ns // 1_000_000) & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


class PolicyDecider:
    """Implements `lifecycle.ports.Policy` over a Rego engine.

    Args:
        engine: `BundleHolder` (embedded) or `OpaServerEngine`; closed by whoever made it.
        evidence_for: looks up what we verified about an artifact; asked only for a well-formed digest.
        clock: gives the decision's time.
        evidence_timeout_seconds: longest wait for the evidence; after it the verdict is *error*.
    """

    def __init__(
        self,
        engine: RegoEngine,
        evidence_for: EvidenceLookup,
        clock: Clock,
        *,
        evidence_timeout_seconds: float = 10.0,
    ) -> None:
        self._engine = engine
        self._evidence_for = evidence_for
        self._clock = clock
        self._evidence_timeout_seconds = evidence_timeout_seconds

    async def admit(self, record: Record, pool: Pool) -> Decision:
        """May the job run on this pool. Never raises."""
        return await self._decide(
            Stage.ADMISSION, record, pool, lambda now_ns, evidence: admission_input(record, pool, now_ns, evidence)
        )

    async def exchange(self, record: Record, pool: Pool, audience: str) -> Decision:
        """May the bound job have a token for this audience. Never raises."""
        return await self._decide(
            Stage.EXCHANGE,
            record,
            pool,
            lambda now_ns, evidence: exchange_input(record, pool, audience, now_ns, evidence),
        )

    async def _decide(self, stage: Stage, record: Record, pool: Pool, build: InputBuilder) -> Decision:
        began = time.perf_counter_ns()
        now_ns = self._clock.now_ns()
        digest = ""
        try:
            evidence = await self._evidence(record.offer.spec.artifact_digest)
            document = msgspec.json.encode(build(now_ns, evidence), order="sorted")
            digest = f"sha256:{hashlib.sha256(document).hexdigest()}"
            evaluation = await self._engine.evaluate(document.decode())
        except TimeoutError:
            evaluation = Evaluation(Verdict.ERROR, detail="the evidence about the artifact did not come in time")
        except EvidenceError as error:
            evaluation = Evaluation(Verdict.ERROR, detail=f"the evidence about the artifact is unfit: {error}")
        except Exception as error:  # noqa: BLE001 -- the port never raises: whatever broke, the answer is no
            evaluation = Evaluation(Verdict.ERROR, detail=f"policy could not be asked: {type(error).__name__}")
        return Decision(
            id=decision_id(now_ns),
            stage=stage,
            verdict=evaluation.verdict,
            reasons=_reasons(evaluation),
            obligations=_obligations(evaluation, pool, stage),
            input_digest=digest,
            bundle_digest=evaluation.bundle_digest,
            engine=evaluation.engine,
            duration_ns=time.perf_counter_ns() - began,
        )

    async def _evidence(self, artifact_digest: str) -> Mapping[str, Any] | None:
        if not is_digest(artifact_digest):
            return None
        async with asyncio.timeout(self._evidence_timeout_seconds):
            return await self._evidence_for(artifact_digest)


def _reasons(evaluation: Evaluation) -> tuple[Reason, ...]:
    if evaluation.document is not None:
        return tuple(Reason(reason.code, reason.message) for reason in evaluation.document.reasons)
    return (Reason(f"policy_{evaluation.verdict.value}", evaluation.detail or "policy gave no answer"),)


def _obligations(evaluation: Evaluation, pool: Pool, stage: Stage) -> Obligations:
    if evaluation.verdict is not Verdict.ALLOW or evaluation.document is None:
        return Obligations()
    return bind_obligations(evaluation.document.obligations, pool, stage)
