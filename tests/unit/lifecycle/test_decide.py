"""`decide` is total: whatever a job's facts and whatever was seen, its facts are legal and every state has a way on."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from records import ABSENT, DEADLINES, POOL, exited, failure, view

from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.observation import SECOND, Action, Observation
from orchestrator.model import events as e
from orchestrator.model.decision import Verdict
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record, apply, fold
from orchestrator.model.runner import ExitCause
from orchestrator.testing import stories

EARLY = (Phase.QUEUED, Phase.WAITING, Phase.PROVISIONING, Phase.BINDING)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A job somewhere on its way, perhaps with a cancel on top."""
    whole = st.sampled_from([(stories.offer(), steps) for steps in stories.WHOLE.values()])
    named = st.sampled_from([(stories.platform_offer(), steps) for steps in stories.PLATFORM.values()])
    facts = stories.facts_for(*draw(whole | named))
    record = fold(facts[: draw(st.integers(1, len(facts)))])
    if draw(st.booleans()):
        record = apply(record, e.Fact(record.id, facts[-1].at_ns, e.JobCancelRequested("alice")))
    return record


@st.composite
def observations(draw: st.DrawFn, record: Record) -> Observation:
    views = [
        None,
        ABSENT,
        view(),
        view(uid="another"),
        *(exited(code, cause) for code in (0, 1) for cause in ExitCause),
    ]
    failures = st.none() | st.booleans().map(lambda transient: failure(transient=transient))
    return Observation(
        now_ns=record.phase_since_ns + draw(st.integers(0, 10**4)) * SECOND,
        pool=draw(st.sampled_from([POOL, None])),
        phase=record.phase,
        decision=draw(st.none() | st.sampled_from(list(Verdict)).map(stories.decision)),
        slot=draw(st.none() | st.booleans()),
        runner=draw(st.sampled_from(views)),
        revoked=draw(st.booleans()),
        unrevoked=draw(failures),
        deleted=draw(st.booleans()),
        evidence=draw(st.none() | st.just(())),
        failure=draw(failures),
        failures=draw(st.integers(0, 9)),
        looks=draw(st.integers(0, 9)),
    )


@settings(max_examples=300)
@given(data=st.data())
def test_every_state_has_a_legal_way_on(data: Any):
    record = data.draw(records())
    seen = data.draw(observations(record))
    step = decide(record, seen, DEADLINES)
    for event in step.facts:
        record = apply(record, e.Fact(record.id, seen.now_ns, event))  # an illegal move raises
    if record.phase is Phase.FINISHED:
        assert step.action is None
        return
    assert step.facts or step.action or step.wake_ns, "nobody would ever look again"
    if step.wake_ns is not None and step.action is None:
        assert step.wake_ns > seen.now_ns, "a worker would turn without pause"


@settings(max_examples=300)
@given(data=st.data())
def test_no_runner_is_made_and_none_vanishes_once_the_work_was_handed_out(data: Any):
    record = data.draw(records())
    step = decide(record, data.draw(observations(record)), DEADLINES)
    if record.bound_uid:
        assert step.action is not Action.CREATE_RUNNER
        assert not any(isinstance(event, e.ProvisionStarted | e.RunnerVanished) for event in step.facts)
    if step.action is Action.CREATE_RUNNER:
        assert record.phase is Phase.PROVISIONING, "made before the intent was durable"


@settings(max_examples=300)
@given(data=st.data())
def test_a_cancel_ends_the_job_from_every_phase_at_once(data: Any):
    record = data.draw(records())
    step = decide(record, data.draw(observations(record)), DEADLINES)
    if record.cancel and record.phase in (*EARLY, Phase.RUNNING):
        assert [type(event) for event in step.facts] == [e.JobEnded]


@settings(max_examples=300)
@given(data=st.data())
def test_nothing_finishes_unrevoked_or_with_its_runner_in_sight(data: Any):
    record = data.draw(records())
    seen = data.draw(observations(record))
    step = decide(record, seen, DEADLINES)
    if any(isinstance(event, e.JobFinished) for event in step.facts):
        assert record.phase is Phase.TEARDOWN
        assert seen.revoked
        assert record.runner is None or (seen.deleted and seen.runner == ABSENT)
        assert seen.failure is None
