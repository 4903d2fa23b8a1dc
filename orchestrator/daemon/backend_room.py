"""What the daemon asks of each backend, and what it gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from orchestrator.daemon.adapters import ListenersAdapter
from orchestrator.daemon.verdicts import EngineOf
from orchestrator.journal.logs import LogStore
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.ports import Attester, Backend, Revoker, RunnerCredentials
from orchestrator.model.api import ApiCounts
from orchestrator.model.events import Fact
from orchestrator.model.record import Record
from orchestrator.server.runner.handlers import RunnerDeps
from orchestrator.settings import Settings


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
