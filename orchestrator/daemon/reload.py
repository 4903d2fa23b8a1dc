"""SIGHUP: the policy bundle is loaded again. Nothing else is, and the log says what would need a restart."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from orchestrator.errors import OrchestratorError
from orchestrator.policy.bundle import BundleHolder
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.settings import Settings
from orchestrator.telemetry.metrics import Metrics

_log = logging.getLogger("orchestrator")

Reread = Callable[[], Settings]
"""Reads the settings again, from where the running ones came."""


class PolicyReload:
    """Signals that come while a reload is under way become one more reload."""

    def __init__(
        self, engine: BundleHolder | OpaServerEngine, metrics: Metrics, settings: Settings, reread: Reread | None
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._settings = settings
        self._reread = reread
        self._asked = asyncio.Event()

    def signalled(self) -> None:
        self._asked.set()

    async def run_for_ever(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.reload()
            await self._compare_settings()

    async def reload(self) -> str:
        """Load the policy again; `loaded`, `unchanged`, or `refused`, when what was in force stays so. Never raises."""
        try:
            outcome = await self._load()
        except OrchestratorError as error:
            outcome = "refused"
            detail = {"reason": error.reason, "detail": str(error), "fix": error.fix}
            _log.error("policy reload refused; the policy in force stays", extra=detail)
        except Exception:  # noqa: BLE001 -- the old policy is in force, whatever broke
            outcome = "refused"
            _log.exception("policy reload failed; the policy in force stays")
        self._metrics.policy_reloaded(outcome)
        return outcome

    async def _load(self) -> str:
        if isinstance(self._engine, OpaServerEngine):
            await self._engine.check()
            _log.info("policy belongs to the OPA server, which answers; there is nothing to reload here")
            return "unchanged"
        before = self._engine.digest
        changed = await self._engine.reload()
        _log.info("policy reloaded", extra={"changed": changed, "bundle": self._engine.digest, "before": before})
        return "loaded" if changed else "unchanged"

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
            _log.warning("only policy is reloaded; restart to put changed settings in force", extra={"changed": names})


def has_terminal() -> bool:
    """Whether this process has a controlling terminal. It loses it when the terminal is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
