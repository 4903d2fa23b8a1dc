"""A value that is fetched once for all who wait for it, renewed early, and dropped when it turns out to be refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from orchestrator.errors import OrchestratorError, TryAgainError

EARLY: Final = 60.0
"""Seconds before its end from which on a token is renewed."""
LEAST_USE: Final = 30.0
"""Seconds for which a fetched token is used whatever its end says: our clock may be wrong, and the server will tell."""
PAUSE: Final = 5.0
"""Seconds between tries of an early renewal that fails, while the former token is good."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """A value and for how many seconds from now it is good."""

    value: T = field(repr=False)
    life: float


class Kept(Generic[T]):
    """The present value of something that ends. Its age is counted by a clock that never runs backwards."""

    def __init__(self, fetch: Callable[[], Awaitable[Held[T]]], monotonic: Callable[[], float]) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._value: T | None = None
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._lock = asyncio.Lock()
        self._tries = 0
        self._failure: OrchestratorError | None = None

    async def get(self) -> T:
        """The value; those who come while it is fetched share what comes of it, be it an error.

        Raises:
            OrchestratorError: what fetching raised, unless the former value is still good.
        """
        if self._value is not None and self._monotonic() < self._renew_at:
            return self._value
        tries = self._tries
        async with self._lock:
            if self._value is not None and self._monotonic() < self._renew_at:
                return self._value
            if self._tries > tries and self._failure is not None:
                raise self._failure
            return await self._renew()

    def drop(self, value: T | None = None) -> None:
        """Forget the value, if it still is this one: somebody else may have renewed it meanwhile."""
        if value is None or value == self._value:
            self._value = None

    async def _renew(self) -> T:
        self._failure = None
        begun = self._monotonic()
        try:
            held = await self._fetch()
        except OrchestratorError as error:
            if isinstance(error, TryAgainError) and self._value is not None and self._monotonic() < self._ends_at:
                self._renew_at = self._monotonic() + PAUSE
                return self._value
            self._failure = error
            raise
        finally:
            self._tries += 1
        life = max(held.life, LEAST_USE)
        self._value, self._ends_at = held.value, begun + life
        self._renew_at = begun + max(life - EARLY, min(life, LEAST_USE))
        return held.value
