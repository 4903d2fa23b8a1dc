"""The phase table: every event in every phase."""

from __future__ import annotations

from typing import get_args

import pytest

from orchestrator.model import events as e
from orchestrator.model.phase import BEFORE_WORK, LATE_EVENTS, MOVES, MOVING_EVENTS, IllegalMoveError, Phase, advance
from orchestrator.testing import stories

P = Phase
LEGAL: dict[tuple[Phase, type], Phase] = {
    (P.QUEUED, e.JobAdmitted): P.WAITING,
    (P.QUEUED, e.JobEnded): P.TEARDOWN,
    (P.WAITING, e.JobAdmitted): P.WAITING,
    (P.WAITING, e.ProvisionStarted): P.PROVISIONING,
    (P.WAITING, e.JobEnded): P.TEARDOWN,
    (P.PROVISIONING, e.RunnerCreated): P.BINDING,
    (P.PROVISIONING, e.RunnerVanished): P.WAITING,
    (P.PROVISIONING, e.RunnerBound): P.RUNNING,
    (P.PROVISIONING, e.JobEnded): P.TEARDOWN,
    (P.BINDING, e.RunnerBound): P.RUNNING,
    (P.BINDING, e.RunnerVanished): P.WAITING,
    (P.BINDING, e.JobEnded): P.TEARDOWN,
    (P.RUNNING, e.JobEnded): P.TEARDOWN,
    (P.TEARDOWN, e.JobFinished): P.FINISHED,
    (P.FINISHED, e.JobCompacted): P.FINISHED,
}
"""Written out a second time: a move added to the table by mistake has no line here."""

NOTES = {
    e.JobOffered, e.JobRefused, e.JobWaited, e.JobCancelRequested, e.RunnerDeleted, e.ExchangeDecided, e.TokenIssued,
    e.TokenRefused, e.EgressDecided, e.ArtifactReported, e.ArtifactAttested, e.ArtifactNamed, e.AttestationSigned,
    e.ProvenanceSigned, e.SummarySigned, e.ExceptionUsed, e.SecretDelivered, e.LogClosed, e.SpansRelayed, e.AlarmRaised,
    e.DaemonRestarted, e.PlatformJobNamed, e.PlatformJobCompleted, e.RunnerExited, e.CredentialRevoked, e.ReceiptSigned,
    e.RunnerObserved,
}  # fmt: skip
EVERY = get_args(e.Event)


def bare(kind: type) -> e.Event:
    """An event of this kind; `advance` looks at nothing else."""
    made: e.Event = object.__new__(kind)
    return made


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_event_in_every_phase(phase: Phase, kind: type):
    event = bare(kind)
    if (phase, kind) in LEGAL:
        assert advance(phase, event) is LEGAL[phase, kind]
    elif kind in NOTES or kind is e.RunnerCreated:
        assert advance(phase, event) is phase
    else:
        with pytest.raises(IllegalMoveError, match=kind.__name__):
            advance(phase, event)


def test_the_table_has_no_other_moves():
    assert {(phase, kind): to for phase, moves in MOVES.items() for kind, to in moves.items()} == LEGAL
    assert set(MOVES) == set(Phase)
    assert set(EVERY) == NOTES | MOVING_EVENTS
    assert not NOTES & MOVING_EVENTS
    assert {e.RunnerCreated} == LATE_EVENTS


def test_work_begins_at_the_binding_and_at_nothing_else():
    reached = {to for (_, kind), to in LEGAL.items() if kind is e.RunnerBound}
    assert reached == {P.RUNNING}
    assert {P.QUEUED, P.WAITING, P.PROVISIONING, P.BINDING} == BEFORE_WORK
    assert not any(to in BEFORE_WORK for (phase, _), to in LEGAL.items() if phase not in BEFORE_WORK)


def test_every_phase_can_reach_the_end_and_none_before_it_is_final():
    def reachable(phase: Phase) -> set[Phase]:
        found, todo = {phase}, [phase]
        while todo:
            for to in MOVES[todo.pop()].values():
                if to not in found:
                    found.add(to)
                    todo.append(to)
        return found

    for phase in Phase:
        assert P.FINISHED in reachable(phase)
        if phase not in (P.TEARDOWN, P.FINISHED):
            assert MOVES[phase][e.JobEnded] is P.TEARDOWN


@pytest.mark.parametrize("story", list(stories.WHOLE))
def test_whole_jobs_walk_through_the_table(story: str):
    phase = P.QUEUED
    for event in stories.WHOLE[story]:
        phase = advance(phase, event)
    assert phase is P.FINISHED
