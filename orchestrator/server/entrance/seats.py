"""Whose the connections of a listener are when there are no more: of those who have shown who they are. Pure.

Who comes can show that only once they are connected. So there is always room for one more, for a moment at least: the
connection that has said nothing of its owner for longest goes for it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, Protocol, TypeVar, runtime_checkable

C = TypeVar("C")


@runtime_checkable
class Seated(Protocol):
    """A connection that somebody can make theirs."""

    def belongs(self, name: str) -> None: ...


class Seats(Generic[C]):
    """Connections, `most` at once; one name keeps at most a quarter of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_one = max(1, most // 4)
        self._unnamed: OrderedDict[C, None] = OrderedDict()
        self._named: dict[C, str] = {}
        self._names: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return len(self._unnamed) + len(self._named)

    def enter(self, connection: C) -> C | None:
        """Count one more; returns which one has to go for it, and is counted no more: itself where all others are
        somebody's."""
        self._unnamed[connection] = None
        if self.count <= self._most:
            return None
        return self._unnamed.popitem(last=False)[0]

    def name(self, connection: C, name: str) -> None:
        """Somebody has shown who they are; the connection is theirs, unless they have their share of others."""
        if connection in self._unnamed and self._names[name] < self._of_one:
            del self._unnamed[connection]
            self._named[connection] = name
            self._names[name] += 1

    def leave(self, connection: C) -> None:
        """A connection ended. Idempotent."""
        self._unnamed.pop(connection, None)
        name = self._named.pop(connection, None)
        if name is not None:
            self._names[name] -= 1
            if not self._names[name]:
                del self._names[name]
