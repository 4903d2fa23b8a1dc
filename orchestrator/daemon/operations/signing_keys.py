"""The issuers' signing keys as operators see them, and how they are rotated or withdrawn: told first, then done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.errors import GiveUpError
from orchestrator.identity.issuer import Issuer
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import KeyState
from orchestrator.lifecycle.observation import SECOND
from orchestrator.model.job import Caller
from orchestrator.server.views import timestamp

_log = logging.getLogger("orchestrator")


class SigningKeys:
    """`server.keys.port.KeyDesk` over the real key stores.

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

    async def rotate(self, issuer: str | None, caller: Caller, *, at_once: bool) -> Sequence[Mapping[str, Any]]:
        async with self._one_by_one:
            actor = self._notes.who(caller)
            return [await self._rotated(name, one, actor, at_once=at_once) for name, one in self._named(issuer)]

    async def _rotated(self, name: str, issuer: Issuer, actor: str, *, at_once: bool) -> Mapping[str, Any]:
        keys = issuer.keys
        await self._notes.key_rotation_asked(name, at_once, actor)
        plan = await asyncio.to_thread(keys.ask, self._now_ns() / SECOND, at_once=at_once)
        if plan:
            _log.warning("a rotation of signing keys was asked for", extra={"issuer": name, "at_once": at_once})
            await self._notes.keys_rotated(name, plan, keys, actor)
        waiting = [key.since for key in keys.states() if key.state is KeyState.NEXT and key.asked]
        signs_at = timestamp(int((max(waiting) + keys.schedule.publish_ahead_seconds) * SECOND)) if waiting else None
        return {
            "issuer": name,
            "url": issuer.url,
            "changed": bool(plan),
            "signs_at": signs_at,
            "keys": list(_views(keys)),
        }

    def _named(self, issuer: str | None) -> Sequence[tuple[str, Issuer]]:
        """Those of this name or URL; all without one."""
        found = [(name, one) for name, one in self._issuers.items() if issuer in (None, name or one.url, one.url)]
        if not found:
            raise GiveUpError(
                "No issuer of this daemon has this name or URL.",
                reason="key_issuer_unknown",
                fix="see `orchestrator keys` for their URLs, or name none to rotate the keys of all",
            )
        return found

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
