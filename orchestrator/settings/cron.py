"""The five fields of cron, as Kubernetes takes them for a CronJob (`batch/v1` CronJobSpec.schedule, crontab(5))."""

from __future__ import annotations

import re
from typing import Final

_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_FIELDS: Final = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_PART: Final = re.compile(r"(?:[*?]|([0-9A-Za-z]{1,3})(?:-([0-9A-Za-z]{1,3}))?)(?:/([0-9]{1,2}))?")


def check_schedule(schedule: str) -> str:
    """The schedule itself, when a cluster takes it.

    Raises:
        ValueError: with the field that is wrong, and what it may be.
    """
    parts = schedule.split(" ")
    if len(parts) != len(_FIELDS):
        raise ValueError("a schedule has five fields, as in `30 3 * * *`: minute, hour, day, month, day of the week")
    for text, (name, least, most, words) in zip(parts, _FIELDS, strict=True):
        if not all(_fits(part, least, most, words) for part in text.split(",")):
            known = f" or {words[0]} to {words[-1]}" if words else ""
            raise ValueError(f"{name}: {text!r} is no list of numbers from {least} to {most}{known}, ranges and steps")
    return schedule


def _fits(part: str, least: int, most: int, words: tuple[str, ...]) -> bool:
    found = _PART.fullmatch(part)
    if found is None:
        return False
    first, last, step = found.groups()
    bounds = [_number(one, least, words) for one in (first, last) if one is not None]
    return sorted(bounds) == bounds and all(least <= one <= most for one in bounds) and step not in ("0", "00")


def _number(text: str, least: int, words: tuple[str, ...]) -> int:
    if text.isdigit():
        return int(text)
    return words.index(text.upper()) + least if text.upper() in words else -1
