"""The gateways of a cluster, as the daemon sees them: one table for all, and what they report as facts of jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from orchestrator.daemon.verdicts import EngineOf, VerdictNotes
from orchestrator.egress.batch import Misuse
from orchestrator.egress.hub import TableHub
from orchestrator.errors import GiveUpError
from orchestrator.model.events import AlarmRaised
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName

MAX_ALARMS = 8
"""Alarms of one runner that become facts; more would only say the same."""


class ClusterEgress:
    """`hub` is told of runners and serves gateways (`server.cluster.gateway_api`). A `lifecycle.ports.Revoker`."""

    def __init__(self, engine: EngineOf, mask: Callable[[str], str], max_age: float) -> None:
        """`max_age` in seconds is how long a gateway that hears nothing goes on."""
        self._notes = VerdictNotes(engine, mask)
        self._alarms: Counter[RunnerName] = Counter()
        self.hub = TableHub(self._notes.verdict, self._misused, self._notes.settled, max_age)

    async def align(self, record: Record) -> bool:
        """Have a published runner go by the rules of its record; no gateway goes by others when this returns. False for
        a runner that is not published and so has no egress.

        Raises:
            GiveUpError: gateways cannot go by these rules; the runner has no egress until it has others.
        """
        if record.runner is None:
            return False
        try:
            return await self.hub.change(record.runner, record.obligations.egress)
        except GiveUpError:
            await self.hub.change(record.runner, ())
            raise

    async def revoke(self, record: Record) -> None:
        """When this returns no gateway serves the job's runner, and its verdicts are durable."""
        if record.runner is not None:
            await self.hub.withdraw(record.runner)
            await self._notes.close(record.runner)
            self._alarms.pop(record.runner, None)

    def checks(self) -> Mapping[str, str]:
        """For readiness."""
        return {"gateway": "ok" if self.hub.gateways else "no egress gateway has asked for its table lately"}

    async def stop(self) -> None:
        """Tell gateways nothing more; what they said last is written, as far as the journal takes it."""
        self.hub.stop()
        await self._notes.stop()

    def _misused(self, misuse: Misuse) -> None:
        where = f"runner {misuse.runner}" if misuse.runner else "an address of no runner"
        detail = f"the proxy credential of runner {misuse.owner} was presented by {where} ({misuse.address})"
        alarm = AlarmRaised("job_credential_misused", detail)
        for name in {RunnerName(misuse.owner), RunnerName(misuse.runner)} - {RunnerName("")}:
            self._alarms[name] += 1
            if self._alarms[name] <= MAX_ALARMS:
                self._notes.add(name, alarm)
