"""Small texts: durations, ages, ids, and untrusted strings made safe to show."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = 12


def plain(value: object, *, keep_lines: bool = False) -> str:
    """`value` as text without control, direction or surrogate characters; each becomes `?`."""
    return (_CONTROL_BUT_LINES if keep_lines else _CONTROL).sub("?", "" if value is None else str(value))


def short_id(job_id: str) -> str:
    """A prefix of the platform's id that commands accept in place of the whole; other ids stay whole."""
    parts = job_id.split(".")
    return plain(parts[1][:_SHORT] if len(parts) == 3 and parts[2] == "1" else job_id)


def duration(seconds: float) -> str:
    """`740 µs`, `12 ms`, `3.42 s`, `2m 05s`, `3h 04m`, `2d 03h`."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02}h"


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time of the API; None for null and for what is none."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def age(text: str | None, now: datetime) -> str:
    """How long ago, in one unit; `-` for null."""
    at = moment(text)
    if at is None:
        return "-"
    seconds = max(0, int((now - at).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def between(start: str | None, end: str | None) -> str:
    """The time from one moment to another; empty when either is missing."""
    first, last = moment(start), moment(end)
    return duration((last - first).total_seconds()) if first and last else ""


def size(count: int) -> str:
    """Bytes with a binary unit: `512 B`, `1.5 KiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
