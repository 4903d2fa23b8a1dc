"""The Kubernetes API over HTTP: raw JSON in and out, bounded in time and size, errors by family."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import aiohttp

from orchestrator.backends.kubernetes.access import Access
from orchestrator.backends.kubernetes.answers import UnauthorizedError, error_of
from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.errors import TryAgainError
from orchestrator.model.api import ApiCounts

MAX_ANSWER = 64 << 20
"""Bytes of one answer; a page of 500 of the largest pods the API server takes is smaller in practice."""
MAX_LINE = 4 << 20
"""Bytes of one watch event: twice what etcd stores of one object."""
_MAX_ERROR = 64 << 10
CONNECTIONS = 64
"""Open at once, besides one for each watch."""
_JSON = "application/json"
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class ApiClient:
    """One HTTP session with the API server.

    `requests` counts what was sent by method, tries after a renewal of credentials included; `writes` are those
    that change something. `counts` has their times and failures, by what was asked. Use as an async context manager or
    call `close`.
    """

    def __init__(self, access: Access, *, timeout: float = 15.0, connections: int = CONNECTIONS) -> None:
        self._access = access
        self._timeout = timeout
        self._limit = aiohttp.ClientTimeout(total=timeout)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self.requests: Counter[str] = Counter()
        self.counts = ApiCounts()

    @classmethod
    async def open(cls, config: KubernetesConfig) -> ApiClient:
        """Read the configuration; nothing is sent yet.

        Raises:
            ConfigurationError: the configuration cannot be used.
        """
        watches = len({pool.namespace for pool in config.pools.values()})
        access = await Access.open(config)
        return cls(access, timeout=config.request_timeout, connections=CONNECTIONS + watches)

    @property
    def writes(self) -> int:
        return sum(self.requests[method] for method in _WRITES)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = _JSON,
        timeout: float | None = None,  # noqa: ASYNC109 -- of the whole exchange, for the HTTP library
    ) -> bytes:
        """The body of a 2xx answer. `path` is quoted already; `timeout` covers everything, in seconds.

        Raises:
            NotFoundError, ConflictError: for the caller to judge.
            TryAgainError: reason `api_busy`, `api_unavailable`, `api_unauthorized`, `api_gone`, `quota_exhausted`.
            GiveUpError: reason `create_refused`, `api_forbidden`, `api_refused`.
        """
        limit = aiohttp.ClientTimeout(total=timeout) if timeout else self._limit
        headers = {"Content-Type": content_type} if body is not None else {}
        with _unavailable:
            async with await self._answer(method, path, headers, params=params, data=body, timeout=limit) as response:
                return await _read(response, MAX_ANSWER)

    def stream(
        self, path: str, *, params: Mapping[str, str] | None = None, idle: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The lines of an endless answer, entered when it has begun; no line for `idle` seconds is an error.

        Raises:
            OrchestratorError: as `request`, from entering as from the iterator.
        """
        return self._stream(path, params, idle, _lines)

    def pieces(
        self, path: str, *, params: Mapping[str, str] | None = None, idle: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """As `stream`, but the bytes as they come."""
        return self._stream(path, params, idle, lambda response: response.content.iter_any())

    @asynccontextmanager
    async def _stream(
        self,
        path: str,
        params: Mapping[str, str] | None,
        idle: float,
        read: Callable[[aiohttp.ClientResponse], AsyncIterator[bytes]],
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        limit = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout, sock_read=idle)
        headers = {"Accept-Encoding": "identity"}
        with _unavailable:
            async with asyncio.timeout(self._timeout):
                response = await self._answer("GET", path, headers, params=params, timeout=limit)
            async with response:
                yield read(response)

    async def _answer(self, method: str, path: str, headers: Mapping[str, str], **sent: Any) -> aiohttp.ClientResponse:
        """The head of an answer of 2xx, for the caller to read and close; after a 401 once more with renewed
        credentials."""
        verb, resource = asked(method, path, watch="watch" in (sent.get("params") or ()))
        for last in (False, True):
            generation = self._access.generation
            self.requests[method] += 1
            started = time.monotonic()
            try:
                response = await self._open_session().request(
                    method,
                    self._access.host + path,
                    headers={**await self._access.headers(), **headers},
                    allow_redirects=False,
                    server_hostname=self._access.server_name,
                    proxy=self._access.proxy,
                    **sent,
                )
            except (TimeoutError, aiohttp.ClientError, OSError):
                self.counts.answered(verb, resource, 0, time.monotonic() - started)
                self.counts.failures[verb, resource, "api_unavailable"] += 1
                raise
            self.counts.answered(verb, resource, response.status, time.monotonic() - started)
            if 200 <= response.status < 300:
                return response
            async with response:
                error = error_of(method, response.status, await _read(response, _MAX_ERROR), response.headers)
            self.counts.failures[verb, resource, error.reason] += 1
            if last or not isinstance(error, UnauthorizedError):
                raise error
            await self._access.refresh(generation)
            self.counts.retries[verb, resource, error.reason] += 1
        raise AssertionError("the second answer is returned or raised")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections, ssl=self._access.tls or True, socket_factory=_socket, ttl_dns_cache=30
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": _JSON, "User-Agent": "ephemeral-runner-orchestrator"},
            )
        return self._session


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def asked(method: str, path: str, *, watch: bool = False) -> tuple[str, str]:
    """The verb and the resource of a request, in the words of RBAC rules: `get` and `pods/log`, for one. What is no
    request about objects has the resource `other`."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:] if parts[0] == "apis" else []
    if len(rest) > 2 and rest[0] == "namespaces":
        rest = rest[2:]
    resource = "/".join(rest[:3:2]) or "other"
    read = "watch" if watch else "get" if len(rest) > 1 else "list"
    return _VERBS.get(method, read), resource


def _socket(info: Any) -> socket.socket:
    """Keep-alive probes find a peer that vanished within a minute, long before a watch's own deadline."""
    family, kind, proto, _, _ = info
    made = socket.socket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


class _Unavailable:
    """Whatever happens to a connection means that the API server is not available now. Holds nothing: one for all."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, TimeoutError):
            raise TryAgainError("the API server did not answer in time", reason="api_unavailable") from None
        if isinstance(error, aiohttp.ClientError | OSError | ValueError):
            text = f"the API server cannot be reached: {type(error).__name__}: {error}"[:300]
            raise TryAgainError(text, reason="api_unavailable") from None


_unavailable = _Unavailable()


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body, unless it is larger than `limit` once unpacked."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > limit:
            response.close()
            raise TryAgainError(f"the API server's answer is larger than {limit} bytes", reason="api_unavailable")
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines without their ends; what follows the last one was cut off and is dropped."""
    held = bytearray()
    async for part in response.content.iter_any():
        held += part
        start = 0
        while (end := held.find(b"\n", start)) >= 0:
            if end > start:
                yield bytes(held[start:end])
            start = end + 1
        if start:
            del held[:start]
        if len(held) > MAX_LINE:
            response.close()
            raise TryAgainError(f"a watch event is larger than {MAX_LINE} bytes", reason="api_unavailable")
