"""What happened to a job's runner: meant, made, observed, gone. See `events`."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.model.journey import RunnerPlace, StageBegan
from orchestrator.model.runner import ExitCause, RunnerName


@dataclass(frozen=True, slots=True)
class ProvisionStarted:
    """The intent: from here on a runner of this name may exist. `number` counts runners from 1."""

    runner: RunnerName
    spec_digest: str
    number: int = 1
    backend: str = ""


@dataclass(frozen=True, slots=True)
class RunnerCreated:
    runner: RunnerName
    uid: str


@dataclass(frozen=True, slots=True)
class RunnerVanished:
    """A runner that never had the work is gone; the job goes back to waiting for one."""

    runner: RunnerName
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RunnerObserved:
    """How far the runner has come, as far as that was seen and no earlier note says it.

    It goes with a fact that is recorded anyway: the binding, a reason for waiting, the end. A daemon that was killed in
    between leaves out what it alone had seen.
    """

    runner: RunnerName
    uid: str
    stages: tuple[StageBegan, ...] = ()
    place: RunnerPlace = field(default_factory=RunnerPlace)


@dataclass(frozen=True, slots=True)
class RunnerExited:
    """The end of a runner whose job has no end yet: that is the platform's to tell, and may be told later."""

    runner: RunnerName
    exit_code: int | None = None
    cause: ExitCause | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RunnerDeleted:
    """The backend accepted the deletion; *gone* is only said after looking.

    `revoked_at_ns` (Unix time) is when every way in and out of the runner had been taken away; 0 when that was still to
    be tried again.
    """

    runner: RunnerName
    revoked_at_ns: int = 0
