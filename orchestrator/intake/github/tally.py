"""What a source has done so far, counted; for metrics, the status page and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Tally:
    """Counts since the start; each only grows.

    `demanded` are runners that announced jobs asked for, `filled` those that the service's count alone asked for,
    `taken_back` those that were not needed any more. `named` and `refused` are jobs, by the message's way; `foreign`
    started on runners that are not ours. `registered` are just-in-time configurations, `registrations_failed` tries
    that gave none; `removed` are registrations that we took away, `leftovers` those that GitHub did not let go in time.
    `orphans` are registrations without a record that the sweep removed, `mended` completions that it found out.
    """

    sessions: int = 0
    sessions_lost: int = 0
    conflicts: int = 0
    takeovers: int = 0
    polls: int = 0
    polls_cut: int = 0
    messages: int = 0
    duplicates: int = 0
    unreadable: int = 0
    disbelieved: int = 0
    acquired: int = 0
    demanded: int = 0
    filled: int = 0
    taken_back: int = 0
    named: int = 0
    refused: int = 0
    mismatches: int = 0
    foreign: int = 0
    completed: int = 0
    registered: int = 0
    registrations_failed: int = 0
    removed: int = 0
    busy: int = 0
    leftovers: int = 0
    orphans: int = 0
    mended: int = 0

    def counts(self) -> Mapping[str, int]:
        """By name."""
        return asdict(self)
