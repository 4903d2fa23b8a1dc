"""Answers of others that serve everybody who wants the same: who waits for one, and who comes soon after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

MAX_ENTRIES: Final = 2000

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Entry(Generic[V]):
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    found: tuple[float, V] | None = None


class AskedOnce(Generic[K, V]):
    """The last answer for each key; of those who ask at once one fetches. The oldest keys are forgotten.

    `monotonic` gives seconds. An answer is as old as the moment at which it was asked for.
    """

    def __init__(
        self, fetch: Callable[[K], Awaitable[V]], monotonic: Callable[[], float], most: int = MAX_ENTRIES
    ) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._most = most
        self._entries: dict[K, _Entry[V]] = {}

    def known(self, key: K) -> V | None:
        """The last answer, however old."""
        entry = self._entries.get(key)
        return entry.found[1] if entry and entry.found else None

    async def get(self, key: K, max_age: float) -> V:
        """An answer that is at most `max_age` seconds old; the errors are those of fetching it, and none is kept."""
        entry = self._entries.pop(key, None) or _Entry()
        self._entries[key] = entry
        if len(self._entries) > self._most:
            del self._entries[next(iter(self._entries))]
        async with entry.lock:
            if entry.found is None or self._monotonic() - entry.found[0] >= max_age:
                entry.found = (self._monotonic(), await self._fetch(key))
            return entry.found[1]
