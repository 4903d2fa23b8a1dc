"""Connections of a listener for everybody: those of somebody stay, those of nobody make room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.server.entrance.seats import Seats


def test_the_oldest_goes_that_is_nobodys():
    seats: Seats[int] = Seats(3)
    assert [seats.enter(number) for number in (1, 2, 3)] == [None, None, None]
    seats.name(1, "operator")
    assert seats.enter(4) == 2
    assert seats.enter(5) == 3
    assert seats.count == 3
    seats.leave(2)
    assert seats.count == 3, "who had to go was counted no more already"


def test_where_all_are_somebodys_who_comes_goes():
    seats: Seats[int] = Seats(2)
    for number in (1, 2):
        seats.enter(number)
        seats.name(number, f"somebody {number}")
    assert seats.enter(3) == 3
    seats.leave(1)
    assert seats.enter(4) is None


def test_nobody_keeps_more_than_a_share():
    seats: Seats[int] = Seats(8)
    for number in range(8):
        seats.enter(number)
        seats.name(number, "one")
    assert [seats.enter(number) for number in range(8, 14)] == [2, 3, 4, 5, 6, 7], "the first two are theirs"
    seats.leave(0)
    seats.name(13, "one")
    assert [seats.enter(number) for number in range(14, 20)] == [None, 8, 9, 10, 11, 12]


@given(st.lists(st.tuples(st.sampled_from(["enter", "name", "leave"]), st.integers(0, 9), st.sampled_from("ab"))))
def test_what_is_counted_is_there_and_never_too_much(steps):
    seats, there = Seats[int](4), set[int]()
    for step, number, name in steps:
        if step == "enter" and number not in there:
            there.add(number)
            there.discard(seats.enter(number))
        elif step == "name":
            seats.name(number, name)
        elif step == "leave":
            seats.leave(number)
            there.discard(number)
        assert seats.count == len(there) <= 4
