"""A cluster's pods in memory, agents that live in them, and daemons over it that can be killed at any await.

What a daemon asks of the API server and of the journal goes through its fuse: at a chosen step the daemon is dead,
which here means that nothing it asked for later happens and nobody hears its answers. Pods, agents and the journal
live on.
"""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import itertools
from contextlib import asynccontextmanager

import msgspec

from orchestrator.backends.kubernetes.adoption import unfinished_runners
from orchestrator.backends.kubernetes.answers import ConflictError, NotFoundError
from orchestrator.backends.kubernetes.backend import KubernetesBackend
from orchestrator.daemon.clock import SystemClock
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.observation import Deadlines
from orchestrator.lifecycle.recovery import recover
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import RunnerBound, RunnerCreated
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import fold
from orchestrator.testing.checker import World, broken_promises
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.source import MemorySource

PROOF = EgressProof(denied=("metadata", "direct"))


class Cluster:
    """Pods of one namespace, their versions and events; `quota` is how many may be there.

    While `counting` is False the quota's controller is away: pods that go still count, until `recount`. `meddle` is
    what admission makes of a pod.
    """

    def __init__(self, quota: int = 1000) -> None:
        self.quota = quota
        self.counting = True
        self.refusals = 0
        self.meddle = lambda pod: None
        self._uncounted = 0
        self.pods: dict[str, dict] = {}
        self.most = 0
        self.daemon: Daemon | None = None
        self.work: list[tuple[str, str]] = []
        self.writes: list[tuple[str, str]] = []
        self.agent_code: int | None = None
        self._uids = itertools.count(1)
        self._versions = itertools.count(1)
        self._version = 0
        self._events: list[tuple[int, bytes]] = []
        self._news = asyncio.Event()
        self._agents: dict[str, asyncio.Task[None]] = {}

    # The API server.

    async def request(self, method, path, *, params=None, body=None, **_):
        await asyncio.sleep(0)
        name = path.split("/pods", 1)[1].strip("/")
        match method:
            case "POST":
                pod = msgspec.json.decode(body)
                name = pod["metadata"]["name"]
                if name in self.pods:
                    raise ConflictError("exists", "AlreadyExists")
                if len(self.pods) + self._uncounted >= self.quota:
                    self.refusals += 1
                    raise TryAgainError("exceeded quota", reason="quota_exhausted")
                self.meddle(pod)
                created = dt.datetime.now(dt.UTC).isoformat()
                pod["metadata"] |= {"uid": f"uid-{next(self._uids)}", "creationTimestamp": created}
                pod["status"] = {"phase": "Pending"}
                self.pods[name] = pod
                self.most = max(self.most, len(self.pods))
                self.writes.append((method, name))
                self._tell("ADDED", pod)
                self._agents[pod["metadata"]["uid"]] = asyncio.get_running_loop().create_task(self._live(pod))
                return msgspec.json.encode(pod)
            case "DELETE":
                pod = self._pod(name)
                if msgspec.json.decode(body)["preconditions"]["uid"] != pod["metadata"]["uid"]:
                    raise ConflictError("another uid", "Conflict")
                self.writes.append((method, name))
                self.remove(name)
                return b"{}"
            case _ if name:
                return msgspec.json.encode(self._pod(name))
            case _:
                return msgspec.json.encode(
                    {"metadata": {"resourceVersion": str(self._version)}, "items": list(self.pods.values())}
                )

    @asynccontextmanager
    async def stream(self, _path, *, params, idle):
        yield self._lines(int(params["resourceVersion"]))

    async def _lines(self, after):
        while True:
            for version, line in list(self._events):
                if version > after:
                    after = version
                    yield line
            self._news.clear()
            await self._news.wait()

    def _pod(self, name):
        if name not in self.pods:
            raise NotFoundError("no such pod")
        return self.pods[name]

    def _tell(self, kind, pod):
        self._version = next(self._versions)
        pod["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, msgspec.json.encode({"type": kind, "object": pod})))
        self._news.set()

    def remove(self, name):
        pod = self.pods.pop(name)
        self._uncounted += not self.counting
        self._tell("DELETED", copy.deepcopy(pod))
        self._agents.pop(pod["metadata"]["uid"]).cancel()

    def recount(self):
        self.counting, self._uncounted = True, 0

    # The kubelet and the agents.

    async def _live(self, pod):
        uid = pod["metadata"]["uid"]
        self._status(pod, "Pending", agent={"running": {}})
        if not pod["metadata"]["name"].startswith("warm-"):
            await asyncio.sleep(0.08)  # image, start and canary: what warm runners have behind them
        code = await self._agent(pod["metadata"]["name"], uid)
        if code:
            self._status(pod, "Failed", agent={"terminated": {"exitCode": code}})
            return
        await asyncio.sleep(0.01)  # until then the API server shows an agent that still runs
        self._status(pod, "Running", agent={"terminated": {"exitCode": 0}}, job={"running": {}})
        await asyncio.sleep(0.002)
        self._status(pod, "Succeeded", agent={"terminated": {"exitCode": 0}}, job={"terminated": {"exitCode": 0}})

    async def _agent(self, name, uid):
        while True:
            if self.agent_code is not None:
                return self.agent_code
            daemon = self.daemon
            if daemon is None:
                await asyncio.sleep(0.001)
                continue
            try:
                job = await daemon.hears(daemon.claim(name, uid))
            except ConnectionError:
                await asyncio.sleep(0.001)
            except TryAgainError:
                await asyncio.sleep(0.005)
            except GiveUpError:
                return 77
            else:
                if job is not None:
                    self.work.append((job, uid))
                    return 0

    def _status(self, pod, phase, agent=None, job=None):
        status = {
            "phase": phase,
            "initContainerStatuses": [{"name": "agent", "state": agent or {}}],
            "containerStatuses": [{"name": "job", "state": job or {"waiting": {"reason": "PodInitializing"}}}],
        }
        pod["status"] = status
        self._tell("MODIFIED", pod)

    def warm(self):
        """Names of pods that wait, by what the daemon that made them called them."""
        return [name for name in self.pods if name.startswith("warm-")]

    async def close(self):
        for task in self._agents.values():
            task.cancel()
        await asyncio.gather(*self._agents.values(), return_exceptions=True)


class Fuse:
    """Step `at` of a daemon is its last (`mode` *kill*), or fails with (*after*) or without (*before*) its effect."""

    def __init__(self, at: int = 0, mode: str = "kill") -> None:
        self.at, self.mode, self.steps = at, mode, 0
        self.dead = asyncio.Event()

    async def step(self, effect):
        await self._spark("before")
        answer = await effect()
        await self._spark("after")
        return answer

    async def _spark(self, side):
        self.steps += 1
        if self.steps == self.at:
            if self.mode == "kill":
                self.dead.set()
            elif self.mode == side:
                raise TryAgainError("a fault", reason="api_unavailable")
        if self.dead.is_set():
            await asyncio.Event().wait()


class _Client:
    """The API server as a daemon with a fuse reaches it."""

    def __init__(self, cluster: Cluster, fuse: Fuse) -> None:
        self._cluster, self._fuse = cluster, fuse

    async def request(self, method, path, **more):
        return await self._fuse.step(lambda: self._cluster.request(method, path, **more))

    def stream(self, path, **more):
        return self._cluster.stream(path, **more)

    async def close(self):
        pass


class _Journal:
    """The journal as that daemon reaches it."""

    def __init__(self, journal: MemoryJournal, fuse: Fuse) -> None:
        self._journal, self._fuse = journal, fuse

    async def append(self, facts):
        if self._fuse.mode != "kill":
            return await self._journal.append(facts)  # that it may fail has tests of its own
        return await self._fuse.step(lambda: self._journal.append(facts))

    async def live(self):
        return await self._journal.live()

    async def facts_of(self, job_id):
        return await self._journal.facts_of(job_id)


class Daemon:
    """One process: a backend with its warm pool and an engine, over a cluster and a journal that outlive it."""

    def __init__(self, cluster: Cluster, config, journal: MemoryJournal, fuse: Fuse | None = None) -> None:
        self.fuse = fuse or Fuse()
        self.cluster = cluster
        self.backend = KubernetesBackend(config, _Client(cluster, self.fuse))
        self.journal = _Journal(journal, self.fuse)
        self.pools = {
            name: Pool(name, "kubernetes", TrustTier.STANDARD, pool.capacity, "image", "restricted", max_job_seconds=60)
            for name, pool in config.pools.items()
        }
        performer = Performer(FixedPolicy(), {"kubernetes": self.backend}, {"memory": MemorySource()}, [], [])
        self.engine = Engine(
            journal=self.journal, performer=performer, pools=self.pools, clock=SystemClock(), deadlines=Deadlines()
        )
        self.backend.subscribe(self.engine.runner_changed)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self):
        await self.backend.start()
        for name, uid in unfinished_runners(await self.journal.live()):
            self.backend.adopt(name, uid)
        await recover(self.journal, self.engine, "again")
        self._tasks = [asyncio.get_running_loop().create_task(self.backend.warm.run())]
        self.cluster.daemon = self

    async def hears(self, call):
        """The answer to a call from outside, unless the daemon dies first."""
        asked = asyncio.ensure_future(call)
        death = asyncio.ensure_future(self.fuse.dead.wait())
        try:
            await asyncio.wait((asked, death), return_when=asyncio.FIRST_COMPLETED)
            if death.done():
                raise ConnectionError
            return asked.result()
        finally:
            for task in (asked, death):
                task.cancel()
            await asyncio.gather(asked, death, return_exceptions=True)

    async def claim(self, pod, uid):
        """What the runner API does; the id of the job whose work goes out, None when there is none yet."""
        identity = await self.backend.warm.assignments.assigned("runners", pod, uid, 0.05)
        if identity is None:
            return None
        if not self.backend.is_as_sent(identity.name, uid):
            raise TryAgainError("not compared yet")
        return (await self.engine.claim(identity, PROOF)).id

    async def offer(self, number: int, pool: str = "default"):
        spec = JobSpec(name=f"job {number}", pool=PoolName(pool), script="true")
        record, _ = await self.engine.offer(
            JobOffer(key=JobKey("memory", f"job-{number}"), spec=spec, caller=Caller("i", "a"), fingerprint="f")
        )
        return record.id

    async def stop(self):
        if self.cluster.daemon is self:
            self.cluster.daemon = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.engine.close()
        await self.backend.close()


async def finished(journal: MemoryJournal, jobs, seconds: float = 10.0):
    """The records of these jobs once all are finished."""
    async with asyncio.timeout(seconds):
        while True:
            records = [fold(await journal.facts_of(job)) for job in jobs]
            if all(record.phase is Phase.FINISHED for record in records):
                return records
            await asyncio.sleep(0.002)


async def broken(cluster: Cluster, daemon: Daemon, journal: MemoryJournal, jobs) -> list[str]:
    """Every promise that what happened breaks; a warm runner never serves two."""
    remaining = [view.name for view in await daemon.backend.list()]
    world = World(accepted=list(jobs), handed_out=list(cluster.work), remaining=remaining)
    problems = broken_promises(world, {job: await journal.facts_of(job) for job in jobs})
    jobs_of: dict[str, set[str]] = {}
    for job, uid in cluster.work:
        jobs_of.setdefault(uid, set()).add(job)
    for job in jobs:
        for fact in await journal.facts_of(job):
            if isinstance(fact.event, RunnerCreated | RunnerBound):
                jobs_of.setdefault(fact.event.uid, set()).add(job)
    problems += [f"pod {uid} had several jobs: {sorted(held)}" for uid, held in jobs_of.items() if len(held) > 1]
    return problems


def shy(daemon: Daemon) -> None:
    """Have each job find no warm runner at its first try, as if none were ready yet."""
    real, tried = daemon.backend.warm.assignments.take, set()

    def take(name, *more):
        if name in tried:
            return real(name, *more)
        tried.add(name)
        return None

    daemon.backend.warm.assignments.take = take
