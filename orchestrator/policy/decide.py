"""Asks policy about a job: builds the input, evaluates, and turns the answer into a recorded decision."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from orchestrator.lifecycle.ports import Clock
from orchestrator.model.decision import Decision, Obligations, Reason, Stage, Verdict, Waiver
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.policy.document import Evaluation
from orchestrator.policy.engine import RegoEngine
from orchestrator.policy.enquiry import Enquiry
from orchestrator.policy.facts import UnfitFactError
from orchestrator.policy.gather import LookupFailedError, gather
from orchestrator.policy.input import admission_input, enquiry_input, exchange_input
from orchestrator.policy.lookups import Lookups, Question, Verified
from orchestrator.policy.obligations import bind_obligations

InputBuilder = Callable[[int, Verified], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answered:
    """A decision with the exact document it was made from (JSON; empty when none could be built), for who keeps both.

    `record` is the job's, or the stand-in of a question without a job; `time_ns` the decision's time; `evaluation` what
    the engine itself said, before the pool's limits.
    """

    decision: Decision
    evaluation: Evaluation
    record: Record
    time_ns: int
    input_json: bytes


Listener = Callable[[Answered], None]
"""Told of each answer, on the loop, before it is given: must neither wait nor raise."""


def decision_id(now_ns: int) -> str:
    """A unique id that sorts by time (UUID version 7, RFC 9562 section 5.7)."""
    value = ((now_ns // 1_000_000) & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


class PolicyDecider:
    """Implements `lifecycle.ports.Policy` over a Rego engine, and answers questions without a job besides.

    Args:
        engine: `BundleHolder` (embedded) or `OpaServerEngine`; closed by whoever made it.
        lookups: what we verified, each by a room of its own.
        clock: gives the decision's time.
        lookup_timeout_seconds: longest wait for all lookups together; after it the verdict is *error*.
        listener: told of each answer.
    """

    def __init__(
        self,
        engine: RegoEngine,
        lookups: Lookups,
        clock: Clock,
        *,
        lookup_timeout_seconds: float = 10.0,
        listener: Listener | None = None,
    ) -> None:
        self._engine = engine
        self._lookups = lookups
        self._clock = clock
        self._timeout_seconds = lookup_timeout_seconds
        self._listener = listener

    async def admit(self, record: Record, pool: Pool) -> Decision:
        """May the job run on this pool. Never raises."""
        return await self._decide(
            Stage.ADMISSION, record, pool, lambda now_ns, verified: admission_input(record, pool, now_ns, verified)
        )

    async def exchange(self, record: Record, pool: Pool, audience: str) -> Decision:
        """May the bound job have a token for this audience. Never raises."""
        return await self._decide(
            Stage.EXCHANGE,
            record,
            pool,
            lambda now_ns, verified: exchange_input(record, pool, audience, now_ns, verified),
        )

    async def enquire(self, enquiry: Enquiry) -> Decision:
        """Would this be allowed, or may a cluster start it; nothing is granted. Never raises."""
        record = enquiry.record(self._clock.now_ns())
        return await self._decide(
            enquiry.stage,
            record,
            enquiry.pool,
            lambda now_ns, verified: enquiry_input(enquiry, record, now_ns, verified),
        )

    async def _decide(self, stage: Stage, record: Record, pool: Pool | None, build: InputBuilder) -> Decision:
        began = time.perf_counter_ns()
        now_ns = self._clock.now_ns()
        document = b""
        try:
            verified = await gather(self._lookups, _question(record, pool, now_ns), self._timeout_seconds)
            document = msgspec.json.encode(build(now_ns, verified), order="sorted")
            evaluation = await self._engine.evaluate(document.decode())
        except LookupFailedError as error:
            evaluation = Evaluation(Verdict.ERROR, detail=str(error))
        except UnfitFactError as error:
            evaluation = Evaluation(Verdict.ERROR, detail=f"a fact for policy is unfit: {error}")
        except Exception as error:  # noqa: BLE001 -- the port never raises: whatever broke, the answer is no
            evaluation = Evaluation(Verdict.ERROR, detail=f"policy could not be asked: {type(error).__name__}")
        decision = Decision(
            id=decision_id(now_ns),
            stage=stage,
            verdict=evaluation.verdict,
            reasons=_reasons(evaluation),
            obligations=_obligations(evaluation, pool, stage),
            input_digest=f"sha256:{hashlib.sha256(document).hexdigest()}" if document else "",
            bundle_digest=evaluation.bundle_digest,
            engine=evaluation.engine,
            duration_ns=time.perf_counter_ns() - began,
            observed=_observed(evaluation),
            waivers=_waivers(evaluation),
        )
        if self._listener is not None:
            self._listener(Answered(decision, evaluation, record, now_ns, document))
        return decision


def _question(record: Record, pool: Pool | None, now_ns: int) -> Question:
    spec = record.offer.spec
    return Question(record, pool, now_ns, spec.deployment_environment, spec.artifact_digest, None)


def _reasons(evaluation: Evaluation) -> tuple[Reason, ...]:
    if evaluation.document is not None:
        return tuple(Reason(reason.code, reason.message) for reason in evaluation.document.reasons)
    return (Reason(f"policy_{evaluation.verdict.value}", evaluation.detail or "policy gave no answer"),)


def _observed(evaluation: Evaluation) -> tuple[Reason, ...]:
    if evaluation.document is None:
        return ()
    return tuple(Reason(reason.code, reason.message) for reason in evaluation.document.observed)


def _waivers(evaluation: Evaluation) -> tuple[Waiver, ...]:
    if evaluation.document is None:
        return ()
    return tuple(Waiver(waiver.exception, tuple(waiver.codes)) for waiver in evaluation.document.waived)


def _obligations(evaluation: Evaluation, pool: Pool | None, stage: Stage) -> Obligations:
    """None for a question without a job: what it allows is carried out elsewhere, or not at all."""
    if evaluation.verdict is not Verdict.ALLOW or evaluation.document is None:
        return Obligations()
    if pool is None or stage in (Stage.CHECK, Stage.DEPLOYMENT):
        return Obligations()
    return bind_obligations(evaluation.document.obligations, pool, stage)
