"""SIGHUP: policy bundle, its candidate, trust map and what else the daemon names are loaded again. Settings are not:
the log says what would need a restart. A bundle that denies far more than the one before it may be taken back here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping

from orchestrator.daemon.audit_notes import BY_SIGNAL, AuditNotes
from orchestrator.daemon.decision_log import DecisionRoom
from orchestrator.daemon.trust import TrustHolder
from orchestrator.errors import OrchestratorError
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.policy.bundle import BundleHolder
from orchestrator.policy.decision_log.deny_watch import Jump
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.settings import Settings
from orchestrator.telemetry.metrics import Metrics

_log = logging.getLogger("orchestrator")

Reread = Callable[[], Settings]
"""Reads the settings again, from where the running ones came."""

Load = Callable[[], Awaitable[bool]]
"""Reads files again and puts them in force; whether anything changed. Raises where they are not fit, and then what was
in force stays."""


class Reload:
    """Policy, the trust map and what `also` names, each by itself: one that is refused keeps the others from nothing.

    Signals that come while a reload is under way become one more reload.
    """

    def __init__(
        self,
        engine: BundleHolder | OpaServerEngine,
        trust: TrustHolder,
        decisions: DecisionRoom,
        notes: AuditNotes,
        metrics: Metrics,
        settings: Settings,
        reread: Reread | None,
        also: Mapping[str, Load] | None = None,
    ) -> None:
        self._engine = engine
        self._trust = trust
        self._decisions = decisions
        self._notes = notes
        self._metrics = metrics
        self._settings = settings
        self._reread = reread
        self._also = also or {}
        self._asked = asyncio.Event()
        self._signalled = False
        self._jump: Jump | None = None
        decisions.on_jump = self.jumped

    def signalled(self) -> None:
        self._signalled = True
        self._asked.set()

    def jumped(self, jump: Jump) -> None:
        """The bundle in force denies far more than the one before it."""
        self._jump = jump
        self._asked.set()

    async def run_for_ever(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            jump, self._jump = self._jump, None
            if jump is not None:
                await self._answer(jump)
            if self._signalled:
                self._signalled = False
                await self.reload()
                await self._compare_settings()

    async def reload(self) -> Mapping[str, str]:
        """Load what there is to load; `policy`, `policy candidate` and `trust map` to `loaded`, `unchanged`, or
        `refused`, when what was in force stays so. Never raises."""
        outcomes = {"policy": await self._outcome("policy", self._load_policy())}
        self._metrics.policy_reloaded(outcomes["policy"])
        if self._decisions.candidate_configured:
            outcomes["policy candidate"] = await self._outcome("policy candidate", self._load_candidate())
        if self._trust.configured:
            outcomes["trust map"] = await self._outcome("trust map", self._load_trust())
            self._metrics.trust_reloaded(outcomes["trust map"])
        for what, load in self._also.items():
            outcomes[what] = await self._outcome(what, load())
            _log.info(f"{what}: {outcomes[what]}")
        return outcomes

    async def _load_policy(self) -> bool:
        if isinstance(self._engine, OpaServerEngine):
            await self._engine.check()
            _log.info("policy belongs to the OPA server, which answers; there is nothing to reload here")
            return False
        before = self._engine.digest
        changed = await self._engine.reload(self._notes.policy_loaded)
        if changed:
            await self._decisions.came_into_force(self._engine.bundle, BY_SIGNAL, before)
        _log.info("policy reloaded", extra={"changed": changed, "bundle": self._engine.digest, "before": before})
        return changed

    async def _load_candidate(self) -> bool:
        changed = await self._decisions.load_candidate()
        _log.info("policy candidate reloaded", extra={"changed": changed, "bundle": self._decisions.candidate.digest})
        return changed

    async def _answer(self, jump: Jump) -> None:
        """Have the jump in the audit log, and take the bundle back where the settings say so. Never raises."""
        engine = self._engine
        rolls_back = self._decisions.rolls_back and isinstance(engine, BundleHolder)
        try:
            await self._notes.deny_jump(jump, rolled_back=rolls_back)
            if rolls_back and isinstance(engine, BundleHolder):
                await self._roll_back(engine)
        except OrchestratorError as error:
            _log.error("the jump of denials was not answered", extra={"reason": error.reason, "detail": str(error)})
        except Exception:  # noqa: BLE001 -- what is in force stays so, whatever broke
            _log.exception("the jump of denials was not answered")

    async def _roll_back(self, engine: BundleHolder) -> None:
        taken = engine.digest
        if await engine.roll_back(lambda bundle: self._notes.policy_loaded(bundle, DAEMON)):
            await self._decisions.came_into_force(engine.bundle, DAEMON, taken)
            _log.error("the bundle before is in force again", extra={"bundle": engine.digest, "taken_back": taken})

    async def _load_trust(self) -> bool:
        before = self._trust.digest
        changed = await self._trust.load(self._notes.trust_loaded)
        _log.info("trust map reloaded", extra={"changed": changed, "digest": self._trust.digest, "before": before})
        return changed

    async def _outcome(self, what: str, loading: Awaitable[bool]) -> str:
        reason = "internal_error"
        try:
            return "loaded" if await loading else "unchanged"
        except OrchestratorError as error:
            reason = error.reason
            detail = {"reason": reason, "detail": str(error), "fix": error.fix}
            _log.error(f"{what} reload refused; the one in force stays", extra=detail)
        except Exception:  # noqa: BLE001 -- the old one is in force, whatever broke
            _log.exception(f"{what} reload failed; the one in force stays")
        with contextlib.suppress(OrchestratorError):  # nothing comes of it
            await self._notes.refused(what, reason)
        return "refused"

    async def _compare_settings(self) -> None:
        """Name the settings that differ on disk by now; they are read at start only."""
        if self._reread is None:
            return
        try:
            found = await asyncio.to_thread(self._reread)
        except OrchestratorError as error:
            _log.warning("the settings on disk are not valid; a restart would fail", extra={"reason": error.reason})
            return
        except Exception:  # noqa: BLE001 -- only a hint hangs on it
            _log.exception("the settings could not be read again")
            return
        names = sorted(name for name in Settings.model_fields if getattr(found, name) != getattr(self._settings, name))
        if names:
            _log.warning(
                "only files that the settings name are reloaded; restart to put changed settings in force",
                extra={"changed": names},
            )


def has_terminal() -> bool:
    """Whether this process has a controlling terminal. It loses it when the terminal is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
