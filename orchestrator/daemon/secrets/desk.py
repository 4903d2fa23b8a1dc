"""Registered secrets as operators see and change them: `server.accounts.handlers.SecretDesk`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.daemon.secrets.room import SecretsRoom
from orchestrator.errors import TryAgainError
from orchestrator.identity.secrets.registry import Registered
from orchestrator.identity.secrets.state import Failing, SecretState
from orchestrator.identity.secrets.value import SECOND, Value, present
from orchestrator.model.job import Caller
from orchestrator.policy.input import rfc3339
from orchestrator.telemetry.scores.follow import SECRET
from orchestrator.telemetry.scores.metrics import SecretAge
from orchestrator.telemetry.scores.tally import DayTally

_UNREGISTERED = Registered("", "nobody: not registered any more", max_age_seconds=0, idle_seconds=0)


class SecretDesk:
    """Everything about them but their values."""

    def __init__(self, room: SecretsRoom, tally: DayTally, notes: AuditNotes, now_ns: Callable[[], int]) -> None:
        self._room = room
        self._store = room.store
        self._tally = tally
        self._notes = notes
        self._now_ns = now_ns
        self.folder = room.store.folder

    def views(self) -> list[dict[str, Any]]:
        """Each secret, those included that are not registered any more and whose state is still kept. Reads files."""
        registered = {one.name: one for one in self._room.registry.all()}
        left = [name for name in self._store.names() if name not in registered]
        return [self._view(name, one) for name, one in registered.items()] + [self._view(name, None) for name in left]

    def ages(self) -> list[SecretAge]:
        """Of those that are given to jobs, for the metrics."""
        return [
            SecretAge(
                view["name"],
                view["age_seconds"],
                view["max_age_seconds"],
                idle="idle" in view["flags"],
                failing=view["failing"] is not None,
                rotated=view["rotate_seconds"] is not None,
            )
            for view in self.views()
            if view["state"] not in ("retired", "removed")
        ]

    async def listed(self) -> Sequence[Mapping[str, Any]]:
        return await asyncio.to_thread(self.views)

    async def rotate(self, name: str, caller: Caller, *, at_once: bool) -> Mapping[str, Any]:
        await self._room.rotate(name, self._notes.who(caller), at_once=at_once)
        return await self._one(name)

    async def retire(self, name: str, caller: Caller) -> Mapping[str, Any]:
        await self._room.retire(name, self._notes.who(caller))
        return await self._one(name)

    async def retire_pipeline(self, pipeline: str, caller: Caller) -> Sequence[str]:
        return await self._room.retire_pipeline(pipeline, self._notes.who(caller))

    async def _one(self, name: str) -> Mapping[str, Any]:
        return await asyncio.to_thread(self._view, name, self._room.registry.get(name))

    def _view(self, name: str, registered: Registered | None) -> dict[str, Any]:
        secret, state = registered or _UNREGISTERED, self._store.get(name)
        value = _present(secret, state)
        now = self._now_ns()
        last = self._tally.last_ns(SECRET + name)
        age = value.age_seconds(now) if value else None
        source = "kept" if state.current is not None or secret.file is None else "file"
        view: dict[str, Any] = {
            "name": name,
            "owner": secret.owner,
            "state": _word(state, value),
            "source": source,
            "file": str(secret.file) if secret.file else "",
            "number": value.number if value else state.number,
            "since": rfc3339(value.since_ns) if value else None,
            "age_seconds": age,
            "max_age_seconds": int(secret.max_age_seconds),
            "rotate_seconds": int(secret.rotate_seconds) if secret.rotate and secret.rotate_seconds else None,
            "rotatable": secret.rotate is not None,
            "old_values": len(state.old),
            "held_by_jobs": self._room.holders.count(name),
            "uses": self._tally.total(SECRET + name),
            "last_used_at": rfc3339(last) if last else None,
            "retired_at": rfc3339(state.retired.at_ns) if state.retired else None,
            "removed_at": rfc3339(state.retired.removed_at_ns)
            if state.retired and state.retired.removed_at_ns
            else None,
            "left": state.retired.left if state.retired else "",
            "failing": _failing(state.failing),
            "repositories": [f"{issuer} {number}" for issuer, number in secret.repositories],
            "pools": list(secret.pools),
            "environments": list(secret.environments),
            "pipelines": list(secret.pipelines),
            "opens": list(secret.opens),
        }
        return view | {"flags": self._flags(secret, state, registered, age, now, last)}

    def _flags(
        self,
        secret: Registered,
        state: SecretState,
        registered: Registered | None,
        age: int | None,
        now: int,
        last: int,
    ) -> list[str]:
        if state.retired is not None:
            return ["left_behind"] if state.retired.left else []
        since = max(last, self._tally.since_ns)
        found = {
            "unregistered": registered is None,
            "no_value": age is None,
            "overdue": age is not None and age > secret.max_age_seconds,
            "idle": registered is not None and (now - since) // SECOND > secret.idle_seconds,
            "failing": state.failing is not None,
            "old_value_waits": bool(state.old),
        }
        return [flag for flag, holds in found.items() if holds]


def _present(secret: Registered, state: SecretState) -> Value | None:
    if state.retired is not None:
        return None
    try:
        return present(secret, state)
    except TryAgainError:
        return None


def _word(state: SecretState, value: Value | None) -> str:
    if state.retired is not None:
        return "removed" if state.retired.removed_at_ns else "retired"
    if state.making is not None:
        return "rotating"
    return "in_use" if value else "no_value"


def _failing(failing: Failing | None) -> dict[str, Any] | None:
    if failing is None:
        return None
    return {"step": failing.step, "reason": failing.reason, "tries": failing.tries, "at": rfc3339(failing.at_ns)}
