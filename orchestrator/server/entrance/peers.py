"""What one address may take of a listener that many share: connections, handshakes and wrong credentials. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_REMEMBERED = 20_000
"""Addresses that are remembered; those longest unheard of are forgotten first."""


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """For one address. `burst` failures are free, then `per_second` of them; the same of new connections, each of
    which costs a TLS handshake."""

    connections: int = 64
    burst: float = 20
    per_second: float = 1.0
    connect_burst: float = 128
    connects_per_second: float = 16.0


class Peers:
    """Counts by address; `monotonic` is a steady clock in seconds."""

    def __init__(self, limits: PeerLimits, monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._connections: Counter[str] = Counter()
        self._failures = _Budget(limits.burst, limits.per_second, monotonic)
        self._connects = _Budget(limits.connect_burst, limits.connects_per_second, monotonic)

    def enter(self, address: str) -> bool:
        """Count a connection; False, and not counted, when the address has too many or makes them too fast."""
        if self._connections[address] >= self._limits.connections or not self._connects.left(address):
            return False
        self._connects.spend(address)
        self._connections[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was counted ended."""
        self._connections[address] -= 1
        if self._connections[address] <= 0:
            del self._connections[address]

    def trusted(self, address: str) -> bool:
        """Whether a credential from there is looked at now."""
        return self._failures.left(address)

    def failed(self, address: str) -> None:
        """A credential from there was refused."""
        self._failures.spend(address)


class _Budget:
    """`burst` at once, then `per_second`, for each address."""

    def __init__(self, burst: float, per_second: float, monotonic: Callable[[], float]) -> None:
        self._burst = burst
        self._per_second = per_second
        self._monotonic = monotonic
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def left(self, address: str) -> bool:
        return self._level(address) < self._burst

    def spend(self, address: str) -> None:
        self._spent[address] = (self._level(address) + 1, self._monotonic())
        self._spent.move_to_end(address)
        while len(self._spent) > MAX_REMEMBERED:
            self._spent.popitem(last=False)

    def _level(self, address: str) -> float:
        """What is spent and not given back yet."""
        level, at = self._spent.get(address, (0.0, 0.0))
        return max(0.0, level - (self._monotonic() - at) * self._per_second)
