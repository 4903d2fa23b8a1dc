"""The `sandbox` backend: one bubblewrap for each runner, behind the engine's port."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from orchestrator.backends.sandbox.config import SandboxConfig, SandboxPool
from orchestrator.backends.sandbox.link import LauncherLink, Listening
from orchestrator.backends.sandbox.plan import SPARES, NewPools, Plans
from orchestrator.backends.sandbox.ports import EgressPort, JobLogs, RunnerListeners
from orchestrator.backends.sandbox.preflight import Fitness, SandboxStatus
from orchestrator.backends.sandbox.sandbox import RETRY_FIRST, RETRY_MOST, Sandbox, digest
from orchestrator.backends.sandbox.trial import try_pool
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.journey import Journey
from orchestrator.model.runner import RunnerName, RunnerSpec, RunnerState, RunnerView

STARTS_PER_CORE = 3


class SandboxBackend:
    """Implements `lifecycle.ports.Backend` and `RunnerCredentials`.

    Runners live and die with this process: a new daemon starts with none. `start` must have succeeded
    before `create`. All methods belong to one event loop.
    """

    def __init__(self, config: SandboxConfig, egress: EgressPort, listeners: RunnerListeners, logs: JobLogs) -> None:
        self._config = config
        self._egress = egress
        self._listeners = listeners
        self._logs = logs
        self._plans: Plans | None = None
        self._link: LauncherLink | None = None
        self._linking = asyncio.Lock()
        self._agents: dict[str, Fitness] = {}
        self._gone: frozenset[str] = frozenset()
        self._sandboxes: dict[RunnerName, Sandbox] = {}
        self._starting: dict[RunnerName, asyncio.Task[RunnerView]] = {}
        self._removing: dict[RunnerName, asyncio.Task[None]] = {}
        self._by_token: dict[str, Sandbox] = {}
        self._changed: list[Callable[[RunnerName], None]] = []
        starts = config.max_concurrent_starts or STARTS_PER_CORE * (os.cpu_count() or 1)
        self._turn = asyncio.Semaphore(starts)
        self.status: SandboxStatus | None = None

    async def start(self) -> SandboxStatus:
        """Start the launcher and run a real sandbox for each pool.

        Raises:
            ConfigurationError: the machine or the settings are not fit; never is a job run unisolated instead.
        """
        await self._linked()
        assert self.status is not None
        return self.status

    async def prepare(self, pools: Mapping[str, SandboxPool]) -> NewPools:
        """See that runners of these pools can be made: a sandbox runs for each that is new or changed. Nothing that is
        in force changes by it.

        Raises:
            ConfigurationError: they cannot; reason `restart_needed` if they could after one.
            TryAgainError: the launcher is lost.
        """
        link = await self._linked()
        assert self._plans is not None
        before = self._config.pools
        plans = await asyncio.to_thread(self._plans.changed_to, {**before, **pools})
        agents = dict(self._agents)
        for name, pool in pools.items():
            if pool != before.get(name):
                agents[name] = await try_pool(link, plans, name)
        return NewPools(plans, agents, frozenset(before) - frozenset(pools))

    def put_in_force(self, new: NewPools) -> None:
        """Have runners made so from now on; those that are there stay as they are."""
        before, gone = self._config.pools, self._gone
        self._config, self._plans, self._gone = new.plans.config, new.plans, new.gone
        self._agents = dict(new.agents)
        if self._link is not None and not self._link.dead:
            for name, pool in self._config.pools.items():
                if pool != before.get(name) or (name in gone) is not (name in self._gone):
                    self._define(self._link, new.plans, name)

    async def close(self) -> None:
        """End every runner and the launcher; returns when all of them are gone."""
        for sandbox in self._sandboxes.values():
            sandbox.deleting = True
            sandbox.signal(signal.SIGKILL)
        for name in list(self._sandboxes):
            await self.delete(name)
        if self._removing:
            await asyncio.wait(list(self._removing.values()), timeout=self._config.start_timeout)
        for task in (*self._starting.values(), *self._removing.values()):
            task.cancel()
        if self._link is not None:
            await self._link.close()
            self._link = None

    # lifecycle.ports.Backend

    async def create(self, spec: RunnerSpec) -> RunnerView:
        """See the port. Returns when the runner's listeners are served and its agent is starting.

        Raises:
            TryAgainError: reason `runner_being_deleted`, `sandbox_start_failed`, `launcher_lost`.
            GiveUpError: reason `runner_name_clash`, `unknown_pool`.
        """
        present = self._sandboxes.get(spec.name)
        if present is not None:
            if present.spec.digest != spec.digest:
                raise GiveUpError(
                    f"{spec.name} exists and was made from another specification", reason="runner_name_clash"
                )
            if present.deleting:
                raise TryAgainError(f"{spec.name} is being deleted", reason="runner_being_deleted")
            starting = self._starting.get(spec.name)
            return await asyncio.shield(starting) if starting else present.view()
        if spec.pool not in self._config.pools:
            raise GiveUpError(f"there is no pool {spec.pool}", reason="unknown_pool")
        link = await self._linked()
        if spec.name in self._sandboxes:
            return await self.create(spec)
        sandbox = Sandbox(spec, link, lambda: self._notify(spec.name))
        self._sandboxes[spec.name] = sandbox
        task = asyncio.get_running_loop().create_task(self._bring_up(sandbox))
        self._starting[spec.name] = task
        return await asyncio.shield(task)

    async def inspect(self, name: RunnerName) -> RunnerView:
        """See the port."""
        sandbox = self._sandboxes.get(name)
        return sandbox.view() if sandbox else RunnerView(name, RunnerState.ABSENT)

    async def delete(self, name: RunnerName) -> None:
        """See the port. A running job gets SIGTERM and the configured grace first, with its egress already cut."""
        sandbox = self._sandboxes.get(name)
        if sandbox is None or name in self._removing:
            return
        grace = 0.0 if sandbox.deleting or sandbox.settled.is_set() else self._config.grace
        sandbox.deleting = True
        self._by_token.pop(sandbox.token_digest, None)
        self._removing[name] = asyncio.get_running_loop().create_task(self._remove(sandbox, grace))

    async def list(self) -> Sequence[RunnerView]:
        """See the port."""
        return [sandbox.view() for sandbox in self._sandboxes.values()]

    def journey(self, name: RunnerName) -> Journey | None:
        """See the port. What is removed is forgotten."""
        sandbox = self._sandboxes.get(name)
        return sandbox.journey() if sandbox else None

    def subscribe(self, changed: Callable[[RunnerName], None]) -> None:
        """See the port."""
        self._changed.append(changed)

    # lifecycle.ports.RunnerCredentials

    async def verify(self, credential: str) -> RunnerIdentity | None:
        """The runner whose token this is. Looked up by digest, so timing says nothing about any token."""
        presented = digest(credential)
        sandbox = self._by_token.get(presented)
        if sandbox is None or sandbox.ended.is_set() or not hmac.compare_digest(sandbox.token_digest, presented):
            return None
        return RunnerIdentity(sandbox.spec.name, sandbox.uid)

    # How it is done.

    async def _bring_up(self, sandbox: Sandbox) -> RunnerView:
        name = sandbox.spec.name
        try:
            async with self._turn:
                if sandbox.deleting:
                    raise TryAgainError(f"{name} is being deleted", reason="runner_being_deleted")
                listening = await sandbox.launch(self._logs.open(sandbox.spec.job_id), self._config.start_timeout)
            self._by_token[sandbox.token_digest] = sandbox
            await self._plug_in(sandbox, listening)
        except BaseException:
            self._starting.pop(name, None)
            sandbox.abandon()
            if name not in self._removing:
                await self.delete(name)
            raise
        self._starting.pop(name, None)
        return sandbox.view()

    async def _plug_in(self, sandbox: Sandbox, listening: Listening) -> None:
        """Hand both listeners over. Until then the agent's connections wait in their backlogs, unanswered."""
        spec = sandbox.spec
        results = await asyncio.gather(
            self._egress.open(spec.name, listening.gateway, spec.egress),
            self._listeners.serve(spec.name, sandbox.uid, listening.runner_api),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _remove(self, sandbox: Sandbox, grace: float) -> None:
        """Until nothing is left; failures of neighbours are tried again, with the runner still on the list."""
        name, delay = sandbox.spec.name, RETRY_FIRST
        starting = self._starting.get(name)
        if starting is not None:
            sandbox.signal(signal.SIGKILL)
            await asyncio.wait([starting])
            grace = 0.0
        ending = asyncio.ensure_future(self._end(sandbox, grace))
        while True:
            results = await asyncio.gather(
                self._egress.close(name), self._listeners.close(name), return_exceptions=True
            )
            if not any(isinstance(result, Exception) for result in results):
                break
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_MOST)
        await ending
        await self._swept(sandbox)
        del self._sandboxes[name]
        del self._removing[name]
        self._notify(name)

    async def _end(self, sandbox: Sandbox, grace: float) -> None:
        if grace and not sandbox.ended.is_set():
            sandbox.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await sandbox.ended.wait()
        sandbox.signal(signal.SIGKILL)
        await sandbox.settled.wait()

    async def _swept(self, sandbox: Sandbox) -> None:
        """After a launcher's death its successor removes the control groups; without one we cannot say *gone*."""
        delay = RETRY_FIRST
        while sandbox.was_orphaned:
            with contextlib.suppress(TryAgainError, TimeoutError):
                await self._linked()
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_MOST)

    def _notify(self, name: RunnerName) -> None:
        for changed in self._changed:
            changed(name)

    async def _linked(self) -> LauncherLink:
        """The living launcher; a new one when there was none or it died."""
        async with self._linking:
            if self._link is not None and not self._link.dead:
                return self._link
            if self._link is not None:
                await self._link.close()
                self._link = None
            if self._plans is None:
                self._plans = Plans.make(self._config)
            link = LauncherLink(self._plans.hello())
            try:
                ready = await link.ready()
                for name in self._config.pools:
                    if name not in self._agents:
                        self._agents[name] = await try_pool(link, self._plans, name)
                    self._define(link, self._plans, name)
            except BaseException:
                await link.close()
                raise
            self.status = SandboxStatus.from_launcher(str(self._plans.bwrap), ready)
            self._link = link
            return link

    def _define(self, link: LauncherLink, plans: Plans, name: str) -> None:
        link.define_pool(*plans.pool(name, self._agents[name].agent, 0 if name in self._gone else SPARES))
