"""The backends of the configured pools, each with what belongs to it.

A further backend is one class like `SandboxRoom` and one line in `OPENERS`; only backends that a pool names
are opened.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack

from orchestrator.backends.sandbox.backend import SandboxBackend
from orchestrator.daemon import slices
from orchestrator.daemon.adapters import CutLogs, EgressAdapter, JobLogsAdapter
from orchestrator.daemon.backend_room import BackendRoom, Neighbours
from orchestrator.daemon.closing import push_closing
from orchestrator.lifecycle.ports import Attester, Revoker, RunnerCredentials, RunnerIdentity
from orchestrator.model.api import ApiCounts
from orchestrator.model.events import Fact
from orchestrator.model.record import Record
from orchestrator.server.runner.handlers import RunnerDeps
from orchestrator.settings import Settings

_log = logging.getLogger(__name__)


class SandboxRoom:
    """Local sandboxes and their gateway process."""

    outlives_daemon = False

    def __init__(self, backend: SandboxBackend, egress: EgressAdapter, cut: CutLogs) -> None:
        self.backend = backend
        self.credentials: RunnerCredentials = backend
        self.revokers: Sequence[Revoker] = (egress,)
        self.attesters: Sequence[Attester] = (cut,)
        self._egress = egress
        self._cut = cut

    @classmethod
    async def open(cls, near: Neighbours, stack: AsyncExitStack) -> SandboxRoom:
        """The gateway runs when this returns; it is stopped by `stack`, after the sandboxes."""
        settings = near.settings
        egress = EgressAdapter(slices.gateway(settings, root=os.geteuid() == 0), near.engine, near.masker.text)
        push_closing(stack, "egress gateway", egress.stop)
        await egress.gateway.start()
        instance = hashlib.sha256(str(settings.state_dir.resolve()).encode()).hexdigest()[:12]
        logs = JobLogsAdapter(near.logs, near.engine)
        backend = SandboxBackend(slices.sandbox(settings, instance), egress, near.listeners, logs)
        return cls(backend, egress, CutLogs(near.logs))

    async def start(self) -> None:
        for weakness in (await self.backend.start()).degraded:
            _log.warning("sandboxes are weaker here than they could be: %s", weakness)

    async def adopt(self, live: Sequence[Sequence[Fact]]) -> None:
        """No sandbox outlived the last daemon; what they had said until then is all there will be."""
        self._cut.expect(live)

    async def serve(self, deps: RunnerDeps, stack: AsyncExitStack) -> None:
        """Each sandbox has a listener of its own."""

    def checks(self) -> Mapping[str, str]:
        alive = self._egress.gateway.alive
        return {"gateway": "ok" if alive else "the egress gateway is down and being restarted"}

    def lacking(self) -> Mapping[str, Sequence[str]]:
        return {}

    def warm(self) -> Mapping[str, int]:
        return {}

    def api_counts(self) -> Sequence[ApiCounts]:
        return ()

    async def align(self, record: Record) -> None:
        await self._egress.align(record)

    async def prepare(self, settings: Settings) -> Callable[[], None]:
        new = await self.backend.prepare(slices.sandbox_pools(settings))
        return lambda: self.backend.put_in_force(new)

    async def upkeep(self) -> None:
        await self._egress.revive()

    async def close(self) -> None:
        await self.backend.close()


Opener = Callable[[Neighbours, AsyncExitStack], Awaitable[BackendRoom]]


async def _kubernetes(near: Neighbours, stack: AsyncExitStack) -> BackendRoom:
    from orchestrator.daemon.cluster.room import KubernetesRoom  # its client takes long to import

    return await KubernetesRoom.open(near, stack)


OPENERS: Mapping[str, Opener] = {"sandbox": SandboxRoom.open, "kubernetes": _kubernetes}
"""Every backend there is, by the name that pools use."""


async def open_backends(
    names: Iterable[str], near: Neighbours, stack: AsyncExitStack, openers: Mapping[str, Opener] = OPENERS
) -> dict[str, BackendRoom]:
    """Open the backends named, each once. They make no runner before `start`."""
    return {name: await openers[name](near, stack) for name in sorted(set(names))}


class AnyCredentials:
    """`RunnerCredentials` over all backends: a credential is good for at most one runner of one of them."""

    def __init__(self, rooms: Iterable[BackendRoom]) -> None:
        self._all = tuple(room.credentials for room in rooms)

    async def verify(self, credential: str) -> RunnerIdentity | None:
        for credentials in self._all:
            identity = await credentials.verify(credential)
            if identity is not None:
                return identity
        return None
