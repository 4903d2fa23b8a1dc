"""Turns a runner's allowed names into vetted addresses, once each, and opens connections to those literals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from orchestrator.apart import apart
from orchestrator.egress.addresses import public_addresses

MAX_PINNED = 1024
"""Names one runner may have resolved; a wildcard rule would otherwise let it fill our memory."""
MAX_LOOKUPS = 4
"""Lookups of one runner at once, so that its slow names cannot hold up everyone's."""
MAX_THREADS = 32
MAX_ADDRESSES = 8
"""Addresses of one name that are kept."""

Lookup = Callable[[str], Awaitable[Sequence[str]]]
P = TypeVar("P", bound=asyncio.Protocol)


class UnreachableError(Exception):
    """No connection to the name. `reason`: `name_unresolved`, `address_not_public`, `too_many_names`,
    `connect_failed`, `connect_timeout`. `refused` tells our refusal from the world's failure.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.refused = reason in {"address_not_public", "too_many_names"}


def system_lookup() -> Lookup:
    """The machine's DNS. `/etc/hosts` and search domains do not take part: the final dot makes names absolute."""
    free = asyncio.Semaphore(MAX_THREADS)

    def ask(host: str) -> list[str]:
        found = socket.getaddrinfo(
            f"{host}.".encode("ascii"), None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        return [str(address[0]) for *_, address in found]

    async def lookup(host: str) -> Sequence[str]:
        await free.acquire()
        return await apart(partial(ask, host), "resolve", free.release)  # a dead name server holds it for half a minute

    return lookup


class Pins:
    """One runner's names and the addresses they stand for until the runner's end.

    The first answer holds, also when it has no public address in it: a name that is rebound later changes nothing.
    A failed lookup is not an answer, and may be repeated.
    """

    def __init__(self, names: Mapping[str, str], lookup: Lookup) -> None:
        self._names = names
        self._lookup = lookup
        self._pinned: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Literal addresses that may be connected to, at least one.

        Raises:
            UnreachableError: the name has none.
        """
        listed = self._names.get(host)
        if listed is not None:
            return (listed,)
        task = self._pinned.get(host)
        if task is None:
            if len(self._pinned) >= MAX_PINNED:
                raise UnreachableError("too_many_names", f"more than {MAX_PINNED} names in one job")
            task = self._pinned[host] = asyncio.get_running_loop().create_task(self._resolve(host))
            task.add_done_callback(lambda done: self._looked_up(host, done))
        try:
            # Shielded: the lookup is shared, one impatient connection must not end it for the others.
            found = await asyncio.shield(task)
        except OSError as error:
            raise UnreachableError("name_unresolved", f"{host} has no address") from error
        if not found:
            raise UnreachableError("address_not_public", f"{host} has no public address")
        return found

    async def connect(self, host: str, port: int, factory: Callable[[], P], seconds: float) -> tuple[P, str]:
        """Look `host` up and connect to the first address that answers, all within `seconds`.

        Returns the protocol that `factory` made, and the address.

        Raises:
            UnreachableError: no connection.
        """
        try:
            async with asyncio.timeout(seconds):
                return await _dial(await self.addresses(host), port, factory, seconds)
        except TimeoutError as error:
            raise UnreachableError("connect_timeout", f"{host}:{port} did not answer within {seconds:g} s") from error

    def close(self) -> None:
        for task in self._pinned.values():
            task.cancel()
        self._pinned.clear()

    def _looked_up(self, host: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._pinned.get(host) is task:
            del self._pinned[host]

    async def _resolve(self, host: str) -> tuple[str, ...]:
        async with self._slots:
            return public_addresses(await self._lookup(host))[:MAX_ADDRESSES]


async def _dial(addresses: Sequence[str], port: int, factory: Callable[[], P], seconds: float) -> tuple[P, str]:
    """Each address gets its share of `seconds`."""
    loop = asyncio.get_running_loop()
    reason = "connect_failed"
    for address in addresses:
        try:
            async with asyncio.timeout(seconds / len(addresses)):
                _, protocol = await loop.create_connection(factory, address, port)
        except TimeoutError:
            reason = "connect_timeout"
        except OSError:
            continue
        else:
            return protocol, address
    raise UnreachableError(reason, f"no address of the host answers on port {port}")
