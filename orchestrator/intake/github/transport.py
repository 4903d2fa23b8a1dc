"""HTTP to GitHub: bounded in time, size and number of calls; proxy, certificates, counters. Knows no meaning.

Redirects are not followed: no token is sent to an address that an answer names, but for the two that the protocol
has for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp

from orchestrator.intake.github.answers import Answer, clean, error_of, request_id
from orchestrator.intake.github.connection import GitHubConnection, Timing
from orchestrator.intake.github.errors import FailedCall, GitHubError, RateLimitedError, UnavailableError
from orchestrator.intake.github.rate_gate import RateGate
from orchestrator.intake.github.retry import Retries
from orchestrator.intake.github.scale_sets.protocol import Request
from orchestrator.intake.github.stats import CallStats

CONCURRENT: Final = 64
"""Calls at once, besides polls; GitHub allows 100 and others may share the installation."""
_ERROR_BYTES: Final = 64 << 10

T = TypeVar("T")


class Transport:
    """The connections of one source. `close` when done."""

    def __init__(self, connection: GitHubConnection, timing: Timing) -> None:
        self.connection = connection
        self.timing = timing
        self.stats = CallStats()
        self._gate = RateGate(timing, self.stats)
        self._turns = asyncio.Semaphore(CONCURRENT)
        self._session: aiohttp.ClientSession | None = None

    async def call(self, request: Request, authorization: str, parse: Callable[[Answer], T]) -> T:
        """What `parse` makes of the answer; tried again as the request allows.

        Raises:
            GitHubError: the last one.
        """

        async def once() -> T:
            answer = await self._checked(request, authorization)
            try:
                return parse(answer)
            except GitHubError as error:
                error.call = FailedCall(request.method, request.endpoint, answer.status, request_id(answer.headers))
                error.args = (f"{error.call}: {error}",)
                raise

        retries = Retries(self.timing, lambda _waiting: self.stats.retried(request.endpoint))
        return await retries.run(request.repeat, once)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _checked(self, request: Request, authorization: str) -> Answer:
        self._gate.check(request)
        if request.polls:
            answer = await self._send(request, authorization)
        else:
            async with self._turns:
                answer = await self._send(request, authorization)
        self._gate.passed(request, answer)
        if answer.ok:
            return answer
        error = error_of(request, answer, self.timing.now(), authorization.rpartition(" ")[2])
        if isinstance(error, RateLimitedError):
            self._gate.refused(request, error)
        raise error

    async def _send(self, request: Request, authorization: str) -> Answer:
        begun = self.timing.monotonic()
        status = 0
        try:
            async with asyncio.timeout(self._longest(request)), self._exchange(request, authorization) as response:
                body = await _read(response, request)
                status = response.status
                return Answer(status, response.headers, body)
        except GitHubError:
            raise
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _unavailable(request, error) from None
        finally:
            self.stats.sent(request.endpoint, status, max(0.0, self.timing.monotonic() - begun))

    def _exchange(self, request: Request, authorization: str) -> Any:
        connection = self.connection
        silence = connection.poll_seconds if request.polls else connection.timeout_seconds
        headers = {"Accept": request.accept, "Authorization": authorization, **request.headers}
        return self._open().request(
            request.method,
            request.url,
            data=request.body,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy(request.url),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connection.timeout_seconds, sock_read=silence),
        )

    def _longest(self, request: Request) -> float:
        """Of the whole exchange: an answer that trickles is no answer."""
        if request.polls:
            return self.connection.poll_seconds + self.connection.timeout_seconds
        return self.connection.timeout_seconds

    def _proxy(self, url: str) -> str | None:
        host = urlsplit(url).hostname or ""
        direct = any(
            host == name.lower().lstrip(".") or host.endswith(f".{name.lower().lstrip('.')}")
            for name in self.connection.no_proxy
        )
        return None if direct or not self.connection.proxy else self.connection.proxy

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Turns bound the calls, and there is one poll for each scale set: the pool needs no bound of its own.
            connector = aiohttp.TCPConnector(
                limit=0, ssl=self.connection.tls or True, socket_factory=_socket, ttl_dns_cache=30
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": self.connection.user_agent},
                trust_env=False,
            )
            # The library would send GET and DELETE again by itself when a connection is cut. There is one rule for
            # that here, and every try is counted; no public switch exists, a test sees to it.
            self._session._retry_connection = False  # noqa: SLF001
        return self._session


async def _read(response: aiohttp.ClientResponse, request: Request) -> bytes:
    """The whole body. What is too large is an error if it is an answer, and cut if it only explains a refusal."""
    limit = request.limit if response.ok else _ERROR_BYTES
    data = bytearray()
    async for part in response.content.iter_any():
        data += part
        if len(data) > limit:
            response.close()
            if not response.ok:
                break
            raise _unavailable(request, ValueError(f"the answer is larger than {limit} bytes"))
    return bytes(data)


def _unavailable(request: Request, error: Exception) -> UnavailableError:
    """Words of our own: those of the library may quote a proxy's password."""
    unsent = False
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            why, unsent = "the server's certificate is not accepted", True
        case aiohttp.ClientProxyConnectionError():
            why, unsent = "the proxy cannot be reached", True
        case aiohttp.ClientConnectorError():
            why, unsent = f"{error.host} cannot be reached: {error.os_error.strerror or error.os_error}", True
        case aiohttp.ClientHttpProxyError():
            why, unsent = f"the proxy refused with {error.status}", True
        case aiohttp.ConnectionTimeoutError():
            why, unsent = "no connection in time", True
        case TimeoutError():
            why = "no answer in time"
        case ValueError():
            why = str(error)
        case _:
            why = f"the connection broke ({type(error).__name__})"
    failed = UnavailableError(f"{request.method} {request.endpoint}: {clean(why)}")
    failed.call = FailedCall(request.method, request.endpoint)
    failed.unsent = unsent
    return failed


def _socket(info: Any) -> socket.socket:
    """Keep-alive probes find a peer that vanished within a minute, before a poll's own bound."""
    family, kind, proto, _, _ = info
    made = socket.socket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
