"""The phases of a job's life and the one table of legal moves between them.

The engine, the journal's index, the trace and the docs' drawing all read this table. An event that is not
listed for a phase leaves the phase alone if it is a *note*, and raises `IllegalMoveError` if it is a move.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from orchestrator.model import events


class Phase(StrEnum):
    QUEUED = "queued"
    WAITING = "waiting"
    PROVISIONING = "provisioning"
    BINDING = "binding"
    RUNNING = "running"
    TEARDOWN = "teardown"
    FINISHED = "finished"


class IllegalMoveError(Exception):
    """A fact that cannot follow the ones before it: a defect of ours or a damaged journal."""


MOVES: Mapping[Phase, Mapping[type[events.Event], Phase]] = {
    Phase.QUEUED: {
        events.JobAdmitted: Phase.WAITING,
        events.JobEnded: Phase.TEARDOWN,
    },
    Phase.WAITING: {
        events.JobAdmitted: Phase.WAITING,
        events.ProvisionStarted: Phase.PROVISIONING,
        events.JobEnded: Phase.TEARDOWN,
    },
    Phase.PROVISIONING: {
        events.RunnerCreated: Phase.BINDING,
        events.RunnerVanished: Phase.WAITING,
        events.RunnerBound: Phase.RUNNING,
        events.JobEnded: Phase.TEARDOWN,
    },
    Phase.BINDING: {
        events.RunnerBound: Phase.RUNNING,
        events.RunnerVanished: Phase.WAITING,
        events.JobEnded: Phase.TEARDOWN,
    },
    Phase.RUNNING: {
        events.JobEnded: Phase.TEARDOWN,
    },
    Phase.TEARDOWN: {
        events.JobFinished: Phase.FINISHED,
    },
    Phase.FINISHED: {
        events.JobCompacted: Phase.FINISHED,
    },
}

MOVING_EVENTS: frozenset[type[events.Event]] = frozenset(kind for moves in MOVES.values() for kind in moves)
"""Events that change the phase somewhere; all others are notes and fit any phase."""

LATE_EVENTS: frozenset[type[events.Event]] = frozenset({events.RunnerCreated})
"""Moves that may be learnt after a later one overtook them (a claim beats the create call's return)."""

BEFORE_WORK: frozenset[Phase] = frozenset({Phase.QUEUED, Phase.WAITING, Phase.PROVISIONING, Phase.BINDING})
"""Phases in which user code cannot have begun."""


def advance(phase: Phase, event: events.Event) -> Phase:
    """The phase after `event`. Pure.

    Raises:
        IllegalMoveError: `event` is a move that this phase does not allow.
    """
    kind = type(event)
    target = MOVES[phase].get(kind)
    if target is not None:
        return target
    if kind in MOVING_EVENTS and kind not in LATE_EVENTS:
        raise IllegalMoveError(f"{kind.__name__} cannot happen to a job that is {phase.value}")
    return phase
