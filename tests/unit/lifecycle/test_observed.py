"""What was seen of a runner's way is recorded once, with a fact that is recorded anyway, and never in anybody's way."""

from __future__ import annotations

import pytest
from world import Daemon, offer

from orchestrator.lifecycle.observed import tells, with_journey
from orchestrator.model import events as e
from orchestrator.model.journey import Journey, RunnerPlace, RunnerStage, StageBegan
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.record import Record, fold
from orchestrator.model.runner import ExitCause, Obstacle, Pending, RunnerName
from orchestrator.testing import stories
from orchestrator.testing.stories import RUNNER, T0, facts_for

S = RunnerStage
PLACE = RunnerPlace("runners", "runner-1", "node-1")
ENDED = e.JobEnded(Outcome(Result.ERROR, EndReason.RUNNER_LOST, ""))


def way(*stages: RunnerStage, uid: str = "uid-1") -> Journey:
    return Journey(uid, tuple(StageBegan(stage, T0 + number) for number, stage in enumerate(stages)), PLACE)


def record(*steps: e.Event) -> Record:
    return fold(facts_for(stories.offer(), [stories.ADMITTED, stories.STARTED, *steps]))


def noted(of: Record, journey: Journey | None, *facts: e.Event) -> list[object]:
    """The facts that would be stored; of a note its stages."""
    assert tells(facts)
    stored = with_journey(of, journey, facts)
    return [[one.stage for one in fact.stages] if isinstance(fact, e.RunnerObserved) else fact for fact in stored]


def test_it_comes_before_the_fact_that_ends_a_part_of_the_way() -> None:
    facts = (stories.ISSUED, stories.BOUND)
    assert noted(record(stories.CREATED), way(S.CREATE, S.START), *facts) == [
        stories.ISSUED,
        [S.CREATE, S.START],
        stories.BOUND,
    ]


def test_only_news_are_noted() -> None:
    known = record(stories.CREATED, e.RunnerObserved(RUNNER, "uid-1", way(S.CREATE).stages), stories.BOUND)
    assert known.observed == {S.CREATE}
    assert noted(known, way(S.CREATE, S.RUN), ENDED) == [[S.RUN], ENDED]
    assert noted(known, way(S.CREATE), ENDED) == [ENDED]
    assert noted(known, None, ENDED) == [ENDED]


def test_a_new_runner_of_the_job_has_a_way_of_its_own() -> None:
    seen = e.RunnerObserved(RUNNER, "uid-1", way(S.CREATE).stages)
    second = record(stories.CREATED, seen, e.RunnerVanished(RUNNER), stories.STARTED, e.RunnerCreated(RUNNER, "uid-2"))
    assert second.observed == frozenset()
    assert noted(second, way(S.CREATE, uid="uid-1"), ENDED) == [ENDED]
    assert noted(second, way(S.CREATE, uid="uid-2"), ENDED) == [[S.CREATE], ENDED]


def test_the_way_of_a_runner_that_vanished_is_not_that_of_the_next_one_which_finds_no_room() -> None:
    seen = e.RunnerObserved(RUNNER, "uid-1", way(S.CREATE).stages)
    full = e.JobWaited(e.WaitReason.QUOTA_EXHAUSTED, "full")
    second = record(stories.CREATED, seen, e.RunnerVanished(RUNNER), stories.STARTED)
    assert noted(second, way(S.CREATE, S.START, uid="uid-1"), full) == [full]
    assert noted(second, way(S.CREATE, uid="uid-2"), full) == [[S.CREATE], full]


async def test_what_is_under_way_is_told_until_it_is_on_record() -> None:
    daemon, name = await begun()
    record = daemon.engine.record(offer().key.id)
    assert record is not None
    assert daemon.engine.under_way(record) is None
    seen_at(daemon, name, S.CREATE, S.PULL_AGENT)
    note = daemon.engine.under_way(record)
    assert note is not None
    assert [one.stage for one in note.stages] == [S.CREATE, S.PULL_AGENT]
    assert await daemon.claim(name)
    record = daemon.engine.record(offer().key.id)
    assert record is not None
    assert daemon.engine.under_way(record) is None
    await daemon.kill()


def test_of_a_runner_that_lives_on_it_is_noted_at_once_when_it_was_asked_for() -> None:
    """The daemon may be killed next, and only it knows; of a sandbox, which ends with it, nobody will ask."""
    made = record()
    assert noted(made, way(S.CREATE, S.SCHEDULE), stories.CREATED) == [stories.CREATED, [S.CREATE, S.SCHEDULE]]
    assert noted(made, way(S.CREATE, S.START), stories.CREATED) == [stories.CREATED]
    assert noted(made, way(S.CREATE, S.SCHEDULE, uid="uid-9"), stories.CREATED) == [stories.CREATED]
    assert noted(made, None, stories.CREATED) == [stories.CREATED]


def test_the_finish_is_noted_with_nothing_but_what_nobody_had_noted() -> None:
    before = record(stories.CREATED, ENDED)
    assert noted(before, way(S.CREATE), stories.FINISHED) == [[S.CREATE], stories.FINISHED]
    after = record(stories.CREATED, e.RunnerObserved(RUNNER, "uid-1", way(S.CREATE).stages), ENDED)
    assert noted(after, way(S.CREATE, S.FLUSH), stories.FINISHED) == [stories.FINISHED]


def test_a_job_without_a_runner_has_no_way() -> None:
    waiting = fold(facts_for(stories.offer(), [stories.ADMITTED]))
    assert noted(waiting, way(S.CREATE), ENDED) == [ENDED]
    assert not tells([stories.ADMITTED, stories.STARTED, stories.DELETED, stories.ISSUED])


async def told(daemon: Daemon) -> list[str]:
    """Names of the facts of the one job from the runner on; of notes their stages."""
    events = [fact.event for fact in await daemon.journal.facts_of(offer().key.id)]
    words = [
        "+".join(one.stage for one in event.stages) if isinstance(event, e.RunnerObserved) else type(event).__name__
        for event in events
    ]
    return words[words.index("ProvisionStarted") + 1 :]


async def begun() -> tuple[Daemon, RunnerName]:
    daemon = Daemon()
    await daemon.start()
    await daemon.offer(offer())
    await daemon.settle()
    (name,) = daemon.backend.names()
    return daemon, name


def seen_at(daemon: Daemon, name: RunnerName, *stages: RunnerStage) -> None:
    daemon.backend.journeys[name] = way(*stages, uid=daemon.backend.view(name).uid)


async def test_of_a_job_that_runs() -> None:
    daemon, name = await begun()
    seen_at(daemon, name, S.CREATE, S.SCHEDULE, S.START)
    assert await daemon.claim(name)
    seen_at(daemon, name, S.CREATE, S.SCHEDULE, S.START, S.RUN, S.FLUSH)
    daemon.backend.exit(name)
    await daemon.settle()
    assert await told(daemon) == [
        *("RunnerCreated", "create+schedule+start", "RunnerBound", "run+flush", "JobEnded", "RunnerDeleted"),
        "JobFinished",
    ]
    await daemon.kill()


@pytest.mark.parametrize(
    ("happens", "facts"),
    [
        ("hindered", ["create+pull_agent", "JobWaited", "start", "JobEnded"]),
        ("exits", ["create+pull_agent+start", "JobEnded"]),
        ("vanishes", ["create+pull_agent+start", "RunnerVanished"]),
        ("cancelled", ["JobCancelRequested", "create+pull_agent+start", "JobEnded"]),
    ],
)
async def test_of_a_runner_that_never_got_its_work(happens: str, facts: list[str]) -> None:
    daemon, name = await begun()
    if happens == "hindered":
        seen_at(daemon, name, S.CREATE, S.PULL_AGENT)
        daemon.backend.hinder(name, Pending(Obstacle.IMAGE_PULL, "ErrImagePull", daemon.clock.now_ns(), 60 * 10**9))
        await daemon.settle()
    seen_at(daemon, name, S.CREATE, S.PULL_AGENT, S.START)
    if happens == "vanishes":
        daemon.backend.vanish(name)
    elif happens == "cancelled":
        await daemon.engine.cancel(offer().key.id, "operator")
    else:
        daemon.backend.exit(name, 1, ExitCause.AGENT_FAILED)
    await daemon.settle()
    assert (await told(daemon))[1 : 1 + len(facts)] == facts
    await daemon.kill()


async def test_the_next_daemon_notes_what_the_killed_one_had_not() -> None:
    daemon, name = await begun()
    seen_at(daemon, name, S.CREATE)
    assert await daemon.claim(name)
    await daemon.kill()
    seen_at(daemon, name, S.SCHEDULE, S.RUN)
    daemon.backend.exit(name, tell=False)
    await daemon.start()
    assert await told(daemon) == [
        *("RunnerCreated", "create", "RunnerBound", "DaemonRestarted", "schedule+run", "JobEnded", "RunnerDeleted"),
        "JobFinished",
    ]
    await daemon.kill()


async def test_a_backend_that_cannot_tell_holds_no_job_up() -> None:
    daemon, name = await begun()

    def broken(_: RunnerName) -> Journey | None:
        raise RuntimeError("no such way")

    daemon.backend.journey = broken  # type: ignore[method-assign]
    assert await daemon.claim(name)
    daemon.backend.exit(name)
    await daemon.settle()
    assert (await told(daemon))[-3:] == ["JobEnded", "RunnerDeleted", "JobFinished"]
    await daemon.kill()


async def test_when_access_was_revoked_is_recorded_with_the_deletion() -> None:
    daemon, name = await begun()
    await daemon.claim(name)
    daemon.backend.exit(name)
    await daemon.settle()
    facts = await daemon.journal.facts_of(offer().key.id)
    ended = next(fact for fact in facts if isinstance(fact.event, e.JobEnded))
    deleted = next(fact for fact in facts if isinstance(fact.event, e.RunnerDeleted))
    assert isinstance(deleted.event, e.RunnerDeleted)
    assert ended.at_ns <= deleted.event.revoked_at_ns <= deleted.at_ns
    await daemon.kill()
