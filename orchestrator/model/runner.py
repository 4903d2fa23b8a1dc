"""A runner: one single-use execution environment, its deterministic name, what it is made from and seen as."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import NewType

from orchestrator.model.egress import EgressRule
from orchestrator.model.job import JobId, PoolName

RunnerName = NewType("RunnerName", str)


@lru_cache(maxsize=8192)
def runner_name(job_id: JobId) -> RunnerName:
    """The one name a job's runner can have: a DNS label, so that every backend can use it as its lock."""
    return RunnerName(f"runner-{hashlib.sha256(job_id.encode()).hexdigest()[:24]}")


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """What a backend needs to make a runner. It holds no job text, no identity and no secret.

    `egress` are the host rules already cut to what policy and pool both allow. `deadline_seconds` is the
    backend's own hard stop, a safety net behind the engine's deadline.
    """

    name: RunnerName
    job_id: JobId
    pool: PoolName
    egress: tuple[EgressRule, ...]
    deadline_seconds: int

    @property
    def digest(self) -> str:
        """Equal digests mean *already exists* is success; anything else is a name clash."""
        rules = ",".join(sorted(str(rule) for rule in self.egress))
        text = "\n".join((self.name, self.job_id, self.pool, rules, str(self.deadline_seconds)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class RunnerState(StrEnum):
    ABSENT = "absent"
    ALIVE = "alive"
    EXITED = "exited"


class ExitCause(StrEnum):
    """Why a runner ended, as far as the backend can prove it.

    *evicted*: its machine put it out or never took it in; *preempted*: it made room for something more
    important; *deleted*: somebody who is not the engine removed it; *start_failed*: the job's first process
    could not be started; *agent_failed*: our agent ended with `exit_code`, the job never began.
    """

    EXITED = "exited"
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out_of_memory"
    DEADLINE = "deadline"
    LOST = "lost"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node_lost"
    DELETED = "deleted"
    START_FAILED = "start_failed"
    AGENT_FAILED = "agent_failed"


class Obstacle(StrEnum):
    """What keeps a runner that exists from starting."""

    UNSCHEDULABLE = "unschedulable"
    IMAGE_PULL = "image_pull"
    START_FAILING = "start_failing"


@dataclass(frozen=True, slots=True)
class Pending:
    """A runner that cannot start now. It is given up `limit_ns` after `since_ns` (Unix time); 0 means at once."""

    obstacle: Obstacle
    detail: str = ""
    since_ns: int = 0
    limit_ns: int = 0

    @property
    def until_ns(self) -> int:
        """When it has been waited for long enough (Unix time)."""
        return self.since_ns + self.limit_ns


@dataclass(frozen=True, slots=True)
class RunnerView:
    """A runner as its backend sees it now. `uid` differs between two runners of one name.

    An *absent* runner still has `uid`, `cause` and `exit_code` when its end was seen. `placed_at_ns` is when it
    got a machine to run on (Unix time), 0 where that is not told. Views are equal when the runners' states are.
    """

    name: RunnerName
    state: RunnerState
    uid: str = ""
    exit_code: int | None = None
    cause: ExitCause | None = None
    detail: str = ""
    pending: Pending | None = field(default=None, compare=False)
    placed_at_ns: int = field(default=0, compare=False)
