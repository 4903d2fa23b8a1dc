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
from dataclasses import dataclass
from typing import Protocol

from orchestrator.backends.sandbox.backend import SandboxBackend
from orchestrator.daemon import slices
from orchestrator.daemon.adapters import CutLogs, EgressAdapter, JobLogsAdapter, ListenersAdapter
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.verdicts import EngineOf
from orchestrator.journal.logs import LogStore
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.ports import Attester, Backend, Revoker, RunnerCredentials, RunnerIdentity
from orchestrator.model.api import ApiCounts
from orchestrator.model.events import Fact
from orchestrator.model.record import Record
from orchestrator.server.runner_handlers import RunnerDeps
from orchestrator.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Neighbours:
    """What a backend is given. Engine and runner API are made after it, so they come as calls."""

    settings: Settings
    engine: EngineOf
    listeners: ListenersAdapter
    logs: LogStore
    masker: Masker


class BackendRoom(Protocol):
    """One backend with its own credentials, its own egress and its own health."""

    @property
    def backend(self) -> Backend: ...

    @property
    def credentials(self) -> RunnerCredentials: ...

    @property
    def revokers(self) -> Sequence[Revoker]:
        """What else holds access for a runner of this backend, to be taken away at the job's end."""
        ...

    @property
    def attesters(self) -> Sequence[Attester]:
        """What else has something to say for a job's record once its runner is gone. Told of every backend's jobs."""
        ...

    @property
    def outlives_daemon(self) -> bool:
        """Whether runners go on without this daemon, so that a stopping one leaves them to the next."""
        ...

    async def start(self) -> None:
        """Make sure that runners can be made.

        Raises:
            ConfigurationError: the machine, the cluster or the settings are not fit.
        """
        ...

    async def adopt(self, live: Sequence[Sequence[Fact]]) -> None:
        """All facts of the unfinished jobs, before the engine gets any of them: know again whose runners there are."""
        ...

    async def serve(self, deps: RunnerDeps, stack: AsyncExitStack) -> None:
        """Take requests of runners that have no listener of their own; every unfinished job is recovered by now.

        Raises:
            ConfigurationError: there is nowhere to listen.
        """
        ...

    def checks(self) -> Mapping[str, str]:
        """For readiness: each check by name to `ok` or to what is wrong. Quick."""
        ...

    def lacking(self) -> Mapping[str, Sequence[str]]:
        """By pool, each guard that it should have and has not, in words. Quick."""
        ...

    def warm(self) -> Mapping[str, int]:
        """By pool, unbound runners that are ready for a job. Quick."""
        ...

    def api_counts(self) -> Sequence[ApiCounts]:
        """What each client of the backend's API has counted. Quick."""
        ...

    async def align(self, record: Record) -> None:
        """Have a bound runner reach exactly what its record's obligations allow, if it does not yet. When this returns
        no gateway goes by other rules. Not called twice at once for one runner.

        Raises:
            TryAgainError: it is not done, or not known to be.
            GiveUpError: no gateway can go by these rules; the runner has no egress.
        """
        ...

    async def prepare(self, settings: Settings) -> Callable[[], None]:
        """Pools as in these settings, seen to work; what is returned puts them in force, at once and without fail.

        Raises:
            OrchestratorError: they do not work. Nothing has changed.
        """
        ...

    async def upkeep(self) -> None:
        """Called about once a second: start again what died."""
        ...

    async def close(self) -> None:
        """End what must not outlive the daemon."""
        ...


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
    from orchestrator.daemon.kubernetes import KubernetesRoom  # its client takes long to import

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
