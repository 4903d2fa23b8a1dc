"""Trace and span ids that are derived, never drawn: hashes of the job's id. Pure.

Anything that knows a job's id can say its trace's id without asking, and sending a trace again (after a
crash between *sent* and *noted as sent*) sends the very same ids, which receivers merge.

Ids are as W3C Trace Context (level 1, section 3.2.2) wants them: 16 and 8 bytes, lower-case hex, not all
zero. The *random* flag of level 2 stays unset, because derived ids are not random.
"""

from __future__ import annotations

import hashlib
import re

from orchestrator.model.job import JobId

EXECUTE = "execute"
"""Name of the span that covers the job's own work; what the job emits hangs below it."""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def trace_id(job_id: JobId) -> str:
    """The id of the job's one trace: 32 hex digits."""
    return _digest(16, "trace", job_id)


def span_id(job_id: JobId, name: str, ordinal: int = 0) -> str:
    """The id of the job's span `name`: 16 hex digits. `ordinal` counts spans of one name in one job from 0."""
    return _digest(8, "span", job_id, name, str(ordinal))


def event_uid(job_id: JobId, name: str, ordinal: int) -> str:
    """The id of the job's event `name`: 32 hex digits, for `log.record.uid`."""
    return _digest(16, "event", job_id, name, str(ordinal))


def traceparent(job_id: JobId) -> str:
    """The W3C `traceparent` to hand to the job: its *execute* span, sampled."""
    return f"00-{trace_id(job_id)}-{span_id(job_id, EXECUTE)}-01"


def parse_traceparent(header: str) -> tuple[str, str] | None:
    """Trace id and span id of a foreign `traceparent`, or None when it is not a valid one.

    Source: W3C Trace Context, sections 3.2.2.1 to 3.2.2.4. Versions above 00 are not accepted, so that
    nothing longer than 55 characters ever is.
    """
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    trace, span = match.groups()
    return None if not trace.strip("0") or not span.strip("0") else (trace, span)


def _digest(size: int, *parts: str) -> str:
    text = "\0".join(("orchestrator", *parts)).encode()
    value = hashlib.sha256(text).digest()[:size]
    return (value if any(value) else b"\1" * size).hex()
