"""How long to wait before the next try. Pure; the shell adds the jitter."""

from __future__ import annotations

from orchestrator.lifecycle.observation import SECOND, Observation

_FIRST_NS = SECOND // 20
_LONGEST_NS = 30 * SECOND


def backoff_ns(tries: int) -> int:
    """50 ms, doubled with each try, at most 30 s."""
    return min(_LONGEST_NS, _FIRST_NS << min(max(tries - 1, 0), 20))


def wake_after(seen: Observation, deadline_ns: int) -> int:
    """When to try again: after the back-off, but no later than the deadline has to be noticed."""
    return min(seen.now_ns + backoff_ns(seen.failures), max(deadline_ns, seen.now_ns + _FIRST_NS))
