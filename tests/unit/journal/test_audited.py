"""No fact is heard of before it stands in the trail, and each stands there once, whatever is killed or fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import TryAgainError
from orchestrator.journal.audited import RETRY_SECONDS, WAIT_SECONDS, AuditedJournal
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.trail import MemoryTrail

DONE = Outcome(Result.SUCCESS, EndReason.COMPLETED, "completed", 0)
CANCELLED = events.JobCancelRequested("operator")


def offer(name: str) -> tuple[JobId, events.Event]:
    key = JobKey("dispatch", name)
    return key.id, events.JobOffered(JobOffer(key, JobSpec(name, PoolName("p"), "true"), Caller("i", "s")))


JOB, OFFER = offer("a")


class Stage:
    """An audited journal in memory, all that it told, and one job in it."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.inner = MemoryJournal(self.clock)
        self.trail = MemoryTrail()
        self.journal = AuditedJournal(self.inner, self.trail, self.clock)
        self.heard: list[Fact] = []
        self.journal.subscribe(self.heard.extend)

    def kept(self) -> list[events.Event]:
        return [fact.event for fact in self.trail.kept]


@pytest.fixture
async def stage() -> Stage:
    made = Stage()
    await made.journal.append([(JOB, OFFER)])
    made.heard.clear()
    return made


async def started(call: object) -> asyncio.Task[Sequence[Fact]]:
    task: asyncio.Task[Sequence[Fact]] = asyncio.ensure_future(call)  # type: ignore[arg-type]
    for _ in range(10):
        await asyncio.sleep(0)
    return task


async def test_nobody_hears_of_a_fact_before_the_trail_has_it(stage: Stage) -> None:
    stage.trail.holding = True
    call = await started(stage.journal.append([(JOB, CANCELLED)]))
    read = await started(stage.journal.facts_of(JOB))
    alive = await started(stage.journal.live())
    assert len(await stage.inner.facts_of(JOB)) == 2
    assert (call.done(), read.done(), alive.done(), stage.heard) == (False, False, False, [])
    stage.trail.let_go()
    assert [fact.event for fact in await call] == [CANCELLED]
    assert stage.heard == list(await call)
    assert len(await read) == 2
    assert len((await alive)[0]) == 2


async def test_facts_that_need_no_record_are_told_in_their_turn(stage: Stage) -> None:
    other, other_offer = offer("b")
    await stage.journal.append([(other, other_offer)])
    assert [fact.event for fact in stage.heard] == [other_offer]
    stage.trail.holding = True
    first = await started(stage.journal.append([(JOB, CANCELLED)]))
    third, third_offer = offer("c")
    second = await started(stage.journal.append([(third, third_offer)]))
    assert not second.done()
    stage.trail.let_go()
    await asyncio.gather(first, second)
    assert [fact.event for fact in stage.heard] == [other_offer, CANCELLED, third_offer]


async def test_what_comes_during_a_write_is_the_next_write(stage: Stage) -> None:
    stage.trail.holding = True
    calls = [await started(stage.journal.append([(JOB, events.AlarmRaised("x", str(n)))])) for n in range(3)]
    stage.trail.let_go()
    await calls[0]
    assert len(stage.trail.kept) == 1
    stage.trail.let_go()
    await asyncio.gather(*calls)
    assert [fact.event.detail for fact in stage.trail.kept] == ["0", "1", "2"]  # type: ignore[union-attr]


async def test_an_unwell_trail_refuses_before_anything_is_stored(stage: Stage) -> None:
    stage.trail.healthy = False
    assert not stage.journal.audited
    with pytest.raises(TryAgainError) as refused:
        await stage.journal.append([(JOB, CANCELLED)])
    assert refused.value.reason == "audit_unavailable"
    assert str(stage.journal.problem) == "the audit log cannot be written: told to be unwell"
    assert len(await stage.inner.facts_of(JOB)) == 1
    stage.trail.healthy = True
    await stage.journal.append([(JOB, CANCELLED)])
    assert stage.kept() == [CANCELLED]


async def test_a_failed_write_is_tried_again_before_all_else(stage: Stage) -> None:
    stage.trail.fail_next(2)
    call = await started(stage.journal.append([(JOB, CANCELLED)]))
    assert not stage.journal.audited
    assert stage.journal.problem is not None
    assert stage.journal.problem.reason == "audit_unavailable"
    with pytest.raises(TryAgainError):
        await stage.journal.append([(JOB, events.LogClosed(0, 0, 0))])
    await stage.clock.advance(RETRY_SECONDS)
    assert not call.done()
    await stage.clock.advance(RETRY_SECONDS)
    assert [fact.event for fact in await call] == [CANCELLED]
    assert stage.journal.audited
    assert stage.journal.problem is None
    stage.inner.fail_next()
    assert str(stage.journal.problem) == "the journal cannot store facts: told to fail"
    assert stage.kept() == [CANCELLED]
    assert len(await stage.inner.facts_of(JOB)) == 2


async def test_who_waits_too_long_is_let_go_and_the_facts_are_shown_when_they_are_there(stage: Stage) -> None:
    stage.trail.holding = True
    call = await started(stage.journal.append([(JOB, CANCELLED)]))
    await stage.clock.advance(WAIT_SECONDS)
    with pytest.raises(TryAgainError) as refused:
        await call
    assert refused.value.reason == "audit_unavailable"
    with pytest.raises(TryAgainError):
        await stage.journal.facts_of(JOB)
    assert stage.heard == []
    stage.trail.let_go()
    await asyncio.sleep(0)
    assert [fact.event for fact in stage.heard] == [CANCELLED]
    assert [fact.event for fact in await stage.journal.facts_of(JOB)] == [OFFER, CANCELLED]
    stage.trail.holding = False
    await stage.journal.append([(JOB, events.LogClosed(0, 0, 0))])


async def test_a_commit_whose_answer_got_lost_is_held_back_all_the_same(stage: Stage) -> None:
    stage.inner.fail_after_store()
    stage.trail.holding = True
    with pytest.raises(TryAgainError):
        await stage.journal.append([(JOB, CANCELLED)])
    read = await started(stage.journal.facts_of(JOB))
    assert not read.done()
    stage.trail.let_go()
    assert len(await read) == 2


async def test_what_cannot_be_recorded_is_never_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(facts: Sequence[Fact]) -> Sequence[Fact]:
        raise ValueError("a defect")

    monkeypatch.setattr(stage.trail, "records", broken)
    with pytest.raises(TryAgainError):
        await stage.journal.append([(JOB, CANCELLED)])
    monkeypatch.undo()
    with pytest.raises(TryAgainError):
        await stage.journal.append([(JOB, events.LogClosed(0, 0, 0))])
    assert stage.heard == []
    restarted = AuditedJournal(stage.inner, stage.trail, stage.clock)
    await restarted.catch_up()
    assert stage.kept() == [CANCELLED]


async def test_no_write_that_was_under_way_takes_what_cannot_be_recorded_past_the_trail(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(facts: Sequence[Fact]) -> Sequence[Fact]:
        raise ValueError("a defect")

    stage.trail.holding = True
    first = await started(stage.journal.append([(JOB, CANCELLED)]))
    monkeypatch.setattr(stage.trail, "records", broken)
    second = await started(stage.journal.append([(JOB, events.JobEnded(DONE))]))
    monkeypatch.undo()
    stage.trail.holding = False
    stage.trail.let_go()
    for call in (first, second):
        with pytest.raises(TryAgainError):
            await call
    await started(asyncio.sleep(0))
    assert not stage.journal.audited
    assert [fact.event for fact in stage.heard] == [CANCELLED], "it was told, and its caller let go before that"
    with pytest.raises(TryAgainError):
        await stage.journal.facts_of(JOB)
    await stage.journal.close()
    restarted = AuditedJournal(stage.inner, stage.trail, stage.clock)
    await restarted.catch_up()
    assert stage.kept() == [CANCELLED, events.JobEnded(DONE)]


async def test_closing_waits_for_the_trail_but_not_for_ever(stage: Stage) -> None:
    stage.trail.holding = True
    call = await started(stage.journal.append([(JOB, CANCELLED)]))
    closing = await started(stage.journal.close())
    assert not closing.done()
    stage.trail.let_go()
    await closing
    await call
    stuck = Stage()
    await stuck.journal.append([(JOB, OFFER)])
    stuck.trail.holding = True
    call = await started(stuck.journal.append([(JOB, CANCELLED)]))
    closing = await started(stuck.journal.close())
    await stuck.clock.advance(WAIT_SECONDS)
    await closing
    with pytest.raises(TryAgainError):
        await call


async def test_a_feed_that_fails_is_no_one_elses_concern(stage: Stage) -> None:
    def fails(facts: Sequence[Fact]) -> None:
        raise ValueError("a defect of a reader")

    stage.journal.subscribe(fails)
    late: list[Fact] = []
    unsubscribe = stage.journal.subscribe(late.extend)
    [fact] = await stage.journal.append([(JOB, CANCELLED)])
    assert late == [fact]
    unsubscribe()
    unsubscribe()
    await stage.journal.append([(JOB, events.LogClosed(0, 0, 0))])
    assert late == [fact]


async def test_catching_up_recalls_what_is_there_of_jobs_that_lack_something(stage: Stage) -> None:
    """Also of a job that finished while the trail lagged behind, which no list of live jobs shows."""
    other, other_offer = offer("b")
    await stage.journal.append([(other, other_offer), (other, CANCELLED), (JOB, CANCELLED)])
    lagging = MemoryTrail()
    lagging.kept = [*stage.trail.kept[:1]]
    await stage.inner.append([(other, events.JobEnded(DONE)), (other, events.JobFinished())])
    restarted = AuditedJournal(stage.inner, lagging, stage.clock)
    assert await restarted.catch_up() == 3
    assert [fact.event for fact in lagging.recalled[JOB]] == [OFFER]
    assert [fact.event for fact in lagging.recalled[other]] == [other_offer, CANCELLED]
    assert [fact.seq for fact in lagging.kept] == [3, 4, 5, 6]
    assert await restarted.catch_up() == 0


@pytest.mark.parametrize("fault", ["fail_next", "hold"])
async def test_a_daemon_whose_trail_cannot_catch_up_does_not_start(stage: Stage, fault: str) -> None:
    await stage.inner.append([(JOB, CANCELLED)])
    trail = MemoryTrail()
    trail.holding = fault == "hold"
    trail.fail_next()
    with pytest.raises(TryAgainError) as refused:
        await AuditedJournal(stage.inner, trail, stage.clock, wait_seconds=0.01).catch_up()
    assert refused.value.reason == "audit_unavailable"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("facts"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("fail"), st.integers(1, 3)),
        st.just(("hold",)),
        st.just(("let_go",)),
        st.just(("later",)),
        st.tuples(st.just("kill"), st.integers(0, 5)),
    ),
    max_size=25,
)


class Life:
    """A journal on a file, a trail, and daemons over them that are killed at any moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = SteppedClock()
        self.trail = MemoryTrail()
        self.early: list[Fact] = []
        self.told: list[Fact] = []
        self._calls: list[asyncio.Task[Sequence[Fact]]] = []
        self._offered: set[JobId] = set()

    async def start(self) -> None:
        self._inner = await SqliteJournal.open(self._path, self._clock)
        trail = MemoryTrail()
        trail.kept = self.trail.kept
        self.trail = trail
        self._journal = AuditedJournal(self._inner, trail, self._clock)
        self._journal.subscribe(self._hear)
        await self._journal.catch_up()

    def _hear(self, facts: Sequence[Fact]) -> None:
        self.told += facts
        self.early += [fact for fact in self.trail.records(facts) if fact not in self.trail.kept]

    async def step(self, kind: str, *numbers: int) -> None:
        match kind:
            case "facts":
                job_id, event = offer(f"job-{numbers[0]}")
                first = [] if job_id in self._offered else [(job_id, event)]
                self._offered.add(job_id)
                facts = [*first, *((job_id, events.AlarmRaised("x", str(n))) for n in range(numbers[1]))]
                self._calls.append(asyncio.ensure_future(self._append(facts)))
            case "fail":
                self.trail.fail_next(numbers[0])
            case "hold":
                self.trail.holding = True
            case "let_go":
                self.trail.holding = False
                self.trail.let_go()
            case "later":
                await self._clock.advance(RETRY_SECONDS)
            case _:
                await self._kill(numbers[0])
        await asyncio.sleep(0)

    async def _append(self, facts: Sequence[tuple[JobId, events.Event]]) -> Sequence[Fact]:
        stored = await self._journal.append(facts)
        self.early += [fact for fact in self.trail.records(stored) if fact not in self.trail.kept]
        return stored

    async def _kill(self, reached: int) -> None:
        """The trail's file has `reached` records more than anybody was told of; what the journal was handed is stored,
        and nobody is told of that either."""
        self.trail.break_off(reached)
        await self._inner.close()
        for call in self._calls:
            call.cancel()
        for answer in await asyncio.gather(*self._calls, return_exceptions=True):
            assert isinstance(answer, list | asyncio.CancelledError | TryAgainError), answer
        # An offer that was refused before it was stored may come again.
        self._calls.clear()
        await self.start()
        self._offered = {facts[0].job_id for facts in await self._journal.live()}

    async def stored(self) -> Sequence[Fact]:
        return await self._inner.facts_after(0, 1000)

    async def stop(self) -> None:
        await self.step("let_go")
        await self._kill(0)
        await self._journal.close()


@settings(max_examples=25)
@given(STEPS)
def test_each_fact_is_recorded_once_in_order_and_before_it_is_told_whatever_is_killed(
    steps: Sequence[tuple[str, int]],
) -> None:
    async def live(path: Path) -> None:
        life = Life(path)
        await life.start()
        for step in steps:
            await life.step(*step)
        await life.step("let_go")
        await life.step("kill", 0)
        everything = await life.stored()
        assert life.trail.kept == life.trail.records(everything)
        assert life.early == []
        assert [fact.seq for fact in life.told] == sorted({fact.seq for fact in life.told})
        await life.stop()

    with TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder) / "journal.db"))
