"""Reading documents that others wrote: small steps that refuse instead of guessing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from orchestrator.evidence.attestations.reading import AttestationRefusedError

_Type = TypeVar("_Type")

Entry = dict[str, Any]
"""What one attestation adds to the facts, as policy's input has it."""

MAX_TEXT: Final = 1024
"""Longest text that is taken over from a document into facts, in characters."""
_FIRST_YEAR: Final = 1970
CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far another machine's clock may be ahead."""


def refused(message: str, reason: str) -> AttestationRefusedError:
    return AttestationRefusedError(message, reason=reason)


def decoded(decoder: msgspec.json.Decoder[_Type], raw: msgspec.Raw, reason: str) -> _Type:
    """The parts of a document that the decoder knows, or refused for `reason`."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # The cause may quote the document: it is not chained.
        raise refused("the document is not as its type says", reason) from None


NOT_THERE: Final = msgspec.Raw()
"""For a part that a document does not have."""


def is_there(raw: msgspec.Raw) -> bool:
    """Whether the part was in the document, and not null."""
    return bytes(memoryview(raw)[:4]) not in (b"", b"null")


def text(value: object, reason: str) -> str:
    """A non-empty text of bounded length, or refused for `reason`."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise refused("a text is missing, empty or too long", reason)
    return value


def optional_text(value: object) -> str:
    """The text, or empty where the document has none that fits."""
    return value if isinstance(value, str) and len(value) <= MAX_TEXT else ""


def table(value: object, reason: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise refused("an object is missing", reason)
    return value


def optional_table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def optional_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def time_of(value: object, reason: str, now_ns: int) -> str:
    """An RFC 3339 time in UTC to the second, refused for `reason` when it is none or lies ahead of `now_ns`: what
    claims to be from tomorrow would never grow old."""
    try:
        found = datetime.fromisoformat(text(value, reason)[:64])
    except ValueError:
        raise refused("a time is none of RFC 3339", reason) from None
    if found.tzinfo is None:
        raise refused("a time has no zone", reason)
    try:
        found = found.astimezone(UTC)
    except OverflowError:
        raise refused("a time lies out of range", reason) from None
    if found > datetime.fromtimestamp(now_ns / 1_000_000_000, UTC) + CLOCK_SKEW:
        raise refused("a time lies in the future", "time_in_the_future")
    if found.year < _FIRST_YEAR:  # policy's clock counts in 64 bits of nanoseconds
        raise refused("a time lies out of range", reason)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def optional_time(value: object, now_ns: int) -> str:
    """As `time_of`; empty where the document has none. One that lies ahead is refused all the same."""
    return time_of(value, "statement_malformed", now_ns) if value else ""
