"""The places that keep the audit log's checkpoints, and whether new work may begin without them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.evidence.audit.anchor_file import FileAnchor
from orchestrator.evidence.audit.anchor_http import HttpAnchor
from orchestrator.evidence.audit.anchor_s3 import ObjectStoreAnchor
from orchestrator.evidence.audit.anchors import Anchor, Anchoring, AnchorState, unaccepted_ns
from orchestrator.evidence.audit.log import AuditLog
from orchestrator.lifecycle.observation import SECOND
from orchestrator.lifecycle.ports import Clock, Policy
from orchestrator.model.decision import CONFIGURATION, Decision, Reason, Stage, Verdict
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.policy.decide import decision_id
from orchestrator.settings import AuditAnchorSettings, AuditSettings

LAST_CHECKPOINT_SECONDS = 5.0
"""How long a clean stop waits for an anchor to take the last checkpoint; the next start brings it there again."""


class AnchorRoom:
    """All anchors. `start` once; `close` after the log is closed.

    Raises:
        ConfigurationError: reason `audit_anchor_invalid`.
    """

    def __init__(self, settings: AuditSettings, log: AuditLog, clock: Clock) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock
        self._anchorings = [Anchoring(open_anchor(given), clock) for given in settings.anchors]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def required(self) -> bool:
        return self._settings.anchor_required_seconds > 0

    def states(self) -> Sequence[AnchorState]:
        return [anchoring.state for anchoring in self._anchorings]

    def start(self) -> None:
        """Bring what is signed already, and whatever is signed from now on."""
        loop = asyncio.get_running_loop()
        for anchoring in self._anchorings:
            self._log.subscribe(anchoring.offer)
            anchoring.offer(self._log.checkpoint)
            task = loop.create_task(anchoring.run(), name=f"audit anchor {anchoring.state.name}")
            self._tasks.append(task)

    def age_seconds(self) -> float:
        """For how long no anchor has accepted all that was offered; 0 when one has, or there is none."""
        since = unaccepted_ns(self.states())
        return max(0.0, (self._clock.now_ns() - since) / SECOND) if since else 0.0

    def lacking(self) -> str:
        """Why no new work may begin; empty while it may."""
        limit = self._settings.anchor_required_seconds
        if not limit or self.age_seconds() <= limit:
            return ""
        return f"no anchor has accepted a checkpoint of the audit log for {limit:g} s"

    @property
    def names(self) -> Sequence[str]:
        return [state.name for state in self.states()]

    def size_of(self, name: str) -> float:
        """How many records the last checkpoint covers that the anchor of this name has accepted since our start."""
        return max(state.size for state in self.states() if state.name == name)

    def failures_of(self, name: str) -> float:
        """Failed tries so far of the anchor of this name."""
        return sum(state.failures for state in self.states() if state.name == name)

    async def close(self) -> None:
        """Wait a moment for the last checkpoint, then let go."""
        await asyncio.gather(*(one.accepted(LAST_CHECKPOINT_SECONDS) for one in self._anchorings))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class AnchoredPolicy:
    """`lifecycle.ports.Policy` that lets nothing begin while the audit log is anchored nowhere and has to be."""

    def __init__(self, policy: Policy, anchors: AnchorRoom, clock: Clock) -> None:
        self._policy = policy
        self._anchors = anchors
        self._clock = clock

    async def admit(self, record: Record, pool: Pool) -> Decision:
        return self._refusal(Stage.ADMISSION) or await self._policy.admit(record, pool)

    async def exchange(self, record: Record, pool: Pool, audience: str) -> Decision:
        return self._refusal(Stage.EXCHANGE) or await self._policy.exchange(record, pool, audience)

    def _refusal(self, stage: Stage) -> Decision | None:
        lacking = self._anchors.lacking()
        if not lacking:
            return None
        why = (Reason("audit_unanchored", f"{lacking}; the operator has to look at audit.anchors"),)
        return Decision(decision_id(self._clock.now_ns()), stage, Verdict.ERROR, why, engine=CONFIGURATION)


def open_anchor(given: AuditAnchorSettings) -> Anchor:
    """The place that the settings name; nothing is sent there yet.

    Raises:
        ConfigurationError: reason `audit_anchor_invalid`.
    """
    if given.http is not None:
        http = given.http
        return HttpAnchor(http.url, method=http.method, headers_file=http.headers_file, ca_file=http.ca_file)
    if given.object_store is not None:
        store = given.object_store
        return ObjectStoreAnchor(store.url, store.region, store.credentials_file, ca_file=store.ca_file)
    assert given.file is not None, "the settings give one of the three"
    return FileAnchor(given.file)
