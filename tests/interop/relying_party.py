"""How a cloud verifies a token: it knows an issuer's URL, finds its keys there, and trusts nothing else.

With joserfc, which shares no code with the issuer. What clouds do differently (slack, algorithms) is an argument.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet


class RejectedError(Exception):
    """`why` is `issuer`, `algorithm`, `signature`, `audience`, `expired`, `early`, `malformed` or `unreachable`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class RelyingParty:
    """Keys are kept, and fetched again once for a key id that is not among them. `clock` gives Unix seconds."""

    def __init__(self, session: aiohttp.ClientSession, clock: Callable[[], float] = time.time) -> None:
        self.session = session
        self.clock = clock
        self.unreachable = 0
        """So many fetches fail from now on."""
        self._keys: dict[str, KeySet] = {}

    async def verify(
        self, token: str, *, issuer: str, audiences: Sequence[str], algorithms: Sequence[str], slack: float = 0
    ) -> dict[str, Any]:
        """The claims, once everything holds.

        Raises:
            RejectedError: what does not.
        """
        header, claims = self.read(token)
        if claims.get("iss") != issuer:
            raise RejectedError("issuer")
        if header.get("alg") not in algorithms or "kid" not in header:
            raise RejectedError("algorithm")
        keys = await self._keys_of(issuer, str(header["kid"]))
        try:
            claims = jwt.decode(token, keys, algorithms=list(algorithms)).claims
        except (JoseError, ValueError):
            raise RejectedError("signature") from None
        now = self.clock()
        if claims.get("aud") not in audiences:
            raise RejectedError("audience")
        if not isinstance(claims.get("exp"), int) or now >= claims["exp"] + slack:
            raise RejectedError("expired")
        if claims.get("nbf", 0) > now + 1 or not now - 86400 <= claims.get("iat", 0) <= now + 1:
            raise RejectedError("early")
        return dict(claims)

    def read(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims that nobody has verified."""
        try:
            found = jws.extract_compact(token.encode())
            import json

            return dict(found.headers()), dict(json.loads(found.payload))
        except (JoseError, ValueError, TypeError):
            raise RejectedError("malformed") from None

    async def _keys_of(self, issuer: str, kid: str) -> KeySet:
        kept = self._keys.get(issuer)
        if kept is None or kid not in {key.kid for key in kept.keys}:
            kept = self._keys[issuer] = await self._fetch(issuer)
        if kid not in {key.kid for key in kept.keys}:
            raise RejectedError("signature")
        return kept

    async def _fetch(self, issuer: str) -> KeySet:
        if self.unreachable:
            self.unreachable -= 1
            raise RejectedError("unreachable")
        async with self.session.get(f"{issuer}/.well-known/openid-configuration") as answer:
            found = await answer.json()
        assert found["issuer"] == issuer
        async with self.session.get(found["jwks_uri"]) as answer:
            return KeySet.import_key_set(await answer.json())
