"""A pod as this backend keeps it: the few fields that say how a runner is, read straight from the API's JSON.

Everything else is skipped while parsing, so that thousands of pods fit into a small cache. The classes behind
`read_pod` mirror core/v1 field names; unknown fields are ignored, missing ones have the API's defaults.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from sys import intern

import msgspec

from orchestrator.backends.kubernetes.manifest import (
    AGENT_CONTAINER,
    ANNOTATION_RUNNER_DIGEST,
    ANNOTATION_TEMPLATE_HASH,
    JOB_CONTAINER,
    LABEL_POOL,
    LABEL_WARM,
)

MAX_MESSAGE = 300
"""Characters kept of each message; schedulers and registries write long ones."""


class Terminated(msgspec.Struct, frozen=True, gc=False):
    exit_code: int = msgspec.field(name="exitCode", default=0)
    signal: int = 0
    reason: str = ""
    message: str = ""
    finished_at: str | None = msgspec.field(name="finishedAt", default=None)
    started_at: str | None = msgspec.field(name="startedAt", default=None)


class Waiting(msgspec.Struct, frozen=True, gc=False):
    reason: str = ""
    message: str = ""


class _Running(msgspec.Struct, gc=False):
    started_at: str | None = msgspec.field(name="startedAt", default=None)


class _State(msgspec.Struct, gc=False):
    waiting: Waiting | None = None
    terminated: Terminated | None = None
    running: _Running | None = None


class _Container(msgspec.Struct):
    name: str = ""
    state: _State = msgspec.field(default_factory=_State)


class Condition(msgspec.Struct, frozen=True, gc=False):
    """Of a pod; only `PodScheduled`, `PodReadyToStartContainers` and `DisruptionTarget` are kept."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    at: str | None = msgspec.field(name="lastTransitionTime", default=None)


class _Address(msgspec.Struct, gc=False):
    ip: str = ""


class _Status(msgspec.Struct):
    phase: str = ""
    reason: str = ""
    message: str = ""
    podIP: str = ""  # noqa: N815 -- the API's name
    podIPs: list[_Address] | None = None  # noqa: N815
    conditions: list[Condition] | None = None
    initContainerStatuses: list[_Container] | None = None  # noqa: N815
    containerStatuses: list[_Container] | None = None  # noqa: N815


class _Metadata(msgspec.Struct):
    name: str = ""
    uid: str = ""
    resourceVersion: str = ""  # noqa: N815
    creationTimestamp: str | None = None  # noqa: N815
    deletionTimestamp: str | None = None  # noqa: N815
    deletionGracePeriodSeconds: int | None = None  # noqa: N815
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Spec(msgspec.Struct):
    nodeName: str = ""  # noqa: N815


class PodObject(msgspec.Struct):
    """core/v1 Pod, as much of it as `strip` reads."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class Container(msgspec.Struct, frozen=True, gc=False):
    """One container's state; all empty before the kubelet has said anything. `started` is when it began, if it did."""

    running: bool = False
    waiting: Waiting | None = None
    terminated: Terminated | None = None
    started: str | None = None


class Pod(msgspec.Struct, frozen=True, gc=False):
    """What is kept of one pod. Times are the API server's, in RFC 3339; empty means *not yet*."""

    name: str
    uid: str
    version: str
    phase: str = ""
    reason: str = ""
    message: str = ""
    created: str = ""
    deletion: str = ""
    grace: int = 0
    pool: str = ""
    warm: bool = False
    runner_digest: str = ""
    template_hash: str = ""
    node: str = ""
    addresses: tuple[str, ...] = ()
    agent: Container = Container()
    job: Container = Container()
    scheduled: Condition | None = None
    isolated: Condition | None = None
    disruption: Condition | None = None


_EMPTY = Container()


def strip(pod: PodObject) -> Pod:
    """The kept fields. Words that repeat over pods are one string in memory."""
    meta, status = pod.metadata, pod.status
    labels, annotations = meta.labels or {}, meta.annotations or {}
    conditions = {one.type: one for one in status.conditions} if status.conditions else {}
    return Pod(
        name=meta.name,
        uid=meta.uid,
        version=meta.resourceVersion,
        phase=intern(status.phase),
        reason=intern(status.reason),
        message=status.message[:MAX_MESSAGE],
        created=meta.creationTimestamp or "",
        deletion=meta.deletionTimestamp or "",
        grace=meta.deletionGracePeriodSeconds or 0,
        pool=intern(labels.get(LABEL_POOL, "")),
        warm=labels.get(LABEL_WARM) == "true",
        runner_digest=annotations.get(ANNOTATION_RUNNER_DIGEST, ""),
        template_hash=intern(annotations.get(ANNOTATION_TEMPLATE_HASH, "")),
        node=intern(pod.spec.nodeName),
        addresses=_addresses(status),
        agent=_container(status.initContainerStatuses, AGENT_CONTAINER),
        job=_container(status.containerStatuses, JOB_CONTAINER),
        scheduled=_kept(conditions.get("PodScheduled")),
        isolated=_kept(conditions.get("PodReadyToStartContainers")),
        disruption=_kept(conditions.get("DisruptionTarget")),
    )


_POD = msgspec.json.Decoder(PodObject)


def read_pod(text: bytes | msgspec.Raw) -> Pod:
    """A pod from the API's JSON.

    Raises:
        msgspec.DecodeError: it is no JSON, or not a pod's.
    """
    return strip(_POD.decode(text))


def _addresses(status: _Status) -> tuple[str, ...]:
    """One for each IP family, the first one the pod's own."""
    said = [status.podIP, *[one.ip for one in status.podIPs or ()]]
    return tuple(dict.fromkeys(filter(None, said)))


def _container(statuses: list[_Container] | None, name: str) -> Container:
    for one in statuses or ():
        if one.name == name:
            return _kept_state(one.state)
    return _EMPTY


def _kept_state(state: _State) -> Container:
    if state.terminated is not None:
        ended = state.terminated
        kept = Terminated(
            ended.exit_code, ended.signal, intern(ended.reason), ended.message[:MAX_MESSAGE], ended.finished_at
        )
        return Container(terminated=kept, started=ended.started_at)
    if state.waiting is not None:
        reason, message = intern(state.waiting.reason), state.waiting.message[:MAX_MESSAGE]
        # The usual words before a start say nothing, and thousands of pods have them.
        return Container(waiting=Waiting(reason, message)) if message else Container(waiting=_plain(reason))
    return Container(running=True, started=state.running.started_at) if state.running is not None else _EMPTY


_PLAIN: dict[str, Waiting] = {word: Waiting(word) for word in ("ContainerCreating", "PodInitializing")}


def _plain(reason: str) -> Waiting:
    return _PLAIN.get(reason) or Waiting(reason)


def _kept(one: Condition | None) -> Condition | None:
    if one is None:
        return None
    return Condition(intern(one.type), intern(one.status), intern(one.reason), one.message[:MAX_MESSAGE], one.at)


@lru_cache(maxsize=4096)
def seconds(time: str | None) -> int:
    """Unix seconds of the API's RFC 3339 time; 0 for none, and for what is no time. Each pod is looked at many
    times, and the API's times are whole seconds that many pods share."""
    if not time:
        return 0
    try:
        return int(datetime.fromisoformat(time).timestamp())
    except ValueError:
        return 0
