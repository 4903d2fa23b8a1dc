"""Times as they are typed."""

from __future__ import annotations

import re
import time

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def moment_ns(text: str, option: str) -> int:
    """Unix nanoseconds of `30m` ago or of an RFC 3339 time.

    Raises:
        UsageError: it is neither; `option` says where it was given.
    """
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.render.words import moment

    ago = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if ago:
        return time.time_ns() - int(ago[1]) * _UNITS[ago[2]] * 10**9
    at = moment(text)
    if at is None:
        raise UsageError(f"{option} {text[:40]!r} is no time", fix="write 30m, 2h, 7d or 2026-01-31T12:00:00Z")
    return int(at.timestamp() * 1e9)
