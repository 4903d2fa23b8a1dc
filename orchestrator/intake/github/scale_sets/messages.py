"""What the Actions service and its message queue say, as frozen objects; `service_answers` reads them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Statistics:
    """The service's own counts of a scale set: always current, while messages are cut at 50.

    `assigned` includes the running ones.
    """

    available: int = 0
    acquired: int = 0
    assigned: int = 0
    running: int = 0
    registered_runners: int = 0
    busy_runners: int = 0
    idle_runners: int = 0


@dataclass(frozen=True, slots=True)
class ScaleSet:
    id: int
    name: str
    group_id: int
    group_name: str
    labels: tuple[str, ...] = ()
    statistics: Statistics | None = None

    def lacks(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Those of `labels` that the service did not take over; GHES before 3.21 drops all but one in silence."""
        have = {label.lower() for label in self.labels}
        return tuple(label for label in labels if label.lower() not in have)


@dataclass(frozen=True, slots=True)
class RunnerGroup:
    id: int
    name: str
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What the service says of a message session; `Session` is the one that is used."""

    id: str
    owner: str
    queue_url: str
    token: str = field(repr=False)
    statistics: Statistics | None = None


class JobMessageKind(StrEnum):
    AVAILABLE = "JobAvailable"
    ASSIGNED = "JobAssigned"
    STARTED = "JobStarted"
    COMPLETED = "JobCompleted"


@dataclass(frozen=True, slots=True)
class JobMessage:
    """One event of a job.

    `job_id` is the key (a GUID on github.com); `request_id` is 0 on github.com and what is acquired on GHES. Times are
    Unix nanoseconds, None while unset. `runner_name` is empty and `runner_id` 0 when no runner took the job. `result`
    is lower case and spelled `succeeded`, `failed`, `canceled`, … whatever the service wrote.
    """

    kind: JobMessageKind
    job_id: str
    request_id: int = 0
    owner: str = ""
    repository: str = ""
    workflow_ref: str = ""
    name: str = ""
    run_id: int = 0
    event: str = ""
    labels: tuple[str, ...] = ()
    queued_at_ns: int | None = None
    assigned_at_ns: int | None = None
    runner_assigned_at_ns: int | None = None
    finished_at_ns: int | None = None
    runner_id: int = 0
    runner_name: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One envelope. It comes again until it is acknowledged.

    `skipped` counts what could not be read or is of a kind that we do not know; `statistics` heals what was in it.
    """

    id: int
    statistics: Statistics | None = None
    jobs: tuple[JobMessage, ...] = ()
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class JitConfig:
    """A registered runner and its configuration. `encoded` is a credential: nobody may see it but that runner."""

    runner_id: int
    name: str
    encoded: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunnerEntry:
    """A registration as GitHub lists it. `scale_set_id` is 0 where none is told; `status` is lower case or empty."""

    id: int
    name: str
    scale_set_id: int = 0
    status: str = ""
    busy: bool = False
    labels: tuple[str, ...] = ()
    created_at_ns: int | None = None


@dataclass(frozen=True, slots=True)
class AcquirableJob:
    request_id: int
    owner: str = ""
    repository: str = ""
    workflow_ref: str = ""
    event: str = ""
    labels: tuple[str, ...] = ()
