"""One POST to an endpoint, and what its answer means: bounded in time and size, never redirected, and never to an
address that the endpoint may not have.

Source: Standard Webhooks 1.0.0, *Delivery success and failure* and *Server side request forgery*.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from orchestrator import __version__
from orchestrator.errors import TryAgainError
from orchestrator.notifications.endpoint import Endpoint
from orchestrator.notifications.messages import Message
from orchestrator.notifications.names import ForbiddenAddressError, Guard, Public

CONNECTIONS: Final = 4
"""At once to one endpoint."""
_BUSY: Final = frozenset({408, 425, 429, 502, 503, 504})


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
        self._guard = Guard(endpoint.private, public)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS,
                ssl=tls or True,
                resolver=self._guard,
                use_dns_cache=False,
                socket_factory=self._guard.socket,
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
        return _answered(status, _wished(wish, self._wall_seconds()), time.monotonic() - begun)

    def _headers(self, message: Message) -> Mapping[str, str]:
        """Raises TryAgainError when a key cannot be read now."""
        moment = int(self._wall_seconds())
        headers = {**message.headers, "webhook-id": message.id, "webhook-timestamp": str(moment)}
        if self._endpoint.sign is not None:
            headers["webhook-signature"] = self._endpoint.sign(message.id, moment, message.body)
        return headers


def _wished(text: str, now: float) -> float | None:
    """Seconds that an answer asks to be left in peace for (RFC 9110 section 10.2.3); None: it says nothing of use."""
    if text.isascii() and text.isdigit() and len(text) < 9:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now, 0.0)


def _answered(status: int, wished: float | None, seconds: float) -> Delivery:
    if 200 <= status < 300:
        return Delivery(status, seconds)
    if status == 410:
        return Delivery(status, seconds, "endpoint_gone", "it answered 410: it wants no more messages")
    if 300 <= status < 400:
        return Delivery(status, seconds, "endpoint_redirects", f"it answered {status}; redirects are not followed")
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
