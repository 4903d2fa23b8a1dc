"""One POST to an endpoint, and what its answer means: bounded in time and size, never redirected, and never to an
address that the endpoint may not have.

Source: Standard Webhooks 1.0.0, *Delivery success and failure* and *Server side request forgery*.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from orchestrator import __version__
from orchestrator.errors import TryAgainError
from orchestrator.notifications.endpoint import Endpoint
from orchestrator.notifications.messages import Message

CONNECTIONS: Final = 4
"""At once to one endpoint."""
_METADATA: Final = frozenset({"fd00:ec2::254", "fd20:ce::254"})
"""Where clouds keep credentials on private IPv6 addresses."""
_BUSY: Final = frozenset({408, 425, 429, 502, 503, 504})

Public = Callable[[str], bool]
"""Whether an address literal is a public unicast one."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a try ended. `status` is 0 without an answer, `reason` is empty on success; `wish_seconds` is the endpoint's
    own word on when to come again."""

    status: int
    seconds: float
    reason: str = ""
    detail: str = ""
    wish_seconds: float | None = None

    @property
    def delivered(self) -> bool:
        return not self.reason


class ForbiddenAddressError(OSError):
    """The endpoint's name leads to an address that it may not have."""


class Poster:
    """Sends to one endpoint. Make it on the event loop, `close` it at the end."""

    def __init__(
        self,
        endpoint: Endpoint,
        public: Public,
        tls: ssl.SSLContext | None = None,
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = endpoint
        self._wall_seconds = wall_seconds
        self._guard = _Guard(endpoint.private, public)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS, ssl=tls or True, resolver=self._guard, use_dns_cache=False
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout_seconds),
            headers={"User-Agent": f"ephemeral-runner-orchestrator/{__version__}"},
            auto_decompress=False,
            trust_env=False,
        )
        # The library would ask again by itself when a connection is cut; there is one rule for that here.
        self._session._retry_connection = False  # noqa: SLF001

    async def close(self) -> None:
        await self._session.close()
        await self._guard.close()

    async def post(self, message: Message) -> Delivery:
        """Try once. Never raises but for cancellation."""
        begun = time.monotonic()
        try:
            headers = self._headers(message)
            # An address instead of a name is never resolved, so the guard would not see it.
            self._guard.check_literal(urlsplit(self._endpoint.url).hostname or "")
            async with self._session.post(
                self._endpoint.url, data=message.body, headers=headers, allow_redirects=False
            ) as response:
                status, wish = response.status, response.headers.get("Retry-After", "")
        except TryAgainError as error:
            return Delivery(0, time.monotonic() - begun, error.reason, str(error))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return _unanswered(error, time.monotonic() - begun, self._endpoint.timeout_seconds)
        return _answered(status, wish, time.monotonic() - begun)

    def _headers(self, message: Message) -> Mapping[str, str]:
        """Raises TryAgainError when a key cannot be read now."""
        moment = int(self._wall_seconds())
        headers = {**message.headers, "webhook-id": message.id, "webhook-timestamp": str(moment)}
        if self._endpoint.sign is not None:
            headers["webhook-signature"] = self._endpoint.sign(message.id, moment, message.body)
        return headers


def _answered(status: int, wish: str, seconds: float) -> Delivery:
    if 200 <= status < 300:
        return Delivery(status, seconds)
    if status == 410:
        return Delivery(status, seconds, "endpoint_gone", "it answered 410: it wants no more messages")
    if 300 <= status < 400:
        return Delivery(status, seconds, "endpoint_redirects", f"it answered {status}; redirects are not followed")
    wished = float(wish) if wish.isascii() and wish.isdigit() and len(wish) < 9 else None
    reason = "endpoint_busy" if status in _BUSY else "endpoint_refused"
    return Delivery(status, seconds, reason, f"it answered {status}", wished)


def _unanswered(error: Exception, seconds: float, limit: float) -> Delivery:
    """No word of the library is repeated: it may quote the address."""
    if isinstance(error, TimeoutError):
        return Delivery(0, seconds, "endpoint_timeout", f"it gave no answer within {limit:g} s")
    if _forbidden(error):
        detail = "its address is of this machine or of a private network, and it may not have such"
        return Delivery(0, seconds, "endpoint_forbidden", detail)
    detail = f"it cannot be reached ({type(error).__name__})"
    return Delivery(0, seconds, "endpoint_unreachable", detail)


def _forbidden(error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 8:
        if isinstance(error, ForbiddenAddressError) or isinstance(
            getattr(error, "os_error", None), ForbiddenAddressError
        ):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


class _Guard(AbstractResolver):
    """Resolves names, and lets only such addresses through as the endpoint may have. What was looked at is what is
    connected to: a name that changes its address in between gains nothing."""

    def __init__(self, private: bool, public: Public) -> None:
        self._private = private
        self._public = public
        # A dead name server holds a thread for half a minute. The event loop's own few are for everybody's work.
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="notifications-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, family=family)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        results = []
        for kind, _, protocol, _, address in found:
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
        self._threads.shutdown(wait=False, cancel_futures=True)

    def check_literal(self, host: str) -> None:
        """Raises ForbiddenAddressError when `host` is an address and a forbidden one; names pass."""
        try:
            ip_address(host)
        except ValueError:
            return
        self.check(host)

    def check(self, address: str) -> None:
        """Raises ForbiddenAddressError."""
        if not (self._public(address) or (self._private and _of_ours(address))):
            raise ForbiddenAddressError("forbidden address")


def _of_ours(address: str) -> bool:
    """Of this machine or a private network; never link-local, where clouds keep credentials."""
    parsed: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return True
    bad = parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified or parsed.is_reserved
    return parsed.is_private and not bad and str(parsed) not in _METADATA
