"""Where connections come in, and how their owner is found out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from orchestrator.egress.http_head import RequestHead
from orchestrator.egress.runner import RunnerEgress, Standing


@dataclass(frozen=True, slots=True)
class Unidentified:
    """No runner may speak through this connection: `reason` for machines, `detail` for people.

    `standing` is who is told: the runner whose address it is, or nobody's.
    """

    standing: Standing
    reason: str
    detail: str


class Entrance(Protocol):
    """A listener's answer to *who is it?*, asked twice of each connection."""

    def meet(self, transport: asyncio.BaseTransport, /) -> Standing:
        """Who counts the connection until its request is read."""
        ...

    def identify(self, transport: asyncio.BaseTransport, head: RequestHead, /) -> RunnerEgress | Unidentified:
        """The runner that asks, by all that is known now."""
        ...


class OwnListener:
    """A listener that only one runner can reach, because it lies in that runner's own network namespace."""

    def __init__(self, runner: RunnerEgress) -> None:
        self._runner = runner

    def meet(self, _transport: asyncio.BaseTransport) -> Standing:
        return self._runner

    def identify(self, _transport: asyncio.BaseTransport, _head: RequestHead) -> RunnerEgress | Unidentified:
        return self._runner
