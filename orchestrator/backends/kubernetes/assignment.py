"""Which unbound pod has which job: chosen here, kept in memory, durable by the journal. No pod is ever patched for it.

The journal notes it (`RunnerCreated`, `RunnerBound`), and the daemon says it again at its start (`adoption`),
before anything else. A pod that any job ever had, or that a deletion was asked for, is never given away again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from orchestrator.backends.kubernetes.config import KubernetesPool
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.backends.kubernetes.registry import Registry
from orchestrator.backends.kubernetes.warm_plan import begun_or_ended, best_first, pristine
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.job import PoolName
from orchestrator.model.runner import RunnerName

PREFIX = "warm-"
"""Of every warm pod's name; runners that are made for a job have another."""
CLAIM_SECONDS = 25.0
"""How long a claim of a pod without a job is held before its agent is told to come again."""


class Assignments:
    """Of all pools of one backend. Belongs to its event loop.

    `templates` are today's template hashes by pool. `watched` says whether a namespace's pods are being told now,
    `as_sent` whether the pod of a uid is what was sent; `changed` is called when a pool may want more or fewer unbound
    pods.
    """

    def __init__(
        self,
        registry: Registry,
        templates: Mapping[PoolName, str],
        watched: Callable[[str], bool],
        as_sent: Callable[[str], bool],
        changed: Callable[[], None],
    ) -> None:
        self.taken = 0
        self.polls: dict[str, list[asyncio.Future[RunnerIdentity]]] = {}
        """By uid, the unbound pods whose agents ask for work this very moment."""
        self.doomed: dict[str, bool] = {}
        """By uid, the pods whose deletion is being asked for, and whether it was accepted."""
        self._registry = registry
        self._templates = templates
        self._watched = watched
        self._as_sent = as_sent
        self._changed = changed
        self._asked: dict[RunnerName, PoolName] = {}
        self._posted: set[RunnerName] = set()
        self._spent: set[str] = set()

    # Giving a pod to a job.

    def take(self, name: RunnerName, pool: KubernetesPool, now: float) -> Pod | None:
        """Give runner `name` a pristine pod, if there is one. Nothing is awaited between choice and assignment.

        Never for a name under which a pod may have been made already: that name is the lock.
        """
        self._asked[name] = pool.name
        self._changed()
        if name in self._posted or not self._watched(pool.namespace):
            return None
        free = [
            pod
            for where, pod in self._registry.warm()
            if where == pool.namespace and self.fit(pod) and pristine(pod, pool, self._templates[pool.name], now)
        ]
        best = best_first(free, self.polls)
        if not best:
            return None
        self.adopt(name, best[0].uid)
        self.taken += 1
        return best[0]

    @contextmanager
    def posting(self, name: RunnerName) -> Iterator[None]:
        """Around the request that makes a pod for `name`: from its start on such a pod may exist, whatever is
        answered. Only a used-up quota, met at the first try, says that there is none."""
        first = name not in self._posted
        self._posted.add(name)
        try:
            yield
        except TryAgainError as error:
            if first and error.reason == "quota_exhausted":
                self._posted.discard(name)
            raise

    def may_exist(self, name: RunnerName) -> None:
        """An earlier daemon meant to make this runner, and whether it did is not known."""
        self._posted.add(name)

    def barred(self, name: RunnerName) -> bool:
        """Whether `take` never gives this runner a pod, because one may have been made for it."""
        return name in self._posted

    def adopt(self, name: RunnerName, uid: str) -> None:
        """The pod has a job now: whoever asks for its work gets it, and nobody else ever gets this pod."""
        self._registry.adopt(name, uid)
        self._spent.add(uid)
        self._changed()
        for poll in self.polls.get(uid, ()):
            if not poll.done():
                poll.set_result(RunnerIdentity(name, uid))

    def dropped(self, name: RunnerName) -> None:
        """The job wants no pod any more."""
        self._asked.pop(name, None)
        self._posted.discard(name)
        self._changed()

    def gone(self, uid: str) -> None:
        """The watch says that the pod is no more; its uid never comes back."""
        self._spent.discard(uid)
        self.doomed.pop(uid, None)

    # Whose a pod is.

    def runner_of(self, pod: str, uid: str) -> RunnerName | None:
        """The runner that a verified pod is; None for a warm one that has no job."""
        name = self._registry.adopted_name(uid)
        return name or (None if pod.startswith(PREFIX) else RunnerName(pod))

    def waiting(self, pod: str, uid: str) -> bool:
        """Whether it is a warm pod that nobody was given and somebody may yet be."""
        return pod.startswith(PREFIX) and uid not in self._spent and uid not in self.doomed

    async def assigned(
        self, namespace: str, pod: str, uid: str, seconds: float = CLAIM_SECONDS
    ) -> RunnerIdentity | None:
        """The runner that a verified pod is; for a warm one without a job, None after `seconds` without news.

        Raises:
            GiveUpError: reason `runner_unknown`: no job will ever be given to this pod.
        """
        name = self.runner_of(pod, uid)
        if name is not None:
            return RunnerIdentity(name, uid)
        if not self.waiting(pod, uid):
            raise GiveUpError(f"pod {namespace}/{pod} gets no job any more", reason="runner_unknown")
        poll: asyncio.Future[RunnerIdentity] = asyncio.get_running_loop().create_future()
        self.polls.setdefault(uid, []).append(poll)
        try:
            async with asyncio.timeout(seconds):
                return await poll
        except TimeoutError:
            return None
        finally:
            left = self.polls[uid]
            left.remove(poll)
            if not left:
                del self.polls[uid]

    # What is free, and how much is wanted.

    def free(self, pod: Pod) -> bool:
        """Nobody had it and nobody is deleting it."""
        return pod.uid not in self._spent and pod.uid not in self.doomed

    def fit(self, pod: Pod) -> bool:
        """Free, and known to be what was sent: only such a pod is ever given to a job."""
        return self.free(pod) and self._as_sent(pod.uid)

    def live(self, pool: KubernetesPool) -> int:
        """Jobs of the pool that have a pod or want one."""
        names = {name for name, owner in self._asked.items() if owner == pool.name}
        names |= {
            self._registry.name_of(pod) for _, pod in self._registry.runners(pool.namespace) if pod.pool == pool.name
        }
        return len(names)

    def ready(self) -> Mapping[PoolName, int]:
        """Unbound pods of each pool whose agent has begun."""
        found = dict.fromkeys(self._templates, 0)
        for _, pod in self._registry.warm():
            if pod.pool in found and self.fit(pod) and pod.agent.running and not begun_or_ended(pod):
                found[PoolName(pod.pool)] += 1
        return found
