"""Moments as text."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(at_ns: int) -> str:
    """A Unix time in nanoseconds as RFC 3339 in UTC with microseconds, what is finer cut off."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
