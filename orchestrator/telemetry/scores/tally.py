"""Counts by day (UTC) and key, and when each key was last counted; bounded, and kept as one JSON document. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

DAY_NS: Final = 86_400 * 1_000_000_000
KEPT_DAYS: Final = 90
MAX_KEYS: Final = 4000
"""Of one day, and of the last times; what comes after them is counted under `OTHER`."""
OTHER: Final = "other"
MAX_BYTES: Final = 64 << 20
_MAX_KEY: Final = 400


class TallyDocument(msgspec.Struct, forbid_unknown_fields=True):
    """`days` are numbers of days since 1970 to counts by key; `last` keys to Unix nanoseconds; `since_ns` when counting
    began."""

    since_ns: int
    days: dict[int, dict[str, int]] = {}
    last: dict[str, int] = {}
    version: int = 1


class DayTally:
    """Grows only, but for days that are too old."""

    def __init__(self, document: TallyDocument) -> None:
        self._kept = document
        self.changed = False
        """Since it was last set to false."""

    @classmethod
    def read(cls, data: bytes | None, now_ns: int) -> DayTally:
        """Of a document, or a new one where there is none.

        Raises:
            ValueError: it is none of ours.
        """
        if data is None:
            return cls(TallyDocument(now_ns))
        try:
            return cls(msgspec.json.decode(data, type=TallyDocument))
        except msgspec.DecodeError as error:
            raise ValueError("no document of counts") from error

    def encode(self) -> bytes:
        return msgspec.json.encode(self._kept)

    @property
    def since_ns(self) -> int:
        return self._kept.since_ns

    def add(self, key: str, at_ns: int, count: int = 1) -> None:
        """Count something that happened at this time; cheap."""
        key, day = key[:_MAX_KEY], at_ns // DAY_NS
        counts = self._kept.days.get(day)
        if counts is None:
            counts = self._kept.days[day] = {}
            for old in [one for one in self._kept.days if one <= day - KEPT_DAYS]:
                del self._kept.days[old]
        key = _fitting(key, counts)
        counts[key] = counts.get(key, 0) + count
        last = self._kept.last
        seen = _fitting(key, last)
        last[seen] = max(last.get(seen, 0), at_ns)
        self.changed = True

    def total(self, key: str, since_ns: int = 0) -> int:
        """How often it was counted from the day of `since_ns` on."""
        first = since_ns // DAY_NS
        return sum(counts.get(key, 0) for day, counts in self._kept.days.items() if day >= first)

    def keys(self, prefix: str, since_ns: int = 0) -> Iterator[tuple[str, int]]:
        """Each key that begins so, without the prefix, with its total, in order of the keys."""
        first = since_ns // DAY_NS
        totals: dict[str, int] = {}
        for day, counts in self._kept.days.items():
            if day >= first:
                for key, count in counts.items():
                    if key.startswith(prefix):
                        totals[key] = totals.get(key, 0) + count
        for key in sorted(totals):
            yield key.removeprefix(prefix), totals[key]

    def last_ns(self, key: str) -> int:
        """When it was last counted, in Unix nanoseconds; 0 for never."""
        return self._kept.last.get(key, 0)


def _fitting(key: str, known: dict[str, int]) -> str:
    return key if key in known or len(known) < MAX_KEYS else OTHER
