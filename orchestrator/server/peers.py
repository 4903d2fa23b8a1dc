"""What one address may take of a listener that many share: connections, and wrong credentials. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_REMEMBERED = 20_000
"""Addresses whose failures are remembered; those that failed longest ago are forgotten first."""


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """For one address. `burst` failures are free, then `per_second` of them."""

    connections: int = 64
    burst: float = 20
    per_second: float = 1.0


class Peers:
    """Counts by address; `monotonic` is a steady clock in seconds."""

    def __init__(self, limits: PeerLimits, monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._connections: Counter[str] = Counter()
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def enter(self, address: str) -> bool:
        """Count a connection; False, and not counted, when the address has too many."""
        if self._connections[address] >= self._limits.connections:
            return False
        self._connections[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was counted ended."""
        self._connections[address] -= 1
        if self._connections[address] <= 0:
            del self._connections[address]

    def trusted(self, address: str) -> bool:
        """Whether a credential from there is looked at now."""
        return self._level(address) < self._limits.burst

    def failed(self, address: str) -> None:
        """A credential from there was refused."""
        self._failures[address] = (self._level(address) + 1, self._monotonic())
        self._failures.move_to_end(address)
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)

    def _level(self, address: str) -> float:
        """Failures that are not forgiven yet."""
        level, at = self._failures.get(address, (0.0, 0.0))
        return max(0.0, level - (self._monotonic() - at) * self._limits.per_second)
