"""Slots: never more than the capacity, first come first served within a caller, callers in turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.lifecycle.capacity import Slots
from orchestrator.model.job import JobId


def job(name: str | int) -> JobId:
    return JobId(f"s.{name}.1")


A, B, C, D = map(job, "abcd")


def test_slots_are_taken_up_to_the_capacity_and_taking_again_changes_nothing():
    slots = Slots(2)
    assert [slots.take(A, "x"), slots.take(B, "x"), slots.take(C, "x")] == [True, True, False]
    assert [slots.take(A, "x"), slots.take(C, "x")] == [True, False]
    assert (slots.held, slots.waiting) == (2, 1)


def test_a_freed_slot_goes_to_who_waited_and_not_to_who_comes_next():
    slots = Slots(1)
    slots.take(A, "x")
    slots.take(B, "x")
    assert slots.release(A) == (B,)
    assert slots.take(C, "x") is False
    assert slots.take(B, "x") is True


def test_a_caller_with_thousands_of_jobs_does_not_starve_another():
    slots = Slots(1)
    slots.take(job("running"), "greedy")
    for number in range(1000):
        slots.take(job(number), "greedy")
    slots.take(A, "modest")
    order = []
    last = job("running")
    for _ in range(3):
        (last,) = slots.release(last)
        order.append(last)
    assert order == [job(0), A, job(1)]


def test_who_leaves_the_line_is_passed_over():
    slots = Slots(1)
    for waiting in (A, B, C):
        slots.take(waiting, "x")
    assert slots.release(B) == ()
    assert slots.release(A) == (C,)
    assert slots.waiting == 0


def test_slots_held_before_a_restart_count_even_beyond_todays_capacity():
    slots = Slots(1)
    slots.adopt(A)
    slots.adopt(B)
    assert slots.take(C, "x") is False
    assert slots.release(A) == ()
    assert slots.release(B) == (C,)


def test_releasing_what_was_never_held_grants_nothing():
    assert Slots(1).release(A) == ()


moves = st.lists(st.tuples(st.sampled_from(["take", "release"]), st.integers(0, 7)), max_size=60)


@given(capacity=st.integers(1, 3), moves=moves)
def test_no_slot_is_lost_or_given_twice(capacity: int, moves: list[tuple[str, int]]):
    """Against a plain model: who holds, who waits; a slot is never free while somebody waits."""
    slots = Slots(capacity)
    holding: set[JobId] = set()
    waiting: set[JobId] = set()
    for move, number in moves:
        name, caller = job(number), f"caller-{number % 3}"
        if move == "take":
            granted = slots.take(name, caller)
            assert granted is (name in holding or (len(holding) < capacity and name not in waiting))
            (holding if granted else waiting).add(name)
        else:
            holding.discard(name)
            waiting.discard(name)
            granted_now = slots.release(name)
            assert set(granted_now) <= waiting
            holding.update(granted_now)
            waiting.difference_update(granted_now)
        assert len(holding) <= capacity
        assert not waiting or len(holding) == capacity
        assert (slots.held, slots.waiting) == (len(holding), len(waiting))


def test_who_waits_knows_how_many_are_before():
    slots = Slots(1)
    slots.take(job("running"), "greedy")
    for name in (A, B, C):
        slots.take(name, "greedy")
    slots.take(D, "modest")
    assert [slots.before(name) for name in (A, D, B, C)] == [0, 1, 2, 3]
    assert slots.before(job("running")) is None


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=40), st.integers(0, 12))
def test_the_place_in_the_line_is_the_order_in_which_slots_are_granted(callers: list[str], turns: int):
    slots = Slots(1)
    slots.take(job("first"), "zero")
    waiting = [job(number) for number in range(len(callers))]
    for name, caller in zip(waiting, callers, strict=True):
        slots.take(name, caller)
    holder = job("first")
    for _ in range(min(turns, len(waiting))):
        (holder,) = slots.release(holder)
        waiting.remove(holder)
    places = {name: slots.before(name) for name in waiting}
    for place in range(len(waiting)):
        (holder,) = slots.release(holder)
        assert places[holder] == place
