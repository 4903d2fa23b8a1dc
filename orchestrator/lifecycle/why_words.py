"""The values that `why` is told and answers with, and how others' words become part of a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from orchestrator.errors import OrchestratorError
from orchestrator.lifecycle.observation import SECOND, Deadlines
from orchestrator.model.events import WaitReason
from orchestrator.model.journey import RunnerStage
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

_LONGEST = 300


class Progress(StrEnum):
    """What an unfinished job does that has no reason to wait; each has an anchor in the docs' reason reference."""

    CANCELLING = "cancelling"
    DRAINING = "draining"
    POLICY_PENDING = "policy_pending"
    PLACE_PENDING = "place_pending"
    RUNNER_CREATING = "runner_creating"
    CLAIM_PENDING = "claim_pending"
    RUNNING = "running"
    NAME_PENDING = "name_pending"
    REFUSAL_SHOWN = "refusal_shown"
    COMPLETION_PENDING = "completion_pending"
    RUNNER_ENDING = "runner_ending"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the job's own record. Everything may be unknown: None, empty or 0.

    `in_use` of the `pool`'s places are taken; `before` jobs get a place of it earlier than this one. `obstacle_ns` are
    the longest times that a runner may be kept from starting, by reason. `trouble` is what the last try to move the job
    on ran into; `unrecorded` is why nothing of it can be recorded now, so that it does not move on at all. `stage` is
    what its runner is at, by what was seen of it. `hints` are facts of the job that may explain its end.
    """

    deadlines: Deadlines = field(default_factory=Deadlines)
    pool: Pool | None = None
    in_use: int | None = None
    before: int | None = None
    draining: bool = False
    obstacle_ns: Mapping[WaitReason, int] = field(default_factory=dict)
    trouble: str = ""
    unrecorded: OrchestratorError | None = None
    stage: RunnerStage | None = None
    hints: tuple[str, ...] = ()


class Around(Protocol):
    """Who knows what surrounds a job now. Must not block."""

    def __call__(self, record: Record, /, *, place: bool = True) -> Surroundings:
        """Without `place` the job's place in the line is not counted: that takes time with the length of the line."""
        ...


@dataclass(frozen=True, slots=True)
class Why:
    """`sentence` ends with a full stop and fits one line. `reason` is an EndReason, a WaitReason or a Progress; while
    nothing can be recorded, and the job is not over, it is the reason of that.

    `since_ns` is when that began (Unix time). `gives_up_at_ns` is the earliest moment at which the job is ended for it;
    0 when that is not known or never happens. `pending` says that the job is not over.
    """

    sentence: str
    next_step: str
    reason: str
    since_ns: int
    gives_up_at_ns: int = 0
    pending: bool = True
    hints: tuple[str, ...] = ()


def words(text: str) -> str:
    """Somebody else's text as the part of a sentence: one line without a full stop, cut to a bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _LONGEST]).split())
    cut = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    return cut.rstrip(". ")


def clause(text: str, lead: str = ": ") -> str:
    """The same after `lead`, or nothing where there is nothing to say."""
    said = words(text)
    return f"{lead}{said}" if said else ""


def figure(span_ns: int) -> str:
    """A span of time in its two largest units: `42 s`, `3 min 5 s`, `2 h 57 min`, `1 d 4 h`."""
    seconds = max(0, span_ns) // SECOND
    for size, unit, part_size, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // part_size
            return f"{seconds // size} {unit} {rest} {part}" if rest else f"{seconds // size} {unit}"
    return f"{seconds} s"
