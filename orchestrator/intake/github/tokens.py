"""The chain of tokens: App JWT → installation token → registration token → admin token of the Actions service.

With a personal token the first two links are the token itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from orchestrator.intake.github.answers import Answer
from orchestrator.intake.github.connection import AppCredential, TokenCredential
from orchestrator.intake.github.errors import UnauthorizedError, UnreadableAnswerError
from orchestrator.intake.github.fields import read_object
from orchestrator.intake.github.kept import Held, Kept
from orchestrator.intake.github.rest.protocol import installation_token, registration_token, runner_registration
from orchestrator.intake.github.scale_sets.protocol import Request, trusted_url
from orchestrator.intake.github.transport import Transport

UNKNOWN_LIFE: Final = 300.0
"""Seconds for which a token is used that does not say when it ends."""
MAX_TOKEN: Final = 16_384

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AdminAccess:
    """Where the Actions service is, and our token for it."""

    service_url: str
    token: str = field(repr=False)


class TokenChain:
    """Each token is fetched once for all who wait for it, renewed early, and dropped when it is refused."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._url = transport.connection.url
        timing = transport.timing
        self._installation = Kept(self._fetch_installation, timing.monotonic)
        self._admin = Kept(self._fetch_admin, timing.monotonic)

    async def as_app(self, request: Request, parse: Callable[[Answer], T]) -> T:
        """A call that only the App itself may make.

        Raises:
            UnauthorizedError: there is no App, only a personal token.
        """
        credential = self._transport.connection.credential
        if isinstance(credential, TokenCredential):
            raise UnauthorizedError(f"{request.endpoint} needs a GitHub App; a personal token cannot do it")
        return await self._transport.call(request, f"Bearer {credential.sign()}", parse)

    async def with_access(self, request: Request, parse: Callable[[Answer], T]) -> T:
        """A REST call with the installation's or personal token; once more with a new one if that is refused."""
        token = await self._access()
        try:
            return await self._transport.call(request, f"Bearer {token}", parse)
        except UnauthorizedError:
            self._installation.drop(token)
            renewed = await self._access()
            if renewed == token:
                raise
        return await self._transport.call(request, f"Bearer {renewed}", parse)

    async def with_admin(self, make: Callable[[str], Request], parse: Callable[[Answer], T]) -> T:
        """A call to the Actions service: `make` gets its address. Once more with a new token if that is refused."""
        admin = await self._admin.get()
        try:
            return await self._transport.call(make(admin.service_url), f"Bearer {admin.token}", parse)
        except UnauthorizedError:
            self._admin.drop(admin)
        admin = await self._admin.get()
        try:
            return await self._transport.call(make(admin.service_url), f"Bearer {admin.token}", parse)
        except UnauthorizedError:
            # A chain that ends in refused tokens is begun at its beginning next time.
            self._admin.drop(admin)
            self._installation.drop()
            raise

    async def service_url(self) -> str:
        """Where the Actions service is, now."""
        return (await self._admin.get()).service_url

    def life_of(self, token: str) -> float:
        """Seconds for which a JWT is good by its own word, which nothing confirms: for planning its renewal only."""
        ends = _expiry(token)
        return UNKNOWN_LIFE if ends is None else max(0.0, ends - self._transport.timing.now())

    async def _access(self) -> str:
        credential = self._transport.connection.credential
        return credential.read() if isinstance(credential, TokenCredential) else await self._installation.get()

    async def _fetch_installation(self) -> Held[str]:
        credential = self._transport.connection.credential
        assert isinstance(credential, AppCredential)
        return await self.as_app(installation_token(self._url, credential), self._token)

    async def _fetch_admin(self) -> Held[AdminAccess]:
        # A registration token is not kept: it lives no longer than the admin token that it is for.
        registration = await self.with_access(registration_token(self._url), self._token)
        return await self._transport.call(
            runner_registration(self._url), f"RemoteAuth {registration.value}", self._admin_access
        )

    def _token(self, answer: Answer) -> Held[str]:
        data = read_object(answer.body)
        token, ends = data.text("token", MAX_TOKEN), data.time_ns("expires_at")
        data.need("token", sendable(token))
        life = UNKNOWN_LIFE if ends is None else ends / 1e9 - self._transport.timing.now()
        return Held(token, max(0.0, life))

    def _admin_access(self, answer: Answer) -> Held[AdminAccess]:
        data = read_object(answer.body)
        url, token = data.text("url", 4096), data.text("token", MAX_TOKEN)
        data.need("url", url)
        data.need("token", sendable(token))
        access = AdminAccess(trusted_url(url, encrypted=self._url.encrypted), token)
        return Held(access, self.life_of(token))


def sendable(token: str) -> bool:
    """Whether it can stand in a header: printable ASCII without spaces."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


def _expiry(token: str) -> int | None:
    """`exp` of a JWT, not verified: the key is not published, and the service judges for itself."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return read_object(payload).number("exp") or None
    except (binascii.Error, ValueError, UnreadableAnswerError):
        return None
