"""Which warm runners a pool should have: from what is there to what to make and what to delete. Pure.

A warm runner is *pristine* while its agent is the only thing that ever ran in it and nobody was given it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from orchestrator.backends.kubernetes.config import KubernetesPool
from orchestrator.backends.kubernetes.pod import Pod, seconds
from orchestrator.backends.kubernetes.view import obstacle

_ENDED = frozenset({"Succeeded", "Failed", "Unknown"})
_EARLY = 0.1
"""Part of the longest wait by which pods made together are replaced apart."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`create` so many, delete these. `failed` of them ended by themselves, so making more is not urgent; `given_up`
    were fit and make room for jobs that were owed it."""

    create: int = 0
    delete: tuple[Pod, ...] = ()
    failed: int = 0
    given_up: int = 0


def begun_or_ended(pod: Pod) -> bool:
    """Whether anything but a running agent was ever seen of it: such a pod is nobody's to be given."""
    return (
        pod.phase in _ENDED
        or pod.agent.terminated is not None
        or pod.job.running
        or pod.job.terminated is not None
        or bool(pod.disruption and pod.disruption.status == "True")
    )


def pristine(pod: Pod, pool: KubernetesPool, template: str, now: float) -> bool:
    """Whether a job may be given this unbound pod now (Unix seconds): made as today's are, and with room in its
    hard stop for the longest job. Whether it is unbound, only the caller can know."""
    return (
        pod.warm
        and pod.pool == pool.name
        and pod.template_hash == template
        and not pod.deletion
        and not begun_or_ended(pod)
        and now < seconds(pod.created) + pool.warm_idle_seconds
    )


def best_first(pods: Iterable[Pod], polling: Collection[str]) -> list[Pod]:
    """In the order in which they are to be given away. `polling` are the uids whose agents ask for work this
    very moment; what has an obstacle in its way is left out: a new pod would be no slower."""
    usable = [pod for pod in pods if obstacle(pod) is None]
    return sorted(usable, key=lambda pod: (pod.uid not in polling, not pod.agent.running, pod.created, pod.uid))


def plan(
    pods: Sequence[Pod],
    live: int,
    pool: KubernetesPool,
    template: str,
    now: float,
    spent: Collection[str] = (),
    unseen: int = 0,
    owed: int = 0,
) -> Plan:
    """What to do about a pool's unbound pods.

    `live` are its jobs that have a pod or want one now; they come first: unbound pods only ever fill what the
    capacity leaves. `spent` are uids that some job once had, `unseen` pods that were made and not seen yet. `owed`
    jobs are kept out by a full quota and cannot have an unbound pod: for each of them one goes.
    """
    room = max(0, pool.capacity - live)
    target = min(pool.warm, room)
    here = [pod for pod in pods if not pod.deletion]
    fit = [
        pod
        for pod in here
        if pod.uid not in spent and pristine(pod, pool, template, now) and not _overdue(pod, pool, now)
    ]
    unfit = [pod for pod in here if pod not in fit]
    surplus = _worst_first(fit)[: max(owed, len(fit) + unseen - target, 0)]
    wanted = target - (len(fit) - len(surplus)) - unseen
    failed = sum(1 for pod in unfit if pod.uid not in spent and begun_or_ended(pod))
    create = max(0, min(wanted, room - len(pods) - unseen))
    return Plan(create, (*unfit, *surplus), failed, min(owed, len(surplus)))


def _worst_first(pods: Iterable[Pod]) -> list[Pod]:
    return sorted(pods, key=lambda pod: (obstacle(pod) is None, pod.agent.running, pod.created, pod.uid))


def _overdue(pod: Pod, pool: KubernetesPool, now: float) -> bool:
    """Waited for long enough. Each pod has its own moment shortly before the longest wait."""
    share = int.from_bytes(hashlib.sha256(pod.uid.encode()).digest()[:2]) / 0xFFFF
    return now >= seconds(pod.created) + pool.warm_idle_seconds * (1 - _EARLY * share)
