"""The room as a whole: opened with its endpoints, fed with facts, asked how they are doing, closed in order."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import GiveUpError
from orchestrator.model.events import Fact
from orchestrator.notifications.client import Delivery, Poster
from orchestrator.notifications.endpoint import Endpoint, EndpointState
from orchestrator.notifications.follower import FactSource, Follower
from orchestrator.notifications.messages import Origin, trial_message
from orchestrator.notifications.names import Public
from orchestrator.notifications.outbox import Bounds, Outbox
from orchestrator.notifications.schedule import Schedule
from orchestrator.notifications.sender import Sender


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the room needs of others. `now_ns` is Unix time, `mask` takes secrets out of texts, `public` says whether
    an address is one of the open network, `tls` gives an endpoint's own certificates where it has some."""

    journal: FactSource
    origin: Origin
    mask: Callable[[str], str]
    public: Public
    now_ns: Callable[[], int]
    schedule: Schedule
    tls: Mapping[str, ssl.SSLContext] = field(default_factory=dict)


class Notifier:
    """Made by `open`; `observe` is for the journal's feed. `start` it once, `stop` it at the end."""

    def __init__(self, outbox: Outbox, senders: Mapping[str, Sender], follower: Follower, near: Surroundings) -> None:
        self._outbox = outbox
        self._senders = senders
        self._follower = follower
        self._near = near
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, path: Path, endpoints: Sequence[Endpoint], bounds: Bounds, near: Surroundings) -> Notifier:
        """Open the outbox at `path`; nothing is sent before `start`.

        Raises:
            ConfigurationError: reason `notifications_unusable`.
        """
        outbox = await Outbox.open(path, endpoints, bounds)
        senders = {
            one.name: Sender(one, outbox, Poster(one, near.public, near.tls.get(one.name)), near.schedule, near.now_ns)
            for one in endpoints
        }
        follower = Follower(near.journal, outbox, senders, near.origin, near.mask)
        return cls(outbox, senders, follower, near)

    def observe(self, facts: Sequence[Fact]) -> None:
        """Take note of facts that are durable. Quick, and never raises."""
        self._follower.observe(facts)

    def start(self) -> None:
        """Begin to read on and to send."""
        self._tasks = [
            asyncio.create_task(self._follower.run(), name="notifications"),
            *(asyncio.create_task(one.run(), name=f"notifications {name}") for name, one in self._senders.items()),
        ]

    async def stop(self, flush_seconds: float = 3) -> None:
        """Store what is to be told, try once to send it, for so long at most; the rest waits for the next daemon."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._outbox.close)
            for sender in self._senders.values():
                stack.push_async_callback(sender.poster.close)
            stack.push_async_callback(self._ended)
            self._follower.finish()
            if self._tasks:
                await asyncio.wait(self._tasks[:1], timeout=flush_seconds)
            for sender in self._senders.values():
                sender.finish()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=flush_seconds)

    async def _ended(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._senders)

    @property
    def lag(self) -> int:
        """Facts that were not looked at yet, about."""
        return self._follower.lag

    def state(self, name: str) -> EndpointState:
        """How an endpoint is doing; quick.

        Raises:
            GiveUpError: reason `endpoint_unknown`.
        """
        return self._sender(name).state()

    def states(self) -> Sequence[EndpointState]:
        return [sender.state() for sender in self._senders.values()]

    async def trial(self, name: str) -> tuple[str, Delivery]:
        """Send a test message now; its id and how it went.

        Raises:
            GiveUpError: reason `endpoint_unknown`.
        """
        sender = self._sender(name)
        message_id = f"msg_{secrets.token_hex(16)}"
        form = sender.endpoint.format
        message = trial_message(message_id, form, self._near.origin, self._near.now_ns())
        return message_id, await sender.trial(message)

    async def retry(self, name: str) -> EndpointState:
        """Try now what waits, and send to an endpoint again that had said that it is gone.

        Raises:
            GiveUpError: reason `endpoint_unknown`.
            TryAgainError: reason `notifications_unwritable`.
        """
        sender = self._sender(name)
        await self._outbox.enable(name)
        sender.hurry()
        return sender.state()

    def _sender(self, name: str) -> Sender:
        sender = self._senders.get(name)
        if sender is None:
            there = ", ".join(self._senders) or "none"
            raise GiveUpError(
                "No endpoint of notifications has this name.",
                reason="endpoint_unknown",
                fix=f"configured are: {there}",
            )
        return sender
