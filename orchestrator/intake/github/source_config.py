"""What a source of scale sets is made from, and what it needs of the rest of the program, declared by its consumer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.model.egress import EgressRule
from orchestrator.model.events import Event
from orchestrator.model.job import JobId, JobOffer, PoolName
from orchestrator.model.platform import PlatformJob, PlatformResult
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSetConfig:
    """One runner scale set and the runners it gets.

    `labels` empty means one equal to the name; `max_runners` None means as many as the pool has. `script` starts
    GitHub's runner program inside the runner and must not end before it; `work_folder` is that program's.
    """

    name: str
    pool: PoolName
    group: str = "Default"
    labels: tuple[str, ...] = ()
    max_runners: int | None = None
    script: str
    work_folder: str = "_work"

    @property
    def key(self) -> str:
        """Names the set within its source: names are unique in a runner group, whatever their case."""
        return f"{self.group}/{self.name}".lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTiming:
    """Patience of the loops, all in seconds.

    `poll_limit` ends a poll that the client did not end itself; `pace` is the least time between two messages, so that
    in a burst many jobs come in one; `surplus_grace` is how long a runner must be too many before it is taken back;
    `retry_first` to `retry_longest` is the wait after failures in a row, and `fill_first` to `fill_longest` the one
    after runners that ended without a job. `capacity_pace` is the least time between two polls that are ended early
    because there is more room, `acquirable_pace` the one between two looks for jobs to acquire that no message told of.
    `naming_limit` is how long a job's name is looked for, `hook_patience` how long the message of its start waits for
    the runner's hook, which may have the job's own token; `end_grace` how long after its runner's end the message of
    a job's end is waited for before GitHub's API is asked. `sweep` is the time between two comparisons with GitHub's
    list of runners, `idle_sweep` the one while nothing runs. `busy_limit` is how long a runner that GitHub calls busy
    holds up its record's end, `close` how long the end of a session may take.
    """

    poll_limit: float = 150.0
    pace: float = 0.5
    surplus_grace: float = 15.0
    retry_first: float = 1.0
    retry_longest: float = 60.0
    fill_first: float = 2.0
    fill_longest: float = 300.0
    capacity_pace: float = 2.0
    acquirable_pace: float = 30.0
    naming_limit: float = 600.0
    hook_patience: float = 30.0
    end_grace: float = 15.0
    sweep: float = 300.0
    idle_sweep: float = 3600.0
    busy_limit: float = 900.0
    close: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """A configured GitHub URL as a source of scale sets.

    `name` is the source's, part of every job id; `issuer` stands for who asked until a job is named, and is the
    configured URL; `owner` is what GitHub shows as the session's owner. `platform_egress` is what the runner program
    needs to reach.
    """

    name: str
    issuer: str
    owner: str
    scale_sets: tuple[ScaleSetConfig, ...]
    platform_egress: tuple[EgressRule, ...] = ()
    timing: SourceTiming = field(default_factory=SourceTiming)


class RunnerEngine(Protocol):
    """What the source asks of the engine; `lifecycle.engine.Engine` is the real one."""

    def record(self, job_id: JobId) -> Record | None: ...

    def record_of_runner(self, name: RunnerName) -> Record | None: ...

    def live_ids(self) -> list[JobId]: ...

    async def offer(self, offer: JobOffer) -> tuple[Record, bool]: ...

    async def cancel(self, job_id: JobId, by: str, reason: str = "") -> Record | None: ...

    async def name_job(self, runner: RunnerName, job: PlatformJob) -> Record: ...

    async def complete_job(self, runner: RunnerName, result: PlatformResult) -> Record: ...

    async def note(self, job_id: JobId, *notes: Event) -> None: ...


EngineOf = Callable[[], RunnerEngine]
"""The engine, which is made after its sources."""

FreeRunners = Callable[[PoolName], int]
"""How many more runners a pool could start now, those that wait for one already taken off. Must not block."""


class SessionNotes(Protocol):
    """Remembers the session of each scale set over a kill of the daemon, so that the next one can end it."""

    def read(self, scale_set: str) -> str:
        """The id of the last session; empty when there is none."""
        ...

    def write(self, scale_set: str, session_id: str) -> None: ...


@dataclass(slots=True)
class ForgetfulNotes:
    """Keeps the notes in memory only: after a kill one waits until GitHub lets the old session go."""

    kept: dict[str, str] = field(default_factory=dict)

    def read(self, scale_set: str) -> str:
        return self.kept.get(scale_set, "")

    def write(self, scale_set: str, session_id: str) -> None:
        self.kept[scale_set] = session_id


WorkFiles = Callable[[Record], Awaitable[Mapping[str, str]]]
"""More of a record's work, made when it is claimed: file name to content."""
