from __future__ import annotations

import pytest

from orchestrator.cli.link.patience import Patience


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def test_it_backs_off_and_gives_up_within_its_bound():
    clock = Clock()
    patience = Patience(seconds=10, clock=clock, sleep=clock.sleep)
    error = OSError("gone")
    caught = None
    while caught is None:
        try:
            patience.failed(error)
        except OSError as raised:
            caught = raised
    assert caught is error
    assert clock.pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert clock.now <= 10


def test_success_starts_it_afresh():
    clock = Clock()
    patience = Patience(seconds=1, clock=clock, sleep=clock.sleep)
    for _ in range(50):
        patience.failed(OSError())
        assert patience.tried
        patience.succeeded()
        assert not patience.tried
    assert set(clock.pauses) == {0.1}


def test_the_other_sides_wish_counts_up_to_the_bound():
    clock = Clock()
    patience = Patience(seconds=10, clock=clock, sleep=clock.sleep)
    patience.failed(OSError(), 7)
    with pytest.raises(OSError):
        patience.failed(OSError(), 7)
    assert clock.pauses == [7]


def test_a_long_wait_is_told_once_in_a_row_of_failures_and_a_short_one_never():
    clock, told = Clock(), []
    patience = Patience(seconds=30, clock=clock, sleep=clock.sleep, tell=told.append)
    patience.failed(OSError("no daemon\nand more"))
    patience.succeeded()
    assert told == []
    for _ in range(8):
        patience.failed(OSError("no daemon\nand more"))
    assert told == ["no daemon; trying again for up to 30 s"]
    patience.succeeded()
    patience.failed(OSError("the queue is full"), 5.0)
    assert told[1:] == ["the queue is full; trying again for up to 30 s"]
    patience.succeeded()
    patience.failed(OSError("no log yet"), 5.0, expected=True)
    assert len(told) == 2
