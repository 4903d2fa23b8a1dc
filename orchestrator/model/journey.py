"""A runner's way to its job's end, stage by stage, as its backend and its agent saw it. Pure values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class RunnerStage(StrEnum):
    """What a runner is at, in the order in which these come. Not every backend has, or can tell, each of them.

    *create*: its backend is asked for it. *schedule*: it waits for a machine. *sandbox*: its isolation and network are
    made. *pull_agent*: the machine gets the agent's image and makes its container, which nobody tells apart.
    *start*: the agent begins. *prove*: it proves that forbidden egress fails. *claim*: it asks for its work.
    *pull_job*: the same as *pull_agent* for the job's image. *run*: the job's own container runs. *flush*: it has
    ended, and its output is read.
    """

    CREATE = "create"
    SCHEDULE = "schedule"
    SANDBOX = "sandbox"
    PULL_AGENT = "pull_agent"
    START = "start"
    PROVE = "prove"
    CLAIM = "claim"
    PULL_JOB = "pull_job"
    RUN = "run"
    FLUSH = "flush"


ORDER: tuple[RunnerStage, ...] = tuple(RunnerStage)


class TimeSource(StrEnum):
    """Whose word a time is. *observed*: this daemon saw it happen. *api*: the cluster wrote it down, in whole seconds
    of its own clock. *agent*: the agent in the runner measured how long ago it was."""

    OBSERVED = "observed"
    API = "api"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class StageBegan:
    """A stage, which lasts until the next one begins. `at_ns` is Unix time in nanoseconds."""

    stage: RunnerStage
    at_ns: int
    source: TimeSource = TimeSource.OBSERVED


@dataclass(frozen=True, slots=True)
class RunnerPlace:
    """Where a runner is, in the backend's own names; each is empty where it is not known, or there is no such thing.

    `warm` says that it was there before its job was.
    """

    namespace: str = ""
    name: str = ""
    machine: str = ""
    agent_image: str = ""
    job_image: str = ""
    warm: bool = False


@dataclass(frozen=True, slots=True)
class Journey:
    """What is known of the way of one runner, the one of this `uid`."""

    uid: str
    stages: tuple[StageBegan, ...]
    place: RunnerPlace = field(default_factory=RunnerPlace)


def in_order(stages: Iterable[StageBegan]) -> tuple[StageBegan, ...]:
    """The stages as they follow each other, each once, no one earlier than the one before it.

    Times come from several clocks, some of them in whole seconds; a stage that would begin before the one that it
    follows begins with it.
    """
    first = {one.stage: one for one in sorted(stages, key=lambda one: -one.at_ns)}
    ordered: list[StageBegan] = []
    for stage in ORDER:
        one = first.get(stage)
        if one is not None:
            at_ns = max(one.at_ns, ordered[-1].at_ns) if ordered else one.at_ns
            ordered.append(one if at_ns == one.at_ns else StageBegan(stage, at_ns, one.source))
    return tuple(ordered)
