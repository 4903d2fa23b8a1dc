"""From a pod to a runner's view: every way a pod ends, or never starts, told apart. Pure.

Sources of the words: core/v1 PodStatus and ContainerState; the kubelet's container and eviction reasons; the
condition `DisruptionTarget` (KEP-3329, Kubernetes 1.26 and newer), which older clusters do not set.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from orchestrator.backends.kubernetes.pod import Pod, Terminated, seconds
from orchestrator.model.runner import ExitCause, Obstacle, Pending, RunnerName, RunnerState, RunnerView

SECOND = 1_000_000_000

_PULL_TRIED_AGAIN = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ErrImageNeverPull"})
_PULL_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "SignatureValidationFailed"})
_START_TRIED_AGAIN = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CreatePodSandboxError"}
)
_START_FAILED = frozenset({"StartError", "ContainerCannotRun"})
_NODE_LOST = frozenset({"NodeLost", "NodeUnreachable"})
_LOST_DISRUPTIONS = frozenset({"DeletionByTaintManager", "DeletionByPodGC"})
_PREEMPTIONS = frozenset({"PreemptionByScheduler", "PreemptionByKubeScheduler"})
_PUT_OUT = frozenset({"Evicted", "NodeShutdown", "Shutdown", "Terminated", "UnexpectedAdmissionError"})
_NOT_TAKEN_IN = re.compile(r"OutOf[a-z].*|Node(Affinity|Name|Ports|UnexpectedlyBusy)|.*Affinity.*|PodOSNotSupported")
"""A kubelet's reasons for refusing a pod that was bound to it."""
_LAST_SIGNAL = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an obstacle may last, in seconds."""

    image_pull: float = 60.0
    unschedulable: float = 300.0
    start: float = 60.0


def runner_view(pod: Pod, name: RunnerName, limits: Limits, since_ns: int = 0) -> RunnerView:
    """The runner as this pod shows it. `since_ns` is since when the pod's present obstacle stands in its way."""
    end = _end(pod)
    if end is not None:
        return RunnerView(name, RunnerState.EXITED, pod.uid, *end, placed_at_ns=_placed(pod))
    word = obstacle(pod)
    pending = None
    if word is not None:
        seen, detail, hopeless = word
        limit = 0.0 if hopeless else _limit(seen, limits)
        pending = Pending(seen, detail, since_ns, int(limit * SECOND))
    detail = "it is being deleted" if pod.deletion else ""
    return RunnerView(name, RunnerState.ALIVE, pod.uid, detail=detail, pending=pending, placed_at_ns=_placed(pod))


def absent_view(pod: Pod, name: RunnerName, *, seen: bool) -> RunnerView:
    """What is left of a pod that is gone: its end, if that was known before. `seen` says we watched it go."""
    end = _end(pod)
    if end is None and seen:
        cause = ExitCause.PREEMPTED if _disrupted(pod) in _PREEMPTIONS else ExitCause.DELETED
        if _disrupted(pod) == "EvictionByEvictionAPI":
            cause = ExitCause.EVICTED
        end = (None, cause, _why(pod) or "the pod was deleted before it had ended")
    if end is None:
        end = (None, ExitCause.LOST, "the pod went while nobody could watch it")
    return RunnerView(name, RunnerState.ABSENT, pod.uid, *end)


def obstacle(pod: Pod) -> tuple[Obstacle, str, bool] | None:
    """What keeps the pod from starting, in whose words, and whether waiting is hopeless."""
    scheduled = pod.scheduled
    if not pod.node and scheduled is not None and scheduled.status == "False":
        return Obstacle.UNSCHEDULABLE, _said(scheduled.reason, scheduled.message), False
    for container in (pod.agent, pod.job):
        waiting = container.waiting
        if waiting is None:
            continue
        word = waiting.reason
        if word in _PULL_HOPELESS:
            return Obstacle.IMAGE_PULL, _said(word, waiting.message), True
        if word in _PULL_TRIED_AGAIN:
            # The two words alternate; one of them in the text keeps it the same over tries.
            return Obstacle.IMAGE_PULL, _said("ErrImagePull", waiting.message), False
        if word in _START_TRIED_AGAIN:
            return Obstacle.START_FAILING, _said(word, waiting.message), False
    return None


def _limit(word: Obstacle, limits: Limits) -> float:
    match word:
        case Obstacle.UNSCHEDULABLE:
            return limits.unschedulable
        case Obstacle.IMAGE_PULL:
            return limits.image_pull
        case Obstacle.START_FAILING:
            return limits.start


_End = tuple[int | None, ExitCause, str]


def _end(pod: Pod) -> _End | None:
    """Exit code, cause and words of a pod that has ended; None while it may still run."""
    if _unreachable(pod):
        return None, ExitCause.NODE_LOST, _why(pod) or "the machine does not answer"
    over = pod.phase in ("Succeeded", "Failed")
    job, agent = pod.job.terminated, pod.agent.terminated
    if not over and job is None and (agent is None or agent.exit_code == 0):
        return None
    if job is not None and _by_itself(pod, job):
        return _job_end(job)
    interrupted = _interruption(pod)
    if interrupted is not None:
        cause, words = interrupted
        return (job.exit_code if job else None), cause, words
    if job is not None:
        return _job_end(job)
    if agent is not None and agent.exit_code != 0:
        return _agent_end(agent)
    if pod.phase == "Succeeded":
        return 0, ExitCause.EXITED, ""
    if pod.deletion:
        return None, ExitCause.DELETED, "somebody deleted the pod before its job began"
    return None, ExitCause.LOST, _why(pod) or "the pod failed and does not say why"


def _unreachable(pod: Pod) -> bool:
    """Its machine is gone or silent: nobody will ever report how the pod ended."""
    return (
        pod.phase == "Unknown"
        or pod.reason in _NODE_LOST
        or (_disrupted(pod) in _LOST_DISRUPTIONS and pod.job.terminated is None and pod.phase != "Succeeded")
    )


def _interruption(pod: Pod) -> tuple[ExitCause, str] | None:
    """Who ended a pod that did not end by itself."""
    disrupted = _disrupted(pod)
    if disrupted in _PREEMPTIONS or pod.reason in ("Preempted", "Preempting"):
        return ExitCause.PREEMPTED, _why(pod)
    if disrupted in _LOST_DISRUPTIONS:
        return ExitCause.NODE_LOST, _why(pod)
    if pod.reason == "DeadlineExceeded":
        return ExitCause.DEADLINE, _why(pod)
    if disrupted or pod.reason in _PUT_OUT or _NOT_TAKEN_IN.fullmatch(pod.reason):
        return ExitCause.EVICTED, _why(pod)
    if pod.deletion and (pod.job.terminated is not None or pod.agent.terminated is None):
        return ExitCause.DELETED, "somebody deleted the pod while it ran"
    return None


def _by_itself(pod: Pod, ended: Terminated) -> bool:
    """The container ended before anybody asked the pod to go. Times have whole seconds; in doubt 0 is believed.

    The API server keeps deletionTimestamp less the grace constant, also when it shortens the grace.
    """
    if pod.reason:
        return False
    asked = [
        seconds(pod.disruption.at) if pod.disruption is not None and _disrupted(pod) else 0,
        seconds(pod.deletion) - pod.grace if pod.deletion else 0,
    ]
    first = min((time for time in asked if time), default=0)
    if not first:
        return True
    finished = seconds(ended.finished_at)
    return 0 < finished < first or (finished == first and ended.exit_code == 0)


def _job_end(job: Terminated) -> _End:
    code = job.exit_code
    if job.reason == "OOMKilled":
        return code, ExitCause.OUT_OF_MEMORY, "the kernel killed it for want of memory"
    if job.reason in _START_FAILED:
        return code, ExitCause.START_FAILED, _said(job.reason, job.message)
    if job.reason == "ContainerStatusUnknown":
        return None, ExitCause.LOST, "the machine lost the container's state"
    if job.reason == "DeadlineExceeded":
        return code, ExitCause.DEADLINE, _said(job.reason, job.message)
    number = job.signal or (code - 128 if 128 < code <= 128 + _LAST_SIGNAL else 0)
    if number:
        return code, ExitCause.SIGNALLED, f"ended by signal {number}{_signal_name(number)}"
    return code, ExitCause.EXITED, ""


def _agent_end(agent: Terminated) -> _End:
    if agent.reason == "OOMKilled":
        return agent.exit_code, ExitCause.OUT_OF_MEMORY, "the agent was killed for want of memory"
    words = agent.message.strip() or agent.reason
    return agent.exit_code, ExitCause.AGENT_FAILED, words


def _signal_name(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""


def _disrupted(pod: Pod) -> str:
    return pod.disruption.reason if pod.disruption is not None and pod.disruption.status == "True" else ""


def _why(pod: Pod) -> str:
    """The cluster's own words."""
    told = _disrupted(pod)
    if told and pod.disruption is not None and not pod.reason:
        return _said(told, pod.disruption.message)
    return _said(pod.reason or told, pod.message)


def _said(reason: str, message: str) -> str:
    return f"{reason}: {message}" if reason and message else reason or message


def _placed(pod: Pod) -> int:
    """When it got its machine."""
    if pod.scheduled is None or pod.scheduled.status != "True":
        return 0
    return seconds(pod.scheduled.at) * SECOND
