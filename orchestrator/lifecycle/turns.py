"""One at a time for each key, for those who must look before they write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Turns(Generic[K]):
    """Its length is how many keys are held now."""

    def __init__(self) -> None:
        self._held: dict[K, asyncio.Event] = {}

    def __len__(self) -> int:
        return len(self._held)

    @asynccontextmanager
    async def of(self, key: K) -> AsyncIterator[None]:
        """Hold the key; others who want it wait, in no promised order."""
        while (other := self._held.get(key)) is not None:
            await other.wait()
        done = self._held[key] = asyncio.Event()
        try:
            yield
        finally:
            del self._held[key]
            done.set()
