"""The whole span tree of a job as a pod, for every way it can end, as a real OTLP receiver got it.

The API server, the daemon, the gateway and the agents are real; the node is a script that says what kubelets,
schedulers and node controllers say. `tests/cluster/node/test_traces.py` has pods that really run.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.testing.kubelet import Script
from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.pod_states import End
from orchestrator.testing.traces import (
    ERRORS,
    POD_CREATED,
    POD_TO_WORK,
    TEARDOWN,
    ReceivedTrace,
    attributes_of,
    received,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


SETTINGS = {"image_pull_seconds": 3, "unschedulable_seconds": 3, "lease": False}
"""Without a Lease the next daemon need not wait until that of a killed one has run out."""


def with_work(result: str, reason: str, restarts: int = 0) -> str:
    """The tree of a job whose pod had its work when it ended so."""
    error = f" ! {reason}" if result in ERRORS else ""
    again = f" restarts={restarts}" if restarts else ""
    work = f"  execute{error}\n    image.pull\n    run{error}\n"
    return f"RUN job result={result} reason={reason}{again}{error}\n{POD_TO_WORK}{work}{TEARDOWN}"


def settled(trace: ReceivedTrace) -> str:
    """The tree without what is chance: a node may be found, and more, before the answer to the creation is on record;
    and a scheduler may look at the pod before the kubelet takes it, and find no node."""
    early = r"((?:    (?:schedule|image\.pull|start).*\n)+)(  bind.*\n)"
    return re.sub(r" reason=unschedulable(?! ! unschedulable)", "", re.sub(early, r"\2\1", trace.tree()))


def without_work(trace: ReceivedTrace) -> str:
    """The same without the stages of the work, which are known when somebody has seen the runner's end."""
    return re.sub(r"(  execute.*\n)(?:    \S.*\n)+", r"\1", settled(trace))


def gaps(trace: ReceivedTrace) -> set[str]:
    """Names of the phases that say that nobody watched for a while."""
    return {
        span.name
        for span in trace.spans
        if span.parent_span_id and "orchestrator.daemon.gap_seconds" in attributes_of(span.attributes)
    }


def _installation() -> Any:
    """Test modules are no package."""
    name = "installation_on_a_cluster"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("test_daemon.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.Installation


class Site(_installation()):
    """A daemon and a gateway; `script` is what becomes of the pods, agents claim while `let_claim` is set."""

    def __init__(self, *more: Any, **named: Any) -> None:
        super().__init__(*more, **named)
        self.script = Script(End.HOLD)
        self.let_claim = asyncio.Event()
        self.let_claim.set()
        self.agents_here = asyncio.Event()
        self.keys = 0

    async def agent(self, pod: Pod) -> int:
        self.agents_here.set()
        await self.let_claim.wait()
        return await super().agent(pod)

    async def run_to(self, script: Script, phase: str = "finished", **more: Any) -> str:
        """A job whose pod goes this way, once it is in that phase."""
        self.script = script
        self.keys += 1
        job = await self.submit(f"key-{self.keys}", "true", **more)
        await self.phase(job, phase)
        return job

    async def trace_of(self, job: str) -> ReceivedTrace:
        """The trace of a job once it has ended and all that the API shows of it has come; nothing may be wrong."""
        await self.phase(job, "finished")
        told = await self.call("GET", f"/v1/jobs/{job}/trace")
        events = sum(len(span["events"]) for span in told["spans"])

        def come() -> bool:
            trace = received(self.receiver, job)
            return bool(trace.spans) and len(trace.logs) >= events

        await self.until(come)
        trace = received(self.receiver, job)
        assert trace.problems() == [], trace.tree()
        return trace

    async def has_span(self, job: str, name: str) -> bool:
        """Whether the job's trace has come that far."""
        told = await self.call("GET", f"/v1/jobs/{job}/trace")
        return name in [span["name"] for span in told["spans"]]

    async def stands_at(self, job: str, *names: str) -> bool:
        """Whether these, below the root, are the open spans of the job's trace."""
        told = await self.call("GET", f"/v1/jobs/{job}/trace")
        return [span["name"] for span in told["spans"][1:] if span["end_ns"] is None] == list(names)

    async def waits(self, job: str, reason: str) -> bool:
        return ((await self.call("GET", f"/v1/jobs/{job}"))["wait"] or {}).get("reason") == reason

    async def ready(self) -> None:
        await self.start()
        await self.start_gateway()

    async def again(self) -> None:
        """SIGKILL of the daemon, and the next one."""
        self.daemon.kill()
        await self.daemon.wait()
        await self.start()


@pytest.fixture
async def site(world, tmp_path) -> AsyncIterator[Site]:
    async with OtlpReceiver() as receiver:
        made = Site(world, tmp_path, receiver, cluster=SETTINGS)
        made.configure()
        world.script = lambda _: made.script
        made.kubelet = await world.kubelet(agent=made.agent)
        classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
        name = f"runner-{world.installation}"
        await world.call("POST", classes, {"metadata": {"name": name}, "value": 0, "preemptionPolicy": "Never"})
        try:
            yield made
        finally:
            made.let_claim.set()
            await made.close()
            await world.call("DELETE", f"{classes}/{name}")


async def test_what_ends_a_job_that_has_its_work(site: Site) -> None:
    await site.ready()
    ways = {
        Script(End.EXIT): ("success", "completed"),
        Script(End.EXIT, 3): ("failure", "exit_nonzero"),
        Script(End.OUT_OF_MEMORY): ("error", "out_of_memory"),
        Script(End.DEADLINE): ("timeout", "run_timeout"),
        Script(End.EVICTED): ("error", "runner_evicted"),
        Script(End.PREEMPTED, run_seconds=1.2): ("error", "runner_preempted"),
        Script(End.DELETED, run_seconds=0.2): ("error", "runner_deleted"),
        Script(End.START_ERROR): ("error", "runner_start_failed"),
    }
    for script, (result, reason) in ways.items():
        assert settled(await site.trace_of(await site.run_to(script))) == with_work(result, reason), script
    trace = await site.trace_of(await site.run_to(Script(End.IMAGE_PULL)))
    assert settled(trace) == (
        f"RUN job result=error reason=image_pull_failed ! image_pull_failed\n{POD_TO_WORK}"
        f"  execute reason=image_pull ! image_pull_failed\n    image.pull ! image_pull_failed\n{TEARDOWN}"
    )
    pod = attributes_of(trace.one("execute").attributes)
    assert (pod["k8s.namespace.name"], pod["k8s.node.name"]) == (site.world.namespaces[0], site.kubelet.node)
    assert {"k8s.pod.name", "k8s.pod.uid"} <= pod.keys()


@pytest.mark.parametrize(
    ("script", "reason", "wait", "stages"),
    [
        (Script(End.IMAGE_PULL, at_agent=True), "image_pull_failed", " reason=image_pull", ["schedule", "image.pull"]),
        (Script(End.UNSCHEDULABLE), "unschedulable", " reason=unschedulable", ["schedule"]),
        (Script(End.EVICTED, at_agent=True), "runner_evicted", "", ["schedule", "image.pull", "start"]),
        (Script(End.NOT_TAKEN_IN), "runner_evicted", "", ["schedule", "image.pull"]),
        (Script(End.AGENT_FAILED, 69), "agent_failed", "", ["schedule", "image.pull", "start"]),
    ],
    ids=["image pull", "unschedulable", "evicted", "not taken in", "agent failed"],
)
async def test_what_ends_a_job_before_it_has_its_work(
    site: Site, script: Script, reason: str, wait: str, stages: list[str]
) -> None:
    """The trace of a pod that failed shows how far it came: its last stage has the error."""
    await site.ready()
    trace = await site.trace_of(await site.run_to(script))
    over = "".join(f"    {stage}\n" for stage in stages[:-1])
    assert settled(trace) == (
        f"RUN job result=error reason={reason} ! {reason}\n{POD_CREATED}"
        f"  bind{wait} ! {reason}\n{over}    {stages[-1]} ! {reason}\n{TEARDOWN}"
    )


async def test_a_proof_that_fails_is_where_the_job_ended(site: Site) -> None:
    """Its agent reaches what it must not: somebody answers where it was told that the API server is."""
    await site.ready()
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as reached:
        site.api_port = reached.sockets[0].getsockname()[1]
        job = await site.run_to(Script(End.HOLD))
    assert str(site.api_port) in (await site.call("GET", f"/v1/jobs/{job}"))["message"]
    assert settled(await site.trace_of(job)) == (
        f"RUN job result=error reason=egress_unproven ! egress_unproven\n{POD_CREATED}  bind ! egress_unproven\n"
        f"    schedule\n    image.pull\n    start\n    egress.proof ! egress_unproven\n{TEARDOWN}"
    )


async def test_a_job_that_is_cancelled_or_denied(site: Site) -> None:
    await site.ready()
    job = await site.run_to(Script(End.HOLD), "running")
    pod = await site.pod_of(job)
    await site.until(lambda: site.agents.get(pod) == 0)
    await site.call("DELETE", f"/v1/jobs/{job}")
    trace = await site.trace_of(job)
    assert without_work(trace) == f"RUN job result=cancellation reason=cancelled\n{POD_TO_WORK}  execute\n{TEARDOWN}"
    assert "job.cancel_requested" in trace.events(trace.one("execute"))
    trace = await site.trace_of(await site.run_to(Script(End.HOLD), deployment_environment="prod"))
    assert trace.tree() == (
        "RUN job result=denied reason=policy_denied\n  queue\n  policy verdict=deny\n  teardown\n    verify\n"
    )


async def test_a_lost_node_and_a_daemon_that_is_killed_in_teardown(site: Site) -> None:
    """The pod of a lost node stays until somebody deletes it by force; so long lasts `verify`, over all daemons."""
    await site.ready()
    job = await site.run_to(Script(End.NODE_LOST), "teardown")
    await site.until(lambda: site.has_span(job, "verify"))
    await site.again()
    await site.phase(job, "teardown")
    await site.world.call("DELETE", f"{site.world.pods()}/{await site.pod_of(job)}", {"gracePeriodSeconds": 0})
    trace = await site.trace_of(job)
    assert settled(trace) == with_work("error", "node_lost", restarts=1)
    assert gaps(trace) == {"verify"}


async def test_a_full_quota_and_a_daemon_that_is_killed_while_it_waits_for_a_place(site: Site) -> None:
    await site.ready()
    await site.world.quota(2)  # the gateway's pod is one
    first = await site.run_to(Script(End.HOLD), "running")
    second = await site.run_to(Script(End.HOLD), "provisioning")
    await site.until(lambda: site.waits(second, "quota_exhausted"))
    await site.again()
    site.script = Script(End.EXIT)
    site.kubelet.end(await site.pod_of(first))
    assert (await site.trace_of(first)).tree().startswith("RUN job result=success reason=completed restarts=1\n")
    trace = await site.trace_of(second)
    assert settled(trace) == with_work("success", "completed", restarts=1).replace(
        "  provision\n", "  provision reason=quota_exhausted\n    capacity.wait reason=quota_exhausted\n"
    )
    assert gaps(trace) == {"provision"}


async def test_a_daemon_that_is_killed_before_the_agent_has_claimed(site: Site) -> None:
    """What the API server wrote down is there all the same, in whole seconds; when the pod was asked for had gone on
    record with its making. Who looks while it starts sees how far it is, before and after, though no fact tells."""
    await site.ready()
    site.let_claim.clear()
    job = await site.run_to(Script(End.HOLD), "binding")
    await asyncio.wait_for(site.agents_here.wait(), 30)
    await site.until(lambda: site.stands_at(job, "bind", "start"))
    await site.again()
    await site.until(lambda: site.stands_at(job, "bind", "start"))
    site.let_claim.set()
    await site.phase(job, "running")
    site.kubelet.end(await site.pod_of(job))
    trace = await site.trace_of(job)
    assert settled(trace) == with_work("success", "completed", restarts=1)
    assert gaps(trace) == {"bind"}


async def test_a_daemon_that_is_killed_while_the_job_runs(site: Site) -> None:
    await site.ready()
    job = await site.run_to(Script(End.HOLD), "running")
    pod = await site.pod_of(job)
    await site.until(lambda: site.agents.get(pod) == 0)
    await site.again()
    site.kubelet.end(pod, 3)
    trace = await site.trace_of(job)
    assert settled(trace) == with_work("failure", "exit_nonzero", restarts=1)
    assert gaps(trace) == {"execute"}
