"""The clock, the journal and the backend of the tests do what their faults say, since tests believe them."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.model import events as e
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.runner import RunnerName, RunnerSpec, RunnerState
from orchestrator.testing import stories
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.faults import Fault
from orchestrator.testing.journal import MemoryJournal

NAME = RunnerName("runner-x")
SPEC = RunnerSpec(NAME, JobId("s.x.1"), PoolName("default"), (), 60)
OFFERED = (stories.offer().key.id, e.JobOffered(stories.offer()))


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def backend(clock: SteppedClock) -> MemoryBackend:
    return MemoryBackend(clock)


async def test_timers_fire_in_order_and_only_when_time_moves(clock: SteppedClock):
    fired: list[tuple[str, int]] = []
    start = clock.now_ns()
    clock.call_later(2, lambda: fired.append(("b", clock.now_ns() - start)))
    clock.call_later(1, lambda: fired.append(("a", clock.now_ns() - start)))
    cancel = clock.call_later(1.5, lambda: fired.append(("never", 0)))
    cancel()
    cancel()
    await asyncio.sleep(0)
    assert fired == []
    await clock.advance(3)
    assert fired == [("a", 10**9), ("b", 2 * 10**9)]
    assert clock.now_ns() == start + 3 * 10**9
    assert clock.tick() == start + 3 * 10**9 + 1


async def test_what_a_fault_did_and_what_its_caller_sees(backend: MemoryBackend):
    for fault, raised, there in [
        (Fault.FAILED, TryAgainError, False),
        (Fault.REFUSED, GiveUpError, False),
        (Fault.FORGOTTEN, None, False),
        (Fault.DONE_BUT_FAILED, TryAgainError, True),
        (Fault.NONE, None, True),
    ]:
        backend.vanish(NAME)
        backend.faults.add(fault)
        if raised:
            with pytest.raises(raised):
                await backend.create(SPEC)
        else:
            await backend.create(SPEC)
        assert bool(backend.names()) is there, fault


@pytest.mark.parametrize(("fault", "done_at_once"), [(Fault.DELAYED, False), (Fault.LATE, True), (Fault.HANGING, True)])
async def test_slow_faults_differ_in_when_they_act(
    backend: MemoryBackend, clock: SteppedClock, fault: Fault, done_at_once: bool
):
    backend.faults.add(fault)
    call = asyncio.ensure_future(backend.create(SPEC))
    await clock.advance(0)
    assert bool(backend.names()) is done_at_once
    await clock.advance(3)
    assert call.done() is (fault is not Fault.HANGING)
    assert backend.names() == (NAME,)
    call.cancel()
    await asyncio.wait({call})


async def test_a_late_look_tells_what_was(backend: MemoryBackend, clock: SteppedClock):
    await backend.create(SPEC)
    backend.faults.add(Fault.LATE)
    look = asyncio.ensure_future(backend.inspect(NAME))
    await clock.advance(1)
    backend.exit(NAME)
    await clock.advance(3)
    assert (await look).state is RunnerState.ALIVE
    assert (await backend.inspect(NAME)).state is RunnerState.EXITED


async def test_a_slow_journal_stores_for_a_caller_that_left_and_lets_it_go_afterwards(clock: SteppedClock):
    journal = MemoryJournal(clock)
    journal.slow(10)
    call = asyncio.ensure_future(journal.append([OFFERED]))
    for _ in range(3):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.sleep(0)
    assert not call.done()
    await asyncio.wait({call})
    assert call.cancelled()
    assert len(await journal.facts_of(OFFERED[0])) == 1


async def test_appends_keep_their_order_however_slow(clock: SteppedClock):
    journal = MemoryJournal(clock)
    await journal.append([OFFERED])
    journal.slow(8)
    slow = asyncio.ensure_future(journal.append([(OFFERED[0], stories.ADMITTED)]))
    await asyncio.sleep(0)
    journal.slow(1)
    await journal.append([(OFFERED[0], stories.STARTED)])
    await slow
    kinds = [type(fact.event) for fact in await journal.facts_of(OFFERED[0])]
    assert kinds == [e.JobOffered, e.JobAdmitted, e.ProvisionStarted]


async def test_a_commit_whose_answer_is_lost_is_a_commit(clock: SteppedClock):
    journal = MemoryJournal(clock)
    journal.fail_next(1)
    with pytest.raises(TryAgainError):
        await journal.append([OFFERED])
    assert await journal.facts_of(OFFERED[0]) == []
    journal.fail_after_store(1)
    with pytest.raises(TryAgainError):
        await journal.append([OFFERED])
    assert len(await journal.facts_of(OFFERED[0])) == 1
