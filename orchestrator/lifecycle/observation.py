"""What `decide` is told about the world in one pass, and what it may answer. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from orchestrator.model.decision import Decision
from orchestrator.model.events import Event
from orchestrator.model.pool import Pool
from orchestrator.model.runner import RunnerView

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Longest stay in each phase, in nanoseconds; a job's own run limit comes with the job."""

    admission_ns: int = 60 * SECOND
    capacity_ns: int = 6 * 3600 * SECOND
    provision_ns: int = 120 * SECOND
    bind_ns: int = 60 * SECOND
    teardown_ns: int = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Failure:
    """The pass's last action failed. `transient` is the error's family; `text` is fit for people."""

    transient: bool
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything learnt in this pass. None and False mean *not looked at yet*, never *no*.

    `evidence` are the notes that belong before the finish, None until they were made.
    `failures` counts transient failures in a row for this job, over passes; `looks` the looks in a row
    that found a deleted runner still there.
    """

    now_ns: int
    pool: Pool | None
    decision: Decision | None = None
    slot: bool | None = None
    runner: RunnerView | None = None
    revoked: bool = False
    deleted: bool = False
    evidence: tuple[Event, ...] | None = None
    failure: Failure | None = None
    failures: int = 0
    looks: int = 0


class Action(Enum):
    """What the shell is to do next; at most one at a time for one job."""

    ASK_POLICY = auto()
    TAKE_SLOT = auto()
    CREATE_RUNNER = auto()
    LOOK_AT_RUNNER = auto()
    REVOKE = auto()
    DELETE_RUNNER = auto()
    CLOSE = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """Facts to make durable, then the action to perform, or when to look again if nothing else happens."""

    facts: tuple[Event, ...] = ()
    action: Action | None = None
    wake_ns: int | None = None
