"""How everything is doing, in one small document: made when somebody looks, from what is in memory already."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator import __version__
from orchestrator.errors import GiveUpError
from orchestrator.journal.port import JobQuery
from orchestrator.model.events import AlarmRaised, Fact, JobEnded
from orchestrator.model.outcome import Result
from orchestrator.model.phase import Phase
from orchestrator.server.deps import PoolState, ServerDeps
from orchestrator.server.page.board import Board
from orchestrator.server.sources.handlers import source_view
from orchestrator.server.views import pool_view, timestamp

MAX_ALARMS = 20
MAX_ENDS = 500
MINUTE_NS = 60_000_000_000
APPROVALS_SECONDS = 10.0
"""How old the count of approvals may be: it looks at each object."""
UNSIGNED = frozenset({"exception_approvers_missing", "exception_requester_unsigned"})
MAX_APPROVALS = 1000
"""Objects that are looked at for it, newest first."""


class RecentEnds:
    """How many jobs ended by each result within the last hour, kept by the minute."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._minutes: deque[tuple[int, Counter[str]]] = deque(maxlen=61)

    def add(self, result: str, at_ns: int) -> None:
        minute = at_ns // MINUTE_NS
        if not self._minutes or self._minutes[-1][0] < minute:
            self._minutes.append((minute, Counter()))
        self._minutes[-1][1][result] += 1

    def counts(self) -> dict[str, int]:
        first = self._now_ns() // MINUTE_NS - 60
        total: Counter[str] = Counter()
        for minute, counted in self._minutes:
            if minute > first:
                total += counted
        return {result.value: total[result.value] for result in Result}


class Overview:
    """Feed it with facts; `document` is what `page.live_shapes.OverviewView` describes."""

    def __init__(self, deps: ServerDeps, board: Board) -> None:
        self._deps = deps
        self._board = board
        self.ends = RecentEnds()
        self.alarms: deque[dict[str, Any]] = deque(maxlen=MAX_ALARMS)
        self._unsubscribe: Callable[[], None] | None = None
        self._approvals: tuple[float, int | None] = (float("-inf"), None)

    async def open(self) -> None:
        """Take in the last alarms and the ends of the last hour: of the newest `MAX_ENDS` jobs, after a start."""
        self._unsubscribe = self._deps.reader.subscribe(self.observe)
        raised = await self._deps.reader.facts_before(1 << 62, {AlarmRaised}, MAX_ALARMS)
        self.alarms.extend(alarm_view(f, f.event) for f in raised.facts if isinstance(f.event, AlarmRaised))
        lines = await self._deps.reader.jobs(JobQuery(phase=Phase.FINISHED, limit=MAX_ENDS))
        for line in sorted(lines, key=lambda line: line.finished_at_ns):
            self.ends.add(line.result, line.finished_at_ns)

    def close(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    def observe(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact.event, JobEnded):
                self.ends.add(fact.event.outcome.result.value, fact.at_ns)
            elif isinstance(fact.event, AlarmRaised):
                self.alarms.appendleft(alarm_view(fact, fact.event))

    def document(self) -> dict[str, Any]:
        now_ns = time.time_ns()
        counts = self._board.counts
        waits = self._board.longest_waits()
        return {
            "at": timestamp(now_ns),
            "version": __version__,
            "instance": self._deps.instance,
            "draining": self._deps.draining(),
            "checks": dict(self._deps.readiness()),
            "counts": {phase.value: counts[phase] for phase in Phase if phase is not Phase.FINISHED},
            "finished_last_hour": self.ends.counts(),
            "pools": [pool_load(state, waits.get(state.pool.name, 0), now_ns) for state in self._deps.pools()],
            "sources": [source_view(one) for one in self._deps.sources()],
            "approvals_waiting": self._approvals_waiting(),
            "alarms": list(self.alarms),
        }

    def _approvals_waiting(self) -> int | None:
        looked, count = self._approvals
        if self._deps.approvals is None:
            return None
        if time.monotonic() - looked >= APPROVALS_SECONDS:
            try:
                lines = self._deps.approvals.listed({"type": "exception"}, MAX_APPROVALS)
                count = sum(1 for line in lines if _waits(line))
            except GiveUpError:
                count = None
            self._approvals = (time.monotonic(), count)
        return count


def _waits(line: Mapping[str, Any]) -> bool:
    """An exception that lacks signatures, or was used and has had no review."""
    return line["state"] in UNSIGNED or bool(line["uses"] and not line["reviewed"])


def pool_load(state: PoolState, waiting_since_ns: int, now_ns: int) -> dict[str, Any]:
    """A pool, and for how long the first of its jobs has waited for a runner."""
    waited = max(0, now_ns - waiting_since_ns) / 1e9 if waiting_since_ns else 0.0
    view = pool_view(state.pool, state.in_use, state.waiting, state.guards_missing)
    return view | {"oldest_wait_since": timestamp(waiting_since_ns), "oldest_wait_seconds": round(waited, 1)}


def alarm_view(fact: Fact, event: AlarmRaised) -> dict[str, Any]:
    return {"at": timestamp(fact.at_ns), "job_id": fact.job_id, "alarm": event.alarm, "detail": event.detail}
