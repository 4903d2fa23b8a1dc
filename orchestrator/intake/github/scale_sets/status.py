"""How a scale set is doing, for people: what it waits for and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.intake.github.scale_sets.demand import Slot, SlotState
from orchestrator.intake.github.scale_sets.messages import Message, Statistics
from orchestrator.intake.github.trouble import Trouble, first_failure
from orchestrator.model.source import Failure, WaitCounts


class Stage(StrEnum):
    """*waiting* means that the last call failed and the next one comes after a pause; *conflict*, that somebody else
    has the set's session."""

    STARTING = "starting"
    OPENING = "opening"
    LISTENING = "listening"
    WAITING = "waiting"
    CONFLICT = "conflict"
    STOPPED = "stopped"


@dataclass(slots=True)
class SetStatus:
    """Written by the set's loops, each of which has its own trouble. Times are Unix nanoseconds, 0 for *not yet*."""

    source: str
    key: str
    stage: Stage = Stage.STARTING
    announced: int = 0
    polled_at_ns: int = 0
    heard_at_ns: int = 0
    message_id: int = 0
    statistics: Statistics | None = None
    listening: Trouble = field(init=False)
    tending: Trouble = field(init=False)
    naming: Trouble = field(init=False)

    def __post_init__(self) -> None:
        where = f"scale set {self.key} of GitHub source {self.source}"
        self.listening = Trouble(f"listening to {where}")
        self.tending = Trouble(f"tending the runners of {where}")
        self.naming = Trouble(f"naming the jobs of {where}")

    @property
    def failure(self) -> Failure | None:
        """What does not work now, the gravest first."""
        return first_failure(self.listening, self.tending, self.naming)

    def polling(self, now_ns: int, announced: int) -> None:
        """A poll begins, and says how many jobs the set may hold."""
        self.stage, self.announced, self.polled_at_ns = Stage.LISTENING, announced, now_ns

    def heard(self, now_ns: int, message: Message | None) -> None:
        """The service answered: whatever was wrong with listening is over."""
        self.listening.over()
        self.heard_at_ns = now_ns
        if message is not None:
            self.message_id = message.id


def waiting_for(failure: Failure | None, slots: Mapping[str, int], *, withheld: int, short: int, free: int) -> str:
    """In a word why not every assigned job has a runner; empty when there is no such reason. `free` is the pool's."""
    if failure is not None:
        return failure.reason
    if withheld:
        return "max_runners"
    if short:
        return "runners_failing"
    return "pool_full" if free <= 0 and slots["coming"] else ""


@dataclass(frozen=True, slots=True)
class SetPicture:
    """One scale set at one moment.

    `slots` counts its runners by state; `queued` are jobs known to have none, where GitHub lists them; `short` are
    runners that the service's count wants and that are not begun yet, `withheld` those that `max_runners` keeps back.
    `waiting_for` says in a word why not every assigned job has a runner (`max_runners`, `runners_failing`, `pool_full`,
    or the failure's reason), and is empty otherwise.
    """

    name: str
    pool: str
    stage: str
    set_id: int
    announced: int
    polled_at_ns: int
    heard_at_ns: int
    statistics: Statistics | None
    slots: Mapping[str, int]
    queued: int | None
    short: int
    withheld: int
    waiting_for: str
    failure: Failure | None
    labels_lacking: tuple[str, ...]
    waits: WaitCounts

    @property
    def error_reason(self) -> str:
        """Of the failure; empty while all works."""
        return self.failure.reason if self.failure is not None else ""


def by_state(slots: Iterable[Slot]) -> dict[str, int]:
    """How many runners are in each state, in the words of the status page."""
    found = {state.name.lower(): 0 for state in SlotState}
    for slot in slots:
        found[slot.state.name.lower()] += 1
    return found
