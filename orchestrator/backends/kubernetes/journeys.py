"""How far each pod has come, and when: from what the watch told and when it told it. No I/O.

Conditions and container states carry whole seconds of the cluster's clock, in which most short stages would last
nothing, and a pod would be scheduled before it was made. The moment at which we hear of a change is finer, but late
when the watch was away. So our moment counts where it falls into the second that the API server says. Otherwise that
second does: its end if we heard of it soon after, its beginning if not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.backends.kubernetes.pod import Condition, Pod, seconds
from orchestrator.model.job import PoolName
from orchestrator.model.journey import Journey, RunnerPlace, RunnerStage, StageBegan, TimeSource, in_order

SECOND = 1_000_000_000
MAX_REMEMBERED = 20_000
"""Pods whose ways are remembered, gone ones among them; of the others the trace knows nothing."""

_LATE = 5
"""Seconds by which a kubelet's word may be late as a rule."""

Images = Callable[[Pod], tuple[str, str]]
"""The agent's image and the job's of this pod, as they were sent."""


def images_of(config: KubernetesConfig) -> Images:
    """As the pools of this configuration have them."""
    return lambda pod: (config.agent_image, pool.image if (pool := config.pools.get(PoolName(pod.pool))) else "")


Begun = dict[RunnerStage, StageBegan]


@dataclass(slots=True)
class _Way:
    begun: Begun = field(default_factory=dict)
    ready: StageBegan | None = None
    """When its isolation and network were there, if that was told before the agent's container began."""
    place: RunnerPlace = field(default_factory=RunnerPlace)


class Journeys:
    """By uid, of all pods that were made or heard of lately."""

    def __init__(self, images: Images = lambda _: ("", "")) -> None:
        self._images = images
        self._ways: OrderedDict[str, _Way] = OrderedDict()

    def made(self, uid: str, asked_ns: int, taken_ns: int) -> None:
        """This process had the pod made: asked for it, and had the answer, at these moments (Unix time)."""
        begun = self._way(uid).begun
        begun[RunnerStage.CREATE] = StageBegan(RunnerStage.CREATE, asked_ns)
        begun[RunnerStage.SCHEDULE] = StageBegan(RunnerStage.SCHEDULE, taken_ns)

    def heard(self, namespace: str, pod: Pod, now_ns: int) -> None:
        """The watch, or an answer of the API server, has shown the pod like this."""
        way = self._way(pod.uid)
        if pod.node and not way.place.machine:
            agent, job = self._images(pod)
            way.place = RunnerPlace(namespace, pod.name, pod.node, agent, job, pod.warm)
        elif not way.place.namespace:
            way.place = RunnerPlace(namespace, pod.name, warm=pod.warm)
        if way.ready is None and _true(pod.isolated) and not (pod.agent.running or pod.agent.terminated):
            way.ready = _began(RunnerStage.PULL_AGENT, pod.isolated.at if pod.isolated else None, now_ns)
        for stage, at in _told(pod):
            if stage not in way.begun:
                way.begun[stage] = _began(stage, at, now_ns)

    def of(self, uid: str) -> Journey | None:
        """What is known of the pod of this uid."""
        way = self._ways.get(uid)
        if way is None or not way.begun:
            return None
        begun = dict(way.begun)
        scheduled = begun.get(RunnerStage.PULL_AGENT)
        if way.ready is not None and scheduled is not None:
            begun[RunnerStage.SANDBOX] = StageBegan(RunnerStage.SANDBOX, scheduled.at_ns, scheduled.source)
            begun[RunnerStage.PULL_AGENT] = way.ready
        return Journey(uid, in_order(begun.values()), way.place)

    def _way(self, uid: str) -> _Way:
        way = self._ways.get(uid)
        if way is None:
            way = self._ways[uid] = _Way()
            if len(self._ways) > MAX_REMEMBERED:
                self._ways.popitem(last=False)
        return way


def _told(pod: Pod) -> Iterator[tuple[RunnerStage, str | None]]:
    """Each stage that the pod has reached, and when it says that was."""
    if pod.created:
        yield RunnerStage.SCHEDULE, pod.created
    if pod.node:
        yield RunnerStage.PULL_AGENT, pod.scheduled.at if _true(pod.scheduled) and pod.scheduled else None
    agent, job = pod.agent, pod.job
    if agent.running or agent.terminated is not None:
        yield RunnerStage.START, agent.started
    if agent.terminated is not None and agent.terminated.exit_code == 0:
        yield RunnerStage.PULL_JOB, agent.terminated.finished_at
    if job.running or (job.terminated is not None and job.started):
        yield RunnerStage.RUN, job.started
    if job.terminated is not None:
        yield RunnerStage.FLUSH, job.terminated.finished_at


def _began(stage: RunnerStage, at: str | None, now_ns: int) -> StageBegan:
    second_ns = seconds(at) * SECOND
    late_ns = now_ns - second_ns
    if not second_ns or 0 <= late_ns < SECOND:
        return StageBegan(stage, now_ns)
    at_ns = second_ns + SECOND - 1 if SECOND <= late_ns < _LATE * SECOND else second_ns
    return StageBegan(stage, at_ns, TimeSource.API)


def _true(condition: Condition | None) -> bool:
    return condition is not None and condition.status == "True"
