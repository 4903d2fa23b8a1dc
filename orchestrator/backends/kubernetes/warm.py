"""Warm runners: a pool's pods that wait unbound for a job, made ahead and replaced when used, stale or outdated.

They hold no identity and no job. What there should be is decided by `warm_plan`, which job gets one by
`assignment`; here it is done.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Never

import msgspec

from orchestrator.backends.kubernetes import manifest
from orchestrator.backends.kubernetes.answers import ConflictError, NotFoundError
from orchestrator.backends.kubernetes.assignment import PREFIX, Assignments
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.backends.kubernetes.pod_api import delete_pod
from orchestrator.backends.kubernetes.pod_making import GRACE_SECONDS, PodChangedError, PodMaker
from orchestrator.backends.kubernetes.registry import Registry
from orchestrator.backends.kubernetes.waiting_line import WaitingLine
from orchestrator.backends.kubernetes.warm_plan import Plan, plan
from orchestrator.backends.kubernetes.watch import Change
from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.model.job import PoolName
from orchestrator.model.runner import RunnerName

_log = logging.getLogger(__name__)

TEND_SECONDS = 15.0
"""Between two looks when nothing happens; news are answered at once."""
_GATHER_SECONDS = 0.05
_AT_ONCE = 8
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 300.0
_UNSEEN_SECONDS = 60.0
"""A pod that was made and is not in the watch after this long went before it was seen."""
_DOUBT_SECONDS = 2.0
"""The same for a pod of which nobody knows whether it was made."""


def warm_name(pool: PoolName) -> str:
    """A new name: a DNS label that begins with `PREFIX`."""
    return f"{PREFIX}{pool[:40]}-{secrets.token_hex(8)}"


class _Patience:
    """Back-off of one pool: doubled with each failure, ended by a pod that came through."""

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0
        self._came: frozenset[str] = frozenset()

    def through(self, came: Collection[str], there: Collection[str]) -> None:
        """Of the pool's pods that are there, by uid, these have come through all that can fail. One that had before
        proves nothing now."""
        if not self._came.issuperset(came):
            self.failures = 0
        self._came = self._came.intersection(there).union(came)

    def failed(self, now: float, wish: float = 0.0, longest: float = _LONGEST_DELAY) -> None:
        """Those that were tried together fail as one."""
        if now >= self.until:
            self.failures += 1
        delay = _FIRST_DELAY * 2 ** min(max(self.failures, 1) - 1, 20)
        self.until = max(self.until, now + max(min(longest, delay), wish))


class WarmPool:
    """The unbound pods of all pools of one backend. Belongs to its event loop.

    `run` only while this daemon holds the Lease, and after every unfinished job was adopted: until then it
    cannot be told which pods are somebody's. `watched` says whether a namespace's pods are being told now,
    `lines` which runners a full quota keeps out of each: while there are any, no unbound pod is made there;
    `allowed` whether a pool may have new pods at all. `created` and `deleted` count what was asked for.
    """

    def __init__(
        self,
        config: KubernetesConfig,
        client: ApiClient,
        maker: PodMaker,
        registry: Registry,
        watched: Callable[[str], bool],
        lines: Mapping[str, WaitingLine],
        *,
        allowed: Callable[[KubernetesPool], bool] = lambda _: True,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.created = 0
        self.deleted = 0
        self._news = asyncio.Event()
        self._templates = {pool.name: manifest.template_hash(pool, config) for pool in config.pools.values()}
        self.assignments = Assignments(registry, self._templates, watched, maker.is_as_sent, self._news.set)
        self._config = config
        self._client = client
        self._maker = maker
        self._registry = registry
        self._watched = watched
        self._lines = lines
        self._allowed = allowed
        self._now_ns = now_ns
        self._unseen: dict[str, tuple[PoolName, float]] = {}
        self._patience = {pool.name: _Patience() for pool in config.pools.values()}
        self._made_way: dict[PoolName, set[RunnerName]] = {pool.name: set() for pool in config.pools.values()}
        """Runners kept out by a full quota for each of whom an unbound pod was given up: one is enough, however long
        the quota needs to count its going."""

    def take(self, name: RunnerName, pool: KubernetesPool) -> Pod | None:
        """`Assignments.take`, now."""
        return self.assignments.take(name, pool, self._now_ns() / 1e9)

    def heard(self, change: Change) -> bool:
        """Take news of the watch in; True for a new unbound pod, which a waiting job could have."""
        new, old = change.new, change.old
        self._news.set()
        if new is None:
            if old is not None:
                self.assignments.gone(old.uid)
            return False
        if not new.warm:
            return False
        self._unseen.pop(new.name, None)
        return old is None and self.assignments.fit(new)

    async def run(self) -> Never:
        """Tend until cancelled: at news, and now and then."""
        while True:
            self._news.clear()
            try:
                await self.tend()
            except Exception as error:  # noqa: BLE001 -- a defect here is not the running jobs'
                _log.error("warm runners could not be tended", exc_info=error)
            try:
                async with asyncio.timeout(self._pause()):
                    await self._news.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(_GATHER_SECONDS)

    async def tend(self) -> None:
        """One look at all pools, and what follows from it. Not to be called again before it returns."""
        turns = asyncio.Semaphore(_AT_ONCE)
        unbound: dict[tuple[str, str], list[Pod]] = {}
        for where, pod in self._registry.warm():
            unbound.setdefault((where, pod.pool), []).append(pod)
        async with asyncio.TaskGroup() as group:
            for pool in self._config.pools.values():
                pods = unbound.pop((pool.namespace, pool.name), [])
                if not self._watched(pool.namespace) or not (pods or pool.warm):
                    continue
                await self._compare(pool, pods)
                made = self._planned(pool, pods)
                self._end(group, made.delete, pool.namespace, turns)
                for _ in range(made.create):
                    group.create_task(self._create(pool, turns))
            for (where, _), pods in unbound.items():  # of pools that are no more
                self._end(group, pods, where, turns)

    async def _compare(self, pool: KubernetesPool, pods: Iterable[Pod]) -> None:
        """Look at those of which it is not known whether they are as sent: an earlier daemon's, and those whose
        creation was not answered. Until then nobody is given them."""
        today = self._templates[pool.name]
        for pod in pods:
            known = self._maker.is_as_sent(pod.uid) or pod.template_hash != today
            if known or pod.deletion or not self.assignments.free(pod):
                continue
            try:
                await self._maker.look(pool, pod, self._body(pod.name, pool))
                self._lines[pool.namespace].hint()
            except NotFoundError:
                continue
            except PodChangedError as error:
                self._failed(pool, error)
            except OrchestratorError as error:
                _log.info("warm runners of pool %s are compared later: %s", pool.name, error)
                return

    def _planned(self, pool: KubernetesPool, pods: list[Pod]) -> Plan:
        now, patience, assignments = asyncio.get_running_loop().time(), self._patience[pool.name], self.assignments
        self._unseen = {name: kept for name, kept in self._unseen.items() if kept[1] > now}
        unseen = sum(1 for owner, _ in self._unseen.values() if owner == pool.name)
        spent = {pod.uid for pod in pods if not assignments.free(pod)}
        live = assignments.live(pool)
        kept_out = self._lines[pool.namespace].for_room
        made_way = self._made_way[pool.name]
        made_way.intersection_update(kept_out)
        owed = [name for name in kept_out if assignments.barred(name) and name not in made_way]
        made = plan(pods, live, pool, self._templates[pool.name], self._now_ns() / 1e9, spent, unseen, len(owed))
        made_way.update(islice(owed, made.given_up))
        there = {pod.uid for pod in pods}
        patience.through({uid for uid in there & assignments.polls.keys() if self._maker.is_as_sent(uid)}, there)
        if made.failed:
            patience.failed(now)
        if made.create and (kept_out or now < patience.until or not self._allowed(pool)):
            return replace(made, create=0)
        return made

    def _end(self, group: asyncio.TaskGroup, pods: Iterable[Pod], namespace: str, turns: asyncio.Semaphore) -> None:
        """Nobody is given these from here on, whether their deletion succeeds now or later."""
        doomed = self.assignments.doomed
        for pod in pods:
            if not doomed.get(pod.uid) and not pod.deletion:
                doomed[pod.uid] = False
                group.create_task(self._delete(namespace, pod, turns))

    def _pause(self) -> float:
        now = asyncio.get_running_loop().time()
        waits = [one.until - now for one in self._patience.values() if one.until > now]
        waits += [until - now for _, until in self._unseen.values()]
        return max(_GATHER_SECONDS, min([TEND_SECONDS, *waits]))

    async def _create(self, pool: KubernetesPool, turns: asyncio.Semaphore) -> None:
        name = warm_name(pool.name)
        now = asyncio.get_running_loop().time
        self._unseen[name] = (pool.name, now() + _UNSEEN_SECONDS)
        try:
            async with turns:
                await self._maker.make(pool, self._body(name, pool))
            self.created += 1
            self._lines[pool.namespace].hint()
        except OrchestratorError as error:
            again = isinstance(error, TryAgainError)
            full = error.reason == "quota_exhausted"
            if not again or full:
                self._unseen.pop(name, None)  # it is known not to exist
            elif name in self._unseen:
                self._unseen[name] = (pool.name, now() + _DOUBT_SECONDS)
            self._failed(pool, error)

    def _failed(self, pool: KubernetesPool, error: OrchestratorError) -> None:
        patience = self._patience[pool.name]
        wish = error.retry_after_seconds if isinstance(error, TryAgainError) else None
        longest = TEND_SECONDS if error.reason == "quota_exhausted" else _LONGEST_DELAY
        patience.failed(asyncio.get_running_loop().time(), wish or 0.0, longest)
        if patience.failures == 1:
            _log.warning("pool %s gets no warm runner: %s [%s]", pool.name, error, error.reason)

    def _body(self, name: str, pool: KubernetesPool) -> bytes:
        return msgspec.json.encode(manifest.warm_document(name, pool, self._config))

    async def _delete(self, namespace: str, pod: Pod, turns: asyncio.Semaphore) -> None:
        try:
            async with turns:
                await delete_pod(self._client, namespace, pod.name, pod.uid, GRACE_SECONDS)
            self.deleted += 1
        except (NotFoundError, ConflictError):
            return  # gone, or changing: asked again if the watch still shows it at the next look
        except OrchestratorError as error:
            _log.info("warm runner %s is deleted later: %s", pod.name, error)
            return
        if pod.uid in self.assignments.doomed:
            self.assignments.doomed[pod.uid] = True
