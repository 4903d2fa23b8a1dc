"""Many timers behind one of the loop's: nobody is called early, twice, or after a cancellation."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.timers import Timers


async def all_called(done: list[Any], count: int) -> None:
    async with asyncio.timeout(10):
        while len(done) < count:
            await asyncio.sleep(0.001)


async def test_each_is_called_once_in_order_and_never_early():
    timers, called, began = Timers(asyncio.get_running_loop()), [], time.monotonic()
    waits = [random.Random(3).uniform(0, 0.05) for _ in range(200)]
    waits += [0.0, -1.0]
    for wait in waits:
        timers.call_later(wait, lambda wait=wait: called.append((wait, time.monotonic() - began)))
    await all_called(called, len(waits))
    assert all(at >= wait for wait, at in called)
    due = [wait for wait, _ in called if wait > 0]
    assert due == sorted(due), "who is due first is called first"
    await asyncio.sleep(0.02)
    assert len(called) == len(waits)
    assert len(timers) == 0


async def test_a_later_one_that_is_due_sooner_is_not_kept_waiting():
    timers, called = Timers(asyncio.get_running_loop()), []
    timers.call_later(60, lambda: called.append("late"))
    timers.call_later(0.01, lambda: called.append("soon"))
    await all_called(called, 1)
    assert called == ["soon"]


async def test_cancelled_ones_are_never_called_and_may_be_cancelled_again():
    timers, called = Timers(asyncio.get_running_loop()), []
    cancels = [timers.call_later(wait, lambda: called.append("cancelled")) for wait in (0.0, 0.005, 0.01)]
    for cancel in cancels * 2:
        cancel()
    timers.call_later(0.02, lambda: called.append("left"))
    await all_called(called, 1)
    cancels[1]()
    assert called == ["left"]


async def test_one_that_is_cancelled_by_another_due_at_the_same_time_is_not_called():
    timers, called, cancels = Timers(asyncio.get_running_loop()), [], []
    timers.call_later(0.01, lambda: cancels[0]())
    cancels.append(timers.call_later(0.01, lambda: called.append("cancelled")))
    time.sleep(0.02)  # both are due when the loop comes round
    timers.call_later(0.01, lambda: called.append("left"))
    await all_called(called, 1)
    assert called == ["left"]


async def test_a_failing_callback_is_told_to_the_loop_and_stops_no_other():
    loop, told, called = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    timers = Timers(loop)

    def fail() -> None:
        raise ValueError("no")

    timers.call_later(0.005, fail)
    timers.call_later(0.005, lambda: called.append("other"))
    timers.call_later(0.01, lambda: called.append("next"))
    await all_called(called, 2)
    assert called == ["other", "next"]
    assert [type(error) for error in told] == [ValueError]


async def test_what_was_cancelled_does_not_pile_up():
    timers = Timers(asyncio.get_running_loop())
    kept = [timers.call_later(30, int) for _ in range(10)]
    most = 0
    for _ in range(5_000):
        timers.call_later(30, int)()
        most = max(most, len(timers))
    assert most < 1_000
    for cancel in kept:
        cancel()


def test_a_clock_may_be_used_on_one_loop_after_another():
    clock = SystemClock()

    async def once() -> None:
        called: list[str] = []
        cancel: Callable[[], None] = clock.call_later(0.005, lambda: called.append("yes"))
        await all_called(called, 1)
        cancel()

    asyncio.run(once())
    asyncio.run(once())
