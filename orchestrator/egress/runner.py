"""Whose a connection is: one runner's rules, pinned names, connections, budgets and verdicts."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.ledger import VerdictLedger
from orchestrator.egress.resolve import Lookup, Pins
from orchestrator.egress.rules import CANARY_HOST, RuleSet, Verdict
from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName

MAX_REFUSALS = 64
"""Connections beyond the limit that are told so at one time; further ones are cut off without a word."""


class Report:
    """What a connection's verdict will say: where it wanted to go, where it went, bytes each way, time from accept.

    It is told once; what comes later changes nothing.
    """

    __slots__ = ("_started_ns", "_told", "address", "bytes_down", "bytes_up", "standing", "verdict")

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.verdict: Verdict | None = None
        self.address = ""
        self.bytes_up = 0
        self.bytes_down = 0
        self._started_ns = time.monotonic_ns()
        self._told = False

    def tell(self, allowed: bool, reason: str) -> None:
        """Without `verdict`, the connection never said where it wanted to go."""
        if self._told:
            return
        self._told = True
        verdict = self.verdict
        self.standing.record(
            EgressDecided(
                host=verdict.host if verdict else "",
                port=verdict.port if verdict else 0,
                protocol=verdict.protocol.value if verdict else "",
                allowed=allowed,
                rule=verdict.rule if verdict else "",
                reason=reason,
                address=self.address,
                bytes_up=self.bytes_up,
                bytes_down=self.bytes_down,
                duration_ns=time.monotonic_ns() - self._started_ns,
                canary=verdict is not None and verdict.host == CANARY_HOST,
            )
        )


class Connection(Protocol):
    def end(self, reason: str) -> None: ...

    def judge_again(self) -> None: ...

    def sweep(self, now: float) -> None: ...


class Room:
    """How many connections a whole gateway has and may have."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Standing(ABC):
    """What the connections of one origin share: how many there may be, and who is told what became of them."""

    def __init__(self, config: GatewayConfig, room: Room) -> None:
        self.config = config
        self.connections: set[Connection] = set()
        self.closing = False
        self._room = room
        self._empty = asyncio.Event()
        self._empty.set()

    @abstractmethod
    def record(self, verdict: EgressDecided) -> None:
        """Take the verdict on one connection."""

    def attach(self, connection: Connection) -> str:
        """Count a new connection; the answer is why it may not be served, or empty. It is counted either way."""
        self.connections.add(connection)
        self._room.used += 1
        self._empty.clear()
        if self.closing:
            return "runner_closed"
        if len(self.connections) > self.config.max_connections:
            return "too_many_connections"
        return "" if self._room.used <= self._room.limit else "gateway_full"

    def refusable(self) -> bool:
        """Whether a connection beyond the limit is still told why."""
        return len(self.connections) <= self.config.max_connections + MAX_REFUSALS

    def detach(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            self._room.used -= 1
        if not self.connections:
            self._empty.set()

    def sweep(self, now: float) -> None:
        """End what is overdue."""
        for connection in list(self.connections):
            connection.sweep(now)

    def cut(self) -> None:
        """End every connection, now, and serve no more."""
        self.closing = True
        for connection in list(self.connections):
            connection.end("runner_closed")

    async def close(self, seconds: float) -> None:
        """As `cut`, and wait until they are gone.

        Raises:
            TimeoutError: they were not within `seconds`.
        """
        self.cut()
        async with asyncio.timeout(seconds):
            await self._empty.wait()


class RunnerEgress(Standing):
    """What the connections of one runner share."""

    def __init__(
        self,
        name: RunnerName,
        rules: RuleSet,
        config: GatewayConfig,
        lookup: Lookup,
        emit: Callable[[RunnerName, EgressDecided], None],
        room: Room,
    ) -> None:
        """`emit` takes each verdict that leaves."""
        super().__init__(config, room)
        self.name = name
        self.rules = rules
        self.pins = Pins(config.names, lookup)
        self.exhausted = ""
        self._emit = emit
        self._up = config.max_bytes_up
        self._down = config.max_bytes_down
        self._ledger = VerdictLedger(asyncio.get_running_loop().time())

    def change(self, rules: RuleSet) -> None:
        """Go by `rules` from now on. Open connections that they do not allow are cut off before this returns; the
        others go on, and what was spent stays spent."""
        self.rules = rules
        for connection in list(self.connections):
            connection.judge_again()

    def spend_up(self, count: int) -> bool:
        """Take from what the runner may send; False, and the end of all its connections, when that is used up."""
        self._up -= count
        if self._up < 0:
            self._exhaust("bytes_up_exhausted")
            return False
        return True

    def spend_down(self, count: int) -> bool:
        """Take from what the runner may receive; as `spend_up`."""
        self._down -= count
        if self._down < 0:
            self._exhaust("bytes_down_exhausted")
            return False
        return True

    def record(self, verdict: EgressDecided) -> None:
        told = self._ledger.add(verdict)
        if told is not None:
            self._emit(self.name, told)

    def sweep(self, now: float) -> None:
        """End what is overdue, tell what was summed up."""
        super().sweep(now)
        if self._ledger.due(now):
            self._flush(now)

    async def close(self, seconds: float) -> None:
        """End every connection, and tell every verdict not told yet."""
        try:
            await super().close(seconds)
        finally:
            self.pins.close()
            self._flush(asyncio.get_running_loop().time())

    def _flush(self, now: float) -> None:
        for verdict in self._ledger.flush(now):
            self._emit(self.name, verdict)

    def _exhaust(self, reason: str) -> None:
        self.exhausted = self.exhausted or reason
        for connection in list(self.connections):
            connection.end(reason)
