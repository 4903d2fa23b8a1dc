"""How long to wait before the next try. Pure; the shell adds the jitter."""

from __future__ import annotations

from orchestrator.lifecycle.observation import SECOND, Observation

_FIRST_NS = SECOND // 20
_LONGEST_NS = 30 * SECOND
_LONGEST_WISH_NS = 300 * SECOND


def backoff_ns(tries: int) -> int:
    """50 ms, doubled with each try, at most 30 s."""
    return min(_LONGEST_NS, _FIRST_NS << min(max(tries - 1, 0), 20))


def wake_after(seen: Observation, deadline_ns: int) -> int:
    """When to try again: after the back-off, or later if the other side wishes so, but no later than the
    deadline has to be noticed."""
    wish = min(seen.failure.wait_ns, _LONGEST_WISH_NS) if seen.failure is not None else 0
    return min(seen.now_ns + max(backoff_ns(seen.failures), wish), max(deadline_ns, seen.now_ns + _FIRST_NS))
