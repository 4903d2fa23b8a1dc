"""Spans and log-based events as plain values: what is built from facts and what is sent. Pure.

They are not the SDK's live objects, because those die with the process (docs/decisions/0060).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

AttributeValue = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, AttributeValue]

MAX_STRING = 256
"""Longest attribute string in characters; longer ones are cut and end in an ellipsis."""
MAX_NAME = 128
"""Longest span name in characters."""
MAX_ITEMS = 32
"""Most strings in one attribute that is a list."""


class SpanKind(IntEnum):
    """Numbers as in OTLP's `Span.SpanKind`."""

    INTERNAL = 1
    SERVER = 2


class SpanStatus(StrEnum):
    UNSET = "unset"
    ERROR = "error"


class Severity(IntEnum):
    """Numbers as in OTLP's `SeverityNumber`."""

    INFO = 9
    WARN = 13
    ERROR = 17


@dataclass(frozen=True, slots=True)
class SpanLink:
    """A span of another trace that this one has to do with. Ids are lower-case hex."""

    trace_id: str
    span_id: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A span. Times are Unix nanoseconds; `end_ns` is None while it is open; the root's parent is empty."""

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str
    start_ns: int
    end_ns: int | None
    kind: SpanKind = SpanKind.INTERNAL
    status: SpanStatus = SpanStatus.UNSET
    status_message: str = ""
    attributes: Attributes = field(default_factory=dict)
    links: tuple[SpanLink, ...] = ()


@dataclass(frozen=True, slots=True)
class LogRecordData:
    """A log-based event (OTEP 4430): a point in time within a span. `uid` is the same at every export."""

    name: str
    at_ns: int
    trace_id: str
    span_id: str
    uid: str
    severity: Severity = Severity.INFO
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything a job's facts say, root span first, then in order of start."""

    spans: tuple[SpanRecord, ...] = ()
    events: tuple[LogRecordData, ...] = ()


def clip(text: str, limit: int = MAX_STRING) -> str:
    """At most `limit` characters, with characters that UTF-8 cannot carry replaced."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def bounded(attributes: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    """The attributes that say something (not None, not empty), with so many items as a list may have.

    Texts are cut where they leave, after secrets in them were masked: a secret that a cut had halved would be missed.
    """
    kept: dict[str, AttributeValue] = {}
    for key, value in attributes.items():
        if isinstance(value, tuple):
            if value:
                kept[key] = value[:MAX_ITEMS]
        elif value not in (None, ""):
            kept[key] = value
    return kept
