"""Shares of the answers that may be open at once."""

from __future__ import annotations

from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import TryAgainError
from orchestrator.server.places import Places, Reader

ADA = Reader("ada")


def fill(places: Places, reader: Reader, stack: ExitStack) -> int:
    """How many places a reader gets who takes all they can."""
    for number in range(1000):
        try:
            stack.enter_context(places.take(reader))
        except TryAgainError:
            return number
    raise AssertionError("without bound")


def test_one_reader_alone_gets_half_and_the_next_half_of_the_rest() -> None:
    places = Places(256, 128)
    with ExitStack() as stack:
        assert [fill(places, Reader(name), stack) for name in ("ada", "bob", "eve")] == [128, 64, 32]
    assert (places.count, len(places._taken)) == (0, 0)


@given(st.integers(8, 300), st.lists(st.integers(0, 40), max_size=200))
def test_nobodies_never_leave_somebody_without_a_place(most: int, addresses: list[int]) -> None:
    places, unnamed = Places(most, most // 2), 0
    with ExitStack() as stack:
        for address in addresses:
            unnamed += fill(places, Reader("", str(address)), stack)
        assert unnamed <= most // 2
        assert fill(places, ADA, stack) >= most // 4
        assert fill(places, Reader("bob"), stack) >= 1


@given(st.lists(st.integers(0, 5), max_size=60))
def test_what_is_given_back_can_be_taken_again(order: list[int]) -> None:
    places = Places(8, 4)
    for _ in range(2):
        with ExitStack() as stack:
            for number in order:
                try:
                    stack.enter_context(places.take(Reader("", str(number)) if number % 2 else Reader(str(number))))
                except TryAgainError:
                    assert places.count >= 1
        assert places.count == 0
