"""What the engine must not do, each found once: with a real journal on disk where its timing matters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from world import POOL, PROOF, Daemon, offer, pool

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.observation import Action, Deadlines, Observation
from orchestrator.lifecycle.patience import Patience
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model import events as e
from orchestrator.model.decision import Verdict
from orchestrator.model.egress import EgressProof
from orchestrator.model.outcome import EndReason
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record, fold
from orchestrator.model.runner import RunnerName, RunnerState, RunnerView
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.checker import broken_promises
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.faults import Fault
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.source import MemorySource

PROVED = e.SpansRelayed(1, 0)


async def started(**options) -> Daemon:
    daemon = Daemon(**options)
    await daemon.start()
    return daemon


async def facts(daemon: Daemon, number: int = 1) -> list[e.Event]:
    return [fact.event for fact in await daemon.journal.facts_of(offer(number).key.id)]


def ends(events: list[e.Event]) -> list[EndReason]:
    return [event.outcome.reason for event in events if isinstance(event, e.JobEnded)]


async def test_a_claim_cut_off_in_its_commit_is_known_to_whoever_comes_next(tmp_path: Path):
    """The commit goes on without its caller: memory must not be read back from before it."""
    clock = SteppedClock()
    journal = await SqliteJournal.open(tmp_path / "journal.db", clock)
    backend = MemoryBackend(clock)
    performer = Performer(FixedPolicy(), {"memory": backend}, {"memory": MemorySource()})
    engine = Engine(journal=journal, performer=performer, pools={POOL: pool()}, clock=clock)
    try:
        for number in range(20):
            record, _ = await engine.offer(offer(number))
            await engine.idle()
            (name,) = backend.names()
            identity = RunnerIdentity(name, backend.view(name).uid)
            claim = asyncio.ensure_future(engine.claim(identity, PROOF))
            await asyncio.sleep(0)
            claim.cancel()
            await asyncio.wait({claim})
            with pytest.raises(GiveUpError) as caught:
                await engine.claim(identity, PROOF)
            assert caught.value.reason == "already_bound"
            backend.exit(name)
            await engine.idle()
            stored = await journal.facts_of(record.id)
            assert sum(isinstance(fact.event, e.RunnerBound) for fact in stored) == 1
            assert ends([fact.event for fact in stored]) == [EndReason.COMPLETED]
            assert fold(stored).phase is Phase.FINISHED
    finally:
        await engine.close()
        await journal.close()


@pytest.mark.parametrize("turns", range(12))
async def test_a_claim_cut_off_anywhere_leaves_one_truth(turns: int):
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    daemon.journal.slow(4)
    (name,) = daemon.backend.names()
    await daemon.claim_cut_off(name, turns)
    daemon.backend.exit(name, tell=False)
    await daemon.start_sweep()
    await daemon.settle()
    await daemon.settle()
    events = await facts(daemon)
    bound = any(isinstance(event, e.RunnerBound) for event in events)
    assert ends(events) == [EndReason.COMPLETED if bound else EndReason.EXITED_BEFORE_CLAIM]
    assert broken_promises(daemon.world, await daemon.history(), at_rest=False) == []
    await daemon.kill()


async def test_what_a_look_saw_before_the_binding_is_not_used_after_it():
    """The look saw nobody, the claim came while its answer was under way: only a new look may judge the job."""
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    (name,) = daemon.backend.names()
    looks = 0
    answer: asyncio.Future[RunnerView] = asyncio.get_running_loop().create_future()
    inspect = daemon.backend.inspect

    async def slow_once(asked: RunnerName) -> RunnerView:
        nonlocal looks
        looks += 1
        return await (answer if looks == 1 else inspect(asked))

    daemon.backend.inspect = slow_once  # type: ignore[method-assign]
    daemon.engine.look_at(offer().key.id)
    await daemon.settle()
    assert await daemon.claim(name)
    answer.set_result(RunnerView(name, RunnerState.ABSENT))
    await daemon.settle()
    record = daemon.engine.record(offer().key.id)
    assert record is not None
    assert (record.phase, looks >= 2) == (Phase.RUNNING, True)
    await daemon.kill()


def test_an_observation_ends_with_its_phase_but_for_a_runner_just_made():
    seen = RunnerView(RunnerName("r"), RunnerState.ALIVE, "u")
    made = Observation(1, None, Phase.PROVISIONING, runner=seen, failures=3, looks=2, slot=True)
    assert made.entering(Phase.BINDING) == Observation(1, None, Phase.BINDING, runner=seen)
    for before, now in [
        (Phase.BINDING, Phase.RUNNING), (Phase.BINDING, Phase.WAITING), (Phase.WAITING, Phase.PROVISIONING),
        (Phase.PROVISIONING, Phase.RUNNING), (Phase.RUNNING, Phase.TEARDOWN),
    ]:  # fmt: skip
        assert Observation(1, None, before, runner=seen, failures=3).entering(now) == Observation(1, None, now)


async def test_a_foreign_runner_of_the_name_is_not_taken_for_the_next_one():
    """It took the vanished runner's name: only `create`, which compares specs, may say that it is ours."""
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    (name,) = daemon.backend.names()
    daemon.backend.vanish(name, tell=False)
    inspect = daemon.backend.inspect

    async def foreign(asked: RunnerName) -> RunnerView:
        daemon.backend.inspect = inspect  # type: ignore[method-assign]
        return RunnerView(asked, RunnerState.ALIVE, "foreign")

    daemon.backend.inspect = foreign  # type: ignore[method-assign]
    daemon.engine.look_at(offer().key.id)
    await daemon.settle()
    uids = [event.uid for event in await facts(daemon) if isinstance(event, e.RunnerCreated)]
    assert uids == [uid for _, uid in daemon.backend.created_uids]
    assert len(uids) == 2
    await daemon.kill()


@pytest.mark.parametrize("fault", ["lost_answer", "in_flight"])
async def test_identity_is_worth_nothing_from_the_moment_the_end_is_durable(fault: str):
    """P4, while the journal has the end and its answer has not come, or never does."""
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    (name,) = daemon.backend.names()
    await daemon.claim(name)
    await daemon.settle()
    assert daemon.use_identity(name)
    if fault == "lost_answer":
        daemon.journal.fail_after_store(1)
    accepted: list[bool] = []
    identity = RunnerIdentity(name, daemon.backend.view(name).uid)

    def look(stored: Sequence[e.Fact]) -> None:
        if any(isinstance(fact.event, e.JobEnded) for fact in stored):
            accepted.append(daemon.engine.bound_record(identity) is not None)

    daemon.journal.subscribe(look)
    daemon.backend.exit(name)
    await daemon.settle()
    accepted.append(daemon.engine.bound_record(identity) is not None)
    assert accepted == [False, False]
    await daemon.kill()


async def test_identity_lives_on_when_the_end_was_not_stored():
    """A journal that is away for a moment ends nobody's work."""
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    (name,) = daemon.backend.names()
    await daemon.claim(name)
    await daemon.settle()
    daemon.journal.fail_next(1)
    with pytest.raises(TryAgainError):
        await daemon.engine.note(offer().key.id, PROVED)
    assert daemon.use_identity(name)
    await daemon.engine.note(offer().key.id, PROVED)
    await daemon.kill()


async def test_a_backend_that_never_answers_stops_no_deadline_and_no_cancel():
    daemon = await started()
    daemon.backend.faults.add(*[Fault.HANGING] * 50)
    await daemon.offer(offer(1))
    await daemon.offer(offer(2))
    await daemon.settle()
    await daemon.engine.cancel(offer(1).key.id, "alice")
    await daemon.clock.advance(31)
    await daemon.settle()
    assert ends(await facts(daemon, 1)) == [EndReason.CANCELLED]
    await daemon.clock.advance(100)
    await daemon.settle()
    assert ends(await facts(daemon, 2)) == [EndReason.PROVISION_TIMEOUT]
    daemon.backend.faults.clear()
    for _ in range(4):
        await daemon.clock.advance(61)
        await daemon.start_sweep()
    assert daemon.engine.live_count == 0
    assert daemon.backend.names() == ()
    await daemon.kill()


class Away:
    """A source or attester that answers as it is told."""

    def __init__(
        self, error: BaseException | None = None, *, hangs: bool = False, notes: tuple[e.Event, ...] = ()
    ) -> None:
        self.error, self.hangs, self.notes = error, hangs, notes
        self.calls = 0

    async def report(self, record: Record) -> None:
        await self.attest(record)

    async def revoke(self, record: Record) -> None:
        await self.attest(record)

    async def attest(self, record: Record) -> tuple[e.Event, ...]:
        self.calls += 1
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.error:
            raise self.error
        return self.notes


class Small:
    """An engine with a pool of one over the parts given."""

    def __init__(self, source=None, attesters=(), revokers=()) -> None:
        self.daemon = Daemon(capacity=1)
        performer = Performer(
            FixedPolicy(), {"memory": self.daemon.backend}, {"memory": source or MemorySource()}, revokers, attesters
        )
        self.engine = Engine(
            journal=self.daemon.journal, performer=performer, pools={POOL: pool(1)}, clock=self.daemon.clock
        )
        self.daemon.backend.subscribe(self.engine.runner_changed)

    async def run(self, number: int = 1) -> list[e.Event]:
        """Offer a job and let it do its work; returns its facts."""
        await self.engine.offer(offer(number))
        await self.daemon.settle()
        for name in self.daemon.backend.names():
            await self.engine.claim(RunnerIdentity(name, self.daemon.backend.view(name).uid), PROOF)
            self.daemon.backend.exit(name)
        await self.daemon.settle()
        return await facts(self.daemon, number)


@pytest.mark.parametrize("away", [Away(TryAgainError("503")), Away(hangs=True), Away(RuntimeError("a defect"))])
async def test_a_source_that_cannot_be_told_holds_up_no_other_job(away: Away):
    """P8: the runner is gone, so its slot is free, whatever becomes of the report."""
    small = Small(source=away)
    assert not any(isinstance(event, e.JobFinished) for event in await small.run(1))
    assert ends(await small.run(2)) == [EndReason.COMPLETED]
    assert small.engine.slots(POOL).held == 0
    away.error, away.hangs = None, False
    await small.daemon.clock.advance(65)
    await small.daemon.settle()
    for number in (1, 2):
        assert isinstance((await facts(small.daemon, number))[-1], e.JobFinished)
    await small.engine.close()


async def test_a_report_refused_for_good_is_an_alarm_and_the_job_finishes():
    small = Small(source=Away(GiveUpError("no such run", reason="run_unknown")))
    events = await small.run()
    assert e.AlarmRaised("report_refused", "no such run [run_unknown]") in events
    assert isinstance(events[-1], e.JobFinished)
    await small.engine.close()


async def test_an_attester_that_fails_keeps_neither_the_report_nor_the_others_evidence():
    refusing, report = Away(GiveUpError("no key", reason="key_missing")), Away()
    small = Small(source=report, attesters=[refusing, Away(notes=(PROVED,))])
    events = await small.run()
    assert e.AlarmRaised("evidence_refused", "no key [key_missing]") in events
    assert PROVED in events
    assert (report.calls, isinstance(events[-1], e.JobFinished)) == (1, True)
    await small.engine.close()


async def test_the_source_is_told_while_an_attester_hangs():
    hanging, report = Away(hangs=True), Away()
    small = Small(source=report, attesters=[hanging])
    await small.run()
    await small.daemon.clock.advance(31)
    assert report.calls == 1
    assert not any(isinstance(event, e.JobFinished) for event in await facts(small.daemon)), "without its evidence"
    hanging.hangs = False
    await small.daemon.clock.advance(31)
    await small.daemon.settle()
    assert isinstance((await facts(small.daemon))[-1], e.JobFinished)
    await small.engine.close()


async def test_evidence_that_the_journal_refuses_is_an_alarm_and_the_job_finishes(tmp_path: Path):
    small = Small(attesters=[Away(notes=(e.ProvenanceSigned("\ud800", ()),))])
    clock = small.daemon.clock
    journal = await SqliteJournal.open(tmp_path / "journal.db", clock)
    small.engine = Engine(
        journal=journal, performer=small.engine._worker._performer, pools={POOL: pool(1)}, clock=clock
    )
    small.daemon.backend.unwatch()
    small.daemon.backend.subscribe(small.engine.runner_changed)
    record, _ = await small.engine.offer(offer())
    await small.engine.idle()
    (name,) = small.daemon.backend.names()
    await small.engine.claim(RunnerIdentity(name, small.daemon.backend.view(name).uid), PROOF)
    small.daemon.backend.exit(name)
    async with asyncio.timeout(10):
        await small.engine.idle()
    events = [fact.event for fact in await journal.facts_of(record.id)]
    assert e.AlarmRaised("evidence_refused", "fact_unencodable") in events
    assert isinstance(events[-1], e.JobFinished)
    await small.engine.close()
    await journal.close()


@pytest.mark.parametrize(
    "broken",
    [
        Away(TryAgainError("away")),
        Away(hangs=True),
        Away(RuntimeError("a defect")),
        Away(asyncio.CancelledError("something it waited for was cancelled")),
    ],
    ids=["away", "hangs", "defect", "cancelled"],
)
async def test_a_revoker_that_fails_stops_no_other_and_does_not_keep_the_runner(broken: Away):
    well = Away()
    small = Small(revokers=[broken, well])
    await small.run()
    await small.daemon.clock.advance(31)
    await small.daemon.settle()
    assert well.calls >= 1
    assert small.daemon.backend.names() == ()
    assert not any(isinstance(event, e.JobFinished) for event in await facts(small.daemon))
    assert small.engine.slots(POOL).held == 0, "what is verified gone holds up no other job"
    await small.daemon.clock.advance(70)
    alarms = [event for event in await facts(small.daemon) if isinstance(event, e.AlarmRaised)]
    assert [alarm.alarm for alarm in alarms] == ["teardown_stuck"]
    assert "not revoked" in alarms[0].detail
    calls = broken.calls
    assert calls < 20, "tries without a pause"
    broken.error, broken.hangs = None, False
    await small.daemon.clock.advance(65)
    await small.daemon.settle()
    assert isinstance((await facts(small.daemon))[-1], e.JobFinished)
    await small.engine.close()


async def test_a_policy_that_never_answers_ends_the_job_and_holds_its_lock_no_longer():
    small = Small()

    class Silent(FixedPolicy):
        async def admit(self, record, pool):
            return await asyncio.get_running_loop().create_future()

    performer = Performer(Silent(), {"memory": small.daemon.backend}, {})
    engine = Engine(
        journal=small.daemon.journal, performer=performer, pools={POOL: pool(1)}, clock=small.daemon.clock,
        deadlines=Deadlines(admission_ns=10 * 10**9),
    )  # fmt: skip
    await engine.offer(offer())
    for _ in range(12):
        await small.daemon.clock.advance(1)
    await small.daemon.settle()
    assert ends(await facts(small.daemon)) == [EndReason.ADMISSION_TIMEOUT]
    await engine.close()


async def test_whoever_claims_again_and_again_does_not_fill_the_journal():
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    (name,) = daemon.backend.names()
    await daemon.claim(name)
    for _ in range(5):
        assert not await daemon.claim(name)
    alarms = [event for event in await facts(daemon) if isinstance(event, e.AlarmRaised)]
    assert [alarm.alarm for alarm in alarms] == ["second_claim"]
    await daemon.kill()


async def test_a_claim_without_proof_ends_the_job_and_gets_nothing():
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    (name,) = daemon.backend.names()
    assert not await daemon.claim(name, EgressProof(reached=("metadata",)))
    await daemon.settle()
    assert ends(await facts(daemon)) == [EndReason.EGRESS_UNPROVEN]
    assert daemon.backend.names() == ()
    await daemon.kill()


async def test_a_queue_is_kept_through_a_drain():
    daemon = await started(capacity=1)
    await daemon.offer(offer(1))
    await daemon.settle()
    daemon.engine.begin_drain()
    await daemon.offer(offer(2))
    await daemon.settle()
    record = daemon.engine.record(offer(2).key.id)
    assert record is not None
    assert record.phase is Phase.QUEUED
    assert daemon.engine.active_ids() == [offer(1).key.id]
    await daemon.kill()


async def test_a_job_that_we_keep_failing_at_says_so_once_and_goes_on_when_it_can():
    broken = [offer(1).key.id]

    def verdict_of(record: Record) -> Verdict:
        if record.id in broken:
            raise RuntimeError("a defect")
        return Verdict.ALLOW

    daemon = await started(verdict_of=verdict_of)
    await daemon.offer(offer(1))
    await daemon.offer(offer(2))
    await daemon.clock.advance(50)
    told = [event for event in await facts(daemon) if isinstance(event, e.AlarmRaised)]
    assert [(alarm.alarm, "RuntimeError" in alarm.detail) for alarm in told] == [("worker_failing", True)]
    assert daemon.engine.record(offer(2).key.id).phase is Phase.BINDING, "the other job went its way"
    await daemon.engine.cancel(offer(1).key.id, "tester")
    broken.clear()
    await daemon.clock.advance(31)
    assert ends(await facts(daemon)) == [EndReason.CANCELLED]
    await daemon.kill()


async def test_an_adapters_words_are_cut_to_what_a_fact_can_hold():
    class Wordy(MemoryBackend):
        async def create(self, spec):
            raise TryAgainError("\ud800" + "x" * 5000, reason="wordy")

    performer = Performer(FixedPolicy(), {"memory": Wordy()}, {})
    daemon = await started()
    record, _ = await daemon.engine.offer(offer())
    seen = Observation(0, pool())
    seen = await performer.perform(
        Action.CREATE_RUNNER, replace(record, backend="memory"), seen, Patience(daemon.clock, 10**9), None
    )
    assert seen.failure is not None
    assert len(seen.failure.text.encode("utf-8")) == 1000
    await daemon.kill()


async def test_an_end_that_was_not_stored_and_is_not_seen_again_leaves_the_identity_alive():
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    (name,) = daemon.backend.names()
    await daemon.claim(name)
    await daemon.settle()
    inspect = daemon.backend.inspect

    async def absent_once(asked: RunnerName) -> RunnerView:
        daemon.backend.inspect = inspect  # type: ignore[method-assign]
        return RunnerView(asked, RunnerState.ABSENT)

    daemon.backend.inspect = absent_once  # type: ignore[method-assign]
    daemon.journal.fail_next(1)
    daemon.engine.look_at(offer().key.id)
    await daemon.settle()
    assert not daemon.use_identity(name)
    await daemon.clock.advance(1.1)
    assert daemon.use_identity(name)
    await daemon.kill()
