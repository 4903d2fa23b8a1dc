"""Policies that answer as they are told."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.model.decision import Decision, Obligations, Reason, Stage, Verdict
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record


class FixedPolicy:
    """Answers `verdict` to everything; on *allow* the obligations grant all that the pool grants.

    `verdict_of` may give single jobs another verdict.
    """

    def __init__(self, verdict: Verdict = Verdict.ALLOW, verdict_of: Callable[[Record], Verdict] | None = None) -> None:
        self._verdict = verdict
        self._verdict_of = verdict_of
        self._count = 0

    async def admit(self, record: Record, pool: Pool) -> Decision:
        return self._decide(Stage.ADMISSION, record, pool)

    async def exchange(self, record: Record, pool: Pool, audience: str) -> Decision:
        return self._decide(Stage.EXCHANGE, record, pool)

    def _decide(self, stage: Stage, record: Record, pool: Pool) -> Decision:
        self._count += 1
        verdict = self._verdict_of(record) if self._verdict_of else self._verdict
        return Decision(
            id=f"decision-{self._count}",
            stage=stage,
            verdict=verdict,
            reasons=() if verdict is Verdict.ALLOW else (Reason("told", "told to answer so"),),
            obligations=Obligations(egress=pool.egress),
            input_digest="sha256:" + "0" * 64,
            bundle_digest="sha256:" + "1" * 64,
            engine="fixed",
        )
