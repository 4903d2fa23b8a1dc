"""The whole span tree of a job of GitHub's, for each way it can go, as a real OTLP receiver got it; linked to the trace
that OpenTelemetry's GitHub receiver makes of its run, or joined into it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from github_site import GATED, ONLINE, GitHubSite
from received_traces import astray, gaps, settled, trace_of

from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import Job
from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.traces import REVOKED_LATER, TEARDOWN, attributes_of

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(240)]

AUDIENCE = "https://deploy.example"
POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "not_main", "message": "only main runs here"}]}

decision := {"allow": true} if input.caller.facts.ref == "refs/heads/main"
"""
POLICY_TEST = """package orchestrator_test

import data.orchestrator

test_allow if orchestrator.decision.allow == true with input as {"caller": {"facts": {"ref": "refs/heads/main"}}}

test_deny if orchestrator.decision.allow == false with input as {"caller": {"facts": {}}}
"""


@pytest.fixture
def policy(site: GitHubSite) -> Path:
    """A bundle that refuses jobs of other branches than main."""
    bundle = site.here.folder / "policy"
    bundle.mkdir()
    (bundle / "decision.rego").write_text(POLICY, encoding="utf-8")
    (bundle / "decision_test.rego").write_text(POLICY_TEST, encoding="utf-8")
    return bundle


def configured(site: GitHubSite, receiver: OtlpReceiver, *, join: bool = False, **settings: object) -> GitHubSite:
    exporting = {
        "otlp_endpoint": receiver.endpoint,
        "export_interval_seconds": 0.1,
        "join_platform_trace": join,
    }
    site.configure(telemetry=exporting, **settings)
    return site


def run_of(job: Job, attempt: int = 0) -> tuple[str, str]:
    """Trace and root of an attempt of the job's run, its own when 0, as the GitHub receiver makes their ids."""
    run = f"{job.run.id}{attempt or job.attempt}"
    return _digest(f"{run}t")[:32], _digest(f"{run}s")[16:32]


def span_of(job: Job) -> tuple[str, str]:
    """Trace and span of the job there."""
    return run_of(job)[0], _digest(f"{job.check_run_id}-j")[16:32]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def record_of(site: GitHubSite, job: Job) -> str:
    """The record that was named as this job."""
    for line in await site.lines():
        key = (await site.here.job(line["id"]))["platform_job"]["key"]
        if key.endswith(f"/{job.run.id}/{job.attempt}/{job.check_run_id}"):
            return str(line["id"])
    raise AssertionError(f"nothing was named as {job.plan.name}: {site.tail()}")


NAMED = """\
  queue
  policy verdict=allow
  wait
  provision
    create
  bind
    start
    egress.proof
    claim
  platform.queued
"""
"""Below the root, until GitHub has named the job of the runner."""
ALLOWED = f"{NAMED}  policy verdict=allow\n"
DONE = f"    run\n    log.flush\n  platform.completing\n{TEARDOWN}"
LOST = (
    f"RUN job-0 result=error reason=runner_lost{{more}} ! runner_lost\n{ALLOWED}"
    f"  execute\n    run ! runner_lost\n  platform.completing ! runner_lost\n{REVOKED_LATER}"
)
"""GitHub lets a registration go only when it has given up its runner: revoking is over after the runner was deleted."""
RED = (
    f"RUN job-0 result=failure reason=job_failed ! job_failed\n{ALLOWED}"
    f"  execute\n    run ! job_failed\n    log.flush\n  platform.completing ! job_failed\n{TEARDOWN}"
)


async def test_how_jobs_end(site: GitHubSite, receiver: OtlpReceiver, policy: Path) -> None:
    configured(site, receiver, capacity=4, policy={"bundle": str(policy)}, identity={"audiences": {AUDIENCE: {}}})
    await site.here.start()
    await site.listening()
    green = site.dispatch(f"visit started\norchestrator-token --audience {AUDIENCE} >/dev/null\n")
    red = site.dispatch("exit 3")
    denied = site.dispatch(GATED, ref="refs/heads/topic")
    cancelled = site.dispatch(GATED)
    await site.gated()
    site.github.state.cancel(cancelled)
    for run in (green, red, denied, cancelled):
        await site.done(run)
    expected = {
        green: f"RUN job-0 result=success reason=completed\n{ALLOWED}  execute\n{DONE}".replace(
            "    run\n", "    run\n    identity.exchange verdict=allow outcome=issued\n"
        ),
        red: RED,
        denied: f"RUN job-0 result=denied reason=policy_denied\n{NAMED}"
        f"  policy verdict=deny\n  platform.refused\n  platform.completing\n{TEARDOWN}",
        cancelled: f"RUN job-0 result=cancellation reason=cancelled\n{ALLOWED}  execute\n{DONE}",
    }
    traces = {run: await trace_of(site.here, receiver, await record_of(site, run.jobs[0])) for run in expected}
    assert [settled(trace) for trace in traces.values()] == list(expected.values())
    assert [trace.links() for trace in traces.values()] == [{"platform": span_of(run.jobs[0])} for run in expected]
    trace = traces[green]
    assert trace.events(trace.one("identity.exchange")) == ["token.issued"]
    assert "platform.job_named" in trace.events(trace.one("platform.queued"))

    site.github.faults.add(Fault.HANG, ONLINE)
    early, before = site.dispatch(), site.calls(ONLINE)
    await site.called(ONLINE, before)
    site.github.state.cancel(early)
    await site.at_rest()
    trace = await trace_of(site.here, receiver, (await site.lines())[0]["id"])
    assert settled(trace) == (
        f"RUN runner of scale set zt result=cancellation reason=cancelled\n{NAMED}    run\n{TEARDOWN}"
    )
    assert trace.links() == {}, "it was never known which job it was for"
    assert await site.here.stop() == 0
    assert astray(receiver) == []
    told = b"".join(receiver.bodies)
    assert [secret for secret in site.secrets if secret.encode() in told] == []
    assert b"eyJ" not in told


async def given_up(site: GitHubSite) -> None:
    """GitHub gives up the newest record's runner when that is deleted, and the daemon waits for nothing else."""
    (newest, *_) = await site.lines()
    async with asyncio.timeout(60):
        while "verify" not in str((await site.here.call("GET", f"/v1/jobs/{newest['id']}/trace")).body):
            await asyncio.sleep(0.02)
    await site.lose()


async def test_a_runner_that_is_lost(site: GitHubSite, receiver: OtlpReceiver) -> None:
    configured(site, receiver, app=False)  # GitHub's clock is stepped, and an App's would be found wrong
    await site.here.start()
    await site.listening()
    run = site.dispatch()
    await site.gated()
    site.here.part("launcher").kill()
    await given_up(site)
    await site.done(run)
    await site.at_rest()
    trace = await trace_of(site.here, receiver, await record_of(site, run.jobs[0]))
    assert settled(trace) == LOST.format(more="")
    assert trace.links() == {"platform": span_of(run.jobs[0])}
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    assert astray(receiver) == []


async def test_attempts_are_linked_and_joined(site: GitHubSite, receiver: OtlpReceiver) -> None:
    """A red attempt, one whose daemon is killed, and a green one, each in the trace of its attempt of the run."""
    configured(site, receiver, join=True, app=False)
    await site.here.start()
    await site.listening()
    red = f"{GATED}test $GITHUB_RUN_ATTEMPT = 3\n"
    run = site.dispatch(red)
    site.witness.open_gate()
    await site.done(run)
    await site.at_rest()
    assert await site.here.stop() == 0  # so that it is noted that the first trace was sent, and it comes once
    await site.here.start()
    await site.listening()
    site.witness.shut_gate()
    site.github.state.rerun(run)
    await site.gated(2)
    await site.kill()
    site.witness.open_gate()
    await site.here.start()
    await given_up(site)
    await site.done(run)
    site.github.state.rerun(run)
    await site.done(run)
    await site.at_rest()
    expected = [
        RED,
        LOST.format(more=" restarts=1"),
        f"RUN job-0 result=success reason=completed\n{ALLOWED}  execute\n{DONE}",
    ]
    traces = [
        await trace_of(site.here, receiver, await record_of(site, job), below=span_of(job))
        for job in (*run.earlier, *run.jobs)
    ]
    assert [settled(trace) for trace in traces] == expected
    assert gaps(traces[1]) == {"execute"}
    first, second, third = (trace.links() for trace in traces)
    assert first == {}
    before = [(trace.spans[0].trace_id.hex(), run_of(job)[1]) for trace, job in zip(traces, run.earlier, strict=False)]
    assert [second, third] == [{"previous_attempt": one} for one in before]
    own = [attributes_of(trace.root.attributes)["orchestrator.trace.id"] for trace in traces]
    assert len({*own, *(trace for trace, _ in before)}) == 5, "our own ids differ from those, and from each other"
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    assert astray(receiver) == []
