"""Schedules are what a cluster takes."""

from __future__ import annotations

import pytest

from orchestrator.settings.cron import check_schedule


@pytest.mark.parametrize(
    "schedule", ["30 3 * * *", "*/15 0-6,22 1,15 JAN-mar ?", "0 0 31 12 6", "59 23 1 1 0", "5/10 * * * mon-fri"]
)
def test_good_ones_are_taken_as_they_are(schedule):
    assert check_schedule(schedule) == schedule


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        ("99 3 * * *", "minute: '99'"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of the month"),
        ("* * * 13 *", "month: '13'"),
        ("* * * * 7", "day of the week"),
        ("* * * * FOO", "SUN to SAT"),
        ("JAN * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("* * * *", "five fields"),
        ("@daily", "five fields"),
        ("*  * * * *", "five fields"),
        ("1\n * * * *", "minute"),
    ],
)
def test_bad_ones_are_named(schedule, named):
    with pytest.raises(ValueError, match=r"fields|numbers") as refused:
        check_schedule(schedule)
    assert named in str(refused.value)
