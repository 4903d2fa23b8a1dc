"""A job's trace as it came from a daemon that is a process, once all of it has come."""

from __future__ import annotations

import asyncio
import re

from installation import Installation

from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.traces import ReceivedTrace, attributes_of, received


async def trace_of(
    here: Installation, receiver: OtlpReceiver, job_id: str, below: tuple[str, str] | None = None
) -> ReceivedTrace:
    """The trace of a job once it has ended and all that the API shows of it has come; nothing may be wrong with it.
    `below` is its place in its platform's trace, where they are joined."""
    await here.finished(job_id)
    told = (await here.call("GET", f"/v1/jobs/{job_id}/trace")).body
    events = sum(len(span["events"]) for span in told["spans"])
    async with asyncio.timeout(60):
        while not (trace := received(receiver, job_id, below)).spans or len(trace.logs) < events:
            await receiver.wait_for_calls(receiver.calls + 1, 60)
    wrong = trace.problems()
    assert not wrong, "\n".join((*wrong, trace.tree()))
    assert len(trace.logs) == events
    return trace


def settled(trace: ReceivedTrace) -> str:
    """The tree without what is chance: an agent may come so far before it is on record that its runner was made."""
    return re.sub(r"((?:    (?:start|egress\.proof|claim).*\n)+)(  bind.*\n)", r"\2\1", trace.tree())


def gaps(trace: ReceivedTrace) -> set[str]:
    """Names of the phases that say that nobody watched for a while."""
    return {
        span.name for span in trace.spans if "orchestrator.daemon.gap_seconds" in attributes_of(span.attributes)
    } - {trace.root.name}


def astray(receiver: OtlpReceiver) -> list[str]:
    """Events whose span was never sent under the trace that they name."""
    known = {(span.trace_id, span.span_id) for span in receiver.spans}
    return [log.event_name for log in receiver.logs if (log.trace_id, log.span_id) not in known]
