"""The nouns of the platform: who owns what, runs and their jobs, scale sets, runners. Data only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.testing.github.history import History


class Flavour(StrEnum):
    """`HOSTED`: the service assigns jobs itself and `runnerRequestId` is 0. `GHES`: jobs are announced and acquired."""

    HOSTED = "github.com"
    GHES = "ghes"


@dataclass(slots=True)
class Options:
    """Rules of the platform as numbers, all in seconds; any may be changed while the server runs.

    `requeue_delays` is how long a job rests each time no runner took it within `unclaimed`; the last one repeats.
    `session_idle` frees a set whose session has stopped polling; None never does. `idle_jit` removes registered
    runners that wait for a job for so long; None never does. `lost_runner` abandons the job of a runner that has not
    been heard of for so long, `cancel_grace` ends a cancelled one whose runner says nothing. `redeliver_older` gives
    messages that were not deleted again even to a poll with a larger `lastMessageId`.
    """

    flavour: Flavour = Flavour.HOSTED
    poll_hold: float = 50
    unclaimed: float = 60
    requeue_delays: tuple[float, ...] = (0, 30, 60)
    queued_job: float = 86_400
    idle_set: float = 7 * 86_400
    offline_runner: float = 86_400
    idle_jit: float | None = None
    lost_runner: float = 600
    cancel_grace: float = 300
    session_idle: float | None = 120
    admin_token: float = 3_600
    queue_token: float = 3_600
    installation_token: float = 3_600
    registration_token: float = 3_600
    redeliver_older: bool = False
    events_per_message: int = 50
    rest_limit: int | None = 5_000
    registration_limit: int | None = 10_000
    issuer_suffix: str = ""


@dataclass(slots=True)
class Owner:
    """An organization, or a user. `subject_keys` is the customised form of `sub` of its jobs' tokens."""

    id: int
    login: str
    kind: str = "Organization"
    subject_keys: tuple[str, ...] = ()


@dataclass(slots=True)
class Repository:
    """`branches` says of each whether it is protected."""

    id: int
    owner: Owner
    name: str
    visibility: str = "private"
    default_branch: str = "main"
    branches: dict[str, bool] = field(default_factory=dict)
    fork: bool = False
    immutable_subject: bool = False
    properties: dict[str, str] = field(default_factory=dict)
    history: History = field(default_factory=History)

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"


@dataclass(frozen=True, slots=True)
class Step:
    """A shell step. `condition` is `success`, `failure` or `always`, as in `if: success()`."""

    run: str
    name: str = ""
    condition: str = "success"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job as a workflow file describes it. `id_token` is `permissions: id-token: write`.

    `waits` holds it back in front of its environment until `approve`.
    """

    name: str = "build"
    labels: tuple[str, ...] = ("zt",)
    steps: tuple[Step | str, ...] = ("true",)
    environment: str = ""
    id_token: bool = False
    job_workflow_ref: str = ""
    group: str = ""
    waits: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


class JobState(StrEnum):
    WAITING = "waiting"
    QUEUED = "queued"
    AVAILABLE = "available"
    ACQUIRED = "acquired"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"


@dataclass(slots=True, eq=False)
class Job:
    """One attempt of one job. `key` is the service's GUID, `id` the REST id, `request_id` what GHES announces."""

    id: int
    key: str
    check_run_id: int
    request_id: int
    run: Run
    plan: JobPlan
    attempt: int
    created_at: float
    token: str
    state: JobState = JobState.QUEUED
    result: str = ""
    scale_set: ScaleSet | None = None
    runner: Runner | None = None
    runner_id: int = 0
    runner_name: str = ""
    assigned_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    rounds: int = 0
    log: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)
    starts: int = 0
    cancel_timer: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        return self.state is JobState.COMPLETED

    @property
    def conclusion(self) -> str | None:
        """As the REST API spells the result."""
        words = {"succeeded": "success", "failed": "failure", "canceled": "cancelled", "abandoned": "failure"}
        return words.get(self.result, self.result) or None


@dataclass(slots=True, eq=False)
class Run:
    """A workflow run. `jobs` are those of the latest attempt, `earlier` those of the attempts before."""

    id: int
    number: int
    repository: Repository
    head_repository: Repository
    event: str
    ref: str
    sha: str
    actor: str
    actor_id: int
    workflow: str
    path: str
    base_ref: str
    head_ref: str
    created_at: float
    payload: Mapping[str, Any]
    attempt: int = 1
    jobs: list[Job] = field(default_factory=list)
    earlier: list[Job] = field(default_factory=list)
    updated_at: float = 0

    @property
    def done(self) -> bool:
        return all(job.done for job in self.jobs)

    @property
    def is_fork(self) -> bool:
        return self.head_repository is not self.repository

    @property
    def workflow_ref(self) -> str:
        return f"{self.repository.full_name}/{self.path}@{self.ref}"


@dataclass(slots=True, eq=False)
class Runner:
    """A registered runner; `scale_set` is None for one made by the REST API. `secret` is what it shows the broker."""

    id: int
    name: str
    scope: str
    group_id: int
    labels: tuple[str, ...]
    secret: str
    created_at: float
    work_folder: str
    scale_set: ScaleSet | None = None
    session_id: str = ""
    job: Job | None = None
    cancelled: bool = False
    waiter: asyncio.Future[None] | None = None
    heard_at: float = 0

    @property
    def online(self) -> bool:
        return bool(self.session_id)

    @property
    def busy(self) -> bool:
        """To the service, which may have ended the job while the runner still works."""
        return self.job is not None and not self.job.done


@dataclass(slots=True)
class Message:
    """An envelope's inner messages, already JSON text."""

    id: int
    body: str


@dataclass(slots=True, eq=False)
class Session:
    """`polls` counts those that wait at this moment."""

    id: str
    owner: str
    scale_set: ScaleSet
    seen_at: float
    polls: int = 0


@dataclass(slots=True, eq=False)
class ScaleSet:
    """`backlog`, `available`, `acquired`, `assigned`, `running` hold the set's jobs by state, in order."""

    id: int
    name: str
    group_id: int
    labels: tuple[tuple[str, str], ...]
    scope: str
    created_at: float
    setting: dict[str, Any]
    seen_at: float
    enabled: bool = True
    capacity: int = 0
    session: Session | None = None
    backlog: dict[str, Job] = field(default_factory=dict)
    available: dict[str, Job] = field(default_factory=dict)
    acquired: dict[str, Job] = field(default_factory=dict)
    assigned: dict[str, Job] = field(default_factory=dict)
    running: dict[str, Job] = field(default_factory=dict)
    runners: dict[int, Runner] = field(default_factory=dict)
    idle: dict[int, Runner] = field(default_factory=dict)
    events: deque[dict[str, Any]] = field(default_factory=deque)
    messages: dict[int, Message] = field(default_factory=dict)
    last_message: int = 0
    waiters: set[asyncio.Future[None]] = field(default_factory=set)
