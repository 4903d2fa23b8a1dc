"""How many runners a scale set needs, from what GitHub says and what we have. Pure; times are the caller's.

The service's statistics are the truth about *how many*: messages are cut at 50 and may come twice or out of order. Only
what a message itself disproves is not believed: a count smaller than the jobs in the very same envelope.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from orchestrator.intake.github.names import job_ref, runner_of
from orchestrator.intake.github.scale_sets.messages import JobMessage, JobMessageKind, Statistics
from orchestrator.model.job import JobId, JobKey
from orchestrator.model.outcome import EndReason
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName, runner_name

MAX_REMEMBERED: Final = 10_000
_UNTOLD_SECONDS: Final = 60.0


class SlotState(IntEnum):
    """Of a runner that a set demanded: not begun, begun, free for any job, with a job, or of no more use.

    What is not over and has no job yet may still get one; a *free* runner may have one that we have not heard of.
    """

    COMING = 0
    STARTING = 1
    FREE = 2
    BUSY = 3
    OVER = 4


@dataclass(frozen=True, slots=True)
class Slot:
    job_id: JobId
    state: SlotState
    since_ns: int = 0

    @property
    def counts(self) -> bool:
        return self.state is not SlotState.OVER


def slot_of(record: Record) -> Slot:
    """A record as the demand sees it."""
    return Slot(record.id, _state_of(record), record.offered_at_ns)


def _state_of(record: Record) -> SlotState:
    if record.outcome is not None or record.cancel is not None or record.completed is not None:
        return SlotState.OVER
    if record.named_at_ns:
        return SlotState.BUSY
    if record.platform is not None and record.platform.exit is not None:
        return SlotState.OVER
    if record.bound:
        return SlotState.FREE
    return SlotState.STARTING if record.runner is not None else SlotState.COMING


def is_jobless(record: Record) -> bool:
    """No job is known to be this runner's, whether it still runs or not."""
    over = record.outcome is not None or record.cancel is not None or record.completed is not None
    return not over and not record.named_at_ns


def waits_for_the_word(record: Record) -> bool:
    """The runner has ended with a job whose end the platform has not told."""
    platform = record.platform
    if platform is None or record.outcome is not None or not record.named_at_ns or record.refused is not None:
        return False
    return platform.exit is not None and record.completed is None


def ended_without_job(record: Record) -> bool:
    """The runner ended by itself before any job was named: the next one may fare no better."""
    if record.named_at_ns or record.cancel is not None:
        return False
    if record.outcome is not None:
        return record.outcome.reason is not EndReason.CANCELLED
    return record.platform is not None and record.platform.exit is not None


@dataclass(frozen=True, slots=True)
class Envelope:
    """The jobs of one envelope by what is to be done. `open` counts those that were not completed in it."""

    assigned: tuple[JobMessage, ...] = ()
    available: tuple[JobMessage, ...] = ()
    started: tuple[JobMessage, ...] = ()
    completed: tuple[JobMessage, ...] = ()
    open: int = 0


class Ledger:
    """What the messages of one set have said so far, as much of it as protects from duplicates and disorder.

    Nothing is lost with it: it only spares runners that would find no job.
    """

    def __init__(self) -> None:
        self._closed: dict[_Round, None] = {}
        self._running: dict[str, RunnerName | None] = {}
        self._open: dict[str, None] = {}

    @property
    def open(self) -> int:
        """Jobs that were assigned and not completed, as far as messages and our own records tell."""
        return len(self._open)

    def assume(self, ref: str) -> None:
        """A record of an earlier daemon was demanded by this job."""
        _remember(self._open, ref, None)

    def settled(self, runner: RunnerName) -> None:
        """The record of this runner is at its end: its job needs no other one."""
        for ref in [ref for ref, name in self._running.items() if name == runner]:
            self._open.pop(ref, None)

    def read(self, jobs: Iterable[JobMessage]) -> Envelope:
        """Sort an envelope. What was completed before, or later in it, is not assigned any more."""
        by_kind: dict[JobMessageKind, list[JobMessage]] = {kind: [] for kind in JobMessageKind}
        waiting: dict[str, JobMessage] = {}
        taken: set[str] = set()
        for job in jobs:
            ref = job_ref(job)
            by_kind[job.kind].append(job)
            if job.kind is JobMessageKind.COMPLETED:
                self._close(job)
                taken.discard(ref)
                if ref in waiting and not _newer(waiting[ref], job):
                    del waiting[ref]
                if ref not in waiting:
                    self._open.pop(ref, None)
            elif job.kind is JobMessageKind.STARTED and _round(job) not in self._closed:
                _remember(self._running, ref, runner_of(job.runner_name))
                _remember(self._open, ref, None)
                taken.add(ref)
                waiting.pop(ref, None)
            elif job.kind is JobMessageKind.ASSIGNED and _round(job) not in self._closed and ref not in self._running:
                waiting[ref] = job
                _remember(self._open, ref, None)
        return Envelope(
            assigned=tuple(waiting.values()),
            available=tuple(job for job in by_kind[JobMessageKind.AVAILABLE] if job.request_id > 0),
            started=tuple(by_kind[JobMessageKind.STARTED]),
            completed=tuple(by_kind[JobMessageKind.COMPLETED]),
            open=len(waiting) + len(taken),
        )

    def _close(self, job: JobMessage) -> None:
        self._running.pop(job_ref(job), None)
        if job.assigned_at_ns is not None:
            _remember(self._closed, _round(job), None)

    def runs_on(self, runner: RunnerName) -> bool:
        """Whether a message told that a job runs on it, and none that the job is over."""
        return runner in self._running.values()

    def strays(self, slots: Sequence[Slot], running: int) -> int:
        """Jobs that run, as far as GitHub knows, on what is no slot of ours any more: a new runner is not for them.

        `running` is the service's own count: a job whose end no message told is no stray for ever.
        """
        counted = {runner_name(slot.job_id) for slot in slots if slot.counts}
        told = sum(1 for name in self._running.values() if name not in counted)
        return min(told, max(running - sum(slot.state is SlotState.BUSY for slot in slots), 0))


class Untold:
    """Jobs that have ended here, of which GitHub has not said so yet: it still counts them, and they need no runner.

    A job that was refused is one, until its runner has told GitHub. Each counts for `_UNTOLD_SECONDS` at most.
    """

    def __init__(self) -> None:
        self._until: dict[RunnerName, float] = {}

    def over_at(self, now: float) -> float | None:
        """When none of them counts any more; None when that is so."""
        return max((until for until in self._until.values() if until > now), default=None)

    def ended(self, runner: RunnerName, now: float) -> None:
        self._until.setdefault(runner, now + _UNTOLD_SECONDS)

    def told(self, runner: RunnerName) -> None:
        self._until.pop(runner, None)

    def count(self, ledger: Ledger, now: float) -> int:
        """How many there are besides those that the ledger knows to run."""
        # Kept for longer than they count: a record whose end takes long is seen again and again.
        self._until = {runner: until for runner, until in self._until.items() if until > now - 3600}
        return sum(until > now and not ledger.runs_on(runner) for runner, until in self._until.items())


_Round = tuple[str, int | None]
"""One assignment of one job: GitHub takes a job back and assigns it again when no runner took it in time."""

_K = TypeVar("_K")
_V = TypeVar("_V")


def _round(job: JobMessage) -> _Round:
    return job_ref(job), job.assigned_at_ns


def _newer(one: JobMessage, other: JobMessage) -> bool:
    """Whether `one` is of a later assignment than `other`, as far as they tell."""
    return (one.assigned_at_ns or 0) > (other.assigned_at_ns or 0) > 0


def _remember(memory: dict[_K, _V], key: _K, value: _V) -> None:
    memory[key] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]


def believed(statistics: Statistics | None, envelope: Envelope) -> int | None:
    """The number of jobs that GitHub holds assigned to the set, running ones included; None when it cannot be true."""
    if statistics is None or statistics.assigned < envelope.open:
        return None
    return statistics.assigned


@dataclass(frozen=True, slots=True)
class Plan:
    """`offers` are new runners for announced jobs, `fillers` how many more the count wants, `withheld` how many the
    set's bound keeps back. `surplus` can be done without, those that cost least first."""

    offers: tuple[JobKey, ...] = ()
    fillers: int = 0
    withheld: int = 0
    surplus: tuple[JobId, ...] = ()


def plan(assigned: int, announced: Sequence[JobKey], slots: Sequence[Slot], strays: int, bound: int) -> Plan:
    """What to do now. `assigned` is the count of jobs that are the set's, `strays` how many of them need no runner,
    `announced` the keys of assigned jobs that have no record, `bound` the most runners that the set may have. One that
    is over still takes up room until it is gone."""
    counted = sum(slot.counts for slot in slots)
    room = max(bound - len(slots), 0)
    short = max(assigned - strays, 0) - counted
    if short >= 0:
        made = min(short, room)
        offers = tuple(announced[:made])
        return Plan(offers=offers, fillers=made - len(offers), withheld=short - made)
    idle = sorted(
        (slot for slot in slots if slot.state < SlotState.BUSY), key=lambda slot: (slot.state, -slot.since_ns)
    )
    return Plan(surplus=tuple(slot.job_id for slot in idle[:-short]))


class Patient:
    """Lets a surplus be acted on only when it has lasted: seen at two looks `grace_seconds` apart, and in between."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace = grace_seconds
        self._since: float | None = None
        self._least = 0

    def lasting(self, surplus: int, now: float) -> int:
        """How many of these have been too many all along."""
        if surplus <= 0:
            self._since = None
            return 0
        if self._since is None:
            self._since, self._least = now, surplus
            return 0
        self._least = min(self._least, surplus)
        if now - self._since < self._grace:
            return 0
        self._since = None
        return self._least


class Backoff:
    """How long to wait after failures in a row: `first_seconds`, doubled each time, at most `longest_seconds`."""

    def __init__(self, first_seconds: float, longest_seconds: float) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self.failures = 0
        self.until = 0.0

    def failed(self, now: float, jitter: float = 1.0) -> float:
        """Note a failure; returns the wait from `now` on. `jitter` from 0.5 to 1 spreads those who fail together."""
        wait = min(self._longest, self._first * 2.0 ** min(self.failures, 30)) * jitter
        self.failures += 1
        self.until = max(self.until, now + wait)
        return wait

    def succeeded(self) -> None:
        self.failures = 0
        self.until = 0.0
