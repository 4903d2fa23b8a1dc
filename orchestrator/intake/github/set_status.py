"""How a scale set is doing, for people: what it waits for and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.errors import OrchestratorError
from orchestrator.intake.github.messages import Message, Statistics

_MAX_TEXT = 500


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
    """Written by the set's loop. Times are Unix nanoseconds, 0 for *not yet*."""

    key: str
    stage: Stage = Stage.STARTING
    announced: int = 0
    polled_at_ns: int = 0
    heard_at_ns: int = 0
    message_id: int = 0
    statistics: Statistics | None = None
    error_reason: str = ""
    error: str = ""

    def polling(self, now_ns: int, announced: int) -> None:
        """A poll begins, and says how many jobs the set may hold."""
        self.stage, self.announced, self.polled_at_ns = Stage.LISTENING, announced, now_ns

    def heard(self, now_ns: int, message: Message | None) -> None:
        """The service answered: whatever was wrong is over."""
        self.error_reason = self.error = ""
        self.heard_at_ns = now_ns
        if message is not None:
            self.message_id = message.id

    def failed(self, error: Exception) -> None:
        """The last error stays until the service answers."""
        ours = isinstance(error, OrchestratorError)
        self.error_reason = error.reason if isinstance(error, OrchestratorError) else "internal_error"
        self.error = str(error)[:_MAX_TEXT] if ours else "an internal error; see the daemon's log"


@dataclass(frozen=True, slots=True)
class SetPicture:
    """One scale set at one moment.

    `slots` counts its runners by state; `short` are runners that the service's count wants and that are not begun yet,
    `withheld` those that `max_runners` keeps back. `waiting_for` says in a word why not every assigned job has a runner
    (`max_runners`, `runners_failing`, `pool_full`, or the last error's reason), and is empty otherwise.
    """

    name: str
    pool: str
    stage: str
    set_id: int
    announced: int
    polled_at_ns: int
    heard_at_ns: int
    statistics: Statistics | None
    slots: dict[str, int]
    short: int
    withheld: int
    waiting_for: str
    error_reason: str
    error: str
    labels_lacking: tuple[str, ...]
