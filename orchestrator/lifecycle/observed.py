"""What was seen of a runner's way goes on record with a fact that is recorded anyway. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model.events import (
    Event,
    JobEnded,
    JobFinished,
    JobWaited,
    RunnerBound,
    RunnerCreated,
    RunnerExited,
    RunnerObserved,
    RunnerVanished,
)
from orchestrator.model.journey import Journey, RunnerStage
from orchestrator.model.record import Record

_BORDERS = (JobWaited, RunnerBound, RunnerVanished, RunnerExited, JobEnded, JobFinished)
"""Facts with which a part of a runner's way is over, or is known to take long."""
_OF_CLUSTERS = (RunnerStage.SCHEDULE, RunnerStage.PULL_AGENT)


def tells(facts: Sequence[Event]) -> bool:
    """Whether what was seen of the runner should go on record with these facts."""
    return any(isinstance(fact, (*_BORDERS, RunnerCreated)) for fact in facts)


def with_journey(record: Record, journey: Journey | None, facts: Sequence[Event]) -> Sequence[Event]:
    """The facts, with a note of what is news about the runner: before the first border, or behind the making of a
    runner that lives on without us.

    The finish alone is no reason for a note where there is one already: all that can be news then is how the runner
    was taken down.
    """
    at = _place_of_note(record, journey, facts)
    note = unrecorded(record, journey) if at is not None else None
    return (*facts[:at], note, *facts[at:]) if note is not None else facts


def _place_of_note(record: Record, journey: Journey | None, facts: Sequence[Event]) -> int | None:
    for number, fact in enumerate(facts):
        if isinstance(fact, RunnerCreated) and _lives_on(journey, fact.uid):
            return number + 1
        if isinstance(fact, _BORDERS):
            return None if record.observed and isinstance(fact, JobFinished) else number
    return None


def _lives_on(journey: Journey | None, uid: str) -> bool:
    """Whether a cluster keeps this runner, whatever becomes of this daemon. When it was asked for, nobody could tell
    the next one."""
    return journey is not None and journey.uid == uid and any(one.stage in _OF_CLUSTERS for one in journey.stages)


def unrecorded(record: Record, journey: Journey | None) -> RunnerObserved | None:
    """A note of what is news about the record's runner; None when nothing is.

    Until it is on record which runner was made, what the backend tells may be the way of the one that vanished.
    """
    uid = record.bound_uid or record.runner_uid
    if journey is None or record.runner is None or journey.uid == record.gone_uid or (uid and journey.uid != uid):
        return None
    news = tuple(one for one in journey.stages if one.stage not in record.observed)
    return RunnerObserved(record.runner, journey.uid, news, journey.place) if news else None
