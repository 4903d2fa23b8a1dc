"""One trace for each job, read from its facts. Pure: the same facts give the same spans, ids and all.

```
RUN <name>                          the job: offered until verified gone
├── queue                           offered until policy was asked
├── policy                          policy's answer at admission
├── wait                            admitted until a runner was begun (again after a runner vanished)
├── provision                       runner begun until made
├── bind                            runner made until bound, with the egress proof
├── platform.queued                 bound until its platform named the job, where that comes after the runner
├── policy                          policy's answer to the job that was named
├── platform.refused                refused until its runner ended, to show the reason in the job's own log
├── execute                         bound or named until the end was recorded; what the job emits hangs below it
│   └── identity.exchange           one for each token request that policy answered
├── platform.completing             runner ended until the platform's word on the job's end was recorded
└── teardown                        end recorded until verified gone
    ├── delete                      access revoked, deletion accepted
    └── verify                      looked until nothing was left
```

Phases tile the root: each begins where the one before ended. A span's length is never guessed; where no
fact marks a border (revocation within *delete*) there is no span.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.record import MissingOfferError
from orchestrator.telemetry import attributes, ids
from orchestrator.telemetry.open_span import MAX_NAME, ROOT
from orchestrator.telemetry.records import SpanKind, SpanRecord, Trace, bounded, clip
from orchestrator.telemetry.semconv import OWN
from orchestrator.telemetry.tree import Tree


def trace_of(facts: Sequence[Fact], now_ns: int | None = None, public_url: str = "") -> Trace:
    """Spans and events of one job from all its facts, in order of `seq`.

    With `now_ns` (Unix nanoseconds) open spans end there for the time being and carry `orchestrator.open`.
    `public_url` is the API's base, for the link back to the job. No facts give an empty trace, and a job
    that retention has compacted gives its root span alone.

    Raises:
        MissingOfferError: the first fact is not the job's offer.
    """
    if not facts:
        return Trace()
    first = facts[0].event
    if isinstance(first, events.JobCompacted):
        return Trace((_compacted(facts[0], first),))
    if not isinstance(first, events.JobOffered):
        raise MissingOfferError(f"the first fact of {facts[0].job_id} is {type(first).__name__}")
    tree = Tree(facts[0].job_id, first.offer, facts[0].at_ns, public_url)
    for fact in facts[1:]:
        tree.add(fact)
    return tree.trace(now_ns)


def spans_of(facts: Sequence[Fact], now_ns: int | None = None, public_url: str = "") -> list[SpanRecord]:
    """Only the spans of `trace_of`; root first, then in order of start."""
    return list(trace_of(facts, now_ns, public_url).spans)


def _compacted(fact: Fact, event: events.JobCompacted) -> SpanRecord:
    status = attributes.status_of(event.outcome)
    return SpanRecord(
        name=clip(f"RUN {event.name}", MAX_NAME),
        trace_id=ids.trace_id(fact.job_id),
        span_id=ids.span_id(fact.job_id, ROOT),
        parent_span_id="",
        start_ns=event.offered_at_ns,
        end_ns=max(event.finished_at_ns, event.offered_at_ns),
        kind=SpanKind.SERVER,
        status=status,
        attributes={
            **attributes.of_outcome(event.outcome, own_pipeline=False),
            **bounded({f"{OWN}job.id": fact.job_id, f"{OWN}pool": event.pool, f"{OWN}compacted": True}),
        },
    )
