"""What `decide` is told about the world in one pass, and what it may answer. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from orchestrator.model.copying import copier
from orchestrator.model.decision import Decision
from orchestrator.model.events import Event
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool
from orchestrator.model.runner import RunnerView

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Longest stay in each phase, in nanoseconds; a job's own run limit comes with the job.

    `call_ns` is the longest single call to a backend, a source, an attester or policy. Of a runner whose job its
    platform names: `naming_ns` is the longest time from its binding to the name, `refusal_ns` how long a refused job
    has to show the reason in its own log, `completion_ns` how long the platform's word on the job's end and the
    runner's end may lie apart.
    """

    admission_ns: int = 60 * SECOND
    capacity_ns: int = 6 * 3600 * SECOND
    provision_ns: int = 120 * SECOND
    bind_ns: int = 60 * SECOND
    teardown_ns: int = 60 * SECOND
    call_ns: int = 30 * SECOND
    naming_ns: int = 600 * SECOND
    refusal_ns: int = 30 * SECOND
    completion_ns: int = 120 * SECOND


@dataclass(frozen=True, slots=True)
class Failure:
    """The pass's last action failed. `transient` is the error's family; `text` is fit for people.

    `wait_ns` is how long the other side wishes not to be asked again.
    """

    transient: bool
    reason: str
    text: str
    wait_ns: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything learnt in this pass, in one phase. None and False mean *not looked at yet*, never *no*.

    `phase` is the one it was made in: what was seen of a runner before its binding says nothing after it.
    `revoked_ns` is when all access had been revoked (Unix time), 0 when this daemon has not seen it. `unrevoked` is why
    revoking failed in this pass.
    `evidence` are the notes that belong before the finish, None until they were made.
    `failures` counts transient failures in a row for this job, over passes; `looks` the looks in a row
    that found a deleted runner still there.
    """

    now_ns: int
    pool: Pool | None
    phase: Phase | None = None
    decision: Decision | None = None
    slot: bool | None = None
    runner: RunnerView | None = None
    revoked: bool = False
    revoked_ns: int = 0
    unrevoked: Failure | None = None
    deleted: bool = False
    evidence: tuple[Event, ...] | None = None
    failure: Failure | None = None
    failures: int = 0
    looks: int = 0

    def entering(self, phase: Phase) -> Observation:
        """What still counts in another phase: time and pool, and a runner just made is the one to be claimed."""
        made = self.runner if self.phase is Phase.PROVISIONING and phase is Phase.BINDING else None
        return Observation(self.now_ns, self.pool, phase, runner=made)


learnt = copier(Observation)
"""The same observation with what was learnt since: `learnt(seen, runner=view)`."""


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
    """Facts to make durable, then the action to perform, or when to look again if nothing else happens.

    With an action `wake_ns` is the deadline that its answer must not outwait. `vacant` says that nothing of the runner
    is left, though its job goes on waiting: others may have its place.
    """

    facts: tuple[Event, ...] = ()
    action: Action | None = None
    wake_ns: int | None = None
    vacant: bool = False
