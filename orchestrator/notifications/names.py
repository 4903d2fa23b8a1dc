"""Names to addresses, and nothing but addresses that an endpoint may have. What was judged is what is connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from orchestrator.apart import apart
from orchestrator.notifications.addresses import is_ours

AT_ONCE: Final = 4
"""Names that are looked up at the same time."""

Public = Callable[[str], bool]
"""Whether an address literal is a public unicast one."""
_AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]


class ForbiddenAddressError(OSError):
    """The endpoint's name leads to an address that it may not have."""


class Guard(AbstractResolver):
    """Resolves names and makes sockets, for addresses that the endpoint may have: a name that changes its address
    between the two gains nothing, and neither does an address that is written as if it were a name."""

    def __init__(self, private: bool, public: Public) -> None:
        self._private = private
        self._public = public
        self._free = asyncio.Semaphore(AT_ONCE)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, family=family)
        results = []
        for kind, _, protocol, _, address in await self._apart(ask):
            self.check(str(address[0]))
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=int(address[1]),
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is kept open."""

    def socket(self, info: _AddressInfo) -> socket.socket:
        """A socket for an address that is about to be connected to.

        Raises:
            ForbiddenAddressError: there is none.
        """
        self.check(str(info[4][0]))
        return socket.socket(info[0], info[1], info[2])

    def check_literal(self, host: str) -> None:
        """Raises ForbiddenAddressError when `host` is an address and a forbidden one; names pass."""
        with suppress(ValueError):
            ip_address(host)
            self.check(host)

    def check(self, address: str) -> None:
        """Raises ForbiddenAddressError."""
        if not (self._public(address) or (self._private and is_ours(address))):
            raise ForbiddenAddressError("forbidden address")

    async def _apart(self, ask: Callable[[], Sequence[_AddressInfo]]) -> Sequence[_AddressInfo]:
        """On a thread that nobody waits for: a dead name server holds it for half a minute, and neither the work of
        others nor the end of the program."""
        await self._free.acquire()
        return await apart(ask, "notifications-names", self._free.release)
