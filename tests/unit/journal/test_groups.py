"""Groups: who comes alone goes at once, who comes in a rush goes with others, nobody waits for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from orchestrator.journal import groups
from orchestrator.journal.groups import GATHER_SECONDS, MOST, Groups


class Time:
    """Stands still but for `steps`, one at each look, and for sleeps, in which `meanwhile` happens."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []
        self.rung = False
        self.meanwhile: Callable[[], object] = lambda: None
        self.steps: Iterator[float] = iter(())

    def monotonic(self) -> float:
        self.now += next(self.steps, 0.0)
        return self.now

    def wait(self, seconds: float) -> None:
        """As an event does that is set by then or not."""
        self.sleeps.append(seconds)
        self.now += 0.0 if self.rung else seconds
        self.meanwhile()

    def set(self) -> None:
        self.rung = True

    def clear(self) -> None:
        self.rung = False


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(groups, "time", made)
    monkeypatch.setattr(groups, "Event", lambda: made)
    return made


def several(waiting: Groups[str], time: Time) -> None:
    """A group of two, worked off."""
    waiting.put("a")
    waiting.put("b")
    assert waiting.take() == ["a", "b"]
    time.now += 0.002


def test_what_waits_is_one_group_in_order(time: Time):
    waiting: Groups[int] = Groups()
    for number in range(5):
        waiting.put(number)
    assert len(waiting) == 5
    assert waiting.take() == [0, 1, 2, 3, 4]
    assert not time.sleeps


def test_one_after_the_other_nobody_waits(time: Time):
    waiting: Groups[str] = Groups()
    for item in "abc":
        waiting.put(item)
        assert waiting.take() == [item]
        time.now += 0.001
    assert not time.sleeps


def test_after_a_group_of_several_the_next_one_may_grow(time: Time):
    waiting: Groups[str] = Groups()
    several(waiting, time)
    waiting.put("c")
    time.meanwhile = lambda: waiting.put("d")
    assert waiting.take() == ["c", "d"]
    assert time.sleeps == [GATHER_SECONDS]


def test_who_hurries_ends_the_moment_for_all(time: Time):
    waiting: Groups[str] = Groups()
    several(waiting, time)
    began = time.now
    waiting.put("c")
    waiting.put("d", hurried=True)
    assert waiting.take() == ["c", "d"]
    assert time.now == began
    waiting.put("e")
    waiting.take()
    assert time.now == began + GATHER_SECONDS


def test_the_rush_is_over_when_one_came_alone(time: Time):
    waiting: Groups[str] = Groups()
    several(waiting, time)
    for item in "cd":
        waiting.put(item)
        assert waiting.take() == [item]
    assert len(time.sleeps) == 1


def test_who_comes_later_does_not_wait(time: Time):
    waiting: Groups[str] = Groups()
    several(waiting, time)
    waiting.put("c")
    time.steps = iter([0.0, 1.0])  # nothing came for a second
    assert waiting.take() == ["c"]
    assert not time.sleeps


def test_nothing_comes():
    waiting: Groups[str] = Groups()
    assert waiting.take(patience=0.001) == []


def test_nothing_is_lost_whoever_puts():
    waiting: Groups[tuple[int, int]] = Groups()

    def put(thread: int) -> None:
        for number in range(MOST):
            waiting.put((thread, number))

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    taken: list[tuple[int, int]] = []
    while len(taken) < 4 * MOST:
        group = waiting.take(patience=10)
        assert 1 <= len(group) <= 1 + MOST
        taken += group
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [place for thread, place in taken if thread == number] == list(range(MOST))
