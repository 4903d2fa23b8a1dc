"""Keeps a flood of verdicts from filling the journal: the first ones in full, the rest as sums. Pure.

A runner can open connections faster than anything downstream can store facts about them, so what leaves here is
bounded, whatever a job does: at most `MAX_DETAILED` verdicts in full (and at most `MAX_SAME` that differ in
nothing but their numbers), then sums over equal verdicts, `MAX_SUMS` different ones and after that one for each
reason. Sums leave at the runner's close, and before it at intervals that double from `FIRST_FLUSH_SECONDS`. No
verdict goes uncounted: `EgressDecided.connections` says how many one stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orchestrator.model.events import EgressDecided

MAX_DETAILED = 128
MAX_SAME = 8
MAX_SUMS = 64
FIRST_FLUSH_SECONDS = 30.0
OTHERS = "(others)"
"""Host of a sum over destinations too many to name."""

_Key = tuple[str, int, str, bool, str, str, bool]


def _key(verdict: EgressDecided) -> _Key:
    return (
        verdict.host, verdict.port, verdict.protocol, verdict.allowed, verdict.rule, verdict.reason, verdict.canary,
    )  # fmt: skip


class VerdictLedger:
    """One runner's verdicts. `now` is any steady clock in seconds."""

    def __init__(self, now: float) -> None:
        self._detailed = 0
        self._same: dict[_Key, int] = {}
        self._sums: dict[_Key, EgressDecided] = {}
        self._interval = FIRST_FLUSH_SECONDS
        self._due = now + self._interval

    def add(self, verdict: EgressDecided) -> EgressDecided | None:
        """The verdict itself while there is room to tell it in full, else None: it is in the sums."""
        key = _key(verdict)
        same = self._same.get(key, 0)
        # The canary has room of its own: a flood before it must not hide the proof that refusal works.
        if same < MAX_SAME and (self._detailed < MAX_DETAILED or verdict.canary):
            self._same[key] = same + 1
            self._detailed += 1
            return verdict
        self._sum(key, verdict)
        return None

    def due(self, now: float) -> bool:
        return bool(self._sums) and now >= self._due

    def flush(self, now: float) -> Iterator[EgressDecided]:
        """The sums so far; the next interval is twice as long."""
        sums, self._sums = self._sums, {}
        self._interval *= 2
        self._due = now + self._interval
        yield from sums.values()

    def _sum(self, key: _Key, verdict: EgressDecided) -> None:
        held = self._sums.get(key)
        if held is None and len(self._sums) >= MAX_SUMS:
            verdict = replace(verdict, host=OTHERS, port=0, protocol="", rule="", address="", canary=False)
            key = _key(verdict)
            held = self._sums.get(key)
        if held is None:
            self._sums[key] = verdict
            return
        self._sums[key] = replace(
            held,
            address=held.address if held.address == verdict.address else "",
            bytes_up=held.bytes_up + verdict.bytes_up,
            bytes_down=held.bytes_down + verdict.bytes_down,
            duration_ns=held.duration_ns + verdict.duration_ns,
            connections=held.connections + verdict.connections,
        )
