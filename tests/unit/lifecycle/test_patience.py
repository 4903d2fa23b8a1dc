"""Calls that do not answer are cut off; whoever cancels from outside is obeyed as ever."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.observation import SECOND
from orchestrator.lifecycle.patience import Patience
from orchestrator.testing.clock import SteppedClock


async def never() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def patience(clock: SteppedClock) -> Patience:
    return Patience(clock, 30 * SECOND)


async def test_an_answer_and_an_error_come_through(patience: Patience, clock: SteppedClock):
    async def answer() -> int:
        return 7

    async def refuse() -> None:
        raise GiveUpError("no", reason="no")

    assert await patience.wait(answer()) == 7
    with pytest.raises(GiveUpError):
        await patience.wait(refuse())
    await clock.advance(100)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize(("deadline", "cut_at"), [(None, 30), (10, 10), (100, 30), (-5, 30), (0, 30)])
async def test_a_call_ends_at_the_limit_or_at_its_deadline(
    patience: Patience, clock: SteppedClock, deadline: int | None, cut_at: int
):
    deadline_ns = None if deadline is None else clock.now_ns() + deadline * SECOND
    call = asyncio.ensure_future(patience.wait(never(), deadline_ns))
    await asyncio.sleep(0)
    await clock.advance(cut_at - 0.1)
    assert not call.done()
    await clock.advance(0.2)
    with pytest.raises(TryAgainError) as caught:
        await call
    assert caught.value.reason == "call_timeout"
    assert call.cancelling() == 0


async def test_the_call_itself_is_cancelled(patience: Patience, clock: SteppedClock):
    ended = asyncio.Event()

    async def call() -> None:
        try:
            await never()
        finally:
            ended.set()

    task = asyncio.ensure_future(patience.wait(call()))
    await asyncio.sleep(0)
    await clock.advance(31)
    assert ended.is_set()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_cancel_from_outside_is_no_timeout(patience: Patience, clock: SteppedClock):
    call = asyncio.ensure_future(patience.wait(never()))
    await asyncio.sleep(0)
    await clock.advance(1)
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()


async def test_a_cancel_at_the_very_moment_of_the_timeout_is_obeyed(patience: Patience, clock: SteppedClock):
    call = asyncio.ensure_future(patience.wait(never()))
    await asyncio.sleep(0)
    clock.call_later(30, call.cancel)
    # Both fall due before the task runs again.
    clock._settle = staticmethod(_nothing)  # type: ignore[method-assign]
    await clock.advance(30)
    await asyncio.wait({call})
    assert call.cancelled()


async def _nothing() -> None:
    return


async def test_a_call_that_swallows_the_cut_leaves_no_trace_of_it(patience: Patience, clock: SteppedClock):
    async def stubborn() -> str:
        try:
            await never()
        except asyncio.CancelledError:
            return "done all the same"
        return ""

    async def whole() -> tuple[str, int]:
        answer = await patience.wait(stubborn())
        task = asyncio.current_task()
        assert task is not None
        return answer, task.cancelling()

    call = asyncio.ensure_future(whole())
    await asyncio.sleep(0)
    await clock.advance(31)
    assert await call == ("done all the same", 0)


async def test_a_call_that_answers_from_memory_needs_no_timer(patience: Patience, clock: SteppedClock):
    timers: list[float] = []
    clock.call_later = lambda seconds, _: timers.append(seconds) or (lambda: None)  # type: ignore[method-assign]

    async def answer(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await patience.wait(answer(0)) == 0
    assert timers == []
    assert await patience.wait(answer(3)) == 3
    assert timers == [30]


@pytest.mark.parametrize("turns", [0, 2])
async def test_what_a_call_waits_for_was_cancelled_by_others(patience: Patience, turns: int):
    others: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    others.cancel()

    async def call() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await others

    with pytest.raises(TryAgainError) as caught:
        await patience.wait(call())
    assert caught.value.reason == "call_cancelled"


async def test_what_happens_to_a_call_while_it_waits_reaches_it(patience: Patience):
    first: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def call() -> list[object]:
        seen: list[object] = []
        try:
            await first
        except ValueError as error:
            seen.append(str(error))
        seen.append(await asyncio.sleep(0, "awake"))
        async with asyncio.timeout(5):
            seen.append(await asyncio.sleep(0, "in time"))
        return seen

    waiting = asyncio.ensure_future(patience.wait(call()))
    await asyncio.sleep(0)
    first.set_exception(ValueError("no luck"))
    assert await waiting == ["no luck", "awake", "in time"]
