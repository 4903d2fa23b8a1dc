"""What operators ask of the daemon itself: to reload, and to drain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from orchestrator.daemon.operations.drain import Drainage
from orchestrator.daemon.operations.reload import Outcome, Reload
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.model.job import Caller
from orchestrator.model.phase import Phase
from orchestrator.server.views import timestamp

_UNDER_WAY = (Phase.PROVISIONING, Phase.BINDING, Phase.RUNNING, Phase.TEARDOWN)
_NOT_BEGUN = (Phase.QUEUED, Phase.WAITING)


class OperatingDesk:
    """`server.operating.port.OperatingDesk` over the real parts."""

    def __init__(self, reload: Reload, drainage: Drainage, notes: AuditNotes) -> None:
        self._reload = reload
        self._drainage = drainage
        self._notes = notes
        self._in_turn = asyncio.Lock()
        """What is asked for has the order that the audit log has."""

    async def reload(self, caller: Caller) -> Mapping[str, Any]:
        """See the protocol."""
        outcomes = await self._reload.ask(self._notes.who(caller) or caller.id)
        words = {outcome.word for outcome in outcomes.values()}
        whole = "refused" if "refused" in words else "loaded" if "loaded" in words else "unchanged"
        return {"outcome": whole, "parts": [_part(what, outcome) for what, outcome in outcomes.items()]}

    def draining(self) -> Mapping[str, Any]:
        """See the protocol."""
        now = self._drainage.progress()
        left, going_on = _counts(now.left, _UNDER_WAY), _counts(now.going_on, _UNDER_WAY)
        return {
            "draining": now.draining,
            "stopping": now.stopping,
            "since": timestamp(now.since_ns) if now.since_ns else None,
            "limit_at": timestamp(now.limit_ns) if now.limit_ns is not None else None,
            "jobs_left": sum(left.values()),
            "left": left,
            "going_on": going_on,
            "not_begun": _counts(now.not_begun, _NOT_BEGUN),
        }

    async def drain(self, caller: Caller, limit_seconds: float | None) -> Mapping[str, Any]:
        """See the protocol."""
        async with self._in_turn:
            await self._notes.drain_asked(limit_seconds, caller)
            self._drainage.begin(limit_seconds, caller.id)
        return self.draining()

    async def resume(self, caller: Caller) -> Mapping[str, Any]:
        """See the protocol."""
        async with self._in_turn:
            if self._drainage.can_be_taken_back():
                await self._notes.drain_taken_back(caller)
                self._drainage.resume(caller.id)
        return self.draining()


def _part(what: str, outcome: Outcome) -> Mapping[str, Any]:
    told = outcome.settings
    return {
        "what": what,
        "outcome": outcome.word,
        "changed": list(told.changed),
        "needs_restart": list(told.restart),
        "jobs_ending": dict(told.ending),
        "ports_closed": {pool: list(ports) for pool, ports in told.closed.items()},
        "reason": outcome.reason,
        "detail": outcome.detail,
        "fix": outcome.fix,
    }


def _counts(found: Mapping[Phase, int], phases: tuple[Phase, ...]) -> dict[str, int]:
    return {phase.value: found.get(phase, 0) for phase in phases}
