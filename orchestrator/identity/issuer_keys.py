"""Where the keys of a caller issuer come from: our own store, a file, or OpenID Connect discovery.

Sources: OpenID Connect Discovery 1.0 sections 4.2 and 4.3; RFC 7517.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.identity.jwks import DISCOVERY_PATH, VerifyKey, parse_jwks
from orchestrator.identity.keys import KeyStore

REFRESH_SECONDS: Final = 600.0
"""Age at which a cached key set is fetched anew: how long a key withdrawn by its issuer may still count."""
STALE_SECONDS: Final = 3600.0
"""Age up to which a cached key set serves while the issuer cannot be reached."""
COOLDOWN_SECONDS: Final = 30.0
"""Least time between two fetches, however many unknown key ids are thrown at us."""
FETCH_TIMEOUT_SECONDS: Final = 10.0
_MAX_DOCUMENT_BYTES: Final = 256 << 10


class KeySource(Protocol):
    async def key(self, kid: str) -> VerifyKey | None:
        """The issuer's key of this id, or None.

        Raises:
            TryAgainError: `issuer_unreachable`, nothing is known about the issuer's keys now.
        """
        ...

    async def close(self) -> None: ...


class OwnKeys:
    """The daemon's own issuer: checked against its own store, no request to itself."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def key(self, kid: str) -> VerifyKey | None:
        return self._store.verify_key(kid)

    async def close(self) -> None:
        """Nothing to close."""


class FileKeys:
    """A key set file, read once; replace it and restart to change keys.

    Raises:
        ConfigurationError: `jwks_file_invalid`.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_DOCUMENT_BYTES + 1)
            if len(data) > _MAX_DOCUMENT_BYTES:
                raise ValueError(f"larger than {_MAX_DOCUMENT_BYTES} bytes")
            self._keys = parse_jwks(json.loads(data))
            if not self._keys:
                raise ValueError("no key in it can check a signature (RS256 or ES256 with a kid)")
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigurationError(
                f"key set file {path}: {why}", reason="jwks_file_invalid", fix="correct callers[].jwks_file"
            ) from None

    async def key(self, kid: str) -> VerifyKey | None:
        return self._keys.get(kid)

    async def close(self) -> None:
        """Nothing to close."""


def refuse_plain_http(url: str) -> None:
    """Raises ValueError: what comes from there could be changed on its way."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" and host:
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if parts.scheme != "http" or not loopback:
        raise ValueError("keys are fetched by https only, or by http from this machine itself")


class DiscoveredKeys:
    """Keys by discovery: cached, fetched again when old or for an unknown key id, never more often than allowed.

    `monotonic` gives seconds that never run backwards. `ssl_context` and `proxy` are for issuers that need a CA or a
    way of their own.

    Raises:
        ConfigurationError: `issuer_insecure`.
    """

    def __init__(
        self,
        issuer: str,
        monotonic: Callable[[], float],
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str = "",
    ) -> None:
        try:
            refuse_plain_http(issuer)
        except ValueError as error:
            raise ConfigurationError(f"caller issuer: {error}", reason="issuer_insecure", fix="use https") from None
        self._issuer = issuer
        self._monotonic = monotonic
        self._ssl: ssl.SSLContext | bool = ssl_context or True
        self._proxy = proxy or None
        self._session: aiohttp.ClientSession | None = None
        self._keys: dict[str, VerifyKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def key(self, kid: str) -> VerifyKey | None:
        if self._age() >= REFRESH_SECONDS or kid not in self._keys:
            async with self._fetching:
                # Whoever waited here may find that the one before has fetched already.
                if self._age() >= REFRESH_SECONDS or kid not in self._keys:
                    await self._refresh()
        if self._age() >= STALE_SECONDS:
            raise TryAgainError(
                "the caller's issuer does not give its keys",
                reason="issuer_unreachable",
                fix="check that its discovery document can be reached from here",
                retry_after_seconds=COOLDOWN_SECONDS,
            )
        return self._keys.get(kid)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._monotonic() - self._fetched_at

    async def _refresh(self) -> None:
        now = self._monotonic()
        if self._tried_at is not None and now - self._tried_at < COOLDOWN_SECONDS:
            return
        self._tried_at = now
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                keys = await self._fetch()
        except (aiohttp.ClientError, OSError, ValueError, RecursionError):
            # Includes time-outs. What is cached serves on, until it is stale.
            return
        self._keys, self._fetched_at = keys, now

    async def _fetch(self) -> dict[str, VerifyKey]:
        discovery = await self._document(self._issuer.rstrip("/") + DISCOVERY_PATH)
        if not isinstance(discovery, dict) or discovery.get("issuer") != self._issuer:
            raise ValueError("the discovery document is another issuer's")
        uri = discovery.get("jwks_uri")
        if not isinstance(uri, str):
            raise ValueError("the discovery document has no jwks_uri")  # noqa: TRY004 -- bad data, not a bad call
        refuse_plain_http(uri)
        if urlsplit(self._issuer).scheme == "https" and urlsplit(uri).scheme != "https":
            raise ValueError("jwks_uri is less protected than the issuer")
        return parse_jwks(await self._document(uri))

    async def _document(self, url: str) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_SECONDS),
                trust_env=False,
            )
        # No redirects: where keys come from is said by configuration, not by an answer.
        async with self._session.get(
            url, allow_redirects=False, headers={"Accept": "application/json"}, ssl=self._ssl, proxy=self._proxy
        ) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            data = bytearray()
            async for chunk in response.content.iter_chunked(16 << 10):
                data += chunk
                if len(data) > _MAX_DOCUMENT_BYTES:
                    raise ValueError("document too large")
        return json.loads(data)
