"""Our own spans: their names, how many there can be, and one while it grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.model.job import JobId
from orchestrator.telemetry import ids, semconv
from orchestrator.telemetry.records import AttributeValue, SpanStatus
from orchestrator.telemetry.stages import STAGE_NAMES

ROOT = "job"
"""What the root span's id is derived from; its name holds the job's name."""
MAX_SPANS = 512
"""Spans of one trace beyond which those that may come without end (retries, exchanges) are only counted."""
CAPACITY_WAIT = "capacity.wait"
AWAITED, REFUSED, COMPLETING = "platform.queued", "platform.refused", "platform.completing"
_SINGLE = (ROOT, "queue", ids.EXECUTE, AWAITED, REFUSED, "teardown", "revoke", "delete", "verify")
_TWICE = (COMPLETING,)
REPEATING = ("policy", "wait", "provision", "bind", "identity.exchange")

MAX_STAGES = 16
"""Spans of each stage in one trace: runners that vanish one after the other are few."""
STAGES = dict.fromkeys((*STAGE_NAMES.values(), CAPACITY_WAIT), MAX_STAGES)
"""Names of the spans below the phases of a runner, and how many there can be of each."""


@dataclass(slots=True)
class OpenSpan:
    """A span of ours while it grows. `kept` is False for one that is only counted."""

    name: str
    span_id: str
    parent: str
    start_ns: int
    end_ns: int | None = None
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    status: SpanStatus = SpanStatus.UNSET
    message: str = ""
    kept: bool = True

    def close(self, at_ns: int) -> None:
        if self.end_ns is None:
            self.end_ns = max(at_ns, self.start_ns)

    def fail(self, error_type: str, message: str = "") -> None:
        self.status, self.message = SpanStatus.ERROR, message
        self.attributes[semconv.ERROR_TYPE] = error_type


def own_span_ids(job_id: JobId) -> Iterator[str]:
    """Every id that a span of ours can have in this job's trace; nobody else's span may take one."""
    most = dict.fromkeys(_SINGLE, 1) | dict.fromkeys(_TWICE, 2) | dict.fromkeys(REPEATING, MAX_SPANS) | STAGES
    for name, count in most.items():
        for ordinal in range(count):
            yield ids.span_id(job_id, name, ordinal)
