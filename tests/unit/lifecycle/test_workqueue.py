"""One worker for each key, duplicates merge, nobody's defect stops another, and nothing is left at the end."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from orchestrator.lifecycle.observation import SECOND
from orchestrator.lifecycle.workqueue import WorkQueue
from orchestrator.model.job import JobId
from orchestrator.testing.clock import SteppedClock

A, B = JobId("s.a.1"), JobId("s.b.1")


class Work:
    """Counts the looks at each key; each waits until it is let through."""

    def __init__(self) -> None:
        self.begun: Counter[JobId] = Counter()
        self.at_once: Counter[JobId] = Counter()
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0

    async def __call__(self, key: JobId) -> None:
        self.begun[key] += 1
        self.at_once[key] += 1
        self.most = max(self.most, self.at_once[key])
        try:
            await self.gate.wait()
            if self.failures:
                self.failures -= 1
                raise RuntimeError("a defect")
        finally:
            self.at_once[key] -= 1


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture
async def queue(work: Work, clock: SteppedClock):
    made = WorkQueue(work, clock)
    yield made
    await made.close()


async def test_keys_added_while_their_worker_runs_merge_into_one_more_look(queue: WorkQueue, work: Work):
    work.gate.clear()
    queue.add(A)
    await asyncio.sleep(0)
    for _ in range(5):
        queue.add(A)
    work.gate.set()
    await queue.idle()
    assert (work.begun[A], work.most) == (2, 1)


async def test_a_key_that_waits_holds_up_no_other(queue: WorkQueue, work: Work):
    work.gate.clear()
    queue.add(A)
    queue.add(B)
    await asyncio.sleep(0)
    assert work.begun == {A: 1, B: 1}
    work.gate.set()
    await queue.idle()


async def test_a_worker_that_raises_is_tried_again_after_a_pause(queue: WorkQueue, work: Work, clock: SteppedClock):
    work.failures = 2
    queue.add(A)
    await clock.advance(0)
    await clock.advance(0.5)
    assert work.begun[A] == 1
    await clock.advance(0.6)
    assert work.begun[A] == 2
    await clock.advance(1)
    await queue.idle()
    assert work.begun[A] == 3


async def test_a_key_that_keeps_failing_is_told_of_once_and_tried_less_often(work: Work, clock: SteppedClock):
    told: list[tuple[JobId, str]] = []

    async def failing(key: JobId, error: Exception) -> None:
        told.append((key, str(error)))

    queue = WorkQueue(work, clock, failing)
    work.failures = 8
    queue.add(A)
    await clock.advance(0)
    await clock.advance(4.5)
    assert (work.begun[A], told) == (5, [(A, "a defect")])
    await clock.advance(29)
    assert work.begun[A] == 5
    await clock.advance(4 * 30)
    await queue.idle()
    assert (work.begun[A], len(told)) == (9, 1)
    work.failures = 5
    queue.add(A)
    await clock.advance(0)
    await clock.advance(4.5)
    assert len(told) == 2, "a new row of failures is told of again"
    await queue.close()


async def test_a_timer_looks_at_its_time_and_a_later_wish_replaces_it(
    queue: WorkQueue, work: Work, clock: SteppedClock
):
    queue.wake_at(A, clock.now_ns() + 5 * SECOND)
    queue.wake_at(A, clock.now_ns() + 10 * SECOND)
    await clock.advance(9)
    assert work.begun[A] == 0
    await clock.advance(2)
    assert work.begun[A] == 1
    queue.wake_at(A, clock.now_ns() + 5 * SECOND)
    queue.forget(A)
    await clock.advance(60)
    assert work.begun[A] == 1


async def test_a_time_that_has_passed_is_now(queue: WorkQueue, work: Work, clock: SteppedClock):
    queue.wake_at(A, clock.now_ns() - SECOND)
    await clock.advance(0)
    assert work.begun[A] == 1


async def test_close_ends_workers_and_timers_and_takes_nothing_more(work: Work, clock: SteppedClock):
    queue = WorkQueue(work, clock)
    work.gate.clear()
    queue.add(A)
    queue.wake_at(B, clock.now_ns() + SECOND)
    await asyncio.sleep(0)
    assert work.at_once[A] == 1
    await queue.close()
    assert work.at_once[A] == 0
    queue.add(B)
    queue.wake_at(B, clock.now_ns())
    await clock.advance(5)
    assert work.begun[B] == 0
    await queue.idle()
    await queue.close()


async def test_a_wish_for_the_same_time_stands_and_another_replaces_it(
    queue: WorkQueue, work: Work, clock: SteppedClock
):
    when = clock.now_ns() + 5 * SECOND
    queue.wake_at(A, when)
    queue.wake_at(A, when)
    await clock.advance(5)
    assert work.begun[A] == 1
    queue.wake_at(A, when + 5 * SECOND)
    queue.wake_at(A, when + 9 * SECOND)
    await clock.advance(5)
    assert work.begun[A] == 1
    await clock.advance(4)
    assert work.begun[A] == 2
