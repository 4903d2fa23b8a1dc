"""Each way a pod ends, or never starts, is told apart.

`pods/` holds pods as a real API server gave them, from a real kubelet of Kubernetes 1.20: its images, its
commands and its last words. What only newer clusters say is made from those.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends.kubernetes.pod import MAX_MESSAGE, Pod, read_pod, seconds
from orchestrator.backends.kubernetes.view import Limits, absent_view, obstacle, runner_view
from orchestrator.model.runner import ExitCause, Obstacle, RunnerName, RunnerState

FOLDER = Path(__file__).parent / "pods"
NAME = RunnerName("runner-1")
LIMITS = Limits(image_pull=60, unschedulable=300, start=30)


def document(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def pod(name: str = "completed", **status) -> Pod:
    """A kept pod with other status fields; `meta` changes its metadata."""
    made = document(name)
    made["metadata"].update(status.pop("meta", {}))
    made["status"].update(status)
    return read_pod(json.dumps(made).encode())


def view(one: Pod):
    return runner_view(one, NAME, LIMITS, since_ns=5)


ENDS = {
    "completed": (ExitCause.EXITED, 0, ""),
    "exit-3": (ExitCause.EXITED, 3, ""),
    "oom": (ExitCause.OUT_OF_MEMORY, 137, "memory"),
    "deadline": (ExitCause.DEADLINE, None, "longer than the specified deadline"),
    "agent-78": (ExitCause.AGENT_FAILED, 78, "egress is not proven"),
    "start-error": (ExitCause.START_FAILED, 128, "no such file"),
    "evicted": (ExitCause.EVICTED, None, "ephemeral local storage"),
    "deleted-gone": (ExitCause.DELETED, 137, "somebody deleted"),
    "deleted-kind-gone": (ExitCause.DELETED, 0, "somebody deleted"),
}
OBSTACLES = {
    "unschedulable": (Obstacle.UNSCHEDULABLE, 300),
    "image-pull": (Obstacle.IMAGE_PULL, 60),
    "agent-image-pull": (Obstacle.IMAGE_PULL, 60),
    "image-name": (Obstacle.IMAGE_PULL, 0),
    "image-never": (Obstacle.IMAGE_PULL, 0),
    "config-error": (Obstacle.START_FAILING, 30),
}


def test_every_real_pod_is_judged():
    assert {path.stem for path in FOLDER.glob("*.json")} == ENDS.keys() | OBSTACLES.keys()


@pytest.mark.parametrize(("name", "end"), ENDS.items())
def test_how_real_pods_ended(name, end):
    seen = view(pod(name))
    cause, code, words = end
    assert (seen.state, seen.cause, seen.exit_code) == (RunnerState.EXITED, cause, code)
    assert words in seen.detail
    gone = absent_view(pod(name), NAME, seen=True)
    assert (gone.state, gone.cause, gone.exit_code, gone.uid) == (RunnerState.ABSENT, cause, code, seen.uid)


@pytest.mark.parametrize(("name", "end"), OBSTACLES.items())
def test_what_keeps_real_pods_from_starting(name, end):
    seen = view(pod(name))
    assert seen.state is RunnerState.ALIVE
    assert (seen.pending.obstacle, seen.pending.limit_ns, seen.pending.since_ns) == (end[0], end[1] * 10**9, 5)
    assert seen.pending.detail


def terminated(code: int, reason: str = "Error", **more) -> list[dict]:
    return [{"name": "job", "state": {"terminated": {"exitCode": code, "reason": reason, **more}}}]


def running() -> list[dict]:
    return [{"name": "job", "state": {"running": {"startedAt": "2026-11-25T21:47:24Z"}}}]


def disruption(reason: str, at: str = "2026-11-25T21:50:00Z", status: str = "True") -> list[dict]:
    return [{"type": "DisruptionTarget", "status": status, "reason": reason, "message": "m", "lastTransitionTime": at}]


@pytest.mark.parametrize(("code", "signal"), [(137, "9 (SIGKILL)"), (139, "11 (SIGSEGV)"), (192, "64")])
def test_a_signal_is_told_from_an_exit(code, signal):
    seen = view(pod(phase="Failed", containerStatuses=terminated(code)))
    assert (seen.cause, seen.exit_code) == (ExitCause.SIGNALLED, code)
    assert signal in seen.detail


@pytest.mark.parametrize("code", [1, 127, 128, 193, 255])
def test_an_exit_is_told_from_a_signal(code):
    seen = view(pod(phase="Failed", containerStatuses=terminated(code)))
    assert (seen.cause, seen.exit_code) == (ExitCause.EXITED, code)


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, ExitCause.EVICTED),
        ({"reason": "Terminated", "message": "in response to imminent node shutdown"}, ExitCause.EVICTED),
        ({"reason": "NodeShutdown"}, ExitCause.EVICTED),
        ({"reason": "OutOfcpu", "containerStatuses": []}, ExitCause.EVICTED),
        ({"reason": "NodeAffinity", "containerStatuses": []}, ExitCause.EVICTED),
        ({"reason": "UnexpectedAdmissionError", "containerStatuses": []}, ExitCause.EVICTED),
        ({"conditions": disruption("EvictionByEvictionAPI")}, ExitCause.EVICTED),
        ({"conditions": disruption("TerminationByKubelet"), "reason": "Evicted"}, ExitCause.EVICTED),
        ({"conditions": disruption("PreemptionByScheduler")}, ExitCause.PREEMPTED),
        ({"reason": "Preempting", "message": "to admit a critical pod"}, ExitCause.PREEMPTED),
        ({"conditions": disruption("DeletionByTaintManager")}, ExitCause.NODE_LOST),
        ({"reason": "NodeLost"}, ExitCause.NODE_LOST),
        ({"reason": "DeadlineExceeded"}, ExitCause.DEADLINE),
        ({"containerStatuses": []}, ExitCause.LOST),
        ({"containerStatuses": terminated(137, "ContainerStatusUnknown")}, ExitCause.LOST),
        ({"containerStatuses": terminated(128, "ContainerCannotRun")}, ExitCause.START_FAILED),
        ({"containerStatuses": terminated(143, "DeadlineExceeded")}, ExitCause.DEADLINE),
        ({"conditions": disruption("EvictionByEvictionAPI", status="False")}, ExitCause.SIGNALLED),
    ],
)
def test_who_ended_a_pod_that_did_not_end_by_itself(status, cause):
    fields = {"phase": "Failed", "containerStatuses": terminated(143, finishedAt="2026-11-25T21:50:01Z")} | status
    seen = view(pod(**fields))
    assert (seen.state, seen.cause) == (RunnerState.EXITED, cause)
    assert seen.detail


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"phase": "Unknown"}, ExitCause.NODE_LOST),
        ({"reason": "NodeLost", "message": "unresponsive"}, ExitCause.NODE_LOST),
        ({"conditions": disruption("DeletionByTaintManager")}, ExitCause.NODE_LOST),
        ({"conditions": disruption("DeletionByPodGC")}, ExitCause.NODE_LOST),
        # These still end by themselves and then tell how.
        ({"conditions": disruption("EvictionByEvictionAPI")}, None),
        ({"conditions": disruption("PreemptionByScheduler")}, None),
        ({"meta": {"deletionTimestamp": "2026-11-25T21:50:00Z"}}, None),
    ],
)
def test_a_pod_that_runs_has_ended_only_when_nobody_will_tell(status, cause):
    seen = view(pod(**{"phase": "Running", "containerStatuses": running()} | status))
    assert seen.cause is cause
    assert seen.state is (RunnerState.EXITED if cause else RunnerState.ALIVE)


@pytest.mark.parametrize(
    ("code", "finished", "cause"),
    [
        (0, "2026-11-25T21:49:57Z", ExitCause.EXITED),
        (3, "2026-11-25T21:49:57Z", ExitCause.EXITED),
        (0, "2026-11-25T21:49:58Z", ExitCause.EXITED),  # the same second: 0 is believed
        (143, "2026-11-25T21:49:58Z", ExitCause.DELETED),
        (0, "2026-11-25T21:49:59Z", ExitCause.DELETED),
        (0, None, ExitCause.DELETED),
    ],
)
def test_a_job_that_ended_before_its_pod_was_deleted_ended_by_itself(code, finished, cause):
    # Asked for at :58, with two seconds of grace.
    meta = {"deletionTimestamp": "2026-11-25T21:50:00Z", "deletionGracePeriodSeconds": 2}
    seen = view(pod(phase="Failed", meta=meta, containerStatuses=terminated(code, finishedAt=finished)))
    assert (seen.cause, seen.exit_code) == (cause, code)


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({}, ExitCause.DELETED),
        ({"conditions": disruption("PreemptionByScheduler")}, ExitCause.PREEMPTED),
        ({"conditions": disruption("EvictionByEvictionAPI")}, ExitCause.EVICTED),
    ],
)
def test_a_pod_that_was_seen_to_go_while_it_ran(status, cause):
    last = pod(**{"phase": "Running", "containerStatuses": running()} | status)
    assert absent_view(last, NAME, seen=True).cause is cause
    assert absent_view(last, NAME, seen=False).cause is ExitCause.LOST


def test_an_end_by_a_container_does_not_wait_for_the_phase():
    seen = view(pod(phase="Running", containerStatuses=terminated(0, "Completed")))
    assert (seen.state, seen.exit_code) == (RunnerState.EXITED, 0)
    agent = [{"name": "agent", "state": {"terminated": {"exitCode": 78, "message": "words\n"}}}]
    seen = view(pod(phase="Pending", initContainerStatuses=agent, containerStatuses=[]))
    assert (seen.cause, seen.exit_code, seen.detail) == (ExitCause.AGENT_FAILED, 78, "words")


def test_an_agent_that_is_done_ends_nothing():
    agent = [{"name": "agent", "state": {"terminated": {"exitCode": 0}}}]
    seen = view(pod(phase="Pending", initContainerStatuses=agent, containerStatuses=[]))
    assert (seen.state, seen.pending) == (RunnerState.ALIVE, None)


def test_other_containers_are_not_the_jobs():
    sidecar = [{"name": "mesh", "state": {"terminated": {"exitCode": 9}}}, *running()]
    assert view(pod(phase="Running", containerStatuses=sidecar)).state is RunnerState.ALIVE


@pytest.mark.parametrize("word", ["ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"])
def test_the_words_of_a_failing_pull_are_one_obstacle(word):
    waiting = [{"name": "job", "state": {"waiting": {"reason": word, "message": "m"}}}]
    assert obstacle(pod(phase="Pending", containerStatuses=waiting)) == (
        Obstacle.IMAGE_PULL,
        "ErrImagePull: m",
        False,
    )


def test_a_pod_with_a_machine_is_not_unschedulable():
    assert obstacle(pod("unschedulable")) is not None
    scheduled = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-25T21:47:24Z"}]
    placed = pod("unschedulable", conditions=scheduled)
    assert obstacle(placed) is None
    assert view(placed).placed_at_ns == seconds("2026-11-25T21:47:24Z") * 10**9


def test_long_words_are_cut_and_labels_are_kept():
    long = pod(phase="Failed", reason="Evicted", message="x" * 9999)
    assert len(long.message) == MAX_MESSAGE
    labels = {"orchestrator.dev/pool": "p", "orchestrator.dev/warm": "true"}
    kept = pod(meta={"labels": labels, "annotations": {"orchestrator.dev/runner-digest": "h"}})
    assert (kept.pool, kept.warm, kept.runner_digest) == ("p", True, "h")


WORDS = ["", "Failed", "job", "True", "2026-01-01T00:00:00Z"]
FIELDS = ["name", "state", "terminated", "waiting", "running", "exitCode", "reason", "type", "status", "finishedAt"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["phase", "reason", "message", "conditions", "containerStatuses", "initContainerStatuses"]),
        JSON,
    ),
    st.booleans(),
)
def test_whatever_the_status_holds_there_is_a_view_or_a_refusal(status, deleted):
    text = json.dumps(
        {
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "1"}
            | ({"deletionTimestamp": "not a time"} if deleted else {}),
            "status": status,
        }
    ).encode()
    try:
        one = read_pod(text)
    except msgspec.DecodeError:
        return
    seen = view(one)
    assert (seen.cause is not None) == (seen.state is RunnerState.EXITED)
    assert absent_view(one, NAME, seen=deleted).cause is not None
