"""Who has which share of the answers that may be open at once, so that nobody takes them all. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.errors import TryAgainError


@dataclass(frozen=True, slots=True)
class Reader:
    """`name` is that of somebody who has shown who they are; nobody in particular has only the `address` that they come
    from."""

    name: str
    address: str = ""


class Places:
    """Of `most` places nobody in particular gets more than `unnamed` together. Whoever has some gets another one while
    they have fewer than are left: one reader alone half of all. So it takes many who have a name to leave the next one
    without any, and those without a name never can."""

    def __init__(self, most: int, unnamed: int) -> None:
        self._most = most
        self._unnamed = min(unnamed, most)
        self._taken: Counter[Reader] = Counter()
        self._nameless = 0

    @property
    def count(self) -> int:
        """Places that are taken."""
        return self._taken.total()

    @contextmanager
    def take(self, reader: Reader) -> Iterator[None]:
        """
        Raises:
            TryAgainError: `too_many_streams`: no place is left, or none for this reader.
        """
        left = self._most - self.count
        if not reader.name:
            left = min(left, self._unnamed - self._nameless)
        held = self._taken[reader]
        if left <= held:
            said = f"{held} streams of yours are open: that is your share" if held else "Too many streams are open"
            raise TryAgainError(f"{said}.", reason="too_many_streams", retry_after_seconds=5)
        self._taken[reader] += 1
        self._nameless += not reader.name
        try:
            yield
        finally:
            self._taken[reader] -= 1
            self._nameless -= not reader.name
            if not self._taken[reader]:
                del self._taken[reader]
