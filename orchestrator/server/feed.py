"""Facts as they happen, handed to whoever follows one job: bounded buffers, the slow are cut off."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orchestrator.journal.port import JournalReader
from orchestrator.model.events import Event, Fact
from orchestrator.model.job import JobId
from orchestrator.server.places import Places, Reader


class FollowEndedError(Exception):
    """A follower did not keep up, or we are stopping; it may come back and read from where it was."""


class Follower:
    """The facts of one job that came since it began to follow."""

    def __init__(self, capacity: int, kinds: tuple[type[Event], ...]) -> None:
        self._facts: deque[Fact] = deque()
        self._capacity = capacity
        self._kinds = kinds
        self._ended = ""
        self._wake = asyncio.Event()

    def put(self, fact: Fact) -> None:
        """Keep a fact for the reader; one too many ends the following."""
        if self._kinds and not isinstance(fact.event, self._kinds):
            return
        if len(self._facts) >= self._capacity:
            self.end("the reader is too slow")
        elif not self._ended:
            self._facts.append(fact)
        self._wake.set()

    def end(self, why: str) -> None:
        """Make the next `take` raise."""
        self._ended = why
        self._facts.clear()
        self._wake.set()

    async def take(self, timeout_seconds: float) -> list[Fact]:
        """What has come, after waiting for at least one fact; empty when none came in time.

        Raises:
            FollowEndedError: more came than the buffer holds, or the feed was closed.
        """
        if not self._wake.is_set():
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._wake.wait()
            except TimeoutError:
                return []
        self._wake.clear()
        if self._ended:
            raise FollowEndedError(self._ended)
        facts = list(self._facts)
        self._facts.clear()
        return facts


class FactFeed:
    """One subscription to the journal, shared by all followers; costs a lookup for each fact nobody follows."""

    def __init__(self, reader: JournalReader, *, capacity: int = 1024, max_followers: int = 256) -> None:
        self._capacity = capacity
        self._places = Places(max_followers, max_followers // 2)
        self._followers: dict[JobId, set[Follower]] = {}
        self._unsubscribe = reader.subscribe(self._feed)

    @property
    def count(self) -> int:
        return self._places.count

    def _feed(self, facts: Sequence[Fact]) -> None:
        if self._followers:
            for fact in facts:
                for follower in self._followers.get(fact.job_id, ()):
                    follower.put(fact)

    @contextmanager
    def follow(self, job_id: JobId, reader: Reader, kinds: tuple[type[Event], ...] = ()) -> Iterator[Follower]:
        """Facts of one job from now on, only of these kinds if any are named.

        Read the journal *after* entering, so that nothing falls between.

        Raises:
            TryAgainError: `too_many_streams`.
        """
        with self._places.take(reader):
            follower = Follower(self._capacity, kinds)
            self._followers.setdefault(job_id, set()).add(follower)
            try:
                yield follower
            finally:
                group = self._followers[job_id]
                group.discard(follower)
                if not group:
                    del self._followers[job_id]

    def close(self) -> None:
        """Stop listening to the journal and end every stream."""
        self._unsubscribe()
        for group in self._followers.values():
            for follower in group:
                follower.end("the daemon is stopping")
