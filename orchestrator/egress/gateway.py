"""The gateway itself: who has a listener here, under which rules."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.connection import ClientConnection
from orchestrator.egress.entrance import OwnListener
from orchestrator.egress.resolve import Lookup, system_lookup
from orchestrator.egress.rules import RuleSet
from orchestrator.egress.runner import Room, RunnerEgress
from orchestrator.errors import GiveUpError
from orchestrator.model.egress import EgressRule
from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName

CLOSE_SECONDS = 2.0
"""Longest wait for the connections of a closed runner to be gone."""
BACKLOG = 128


@dataclass(slots=True)
class _Open:
    runner: RunnerEgress
    listener: socket.socket
    server: asyncio.Server


class Gateway:
    """Serves any number of runners on one event loop. A runner that is not open here has no egress at all."""

    def __init__(
        self,
        config: GatewayConfig,
        emit: Callable[[RunnerName, EgressDecided], None],
        lookup: Lookup | None = None,
        max_connections: int = 4096,
    ) -> None:
        """`max_connections` is for all runners together: what the process has descriptors for."""
        self._config = config
        self._emit = emit
        self._lookup = lookup or system_lookup()
        self._room = Room(max_connections)
        self._open: dict[RunnerName, _Open] = {}
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self, name: RunnerName, listener: socket.socket, rules: Sequence[EgressRule]) -> None:
        """Serve `listener`, which is the gateway's from now on, whatever happens.

        Raises:
            GiveUpError: `runner_already_open`, `egress_rule_invalid` or `listener_invalid`; the listener is closed.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(listener.close)
            if name in self._open:
                raise GiveUpError(f"{name} is open already", reason="runner_already_open")
            runner = RunnerEgress(name, RuleSet(rules), self._config, self._lookup, self._emit, self._room)
            entrance = OwnListener(runner)
            loop = asyncio.get_running_loop()
            try:
                listener.setblocking(False)
                server = await loop.create_server(lambda: ClientConnection(entrance), sock=listener, backlog=BACKLOG)
            except (OSError, ValueError) as error:
                raise GiveUpError(f"no listener to serve: {error}", reason="listener_invalid") from error
            undo.pop_all()
        self._open[name] = _Open(runner, listener, server)
        if self._sweeper is None:
            self._sweeper = loop.create_task(self._sweep())

    def change(self, name: RunnerName, rules: Sequence[EgressRule]) -> None:
        """Have an open runner go by other rules; connections that they do not allow are cut off when this returns.

        Raises:
            GiveUpError: `runner_not_open`.
            ConfigurationError: `egress_rule_invalid`; nothing was changed.
        """
        entry = self._open.get(name)
        if entry is None:
            raise GiveUpError(f"{name} is not open", reason="runner_not_open")
        entry.runner.change(RuleSet(rules))

    async def close(self, name: RunnerName) -> None:
        """End the runner's listener and connections; its last verdicts are emitted when this returns."""
        entry = self._open.pop(name, None)
        if entry is None:
            return
        with contextlib.suppress(OSError):
            # At once: uvloop closes the descriptor some turns later.
            entry.listener.shutdown(socket.SHUT_RDWR)
        entry.server.close()
        with contextlib.suppress(TimeoutError):
            await entry.runner.close(CLOSE_SECONDS)

    async def stop(self) -> None:
        """Close every runner."""
        await asyncio.gather(*(self.close(name) for name in list(self._open)))
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    async def _sweep(self) -> None:
        """One timer for all connections: cheaper than one each, and late by a quarter of the timeout at most."""
        shortest = min(self._config.head_timeout_seconds, self._config.idle_timeout_seconds, 8.0)
        while True:
            await asyncio.sleep(shortest / 4)
            now = asyncio.get_running_loop().time()
            for entry in list(self._open.values()):
                entry.runner.sweep(now)
