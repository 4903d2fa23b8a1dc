"""A job's trace as an OTLP receiver got it: the whole tree as text to compare with, and all that is wrong with it.

It reads only what was sent. Nothing here knows a journal, so that what it says is what any trace page can show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from orchestrator.model.job import JobId
from orchestrator.telemetry import ids
from orchestrator.testing.otlp import OtlpReceiver

ERRORS = ("failure", "error", "timeout")
"""Results that make a span an error; a cancelled or denied job is none."""

POD_CREATED = """\
  queue
  policy verdict=allow
  wait
  provision
    create
"""
"""The tree of a job in a pod below its root, until the pod was made."""
POD_TO_WORK = f"""\
{POD_CREATED}  bind
    schedule
    image.pull
    start
    egress.proof
    claim
"""
"""The same until it has its work."""
TEARDOWN = """\
  teardown
    revoke
    delete
    verify
"""
"""The end of every tree whose runner was bound."""

_SHOWN = (
    "orchestrator.job.result",
    "orchestrator.job.reason",
    "orchestrator.daemon.restarts",
    "orchestrator.policy.verdict",
    "orchestrator.token.outcome",
    "orchestrator.wait.reason",
)
"""Attributes that stand behind a span's name in the tree, by their last word."""
_SEMCONV = {"denied": "skip"}
"""Our results that the conventions call otherwise."""
_OWN_OR_SEMCONV = (
    "orchestrator.", "cicd.", "error.type", "deployment.environment.name", "k8s.", "container.", "vcs.",
)  # fmt: skip
_BESIDE = ("identity.exchange", "log.flush")
"""Spans that lie over others and are no phase themselves: a log may be read to its end while the job is torn down."""
REVOKED_LATER = """\
  teardown
    delete
    revoke
    verify
"""
"""The end of a tree whose runner was deleted before all was revoked."""


@dataclass(frozen=True, slots=True)
class ReceivedTrace:
    """All spans and log records of one trace id, in order of arrival, copies included.

    `below` is, for a trace that is to be a part of its platform's, that trace's id and the span that it hangs below.
    """

    job_id: JobId
    spans: Sequence[Span]
    logs: Sequence[LogRecord] = field(default=())
    below: tuple[str, str] | None = None

    def tree(self) -> str:
        """One line for each span, two spaces deeper than its parent, siblings in order of time.

        A line is the span's name, what `_SHOWN` says of it, and `! <error.type>` when its status is ERROR.
        """
        return "".join(f"{'  ' * depth}{_line(span)}\n" for depth, span in self._walk())

    def one(self, name: str) -> Span:
        """The span of that name, of which there must be one."""
        (found,) = {span.span_id: span for span in self.spans if span.name == name}.values()
        return found

    @property
    def root(self) -> Span:
        (found,) = {span.span_id: span for span in self.spans if self._is_root(span)}.values()
        return found

    def links(self) -> dict[str, tuple[str, str]]:
        """Where the root is linked to: trace id and span id by `orchestrator.link`."""
        return {
            str(attributes_of(link.attributes)["orchestrator.link"]): (link.trace_id.hex(), link.span_id.hex())
            for link in self.root.links
        }

    def _is_root(self, span: Span) -> bool:
        return span.parent_span_id == self._top

    @property
    def _top(self) -> bytes:
        return bytes.fromhex(self.below[1]) if self.below else b""

    def events(self, span: Span) -> list[str]:
        """Names of the log-based events of a span, without `orchestrator.`, in order of time."""
        own = sorted(
            (log for log in self.logs if log.span_id == span.span_id),
            key=lambda log: (log.time_unix_nano, log.event_name),
        )
        return [log.event_name.removeprefix("orchestrator.") for log in own]

    def problems(self) -> list[str]:
        """What no job's trace may be, however the job went; empty is what we promise (P6)."""
        roots = [span.name for span in self.spans if self._is_root(span)]
        if len(roots) != 1:
            return [f"roots: {roots}"]
        return [*self._ids(), *self._times(), *self._results(), *self._attributes(), *self._events()]

    def _walk(self) -> Iterator[tuple[int, Span]]:
        below: dict[bytes, list[Span]] = {}
        for span in sorted(self.spans, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano)):
            below.setdefault(span.parent_span_id, []).append(span)
        pending = [(0, span) for span in reversed(below.pop(self._top, []))]
        while pending:
            depth, span = pending.pop()
            yield depth, span
            pending += [(depth + 1, child) for child in reversed(below.pop(span.span_id, []))]

    def _ids(self) -> Iterator[str]:
        trace = bytes.fromhex(self.below[0] if self.below else ids.trace_id(self.job_id))
        known = {self._top, *(span.span_id for span in self.spans)}
        for span_id, count in Counter(span.span_id for span in self.spans).items():
            if count > 1:
                yield f"span {span_id.hex()} came {count} times"
        names: dict[str, set[str]] = {}
        for span in self.spans:
            names.setdefault("job" if self._is_root(span) else span.name, set()).add(span.span_id.hex())
        for name, got in names.items():
            if got != {ids.span_id(self.job_id, name, ordinal) for ordinal in range(len(got))}:
                yield f"{name}: an id that cannot be derived from the job's"
        for span in self.spans:
            if span.trace_id != trace:
                yield f"{span.name}: of another trace"
            if span.parent_span_id not in known:
                yield f"{span.name}: hangs below nothing"
            whole_run = "cicd.pipeline.result" in attributes_of(span.attributes)
            if span.kind != (Span.SPAN_KIND_SERVER if whole_run else Span.SPAN_KIND_INTERNAL):
                yield f"{span.name}: kind {span.kind}"
        if len(list(self._walk())) != len(self.spans):
            yield "spans that cannot be reached from the root"

    def _times(self) -> Iterator[str]:
        by_id = {span.span_id: span for span in self.spans}
        for span in self.spans:
            if not 0 < span.start_time_unix_nano <= span.end_time_unix_nano:
                yield f"{span.name}: not ended"
            parent = by_id.get(span.parent_span_id, span)
            if not (
                parent.start_time_unix_nano <= span.start_time_unix_nano
                and span.end_time_unix_nano <= parent.end_time_unix_nano
            ):
                yield f"{span.name}: reaches beyond {parent.name}"
        root = self.root
        yield from _tiling(root, self._phases(root))
        for parent in self.spans:
            if parent.name == "teardown":
                yield from _tiling(parent, self._phases(parent))
            for before, after in pairwise(self._phases(parent)):
                if after.start_time_unix_nano < before.end_time_unix_nano:
                    yield f"{after.name} begins within {before.name}"

    def _phases(self, parent: Span) -> list[Span]:
        below = [span for _, span in self._walk() if span.parent_span_id == parent.span_id]
        deleted = max((span.end_time_unix_nano for span in below if span.name == "delete"), default=0)
        late = [span for span in below if span.name == "revoke" and span.end_time_unix_nano > deleted]
        return [span for span in below if span.name not in _BESIDE and span not in late]

    def _results(self) -> Iterator[str]:
        said = attributes_of(self.root.attributes)
        result = str(said.get("orchestrator.job.result", ""))
        if not result or not said.get("orchestrator.job.reason"):
            yield "the root has no result, or no reason"
        convention = said.get("cicd.pipeline.task.run.result")
        if convention != _SEMCONV.get(result, result):
            yield f"cicd.pipeline.task.run.result is {convention}, the job's result {result}"
        if (self.root.status.code == Status.STATUS_CODE_ERROR) != (result in ERRORS):
            yield f"the root's status is {self.root.status.code} with result {result}"
        for span in self.spans:
            failed = span.status.code == Status.STATUS_CODE_ERROR
            if failed != bool(attributes_of(span.attributes).get("error.type")):
                yield f"{span.name}: error.type and status do not go together"
            if span.status.code == Status.STATUS_CODE_OK:
                yield f"{span.name}: only a user may call a span OK"
        if result in ERRORS and not any(
            attributes_of(span.attributes).get("error.type") == said.get("error.type")
            for span in self.spans
            if span is not self.root
        ):
            yield "no phase says that the job ended in it"

    def _attributes(self) -> Iterator[str]:
        for span in self.spans:
            said = attributes_of(span.attributes)
            if len(said) != len(span.attributes):
                yield f"{span.name}: an attribute twice"
            yield from (f"{span.name}: attribute {key}" for key in said if not key.startswith(_OWN_OR_SEMCONV))
            if "orchestrator.open" in said:
                yield f"{span.name}: sent while open"
            if not self._is_root(span) and span.name != "identity.exchange" and "cicd.pipeline.run.state" not in said:
                yield f"{span.name}: no cicd.pipeline.run.state"

    def _events(self) -> Iterator[str]:
        by_id = {span.span_id: span for span in self.spans}
        uids = Counter(str(attributes_of(log.attributes).get("log.record.uid", "")) for log in self.logs)
        yield from (f"event {uid or 'without uid'} came {count} times" for uid, count in uids.items() if count > 1)
        for log in self.logs:
            if not uids or "log.record.uid" not in attributes_of(log.attributes):
                yield f"{log.event_name}: no log.record.uid"
            if log.span_id not in by_id:
                yield f"{log.event_name}: of no span"
            if log.time_unix_nano < self.root.start_time_unix_nano:
                yield f"{log.event_name}: before the job"


def received(receiver: OtlpReceiver, job_id: str, below: tuple[str, str] | None = None) -> ReceivedTrace:
    """What the receiver has of a job's trace by now; spans that jobs sent themselves are left out. `below` as for
    `ReceivedTrace`; then all jobs that are joined into that trace are in it."""
    trace = bytes.fromhex(below[0] if below else ids.trace_id(JobId(job_id)))
    spans = [
        span
        for request in receiver.trace_requests
        for group in request.resource_spans
        if not attributes_of(group.resource.attributes).get("orchestrator.untrusted")
        for scope in group.scope_spans
        for span in scope.spans
        if span.trace_id == trace
    ]
    return ReceivedTrace(JobId(job_id), spans, [log for log in receiver.logs if log.trace_id == trace], below)


def attributes_of(pairs: Sequence[KeyValue]) -> dict[str, str | bool | int | float | list[str]]:
    """OTLP attributes as plain values."""
    said: dict[str, str | bool | int | float | list[str]] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind == "array_value":
            said[pair.key] = [item.string_value for item in pair.value.array_value.values]
        else:
            said[pair.key] = getattr(pair.value, kind) if kind else ""
    return said


def _line(span: Span) -> str:
    said = attributes_of(span.attributes)
    words = [f"{key.rpartition('.')[2]}={said[key]}" for key in _SHOWN if key in said]
    if span.status.code == Status.STATUS_CODE_ERROR:
        words.append(f"! {said.get('error.type')}")
    return " ".join([span.name, *words])


def _tiling(parent: Span, phases: Sequence[Span]) -> Iterator[str]:
    """Phases fill their parent: each begins in the nanosecond in which the one before ended."""
    if not phases:
        yield f"{parent.name}: no phases"
        return
    if phases[0].start_time_unix_nano != parent.start_time_unix_nano:
        yield f"{phases[0].name} does not begin with {parent.name}"
    if phases[-1].end_time_unix_nano != parent.end_time_unix_nano:
        yield f"{phases[-1].name} does not end with {parent.name}"
    for before, after in pairwise(phases):
        if before.end_time_unix_nano != after.start_time_unix_nano:
            yield f"between {before.name} and {after.name} lies time, or they overlap"
