"""When a signing key is published, signs, retires and goes. Pure: facts about keys and a time in, a plan out.

States: *next* (published, not signing) → *active* (signs) → *retiring* (published, so that tokens it signed
still verify) → gone. Verifiers cache key sets, so a key is known to them before it signs, and stays
known until the last token it signed is dead everywhere. A rotation that somebody asks for takes the same
way, and begins at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.errors import ConfigurationError


class KeyState(StrEnum):
    NEXT = "next"
    ACTIVE = "active"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class RotationSchedule:
    """All in seconds; the meaning is that of the settings of the same names.

    Raises:
        ConfigurationError: a time is not positive.
    """

    rotation_seconds: float = 7 * 86400
    publish_ahead_seconds: float = 86400
    retire_seconds: float = 86400 + 3600 + 600

    def __post_init__(self) -> None:
        if min(self.rotation_seconds, self.publish_ahead_seconds, self.retire_seconds) <= 0:
            raise ConfigurationError("key rotation times must be positive", fix="set them above 0 seconds")


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What the plan is made from. `since` is when the present state began, in Unix seconds. A *next* key that is
    `asked` for takes over once it was published for long enough, though the active one is not due."""

    kid: str
    algorithm: str
    state: KeyState
    since: float
    asked: bool = False


@dataclass(frozen=True, slots=True)
class RotationPlan:
    """`create` names algorithms that need a new key and the state it starts in; the rest are `kid`s. `ask` are *next*
    keys that are asked for from now on."""

    create: tuple[tuple[str, KeyState], ...] = ()
    activate: tuple[str, ...] = ()
    retire: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.create or self.activate or self.retire or self.remove or self.ask)


@dataclass(slots=True)
class _Draft:
    create: list[tuple[str, KeyState]] = field(default_factory=list)
    activate: list[str] = field(default_factory=list)
    retire: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    ask: list[str] = field(default_factory=list)

    def plan(self) -> RotationPlan:
        return RotationPlan(
            tuple(self.create), tuple(self.activate), tuple(self.retire), tuple(self.remove), tuple(self.ask)
        )


def plan_rotation(
    keys: Sequence[KeyFacts], schedule: RotationSchedule, algorithms: Sequence[str], now: float
) -> RotationPlan:
    """What has to change at `now`; an empty plan when nothing has.

    Afterwards each algorithm has exactly one active key. A set with no active key (first start, or the
    active one was revoked) gets one at once: no verifier can be kept waiting for a key that must sign now.
    """
    draft = _Draft()
    for algorithm in algorithms:
        _plan_one([key for key in keys if key.algorithm == algorithm], schedule, algorithm, now, draft)
    return draft.plan()


def plan_asked(
    keys: Sequence[KeyFacts], schedule: RotationSchedule, algorithms: Sequence[str], now: float, *, at_once: bool
) -> RotationPlan:
    """What has to change at `now` so that each algorithm's key is followed by another. Asking again while one waits to
    sign changes nothing.

    With `at_once` the follower signs now, whether or not verifiers can know it; the old key stays published as ever.
    """
    draft = _Draft()
    for algorithm in algorithms:
        ours = sorted((key for key in keys if key.algorithm == algorithm), key=lambda key: key.since)
        nexts = [key for key in ours if key.state is KeyState.NEXT]
        published = bool(nexts) and now >= nexts[0].since + schedule.publish_ahead_seconds
        if nexts and (at_once or published):
            draft.activate.append(nexts[0].kid)
        elif nexts:
            draft.ask.extend(key.kid for key in nexts[:1] if not key.asked)
        else:
            draft.create.append((algorithm, KeyState.ACTIVE if at_once else KeyState.NEXT))
        if at_once or published:
            draft.retire.extend(key.kid for key in ours if key.state is KeyState.ACTIVE)
    return draft.plan()


def _plan_one(keys: Sequence[KeyFacts], schedule: RotationSchedule, algorithm: str, now: float, draft: _Draft) -> None:
    by_age = sorted(keys, key=lambda key: key.since)
    actives = [key for key in by_age if key.state is KeyState.ACTIVE]
    nexts = [key for key in by_age if key.state is KeyState.NEXT]
    for key in by_age:
        if key.state is KeyState.RETIRING and now >= key.since + schedule.retire_seconds:
            draft.remove.append(key.kid)
    if not actives:
        if nexts:
            draft.activate.append(nexts.pop(0).kid)
        else:
            draft.create.append((algorithm, KeyState.ACTIVE))
        return
    *surplus, active = actives
    draft.retire.extend(key.kid for key in surplus)
    due = active.since + schedule.rotation_seconds
    if nexts:
        if (nexts[0].asked or now >= due) and now >= nexts[0].since + schedule.publish_ahead_seconds:
            draft.activate.append(nexts[0].kid)
            draft.retire.append(active.kid)
    elif now >= due - schedule.publish_ahead_seconds:
        draft.create.append((algorithm, KeyState.NEXT))
