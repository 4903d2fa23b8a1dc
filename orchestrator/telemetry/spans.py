"""One trace for each job, read from its facts. Pure: the same facts give the same spans, ids and all.

```
RUN <name>                          the job: offered until verified gone; SERVER where it is a whole pipeline run
├── queue                           offered until policy was asked
├── policy                          policy's answer at admission
├── wait                            admitted until a runner was begun (again after a runner vanished)
├── provision                       runner begun until made
│   ├── capacity.wait               the backend had no room, or no answer, until it was asked again with success
│   └── create                      the backend was asked until it had made the runner
├── bind                            runner made until bound; below it the stages of its way: schedule, pod.sandbox,
│                                   image.pull, start, egress.proof, claim
├── platform.queued                 bound until its platform named the job, where that comes after the runner
├── policy                          policy's answer to the job that was named
├── platform.refused                refused until its runner ended, to show the reason in the job's own log
├── execute                         bound or named until the end was recorded; what the job emits hangs below it
│   ├── image.pull, run, log.flush  the stages of the runner's way from there
│   └── identity.exchange           one for each token request that policy answered
├── platform.completing             runner ended until the platform's word on the job's end was recorded
└── teardown                        end recorded until verified gone
    ├── revoke                      until access was revoked; beside the two others where that took longer than they
    ├── delete                      until the deletion was accepted
    └── verify                      looked until nothing was left
```

Phases tile the root: each begins where the one before ended. A span's length is never guessed; where no
fact marks a border there is no span.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.record import MissingOfferError
from orchestrator.telemetry import attributes, ids
from orchestrator.telemetry.joining import at_its_platform
from orchestrator.telemetry.open_span import ROOT
from orchestrator.telemetry.records import SpanRecord, Trace, bounded
from orchestrator.telemetry.semconv import OWN
from orchestrator.telemetry.tree import Tree


def trace_of(
    facts: Sequence[Fact],
    now_ns: int | None = None,
    public_url: str = "",
    *,
    join: bool = False,
    under_way: events.RunnerObserved | None = None,
) -> Trace:
    """Spans and events of one job from all its facts, in order of `seq`.

    With `now_ns` (Unix nanoseconds) open spans end there for the time being and carry `orchestrator.open`.
    `public_url` is the API's base, for the link back to the job. With `join` it is a part of its platform's trace,
    where that is known, and only linked to it else. `under_way` is what was seen of its runner and is no fact yet.
    No facts give an empty trace, and a job that retention has compacted gives its root span alone.

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
    tree.look(under_way)
    return at_its_platform(tree.trace(now_ns), tree.offer, join=join)


def _compacted(fact: Fact, event: events.JobCompacted) -> SpanRecord:
    status = attributes.status_of(event.outcome)
    return SpanRecord(
        name=f"RUN {event.name}",
        trace_id=ids.trace_id(fact.job_id),
        span_id=ids.span_id(fact.job_id, ROOT),
        parent_span_id="",
        start_ns=event.offered_at_ns,
        end_ns=max(event.finished_at_ns, event.offered_at_ns),
        status=status,
        attributes={
            **attributes.of_outcome(event.outcome, own_pipeline=False),
            **bounded({f"{OWN}job.id": fact.job_id, f"{OWN}pool": event.pool, f"{OWN}compacted": True}),
        },
    )
