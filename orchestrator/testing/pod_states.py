"""What kubelets, schedulers and node controllers say of a pod: status documents in their words. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from orchestrator.backends.kubernetes.manifest import AGENT_CONTAINER, JOB_CONTAINER


class End(Enum):
    """What becomes of a pod. HOLD runs until `ScriptedKubelet.end`; those that never start stay as they are."""

    EXIT = auto()
    HOLD = auto()
    OUT_OF_MEMORY = auto()
    DEADLINE = auto()
    EVICTED = auto()
    NOT_TAKEN_IN = auto()
    PREEMPTED = auto()
    NODE_LOST = auto()
    DELETED = auto()
    START_ERROR = auto()
    AGENT_FAILED = auto()
    IMAGE_PULL = auto()
    BAD_IMAGE = auto()
    CONFIG_ERROR = auto()
    UNSCHEDULABLE = auto()


NEVER_START = {
    End.IMAGE_PULL: ("ImagePullBackOff", "Back-off pulling image"),
    End.BAD_IMAGE: ("InvalidImageName", "couldn't parse image reference"),
    End.CONFIG_ERROR: ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
}


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient cpu.",
}
PREEMPTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "PreemptionByScheduler",
    "message": "default-scheduler: preempting to accommodate a higher priority pod",
}


def final_status(end: End, code: int, there: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The last status of a pod, or the one in which it is stuck."""
    match end:
        case End.OUT_OF_MEMORY:
            return {"phase": "Failed", **there(ended(137, "OOMKilled"))}
        case End.DEADLINE:
            message = "Pod was active on the node longer than the specified deadline"
            return {"phase": "Failed", "reason": "DeadlineExceeded", "message": message, **there(ended(143, "Error"))}
        case End.EVICTED:
            message = "The node was low on resource: ephemeral-storage."
            return {"phase": "Failed", "reason": "Evicted", "message": message, **there(ended(137, "Error"))}
        case End.NODE_LOST:
            return {"reason": "NodeLost", "message": "Node scripted which was running the pod is unresponsive"}
        case End.START_ERROR:
            message = "exec: /bin/sh: no such file or directory"
            return {"phase": "Failed", **there(ended(128, "StartError", message))}
        case End.IMAGE_PULL | End.BAD_IMAGE | End.CONFIG_ERROR:
            return {"phase": "Pending", **there(waiting(end))}
        case _:
            word = "Error" if code else "Completed"
            return {"phase": "Failed" if code else "Succeeded", **there(ended(code, word))}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def running() -> dict[str, Any]:
    return {"running": {"startedAt": now()}}


def initializing() -> dict[str, Any]:
    return {"waiting": {"reason": "PodInitializing"}}


def waiting(end: End) -> dict[str, Any]:
    reason, message = NEVER_START[end]
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str, message: str = "") -> dict[str, Any]:
    at = now()
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": at, "finishedAt": at}}


def _container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "image": "scripted", "imageID": "", "ready": False, "restartCount": 0, "state": state}


def agent_is(state: dict[str, Any]) -> dict[str, Any]:
    return {"initContainerStatuses": [_container(AGENT_CONTAINER, state)]}


def job_is(state: dict[str, Any]) -> dict[str, Any]:
    return {"containerStatuses": [_container(JOB_CONTAINER, state)]}
