"""Who waits for a full quota tries again soon after a place is counted, one at a time, however early the hint came."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.backends.kubernetes.waiting_line import FIRST_SECONDS, LONGEST_SECONDS, WaitingLine
from orchestrator.model.runner import RunnerName
from orchestrator.testing.clock import SteppedClock

A, B, C = RunnerName("a"), RunnerName("b"), RunnerName("c")


class Namespace:
    """`free` places by the quota's count. Whoever is told tries at once, as a job's worker does."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.free = 0
        self.tried: list[RunnerName] = []
        self.line = WaitingLine(self.tries, self.clock.call_later)

    def tries(self, name: RunnerName) -> None:
        self.tried.append(name)
        if self.free:
            self.free -= 1
            self.line.let_in(name)
        else:
            self.line.out_of_quota(name)


@pytest.fixture
def namespace():
    return Namespace()


@pytest.mark.parametrize("late", [0.0, 0.3, 20.0, 54.0, 300.0])
async def test_a_place_is_taken_soon_after_it_is_counted_however_late_that_is(namespace, late):
    namespace.line.out_of_quota(A)
    namespace.line.hint()
    assert namespace.tried == [A]
    await namespace.clock.advance(late)
    namespace.free = 1
    await namespace.clock.advance(min(LONGEST_SECONDS, late + 2 * FIRST_SECONDS))
    assert namespace.free == 0
    assert not namespace.line.for_room


async def test_who_is_let_in_lets_the_others_try_at_once(namespace):
    for name in (A, B, C):
        namespace.line.out_of_quota(name)
    await namespace.clock.advance(60)
    namespace.free, namespace.tried[:] = 2, []
    namespace.line.hint()
    assert len(namespace.tried) == 3
    assert len(namespace.line.for_room) == 1
    assert namespace.free == 0


async def test_one_with_a_quota_of_its_own_keeps_nobody_behind_it(namespace):
    """Place is for B alone: A, first in line, is refused whatever becomes free."""
    for name in (A, B):
        namespace.line.out_of_quota(name)
    real = namespace.line._tell
    namespace.line._tell = lambda name: real(name) if name == B else namespace.tried.append(name)
    namespace.free = 1
    namespace.line.hint()
    assert namespace.tried == [A]
    await namespace.clock.advance(FIRST_SECONDS)
    assert list(namespace.line.for_room) == [A]


async def test_a_full_quota_is_not_stormed_and_all_have_their_turn(namespace):
    names = [RunnerName(f"runner-{number}") for number in range(100)]
    for name in names:
        namespace.line.out_of_quota(name)
    await namespace.clock.advance(100 * LONGEST_SECONDS)
    assert 100 <= len(namespace.tried) <= 110
    assert set(Counter(namespace.tried).values()) <= {1, 2}


async def test_nobody_who_left_is_told_and_an_empty_line_has_no_timer(namespace):
    namespace.line.out_of_quota(A)
    namespace.line.out_of_quota(B)
    namespace.line.left(A)
    namespace.line.hint()
    namespace.line.left(B)
    await namespace.clock.advance(60)
    namespace.line.hint()
    assert namespace.tried == [B]


async def test_a_closed_line_tells_nobody(namespace):
    namespace.line.out_of_quota(A)
    namespace.line.close()
    namespace.line.out_of_quota(B)
    namespace.line.hint()
    await namespace.clock.advance(60)
    assert namespace.tried == []


async def test_a_recheck_tells_those_without_guards_too_but_a_place_does_not(namespace):
    namespace.line.unguarded(A)
    namespace.line.out_of_quota(B)
    namespace.line.hint()
    assert namespace.tried == [B]
    namespace.line.recheck()
    assert sorted(namespace.tried) == [A, B, B]
