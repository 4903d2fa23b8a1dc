"""The issuers' signing keys as operators see them, and how one is withdrawn: told first, then done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.daemon.audit_notes import AuditNotes
from orchestrator.errors import GiveUpError
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.keys import KeyStore
from orchestrator.lifecycle.observation import SECOND
from orchestrator.model.job import Caller
from orchestrator.server.views import timestamp

_log = logging.getLogger("orchestrator")


class SigningKeys:
    """`server.key_port.KeyDesk` over the real key stores.

    `renew` writes the command line's caller token anew: the old one may be signed by the key that is gone.
    """

    def __init__(
        self,
        issuers: IssuerSet,
        notes: AuditNotes,
        now_ns: Callable[[], int],
        renew: Callable[[], Awaitable[None]],
    ) -> None:
        self._issuers = issuers
        self._notes = notes
        self._now_ns = now_ns
        self._renew = renew
        self._one_by_one = asyncio.Lock()

    def listed(self) -> Sequence[Mapping[str, Any]]:
        return [
            {"issuer": name, "url": issuer.url, "keys": list(_views(issuer.keys))}
            for name, issuer in self._issuers.items()
        ]

    async def revoke(self, kid: str, caller: Caller) -> Mapping[str, Any]:
        async with self._one_by_one:
            name, keys = self._issuer_of(kid)
            key = next((one for one in keys.states() if one.kid == kid), None)
            if key is not None:
                actor = self._notes.who(caller)
                await self._notes.key_revoked(name, key, actor)
                plan = await asyncio.to_thread(keys.revoke, kid, self._now_ns() / SECOND)
                _log.warning("a signing key was withdrawn", extra={"issuer": name, "kid": kid})
                await self._renew()
                if plan:
                    await self._notes.keys_rotated(name, plan, keys, actor)
            url = self._issuers.of(name).url
            return {"issuer": name, "url": url, "kid": kid, "changed": key is not None, "keys": list(_views(keys))}

    def _issuer_of(self, kid: str) -> tuple[str, KeyStore]:
        for name, issuer in self._issuers.items():
            if issuer.keys.publishes(kid) or any(key.kid == kid for key in issuer.keys.revoked()):
                return name, issuer.keys
        raise GiveUpError("No issuer has a key of this kid.", reason="key_unknown", fix="see `orchestrator keys`")


def _views(keys: KeyStore) -> Iterator[dict[str, Any]]:
    """Each key in public: those in the set, then those that were withdrawn."""
    for key in keys.states():
        yield _view(key.kid, key.algorithm, key.state.value, key.since)
    for gone in keys.revoked():
        yield _view(gone.kid, gone.algorithm, "revoked", gone.since)


def _view(kid: str, algorithm: str, state: str, since: float) -> dict[str, Any]:
    return {"kid": kid, "algorithm": algorithm, "state": state, "since": timestamp(int(since * SECOND))}
