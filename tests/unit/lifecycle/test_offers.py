"""Each job comes in once: duplicates, cut-off callers, commits in doubt, a bounded queue."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from world import POOL, Daemon, offer, pool

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.model import events as e
from orchestrator.model.decision import Verdict
from orchestrator.model.job import JobId
from orchestrator.model.phase import Phase
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.source import MemorySource

ID = offer().key.id


async def started(**options) -> Daemon:
    daemon = Daemon(**options)
    await daemon.start()
    return daemon


async def offers_stored(daemon: Daemon, job_id: JobId = ID) -> int:
    return sum(isinstance(fact.event, e.JobOffered) for fact in await daemon.journal.facts_of(job_id))


async def test_duplicates_merge_even_when_they_come_at_once():
    daemon = await started()
    daemon.journal.slow(5)
    answers = await asyncio.gather(*(daemon.engine.offer(offer()) for _ in range(5)))
    assert sorted(new for _, new in answers) == [False] * 4 + [True]
    assert await offers_stored(daemon) == 1
    await daemon.kill()


async def test_one_key_with_two_contents_is_refused_whether_the_first_lives_or_not():
    daemon = await started(verdict=Verdict.DENY)
    await daemon.engine.offer(offer())
    for _ in range(2):
        with pytest.raises(GiveUpError) as caught:
            await daemon.engine.offer(offer(fingerprint="other"))
        assert caught.value.reason == "idempotency_key_reused"
        await daemon.settle()
    assert daemon.engine.live_count == 0
    record, new = await daemon.engine.offer(offer())
    assert (record.phase, new, await offers_stored(daemon)) == (Phase.FINISHED, False, 1)
    await daemon.kill()


async def test_an_offer_cut_off_in_its_commit_is_not_stored_twice(tmp_path: Path):
    clock = SteppedClock()
    journal = await SqliteJournal.open(tmp_path / "journal.db", clock)
    performer = Performer(FixedPolicy(), {"memory": MemoryBackend(clock)}, {"memory": MemorySource()})
    engine = Engine(journal=journal, performer=performer, pools={POOL: pool()}, clock=clock)
    try:
        for number in range(20):
            call = asyncio.ensure_future(engine.offer(offer(number)))
            while not engine.unsure and not call.done():
                await asyncio.sleep(0)
                if number % 2 or journal.waiting:
                    call.cancel()
            await asyncio.wait({call})
            await engine.offer(offer(number))
            stored = await journal.facts_of(offer(number).key.id)
            assert sum(isinstance(fact.event, e.JobOffered) for fact in stored) == 1
            assert not engine.unsure
    finally:
        await engine.close()
        await journal.close()


@pytest.mark.parametrize("stored", [True, False])
async def test_an_offer_in_doubt_is_found_by_the_sweep_if_it_was_stored(stored: bool):
    daemon = await started()
    (daemon.journal.fail_after_store if stored else daemon.journal.fail_next)(1)
    with pytest.raises(TryAgainError):
        await daemon.engine.offer(offer())
    assert list(daemon.engine.unsure) == [ID]
    assert daemon.engine.record(ID) is None
    await daemon.start_sweep()
    assert not daemon.engine.unsure
    assert (daemon.engine.record(ID) is not None) is stored
    await daemon.kill()


async def test_a_job_that_finished_meanwhile_is_not_taken_over_again():
    """The sweep reads the journal while the caller's retry brings the job in and policy ends it."""
    daemon = await started(verdict=Verdict.DENY)
    daemon.journal.fail_after_store(1)
    with pytest.raises(TryAgainError):
        await daemon.engine.offer(offer())
    daemon.journal.slow(30)
    sweep = asyncio.ensure_future(daemon.sweep.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    daemon.journal.slow(1)
    await daemon.engine.offer(offer())
    await sweep
    await daemon.settle()
    events = [fact.event for fact in await daemon.journal.facts_of(ID)]
    assert sum(isinstance(event, e.JobFinished) for event in events) == 1
    assert isinstance(events[-1], e.JobFinished)
    assert daemon.engine.live_count == 0
    await daemon.kill()


async def test_the_queue_is_bounded_and_offers_in_doubt_count():
    daemon = await started(max_jobs=3)
    await daemon.engine.offer(offer(1))
    await daemon.settle()
    daemon.journal.fail_next(2)
    for number in (2, 3):
        with pytest.raises(TryAgainError):
            await daemon.engine.offer(offer(number))
    with pytest.raises(TryAgainError) as caught:
        await daemon.engine.offer(offer(4))
    assert caught.value.reason == "queue_full"
    await daemon.start_sweep()
    await daemon.engine.offer(offer(4))
    await daemon.engine.offer(offer(1))
    await daemon.kill()


async def test_a_caller_that_leaves_lets_the_next_one_in():
    daemon = await started()
    daemon.journal.slow(10)
    first = asyncio.ensure_future(daemon.engine.offer(offer()))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(daemon.engine.offer(offer()))
    await asyncio.sleep(0)
    first.cancel()
    record, new = await second
    assert (record.id, new) == (ID, False) or await offers_stored(daemon) == 1
    await asyncio.wait({first})
    await daemon.kill()
