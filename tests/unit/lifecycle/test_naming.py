"""The engine as a platform names its jobs: each word durable first, one runner for a job and one job for a runner."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from world import PLATFORM_HOST, POOL, PROOF, REGISTRY, Daemon, by_fact, offer, platform_job, pool

from orchestrator.errors import GiveUpError
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model import events as e
from orchestrator.model.decision import CONFIGURATION
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.runner import RunnerName, runner_name
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.checker import broken_promises
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.source import MemorySource

JOB, OTHER = platform_job(1), platform_job(2)


async def started(jobs: int = 1, **options) -> tuple[Daemon, list[RunnerName]]:
    """A daemon with so many runners that were handed their registration."""
    daemon = Daemon(capacity=3, verdict_of=by_fact, **options)
    await daemon.start()
    return daemon, [await demanded(daemon, number) for number in range(1, jobs + 1)]


async def demanded(daemon: Daemon, number: int) -> RunnerName:
    job = offer(number, awaits=True)
    await daemon.offer(job)
    await daemon.settle()
    name = runner_name(job.key.id)
    assert await daemon.claim(name)
    return name


async def events(daemon: Daemon, number: int = 1) -> list[e.Event]:
    return [fact.event for fact in await daemon.journal.facts_of(offer(number).key.id)]


def ends(facts: list[e.Event]) -> list[EndReason]:
    return [event.outcome.reason for event in facts if isinstance(event, e.JobEnded)]


async def at_peace(daemon: Daemon) -> None:
    """Every promise is kept, and the daemon ends."""
    assert broken_promises(daemon.world, await daemon.history(), at_rest=False) == []
    await daemon.engine.close()


async def test_from_the_demand_to_the_platforms_word():
    daemon, [name] = await started()
    assert daemon.engine.record_of_runner(name).obligations.egress == (PLATFORM_HOST,)
    assert not daemon.use_identity(name)
    assert await daemon.name_job(name, JOB) == "named"
    assert daemon.use_identity(name)
    record = daemon.engine.record_of_runner(name)
    assert record.obligations.egress == (PLATFORM_HOST, REGISTRY)
    assert record.offer.caller == JOB.caller
    assert await daemon.complete_job(name, "succeeded") == "completed"
    daemon.backend.exit(name)
    await daemon.settle()
    facts = await events(daemon)
    assert [type(fact).__name__ for fact in facts] == [
        *("JobOffered", "JobAdmitted", "ProvisionStarted", "RunnerCreated", "RunnerBound"),
        *("PlatformJobNamed", "PlatformJobCompleted", "RunnerExited", "JobEnded", "RunnerDeleted", "JobFinished"),
    ]
    assert facts[1].decision.engine == CONFIGURATION
    assert facts[5].decision.engine == "fixed"
    assert ends(facts) == [EndReason.COMPLETED]
    assert [outcome.result for _, outcome in daemon.source.reports] == [Result.SUCCESS]
    [line] = await daemon._all_lines()
    assert (line.name, line.pipeline, line.caller_id) == (JOB.name, JOB.pipeline, JOB.caller.id)
    await at_peace(daemon)


async def test_saying_the_same_again_changes_nothing():
    daemon, [name] = await started()
    answers = await asyncio.gather(*(daemon.name_job(name, JOB) for _ in range(5)))
    assert answers == ["named"] * 5
    for word in ("failed", "succeeded"):
        assert await daemon.complete_job(name, word) == "completed"
    kinds = [type(fact) for fact in await events(daemon)]
    assert (kinds.count(e.PlatformJobNamed), kinds.count(e.PlatformJobCompleted)) == (1, 1)
    assert daemon.engine.record_of_runner(name).completed.result == "failed"
    await at_peace(daemon)


async def test_a_refused_job_gets_the_reasons_and_nothing_else():
    daemon, [name] = await started()
    refused = platform_job(1, refused=True)
    for _ in range(2):
        with pytest.raises(GiveUpError, match=r"told to answer so \[told\]") as told:
            await daemon.engine.name_job(name, refused)
        assert told.value.reason == "policy_denied"
    assert not daemon.use_identity(name)
    assert daemon.engine.record_of_runner(name).obligations.egress == (PLATFORM_HOST,)
    await daemon.clock.advance(29)
    assert ends(await events(daemon)) == []
    await daemon.clock.advance(2)
    facts = await events(daemon)
    assert ends(facts) == [EndReason.POLICY_DENIED]
    assert sum(isinstance(fact, e.JobRefused) for fact in facts) == 1
    assert daemon.backend.names() == ()
    await at_peace(daemon)


async def test_a_refused_job_cannot_try_again_on_another_runner():
    daemon, [first, second] = await started(2)
    assert await daemon.name_job(first, platform_job(1, refused=True)) == "policy_denied"
    assert await daemon.name_job(second, platform_job(1)) == "job_already_named"
    await at_peace(daemon)


async def test_a_second_job_for_a_runner_is_an_alarm_and_its_end():
    daemon, [name] = await started()
    await daemon.name_job(name, JOB)
    assert await daemon.name_job(name, OTHER) == "second_job"
    assert not daemon.use_identity(name)
    assert await daemon.name_job(name, JOB) in ("job_ended", "runner_unknown")
    await daemon.settle()
    facts = await events(daemon)
    assert ends(facts) == [EndReason.SECOND_JOB]
    assert [fact.alarm for fact in facts if isinstance(fact, e.AlarmRaised)] == ["second_job"]
    assert await daemon.journal.job_named(OTHER.key) is None
    await at_peace(daemon)


async def test_a_second_runner_for_a_job_is_an_alarm_and_its_end_even_after_the_first_is_gone_and_a_restart():
    daemon, [first, second, third] = await started(3)
    await daemon.name_job(first, JOB)
    assert await daemon.name_job(second, JOB) == "job_already_named"
    await daemon.complete_job(first)
    daemon.backend.exit(first)
    await daemon.settle()
    assert daemon.engine.record_of_runner(first) is None
    await daemon.kill()
    await daemon.start()
    assert await daemon.name_job(third, JOB) == "job_already_named"
    await daemon.settle()
    assert [ends(await events(daemon, number)) for number in (1, 2, 3)] == [
        [EndReason.COMPLETED],
        [EndReason.JOB_ALREADY_NAMED],
        [EndReason.JOB_ALREADY_NAMED],
    ]
    await at_peace(daemon)


@pytest.mark.parametrize("turns", [0, 1, 3, 7])
async def test_of_two_runners_that_are_given_one_job_at_once_one_wins(turns: int):
    daemon, names = await started(3)
    daemon.policy.turns = turns
    daemon.journal.slow(3)
    answers = await asyncio.gather(*(daemon.name_job(name, JOB) for name in names))
    assert sorted(answers) == ["job_already_named", "job_already_named", "named"]
    await at_peace(daemon)


async def test_two_jobs_for_one_runner_at_once_end_it_and_only_one_was_its():
    daemon, [name] = await started()
    daemon.policy.turns = 5
    answers = await asyncio.gather(daemon.name_job(name, JOB), daemon.name_job(name, OTHER))
    assert sorted(answers) == ["named", "second_job"]
    assert sum(isinstance(fact, e.PlatformJobNamed) for fact in await events(daemon)) == 1
    await at_peace(daemon)


async def test_the_runners_end_does_not_wait_for_policy():
    daemon, [name] = await started()
    daemon.policy.turns = 1000
    naming = asyncio.ensure_future(daemon.name_job(name, JOB))
    await daemon.settle()
    await daemon.engine.cancel(offer(1).key.id, "tester")
    await daemon.settle()
    assert ends(await events(daemon)) == [EndReason.CANCELLED]
    assert await naming == "job_ended"
    assert await daemon.journal.job_named(JOB.key) is None
    await at_peace(daemon)


@pytest.mark.parametrize("stores", [True, False])
async def test_a_name_whose_commit_is_in_doubt_is_known_when_asked_again(stores: bool):
    daemon, [first, second] = await started(2)
    (daemon.journal.fail_after_store if stores else daemon.journal.fail_next)(1)
    assert await daemon.name_job(first, JOB) == "journal_unavailable"
    assert await daemon.name_job(second, JOB) == ("job_already_named" if stores else "named")
    assert await daemon.name_job(first, JOB) == ("named" if stores else "job_already_named")
    await at_peace(daemon)


async def test_who_cannot_be_given_a_job():
    daemon, _ = await started(0)
    assert await daemon.name_job(RunnerName("runner-nobody"), JOB) == "runner_unknown"
    assert await daemon.complete_job(RunnerName("runner-nobody")) == "runner_unknown"
    await daemon.offer(offer(1))
    await daemon.offer(offer(2, awaits=True))
    await daemon.settle()
    ordinary, early = (runner_name(offer(number).key.id) for number in (1, 2))
    await daemon.claim(ordinary)
    assert await daemon.name_job(ordinary, JOB) == await daemon.complete_job(ordinary) == "not_awaiting"
    for _ in range(3):
        assert await daemon.name_job(early, JOB) == await daemon.complete_job(early) == "runner_unknown"
    assert [fact.alarm for fact in await events(daemon, 2) if isinstance(fact, e.AlarmRaised)] == ["named_before_claim"]
    await daemon.claim(early)
    daemon.pools.clear()
    await daemon.kill()
    await daemon.start()
    assert await daemon.name_job(early, JOB) == "unknown_pool"
    await at_peace(daemon)


async def test_no_job_in_time_ends_the_runner():
    daemon, [name] = await started()
    await daemon.clock.advance(599)
    assert daemon.engine.record_of_runner(name) is not None
    await daemon.clock.advance(2)
    assert ends(await events(daemon)) == [EndReason.NO_JOB]
    assert daemon.backend.names() == ()
    await at_peace(daemon)


async def test_a_restart_while_the_platforms_word_is_awaited_forgets_nothing():
    daemon, [name] = await started()
    await daemon.name_job(name, JOB)
    daemon.backend.exit(name)
    await daemon.settle()
    await daemon.kill()
    daemon.backend.vanish(name)
    await daemon.start()
    await daemon.clock.advance(60)
    assert ends(await events(daemon)) == []
    assert await daemon.complete_job(name) == "completed"
    await daemon.settle()
    assert ends(await events(daemon)) == [EndReason.COMPLETED]
    await at_peace(daemon)


async def test_on_a_real_journal_the_name_outlives_the_daemon(tmp_path: Path):
    clock, backend = SteppedClock(), MemoryBackend(SteppedClock())
    journal = await SqliteJournal.open(tmp_path / "journal.db", clock)
    performer = Performer(FixedPolicy(), {"memory": backend}, {"memory": MemorySource()})
    engine = Engine(journal=journal, performer=performer, pools={POOL: pool(3)}, clock=clock)
    try:
        names = []
        for number in (1, 2):
            record, _ = await engine.offer(offer(number, awaits=True))
            await engine.idle()
            names.append(runner_name(record.id))
            await engine.claim(RunnerIdentity(names[-1], backend.view(names[-1]).uid), PROOF)
        answers = await asyncio.gather(*(engine.name_job(name, JOB) for name in names), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, GiveUpError)]
        assert [error.reason for error in refused] == ["job_already_named"]
        await engine.idle()
    finally:
        await engine.close()
        await journal.close()
    again = await SqliteJournal.open(tmp_path / "journal.db", clock)
    try:
        winner = next(answer for answer in answers if not isinstance(answer, BaseException))
        assert await again.job_named(JOB.key) == winner.id
    finally:
        await again.close()


@pytest.mark.parametrize("killed", [True, False], ids=["daemon and runner die", "the runner vanishes"])
async def test_a_runner_that_is_gone_gives_its_place_to_others_while_the_platforms_word_is_awaited(killed):
    daemon = Daemon(capacity=1, verdict_of=by_fact, receipts=True)
    await daemon.start()
    name = await demanded(daemon, 1)
    assert await daemon.name_job(name, JOB) == "named"
    await daemon.offer(offer(2))
    await daemon.settle()
    assert not any(isinstance(event, e.ProvisionStarted) for event in await events(daemon, 2))
    if killed:
        await daemon.kill()
    daemon.backend.vanish(name)
    if killed:
        await daemon.start()
    await daemon.settle()
    second = runner_name(offer(2).key.id)
    assert daemon.backend.names() == (second,), "it has the place at once"
    assert daemon.engine.record(offer(1).key.id).bound, "and the first record still waits for the platform's word"
    assert daemon.engine.slots(POOL).held == 1
    assert await daemon.complete_job(name, "failed") == "completed"
    await daemon.settle()
    assert ends(await events(daemon)) == [EndReason.JOB_FAILED]
    assert daemon.engine.slots(POOL).held == 1, "the end gives no place away twice"
    await daemon.offer(offer(3))
    await daemon.settle()
    assert daemon.backend.names() == (second,)
    await at_peace(daemon)


async def test_a_runner_that_has_ended_and_is_still_there_keeps_its_place():
    daemon = Daemon(capacity=1, verdict_of=by_fact)
    await daemon.start()
    name = await demanded(daemon, 1)
    assert await daemon.name_job(name, JOB) == "named"
    daemon.backend.exit(name)
    await daemon.offer(offer(2))
    await daemon.settle()
    assert daemon.backend.names() == (name,)
    assert daemon.engine.slots(POOL).held == 1
    await at_peace(daemon)


async def test_what_a_job_said_it_deploys_outlives_the_daemon_that_heard_it():
    """Killed before the job asks for its token: the next daemon judges, and binds to, the artifact that was named."""
    daemon, [name] = await started()
    await daemon.name_job(name, JOB)
    digest = "sha256:" + "a" * 64
    await daemon.engine.note(daemon.engine.record_of_runner(name).id, e.ArtifactNamed(digest))
    await daemon.kill()
    await daemon.start()
    await daemon.settle()
    assert daemon.engine.record_of_runner(name).offer.spec.artifact_digest == digest
    assert await daemon.get_token(name)
    assert daemon.engine.record_of_runner(name).offer.caller == JOB.caller
    await daemon.complete_job(name)
    daemon.backend.exit(name)
    await daemon.settle()
    assert ends(await events(daemon)) == [EndReason.COMPLETED]
    await at_peace(daemon)
