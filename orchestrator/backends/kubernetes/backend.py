"""The `kubernetes` backend: one pod for each runner, behind the engine's port. Two writes for each job."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from orchestrator.backends.kubernetes import manifest
from orchestrator.backends.kubernetes.answers import ConflictError, NotFoundError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool
from orchestrator.backends.kubernetes.journeys import Journeys, images_of
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.backends.kubernetes.pod_api import delete_pod, get_pod, is_going, listed_pods
from orchestrator.backends.kubernetes.pod_making import PodMaker
from orchestrator.backends.kubernetes.registry import Place, Registry
from orchestrator.backends.kubernetes.view import Limits
from orchestrator.backends.kubernetes.waiting_line import WaitingLine
from orchestrator.backends.kubernetes.warm import WarmPool
from orchestrator.backends.kubernetes.watch import Change, PodWatch, Timing
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.model.job import PoolName
from orchestrator.model.journey import Journey
from orchestrator.model.runner import RunnerName, RunnerSpec, RunnerState, RunnerView

_log = logging.getLogger(__name__)

CREATES_AT_ONCE = 16
"""Pods being created at once in one namespace. A namespace whose admission is slow holds up no other."""


class KubernetesBackend:
    """Implements `lifecycle.ports.Backend`. All methods belong to one event loop; `start` comes first.

    Runners outlive this process: `close` leaves them alone, and the next daemon finds them by label.
    """

    def __init__(
        self, config: KubernetesConfig, client: ApiClient, *, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.client = client
        limits = Limits(config.image_pull_seconds, config.unschedulable_seconds)
        self.registry = Registry(limits, Journeys(images_of(config)))
        self._config = config
        self._bodies = manifest.PodBodies(config)
        self._now_ns = now_ns
        self._subscribers: list[Callable[[RunnerName], None]] = []
        namespaces = sorted({pool.namespace for pool in config.pools.values()})
        selector = (
            f"{manifest.LABEL_MANAGED_BY}={manifest.MANAGED_BY},{manifest.LABEL_INSTALLATION}={config.installation}"
        )
        self._selector = selector
        timing = Timing(config.watch_seconds, config.watch_idle_seconds)
        self._watches = {
            namespace: PodWatch(client, namespace, selector, self._hears(namespace), timing) for namespace in namespaces
        }
        self._turns = {namespace: asyncio.Semaphore(CREATES_AT_ONCE) for namespace in namespaces}
        self._lines = {namespace: WaitingLine(self._tell) for namespace in namespaces}
        self._tasks: list[asyncio.Task[None]] = []
        self._deleted: set[str] = set()  # uids of pods whose deletion was accepted, while they are still there
        self.guard: Callable[[KubernetesPool], str] = lambda _: ""
        """What a protected pool lacks, in words; while it lacks something it gets no pod."""
        self.maker = PodMaker(client, self.registry.journeys.made, now_ns)
        self.warm = WarmPool(
            config,
            client,
            self.maker,
            self.registry,
            lambda namespace: self._watches[namespace].live,
            self._lines,
            allowed=lambda pool: not self.guard(pool),
            now_ns=now_ns,
        )

    @classmethod
    async def open(cls, config: KubernetesConfig) -> KubernetesBackend:
        """With a client of its own. Nothing is sent before `start`.

        Raises:
            ConfigurationError: the cluster's configuration cannot be used.
        """
        return cls(config, await ApiClient.open(config))

    async def start(self, patience: float | None = None) -> None:
        """Begin to watch; returns when every namespace is known, or after `patience` seconds (the request's
        time-out) with those that are. A namespace that cannot be watched now holds up no other; see `health`."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(watch.run()) for watch in self._watches.values()]
        waits = [loop.create_task(watch.synced.wait()) for watch in self._watches.values()]
        if waits:
            await asyncio.wait(waits, timeout=self._config.request_timeout if patience is None else patience)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def close(self) -> None:
        """Stop watching. Pods go on."""
        for line in self._lines.values():
            line.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self.client.close()

    def health(self) -> Mapping[str, str]:
        """Each namespace to `ok` or to why its pods are not being watched. Quick."""
        return {name: "ok" if watch.live else watch.error for name, watch in self._watches.items()}

    def adopt(self, name: RunnerName, uid: str) -> None:
        """Runner `name` is the pod of this uid, whatever the pod's name: a warm pod that was taken. An empty uid:
        such a runner may have been made. Not durable; the daemon says it again at each start, for each that
        `adoption.unfinished_runners` names, before anything else."""
        if not uid:
            self.warm.assignments.may_exist(name)
        else:
            self.warm.assignments.adopt(name, uid)

    def is_as_sent(self, name: RunnerName, uid: str) -> bool:
        """Whether this pod is known to be what was sent for the runner: only then may work go to it. A pod of which
        the journal knows that it is the runner's was compared before that was noted."""
        return self.maker.is_as_sent(uid) or self.registry.adopted_uid(name) == uid

    def recheck(self, namespace: str) -> None:
        """Jobs that wait for a place in this namespace, or for its guards, look again now."""
        self._lines[namespace].recheck()

    # lifecycle.ports.Backend

    async def create(self, spec: RunnerSpec) -> RunnerView:
        """See the port.

        Raises:
            TryAgainError: reason `quota_exhausted`, `guard_missing`, `api_busy`, `api_unavailable`,
                `runner_being_deleted`.
            GiveUpError: reason `runner_name_clash`, `create_refused`, `unknown_pool`; `pod_changed` when the API server
                took another pod than was sent, which was asked to go.
        """
        if self.registry.adopted_uid(spec.name):
            view = await self.inspect(spec.name)
            if view.state is not RunnerState.ABSENT:
                return view
            self.registry.disown(spec.name)
        pool = self._pool(spec.pool)
        line = self._lines[pool.namespace]
        if missing := self.guard(pool):
            line.unguarded(spec.name)
            raise TryAgainError(missing, reason="guard_missing", fix="run: orchestrator preflight")
        taken = self.warm.take(spec.name, pool)
        if taken is not None:
            line.left(spec.name)
            return self.registry.view(taken, self._now_ns())
        body = self._bodies.body(spec, pool)
        with self.warm.assignments.posting(spec.name):
            async with self._turns[pool.namespace]:
                pod = await self._made(spec, pool, body)
        self.registry.made(spec.name, Place(pool.namespace, pod.name, pod.uid))
        line.let_in(spec.name)
        return self.registry.view(pod, self._now_ns())

    async def inspect(self, name: RunnerName) -> RunnerView:
        """See the port. The watch's word is taken while it is being told; a look at the API server otherwise."""
        known = self.registry.find(name)
        if known is not None and self._watches[known[0]].live:
            return self.registry.view(known[1], self._now_ns())
        gone = self.registry.gone(name)
        if gone is not None and gone.namespace in self._watches and self._watches[gone.namespace].live:
            return self.registry.last_of(gone, name)
        found = await self._look(name)
        if found is not None:
            return self.registry.view(found[1], self._now_ns())
        gone = self.registry.gone(name)
        return self.registry.last_of(gone, name) if gone else RunnerView(name, RunnerState.ABSENT)

    async def delete(self, name: RunnerName) -> None:
        """See the port. Only ever deletes the very pod that was seen under this name."""
        place = self.registry.place(name)
        self.warm.assignments.dropped(name)
        for line in self._lines.values():
            line.left(name)
        if place is None:
            found = await self._look(name)
            if found is None:
                return
            place = Place(found[0], found[1].name, found[1].uid)
        if place.uid in self._deleted and await is_going(self.client, place.namespace, place.pod, place.uid):
            return
        try:
            await delete_pod(self.client, place.namespace, place.pod, place.uid, self._grace(place.namespace))
            if self.registry.place(name) == place:
                self._deleted.add(place.uid)
        except NotFoundError:
            self.registry.forget(name, place.uid)
        except ConflictError:
            # Another pod has the name, which is fine, or the server lost a race with another writer.
            now = await get_pod(self.client, place.namespace, place.pod)
            if now is not None and now.uid == place.uid:
                raise TryAgainError(f"{name} was being changed", reason="api_conflict") from None
            self.registry.forget(name, place.uid)

    async def list(self) -> Sequence[RunnerView]:
        """See the port: from the watches, and by a list where one is not told now. A namespace that does not
        answer is left out, unless none does.

        Raises:
            TryAgainError: no namespace answered.
        """
        views: list[RunnerView] = []
        errors: list[OrchestratorError] = []
        for namespace, watch in self._watches.items():
            if watch.live:
                pods = [pod for _, pod in self.registry.runners(namespace)]
            else:
                try:
                    pods = [pod for pod in await self._listed(namespace) if self.registry.owned(pod)]
                except OrchestratorError as error:
                    _log.warning("pods of namespace %s cannot be listed: %s", namespace, error)
                    errors.append(error)
                    continue
            views.extend(self.registry.view(pod, self._now_ns()) for pod in pods)
        if errors and len(errors) == len(self._watches):
            raise errors[0]
        return views

    def journey(self, name: RunnerName) -> Journey | None:
        """See the port."""
        return self.registry.journey(name)

    def subscribe(self, changed: Callable[[RunnerName], None]) -> None:
        """See the port."""
        self._subscribers.append(changed)

    # How it is done.

    async def _made(self, spec: RunnerSpec, pool: KubernetesPool, body: bytes) -> Pod:
        try:
            return await self.maker.make_for(spec, pool, body)
        except TryAgainError as error:
            if error.reason == "quota_exhausted":
                self._lines[pool.namespace].out_of_quota(spec.name)
            raise

    async def _look(self, name: RunnerName) -> tuple[str, Pod] | None:
        """Ask the API server; None only when every place where the runner could be says that it is not there.

        An adopted pod is older than the list its namespace's watch began with: what is not in a live one is gone."""
        adopted = self.registry.adopted_uid(name)
        place = self.registry.place(name)
        if place is not None:
            pod = await get_pod(self.client, place.namespace, place.pod)
            if pod is not None and (not adopted or pod.uid == adopted):
                return place.namespace, pod
            self.registry.forget(name, place.uid)
        for namespace in self._watches:
            if adopted and self._watches[namespace].live:
                pod = None
            elif adopted:
                pod = next((one for one in await self._listed(namespace) if one.uid == adopted), None)
            elif place is not None and place.namespace == namespace:
                pod = None
            else:
                pod = await get_pod(self.client, namespace, name)
            if pod is not None:
                return namespace, pod
        return None

    async def _listed(self, namespace: str) -> Sequence[Pod]:
        return await listed_pods(self.client, namespace, self._selector)

    def _pool(self, name: PoolName) -> KubernetesPool:
        pool = self._config.pools.get(name)
        if pool is None:
            raise GiveUpError(f"there is no pool {name}", reason="unknown_pool")
        return pool

    def _grace(self, namespace: str) -> int:
        return max(pool.grace_seconds for pool in self._config.pools.values() if pool.namespace == namespace)

    def _hears(self, namespace: str) -> Callable[[Change], None]:
        def changed(change: Change) -> None:
            heard = self.registry.apply(namespace, change, self._now_ns())
            to_have = self.warm.heard(change)
            if change.new is None and change.old is not None:
                self._deleted.discard(change.old.uid)
            if heard is None:
                return
            name, freed = heard
            self._tell(name)
            if freed or to_have:
                self._lines[namespace].hint()

        return changed

    def _tell(self, name: RunnerName) -> None:
        for subscriber in self._subscribers:
            subscriber(name)
