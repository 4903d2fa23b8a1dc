"""A web address as the place that keeps checkpoints, and the way over HTTP that an object store shares."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import aiohttp

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.evidence.audit.checkpoint import Checkpoint

TIMEOUT_SECONDS: Final = 30.0
MAX_SECRET_BYTES: Final = 16 << 10

_MAX_HEADERS: Final = 32
_HEADER: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}):[ \t]*([\x20-\x7e]{1,8192})")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Web:
    """Sends one body to an address and says whether it was taken. Never follows a redirect, never uses a proxy."""

    def __init__(self, name: str, ca_file: Path | None) -> None:
        self._name = name
        self._tls = _tls(ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """
        Raises:
            TryAgainError: reason `anchor_unreachable` or `anchor_refused`, with the status.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers=dict(headers),
                ssl=self._tls,
                allow_redirects=False,
                skip_auto_headers=("User-Agent",),
            ) as response:
                status, wish = response.status, response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TryAgainError(
                f"{self._name} cannot be reached: {type(error).__name__}",
                reason="anchor_unreachable",
                fix="check its address, its certificate and the way there",
            ) from None
        if not 200 <= status < 300:
            raise TryAgainError(
                f"{self._name} answered {status}",
                reason="anchor_refused",
                fix="check its address and what it is asked with"
                if status < 500
                else "see that service's log; it is tried again",
                retry_after_seconds=float(wish) if wish.isascii() and wish.isdigit() and len(wish) < 9 else None,
            )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class HttpAnchor:
    """Sends each checkpoint as `text/plain` to one address, which answers 2xx once it keeps it. All of the address but
    its query stands in metrics, so a secret belongs into `headers_file`.

    `headers_file` holds lines `Name: value`, read anew for each request. With it, plain http is for this machine only.

    Raises:
        ConfigurationError: reason `audit_anchor_invalid`.
    """

    def __init__(
        self,
        url: str,
        *,
        method: Literal["POST", "PUT"] = "POST",
        headers_file: Path | None = None,
        ca_file: Path | None = None,
    ) -> None:
        check_url(url, secret=headers_file is not None)
        self._url = url
        self._method = method
        self._headers_file = headers_file
        self._web = Web(self.name, ca_file)

    @property
    def name(self) -> str:
        parts = urlsplit(self._url)
        return f"http:{parts.netloc}{parts.path}"

    async def put(self, checkpoint: Checkpoint) -> None:
        """See `Anchor.put`."""
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self._headers_file is not None:
            headers |= _headers(self._headers_file)
        await self._web.send(self._method, self._url, checkpoint.note.encode(), headers)

    async def close(self) -> None:
        await self._web.close()


def check_url(url: str, *, secret: bool) -> None:
    """
    Raises:
        ConfigurationError: reason `audit_anchor_invalid`: no http(s) address, or a secret would go there in clear.
    """
    try:
        parts = urlsplit(url)
        fit = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc and not parts.fragment
        fit = fit and re.fullmatch(r"[\x21-\x7e]+", url) and parts.port != 0
    except ValueError:
        fit = False
    if not fit:
        raise ConfigurationError(
            "the address of an audit anchor is no http or https address",
            reason="audit_anchor_invalid",
            fix="set it like https://anchor.example/checkpoints, percent-encoded, without user name and fragment",
        )
    if secret and url.startswith("http:") and urlsplit(url).hostname not in _LOOPBACK:
        raise ConfigurationError(
            f"the audit anchor at {urlsplit(url).hostname} would be sent its secret headers in clear",
            reason="audit_anchor_invalid",
            fix="use https, or leave headers_file out",
        )


def read_secret(path: Path) -> str:
    """The text of a small file that somebody else may replace.

    Raises:
        TryAgainError: reason `anchor_misconfigured`; nothing of the content is repeated.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        if len(data) > MAX_SECRET_BYTES:
            raise misconfigured(path, f"it is larger than {MAX_SECRET_BYTES} bytes")
        return data.decode("ascii")
    except OSError as error:
        raise misconfigured(path, error.strerror or type(error).__name__) from None
    except UnicodeDecodeError:
        raise misconfigured(path, "it is no ASCII text") from None


def misconfigured(path: Path, why: str) -> TryAgainError:
    return TryAgainError(
        f"{path} cannot be used: {why}", reason="anchor_misconfigured", fix="write the file anew; it is read again"
    )


def _headers(path: Path) -> dict[str, str]:
    lines = [line for line in read_secret(path).splitlines() if line.strip()]
    if len(lines) > _MAX_HEADERS:
        raise misconfigured(path, f"it has more than {_MAX_HEADERS} lines")
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        found = _HEADER.fullmatch(line)
        if not found:
            raise misconfigured(path, f"header {number} is not of the form Name: value")
        headers[found[1]] = found[2].strip()
    return headers


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ConfigurationError(
                f"the CA file {ca_file} of an audit anchor cannot be used: {error.strerror or error}",
                reason="audit_anchor_invalid",
                fix="name a file of certificates in PEM",
            ) from error
    return context
