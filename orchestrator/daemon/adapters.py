"""Small adapters between rooms that must not know each other."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from orchestrator.daemon import verdicts
from orchestrator.daemon.slices import SANDBOX
from orchestrator.daemon.verdicts import VerdictNotes
from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.process import GatewayProcess
from orchestrator.errors import GiveUpError
from orchestrator.journal.logs import LogStore
from orchestrator.journal.logs import LogWriter as StoredLog
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.ports import JobSource, Withdrawn
from orchestrator.model.egress import EgressRule
from orchestrator.model.events import (
    Event,
    ExchangeDecided,
    Fact,
    LogClosed,
    ProvisionStarted,
    RunnerBound,
    TokenRefused,
)
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName
from orchestrator.server.runner.listeners import RunnerApi

_log = logging.getLogger(__name__)

_LISTENER = (Withdrawn("runner_api_listener", "closed"),)
_GATEWAY = (Withdrawn("egress_gateway", "closed"),)

T = TypeVar("T")
EngineOf = verdicts.EngineOf


class Later(Generic[T]):
    """A room that is made after the ones that report to it; calling it gives the room."""

    def __init__(self) -> None:
        self._room: T | None = None

    def set(self, room: T) -> T:
        self._room = room
        return room

    def __call__(self) -> T:
        assert self._room is not None, "a room was used before it was opened"
        return self._room


class JobLog:
    """A job's log whose closing is a fact of the job."""

    def __init__(self, job_id: JobId, stored: StoredLog, engine: EngineOf) -> None:
        self._job_id = job_id
        self._stored = stored
        self._engine = engine

    def write(self, data: bytes) -> None:
        self._stored.write(data)

    async def drain(self) -> None:
        await self._stored.drain()

    async def close(self) -> None:
        closed = await self._stored.close()
        with contextlib.suppress(GiveUpError):  # an orphan's job is long finished
            await self._engine().note(self._job_id, closed)


class JobLogsAdapter:
    """`backends.sandbox.ports.JobLogs` over the log store."""

    def __init__(self, store: LogStore, engine: EngineOf) -> None:
        self._store = store
        self._engine = engine

    def open(self, job_id: JobId) -> JobLog:
        return JobLog(job_id, self._store.open(job_id), self._engine)


class CutLogs:
    """Closes, in the job's record, the logs that a killed daemon left open; `lifecycle.ports.Attester`.

    What was dropped or masked before the kill is not known any more and counts as nothing.
    """

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._open: set[JobId] = set()

    def expect(self, live: Sequence[Sequence[Fact]]) -> None:
        """Take note of each job that ran in a sandbox and whose log was never closed: it will say no more."""
        for facts in live:
            events = [fact.event for fact in facts]
            ran = any(isinstance(event, RunnerBound) for event in events)
            here = any(isinstance(event, ProvisionStarted) and event.backend == SANDBOX for event in events)
            if ran and here and not any(isinstance(event, LogClosed) for event in events):
                self._open.add(facts[0].job_id)

    async def attest(self, record: Record) -> Sequence[Event]:
        if record.id not in self._open:
            return ()
        # The same each time: what else belongs to the job's end may have to be tried again, and all of it with that.
        return (LogClosed(await self._store.size(record.id) or 0, 0, 0),)


class LogReaderAdapter:
    """`server.deps.LogReader` over the log store."""

    def __init__(self, store: LogStore, engine: EngineOf) -> None:
        self._store = store
        self._engine = engine

    async def read(self, job_id: JobId, offset: int, limit: int) -> bytes:
        async with contextlib.aclosing(self._store.read(job_id, offset)) as chunks:
            async for chunk in chunks:
                return chunk[:limit]
        return b""

    async def more(self, job_id: JobId, offset: int) -> None:
        def unfinished() -> bool:
            return self._engine().record(job_id) is not None

        following = self._store.read(job_id, offset, follow=True, unfinished=unfinished)
        async with contextlib.aclosing(following) as chunks:
            async for _ in chunks:
                return


class ListenersAdapter:
    """`backends.sandbox.ports.RunnerListeners` over the runner API, which in turn needs the backend.

    A `lifecycle.ports.Revoker` too: at a job's end its runner is not listened to any more, before it is deleted.
    """

    def __init__(self, api: Callable[[], RunnerApi]) -> None:
        self._api = api

    async def serve(self, runner: RunnerName, uid: str, listener: socket.socket) -> None:
        await self._api().serve(runner, uid, listener)

    async def close(self, runner: RunnerName) -> None:
        await self._api().close(runner)

    async def revoke(self, record: Record) -> Sequence[Withdrawn] | None:
        if record.runner is None:
            return None
        await self._api().close(record.runner)
        return _LISTENER if record.backend == SANDBOX else None


Note = Callable[..., Awaitable[None]]
"""`Engine.note`: a job's id, then the facts to add to it."""


def masked_note(note: Note, mask: Callable[[str], str]) -> Note:
    """`note` for facts of token requests, whose audience and role are the job's own words: a secret in them is masked.

    Facts outlive the masker's knowledge of a job's secrets, so masking when they are read would be too late.
    """

    def clean(event: Event) -> Event:
        if isinstance(event, TokenRefused):
            words = {name: mask(getattr(event, name)) for name in ("audience", "role", "detail")}
            return replace(event, **words)
        return replace(event, audience=mask(event.audience)) if isinstance(event, ExchangeDecided) else event

    async def masked(job_id: JobId, *notes: Event) -> None:
        await note(job_id, *map(clean, notes))

    return masked


class EgressAdapter:
    """`backends.sandbox.ports.EgressPort` over the gateway process: each verdict becomes a fact of its job.

    `close` returns when a runner's last verdict is durable. A `lifecycle.ports.Revoker` too.
    """

    def __init__(self, config: GatewayConfig, engine: EngineOf, mask: Callable[[str], str]) -> None:
        self._notes = VerdictNotes(engine, mask)
        self._rules: dict[RunnerName, tuple[EgressRule, ...] | None] = {}
        """What the gateway was last told of each open runner; None while nobody knows what it goes by."""
        self.gateway = GatewayProcess(config, self._notes.verdict)

    async def open(self, runner: RunnerName, listener: socket.socket, rules: tuple[EgressRule, ...]) -> None:
        self._rules[runner] = rules
        try:
            await self.gateway.open(runner, listener, rules)
        except BaseException:
            self._rules.pop(runner, None)
            raise

    async def align(self, record: Record) -> None:
        """Have an open runner go by the rules of its record, if it does not yet; not twice at once for one runner.

        Raises:
            TryAgainError: the gateway died; the runner has no egress any more.
            GiveUpError: a gateway cannot go by these rules; the runner has no egress until it has others.
        """
        runner, wanted = record.runner, record.obligations.egress
        if runner is None or runner not in self._rules or self._rules[runner] == wanted:
            return
        self._rules[runner] = None
        try:
            await self.gateway.change(runner, wanted)
        except GiveUpError:
            await self.gateway.change(runner, ())
            raise
        if runner in self._rules:
            self._rules[runner] = wanted

    async def close(self, runner: RunnerName) -> None:
        self._rules.pop(runner, None)
        await self.gateway.close(runner)
        await self._notes.close(runner)

    async def revoke(self, record: Record) -> Sequence[Withdrawn] | None:
        if record.runner is None:
            return None
        await self.close(record.runner)
        return _GATEWAY if record.backend == SANDBOX else None

    async def revive(self) -> None:
        """A dead gateway is started again; runners that were open in it stay without egress."""
        if not self.gateway.alive:
            _log.error("the egress gateway died; starting it again")
            await self.gateway.start()

    async def stop(self) -> None:
        """End the gateway; what it said last is written, as far as the journal takes it."""
        await self.gateway.stop()
        await self._notes.stop()


class ForgettingSource:
    """A source whose report also forgets the job's secrets: they open nothing any more, and the masker stays small.

    Without `source` nobody is told: callers of the dispatch API ask for results.
    """

    def __init__(self, masker: Masker, source: JobSource | None = None) -> None:
        self._masker = masker
        self._source = source

    async def report(self, record: Record) -> None:
        if self._source is not None:
            await self._source.report(record)
        self._masker.drop(record.id)
