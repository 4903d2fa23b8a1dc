"""The whole span tree of jobs in pods that really run, as a real OTLP receiver got it.

`tests/cluster/test_traces.py` has the ways to end that only a script can make happen at will.
"""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from product import HELD, Product, installed

from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.traces import ERRORS, POD_TO_WORK, TEARDOWN, ReceivedTrace, attributes_of, received

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(240)]

MISSING = "runner.local/nobody-has-this:1"


def tree(name: str, result: str, reason: str, more: str = "", *, flushed: bool = True) -> str:
    """The tree of a job that had its work; without `flushed`, of one that was ended from outside."""
    error = f" ! {reason}" if result in ERRORS else ""
    stages = f"    image.pull\n    run{error}\n" if flushed else ""
    return f"RUN {name} result={result} reason={reason}{more}{error}\n{POD_TO_WORK}  execute{error}\n{stages}{TEARDOWN}"


def settled(trace: ReceivedTrace) -> str:
    """The tree without what is chance: a node may be found before the answer to the creation is on record, and the
    log's end be read before or after the job's end is."""
    early = r"((?:    (?:schedule|image\.pull|start).*\n)+)(  bind.*\n)"
    return re.sub(early, r"\2\1", trace.tree()).replace("    log.flush\n", "", 1)


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    """On a loop of its own: these tests drive the product from outside, without one."""
    loop, made = asyncio.new_event_loop(), Future[OtlpReceiver]()

    async def serve() -> None:
        async with OtlpReceiver() as receiver:
            made.set_result(receiver)
            await ended.wait()

    ended = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    yield made.result(30)
    loop.call_soon_threadsafe(ended.set)
    thread.join(30)
    loop.close()


@pytest.fixture(scope="module")
def site(described: Any, receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    pools = {"shell": {}, "nowhere": {"kubernetes": {"image": MISSING}}}
    telemetry = {"otlp_endpoint": receiver.endpoint, "export_interval_seconds": 0.1}
    settings = {"telemetry": telemetry}
    with installed(described(tmp_path_factory.mktemp("site"), pools, settings=settings)) as made:
        yield made


def trace_of(site: Product, receiver: OtlpReceiver, job: str) -> ReceivedTrace:
    site.finished(job, 150)
    told = site.call("GET", f"/v1/jobs/{job}/trace")
    events = sum(len(span["events"]) for span in told["spans"])
    site.until(lambda: received(receiver, job).spans and len(received(receiver, job).logs) >= events)
    trace = received(receiver, job)
    assert trace.problems() == [], trace.tree()
    return trace


@pytest.mark.parametrize(
    ("script", "result", "reason"),
    [
        ("true", "success", "completed"),
        ("exit 3", "failure", "exit_nonzero"),
        ("tail /dev/zero", "error", "out_of_memory"),
    ],
)
def test_jobs_that_end_by_themselves(
    site: Product, receiver: OtlpReceiver, script: str, result: str, reason: str
) -> None:
    job = site.submit("shell", script)
    trace = trace_of(site, receiver, job)
    assert settled(trace) == tree(site.job(job)["name"], result, reason)
    lasted = {span.name: span.end_time_unix_nano - span.start_time_unix_nano for span in trace.spans}
    assert "log.flush" in lasted
    assert lasted["egress.proof"] > 0
    assert lasted["start"] > 0
    pod = attributes_of(trace.one("execute").attributes)
    assert pod["k8s.pod.uid"] == site.job(job)["runner"]["uid"]
    assert {"k8s.namespace.name", "k8s.pod.name", "k8s.node.name"} <= pod.keys()


def test_jobs_that_are_ended(site: Product, receiver: OtlpReceiver) -> None:
    late = site.submit("shell", "trap '' TERM; echo begun; sleep 600 & wait", timeout_seconds=5)
    cancelled = site.submit("shell", "echo begun; sleep 600")
    site.says(cancelled, "begun")
    site.cancel(cancelled)
    found = without_work(trace_of(site, receiver, cancelled))
    assert found == tree(site.job(cancelled)["name"], "cancellation", "cancelled", flushed=False)
    found = without_work(trace_of(site, receiver, late))
    assert found == tree(site.job(late)["name"], "timeout", "run_timeout", flushed=False)


def without_work(trace: ReceivedTrace) -> str:
    """The same without the stages of the work, which are known when somebody has seen the runner's end."""
    return re.sub(r"(  execute.*\n)(?:    \S.*\n)+", r"\1", settled(trace))


def test_an_image_that_cannot_be_pulled(site: Product, receiver: OtlpReceiver) -> None:
    """The agent's image is there, so the pod comes as far as the job's own container."""
    job = site.submit("nowhere", "true")
    trace = trace_of(site, receiver, job)
    failed = " ! image_pull_failed"
    assert settled(trace) == (
        f"RUN {site.job(job)['name']} result=error reason=image_pull_failed{failed}\n{POD_TO_WORK}"
        f"  execute reason=image_pull{failed}\n    image.pull{failed}\n{TEARDOWN}"
    )
    (image,) = [span for span in trace.spans if span.name == "image.pull" and span.status.code]
    assert attributes_of(image.attributes)["container.image.name"] == MISSING.rpartition(":")[0]


def test_a_daemon_that_is_killed_while_the_job_runs(site: Product, receiver: OtlpReceiver) -> None:
    job = site.submit("shell", f"echo begun; {HELD}")
    site.says(job, "begun")
    site.end(signal.SIGKILL)
    site.start()
    site.let_go(site.pod_of(job))
    trace = trace_of(site, receiver, job)
    assert without_work(trace) == tree(site.job(job)["name"], "success", "completed", " restarts=1", flushed=False)
    assert "orchestrator.daemon.gap_seconds" in attributes_of(trace.one("execute").attributes)
    assert site.end() == 0  # each test ends the processes that it started; this is the last one
