"""The room as a whole: opened with its endpoints, fed with facts, asked how they are doing, closed in order."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.model.events import Fact
from orchestrator.notifications.client import Delivery, Poster
from orchestrator.notifications.endpoint import Endpoint, EndpointState
from orchestrator.notifications.follower import FactSource, Follower
from orchestrator.notifications.messages import Origin, trial_message
from orchestrator.notifications.names import Public
from orchestrator.notifications.outbox import Bounds, Outbox
from orchestrator.notifications.schedule import Schedule
from orchestrator.notifications.sender import Sender

_log = structlog.get_logger(__name__)


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

    def __init__(self, outbox: Outbox, senders: dict[str, Sender], follower: Follower, near: Surroundings) -> None:
        self._outbox = outbox
        self._senders = senders
        self._follower = follower
        self._near = near
        self._tls = near.tls
        self._reading: asyncio.Task[None] | None = None
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._changing: set[asyncio.Task[None]] = set()

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
        self._reading = asyncio.create_task(self._follower.run(), name="notifications")
        for name in self._senders:
            self._send(name)

    async def prepare(self, endpoints: Sequence[Endpoint]) -> None:
        """What `change` to these needs and can fail.

        Raises:
            TryAgainError: reason `notifications_unwritable`; nothing has changed.
        """
        await asyncio.gather(*self._changing)
        await self._outbox.welcome(endpoints)

    def change(self, endpoints: Sequence[Endpoint], bounds: Bounds, tls: Mapping[str, ssl.SSLContext]) -> None:
        """Tell these from now on, and nobody else. Quick, and never raises; `prepare` with them first."""
        self._outbox.bounds = bounds
        for name in self._senders.keys() - {one.name for one in endpoints}:
            self._in_background(self._leave(self._senders.pop(name), self._sending.pop(name, None)))
        for one in endpoints:
            known = self._senders.get(one.name)
            if known is not None and known.endpoint == one and not {one.name} & (tls.keys() | self._tls.keys()):
                continue
            poster = Poster(one, self._near.public, tls.get(one.name))
            if known is not None:
                known.change(one, poster)
                continue
            self._senders[one.name] = Sender(one, self._outbox, poster, self._near.schedule, self._near.now_ns)
            if self._reading is not None:
                self._send(one.name)
        self._tls = tls
        self._in_background(self._tidy(endpoints))

    def _send(self, name: str) -> None:
        self._sending[name] = asyncio.create_task(self._senders[name].run(), name=f"notifications {name}")

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="notifications change")
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)

    async def _leave(self, sender: Sender, task: asyncio.Task[None] | None) -> None:
        """What it was just sending is not waited for: nobody wants it there any more."""
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await sender.close()

    async def _tidy(self, endpoints: Sequence[Endpoint]) -> None:
        try:
            await self._outbox.keep_only(endpoints)
        except TryAgainError as error:  # the next start does it
            _log.warning("notifications_untidy", reason=error.reason, detail=str(error))
        for sender in self._senders.values():
            sender.wake()

    async def stop(self, flush_seconds: float = 3) -> None:
        """Store what is to be told, try once to send it, for so long at most; the rest waits for the next daemon."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._outbox.close)
            for sender in self._senders.values():
                stack.push_async_callback(sender.close)
            stack.push_async_callback(self._ended)
            await asyncio.gather(*self._changing, return_exceptions=True)
            self._follower.finish()
            if self._reading is not None:
                await asyncio.wait([self._reading], timeout=flush_seconds)
            for sender in self._senders.values():
                sender.finish()
            if self._sending:
                await asyncio.wait(self._sending.values(), timeout=flush_seconds)

    async def _ended(self) -> None:
        tasks = [*self._sending.values(), *([self._reading] if self._reading is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
        return [sender.state() for sender in list(self._senders.values())]

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
