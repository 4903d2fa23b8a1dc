"""The daemon's own preflight: at its start and now and then, and what follows for pools that lack a guard.

A protected pool without one of its guards gets no runner, warm or for a job, until it is back; for others it is
told. What was seen too long ago counts as not seen: nothing is assumed of guards that nobody looked at.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Never, Protocol

from orchestrator.backends.kubernetes.config import KubernetesPool
from orchestrator.backends.kubernetes.guards import Finding, Severity
from orchestrator.backends.kubernetes.preflight import Report
from orchestrator.errors import OrchestratorError

_log = logging.getLogger(__name__)

VALID_PERIODS = 3
"""Times between two looks after which the last report counts for nothing."""
_FIRST_RETRY = 5.0
MENDING_SECONDS = 60.0
"""While a protected pool lacks something it is looked again this soon: jobs wait for it to be mended."""
_WORDS = 500


class Looks(Protocol):
    """`Preflight`, as much of it as is needed."""

    async def look(self) -> Report: ...


class GuardWatch:
    """`lacks` is what the backend asks before it makes a pod; `changed` is called for each namespace whose pool's
    answer changed. `gateway` says, in words, why jobs of all pools have no fresh gateway; empty when one is there."""

    def __init__(
        self,
        preflight: Looks,
        pools: Mapping[str, KubernetesPool],
        seconds: float,
        changed: Callable[[str], None],
        *,
        gateway: Callable[[], str] = lambda: "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.report: Report | None = None
        self.error = "the guards have not been looked at yet"
        self._preflight = preflight
        self._pools = pools
        self._seconds = seconds
        self._changed = changed
        self._gateway = gateway
        self._monotonic = monotonic
        self._looked_at = float("-inf")
        self._told: frozenset[Finding] = frozenset()

    def lacks(self, pool: KubernetesPool) -> str:
        """Why this pool may have no runner now: only ever a protected one. Quick."""
        if not pool.protected:
            return ""
        known = self._known()
        if known is None:
            return f"pool {pool.name} is protected and its guards are not known: {self.error}"[:_WORDS]
        missing = known.missing(pool.name)
        if not missing:
            return ""
        more = f" (and {len(missing) - 3} more)" if len(missing) > 3 else ""
        return f"pool {pool.name} lacks {'; '.join(str(one) for one in missing[:3])}{more}"[:_WORDS]

    def missing(self) -> Mapping[str, tuple[str, ...]]:
        """By pool, each missing guard in words, whatever the pool's tier; for the pools' list and the metric."""
        known = self._known()
        if known is None:
            return dict.fromkeys(self._pools, (self.error,))
        away = self._gateway()
        shared = (f"gateway: {away}",) if away else ()
        return {name: (*(str(one) for one in known.missing(name)), *shared) for name in self._pools}

    async def look(self) -> None:
        """One look. Never raises but for cancellation."""
        before = {name: self.lacks(pool) for name, pool in self._pools.items()}
        try:
            report = await self._preflight.look()
        except OrchestratorError as error:
            self.error = f"the last look at the guards failed: {error} [{error.reason}]"[:_WORDS]
            _log.warning("%s", self.error)
        except Exception as error:  # noqa: BLE001 -- a defect here must not let a pool go unguarded, nor stop others
            self.error = f"the last look at the guards failed: {type(error).__name__}"
            _log.error("guards could not be looked at", exc_info=error)
        else:
            self.report, self.error = report, ""
            self._looked_at = self._monotonic()
            self._tell(report)
        for name, pool in self._pools.items():
            if self.lacks(pool) != before[name]:
                self._changed(pool.namespace)

    async def run(self) -> Never:
        """After the first `look`: again every `seconds`, sooner when there is reason to. Until cancelled."""
        wait = _FIRST_RETRY
        while True:
            if self.error:
                wait = min(wait * 2, self._seconds)
            elif any(self.lacks(pool) for pool in self._pools.values()):
                wait = min(MENDING_SECONDS, self._seconds)
            else:
                wait = self._seconds
            await asyncio.sleep(wait)
            await self.look()

    def _known(self) -> Report | None:
        age = self._monotonic() - self._looked_at
        if age > self._seconds * VALID_PERIODS:
            self.error = self.error or "the last look is too long ago"
            return None
        return self.report

    def _tell(self, report: Report) -> None:
        """Log what is new and what is mended, each once."""
        now = frozenset(report.findings)
        for one in report.findings:
            if one not in self._told:
                level = logging.ERROR if one.severity is Severity.MISSING else logging.WARNING
                extra = {"pool": one.pool, "guard": one.guard, "protects_from": one.protects_from, "fix": one.fix}
                _log.log(level, "guard of pool %s: %s", one.pool or "(all)", one, extra=extra)
        for one in sorted(self._told - now, key=str):
            _log.info("guard of pool %s is as it should be again: %s", one.pool or "(all)", one.guard)
        self._told = now
