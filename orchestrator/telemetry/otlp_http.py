"""One POST to an OTLP/HTTP receiver, and what its answer means.

Source: OTLP specification, *OTLP/HTTP response*: 429, 502, 503 and 504 may be retried, after Retry-After if
given; no other failure may.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError

TRACES = "/v1/traces"
LOGS = "/v1/logs"
MAX_RESPONSE_BYTES = 64 << 10
MAX_RETRY_AFTER_SECONDS = 300.0

_RETRYABLE = frozenset({429, 502, 503, 504})
_WRONG_ADDRESS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 501})
_GZIP_FROM_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where to send. `endpoint` is the base URL, as in OTEL_EXPORTER_OTLP_ENDPOINT; `timeout_seconds` is for a POST."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 10

    def __post_init__(self) -> None:
        parts = urlsplit(self.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ConfigurationError(
                "the OTLP endpoint is not a base URL",
                reason="otlp_endpoint_invalid",
                fix="set telemetry.otlp_endpoint to a base URL such as http://127.0.0.1:4318",
            )


class OtlpClient:
    """Sends encoded requests. Make it on the event loop, `close` it at the end."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=receiver.timeout_seconds),
            headers=dict(receiver.headers),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def post(self, path: str, body: bytes) -> bytes:
        """Send one request and return the answer's body (at most 64 KiB of it).

        Raises:
            TryAgainError: reason `otlp_unreachable` or `otlp_busy`; the same request may succeed later.
            ConfigurationError: reason `otlp_endpoint_refused`: no such address, or not for us.
            GiveUpError: reason `otlp_request_refused`: this very request will never be taken.
        """
        headers = {"Content-Type": "application/x-protobuf"}
        if len(body) >= _GZIP_FROM_BYTES:
            body = await asyncio.to_thread(gzip.compress, body, 1)
            headers["Content-Encoding"] = "gzip"
        url = self._receiver.endpoint.rstrip("/") + path
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                answer = await response.content.read(MAX_RESPONSE_BYTES)
                status, retry_after = response.status, response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TryAgainError(
                f"the OTLP receiver cannot be reached: {type(error).__name__}",
                reason="otlp_unreachable",
                fix="check that it runs and that telemetry.otlp_endpoint names it",
            ) from None
        if status == 200:
            return answer
        raise _failure(status, path, retry_after)


def _failure(status: int, path: str, retry_after: str) -> Exception:
    if status in _RETRYABLE:
        seconds = (
            float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 9 else None
        )
        return TryAgainError(
            f"the OTLP receiver answered {status}",
            reason="otlp_busy",
            retry_after_seconds=None if seconds is None else min(seconds, MAX_RETRY_AFTER_SECONDS),
        )
    if status in _WRONG_ADDRESS:
        return ConfigurationError(
            f"the OTLP receiver answered {status} to {path}",
            reason="otlp_endpoint_refused",
            fix="check telemetry.otlp_endpoint: it is the base URL, without /v1/traces",
        )
    return GiveUpError(f"the OTLP receiver answered {status} to {path}", reason="otlp_request_refused")
