"""`kill -9` of a daemon at every stage of a GitHub job: done there or reported, never twice, nothing left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from github_site import ACKNOWLEDGE, GATED, JIT, JOBS, ONLINE, REPORT, GitHubSite, eventually

from orchestrator.model.events import ArtifactNamed
from orchestrator.model.outcome import Result
from orchestrator.model.record import fold
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import Run

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(240)]

Stage = Callable[[GitHubSite], Awaitable[Run]]
"""Dispatches a job and returns once it stands at the stage."""


async def assigned(site: GitHubSite) -> Run:
    """Told to the daemon, and not acknowledged."""
    site.github.faults.add(Fault.HANG, ACKNOWLEDGE, times=100)
    run = site.dispatch()
    await site.called(ACKNOWLEDGE)
    return run


async def offered(site: GitHubSite) -> Run:
    """Its record waits for room: others came in between."""
    for number in range(2):
        await site.here.dispatch(f"other-{number}", GATED)
    await site.gated(2)
    run = site.dispatch()
    await site.records_until(lambda lines: [line["phase"] for line in lines] == ["waiting"])
    return run


async def made(site: GitHubSite) -> Run:
    """Its runner is there and cannot prove that egress is denied."""
    site.freeze("orchestrator.egress")
    run = site.dispatch()
    await site.records_until(lambda lines: [line["phase"] for line in lines] in (["provisioning"], ["binding"]))
    await eventually(lambda: bool(site.here.part("launcher").children(recursive=True)))
    return run


async def registering(site: GitHubSite) -> Run:
    """Claimed; GitHub has not answered the wish for a registration."""
    site.github.faults.add(Fault.HANG, JIT)
    run = site.dispatch()
    await site.called(JIT)
    return run


async def registered_unheard(site: GitHubSite) -> Run:
    """Registered, and the answer was lost; the next try has no answer yet."""
    site.github.faults.add(Fault.DONE_BUT_RESET, JIT)
    site.github.faults.add(Fault.HANG, JIT)
    run = site.dispatch()
    await site.called(JIT, 1)
    assert len(site.secrets) == 1, "it was carried out"
    return run


async def handed_out(site: GitHubSite) -> Run:
    """The runner has its registration, and is not online yet."""
    site.github.faults.add(Fault.HANG, ONLINE)
    run = site.dispatch()
    await site.called(ONLINE)
    return run


async def idle(site: GitHubSite) -> Run:
    """The runner is online; its job was cancelled before. Another one comes when it is known to be gone."""
    site.github.faults.add(Fault.DELAY, ONLINE, seconds=1.5)
    cancelled = site.dispatch()
    await site.called(ONLINE)
    site.github.state.cancel(cancelled)
    await site.github.until(lambda: any(one.online for one in site.runners))
    assert not any(one.busy for one in site.runners)
    await site.kill()
    await site.here.start()
    await site.at_rest()
    return site.dispatch()


async def given_to_the_dead(site: GitHubSite) -> Run:
    """The same, but GitHub has a job for the runner before it knows that it is dead."""
    site.github.faults.add(Fault.DELAY, ONLINE, seconds=1.5)
    cancelled = site.dispatch()
    await site.called(ONLINE)
    site.github.state.cancel(cancelled)
    await site.github.until(lambda: any(one.online for one in site.runners))
    await site.kill()
    run = site.dispatch()
    assert run.jobs[0].starts == 1
    return run


async def unnamed(site: GitHubSite) -> Run:
    """The runner has its job; GitHub's API does not say which."""
    site.github.faults.add(Fault.HANG, JOBS, times=100)
    run = site.dispatch()
    await site.called(JOBS)
    await site.github.until(lambda: run.jobs[0].starts == 1)
    return run


async def running(site: GitHubSite) -> Run:
    run = site.dispatch()
    await site.gated()
    return run


async def completed(site: GitHubSite) -> Run:
    """Over at GitHub, and told; the daemon does not see that the runner has ended."""
    run = site.dispatch()
    await site.gated()
    site.freeze("launcher")
    site.witness.open_gate()
    await site.done(run)
    (line,) = await site.lines()
    # Nothing but the runner's end is missing, so the acknowledgement shows that the end was told and stored.
    await site.github.until(lambda: not site.scale_set.messages and not site.scale_set.events)
    assert (await site.here.job(line["id"]))["phase"] == "running"
    return run


async def reporting(site: GitHubSite) -> Run:
    """The steps are done; GitHub has not answered the runner's report."""
    site.github.faults.add(Fault.HANG, REPORT)
    run = site.dispatch()
    await site.gated()
    site.witness.open_gate()
    await site.called(REPORT)
    return run


async def teardown(site: GitHubSite) -> Run:
    """Cancelled here while it runs there: GitHub does not let the registration go."""
    run = site.dispatch()
    await site.gated()
    (line,) = await site.lines()
    assert (await site.here.call("DELETE", f"/v1/jobs/{line['id']}?reason=enough")).status == 202
    await site.here.phase(line["id"], "teardown")
    return run


FINE = ("success", ["started", "gate", "done"])
CUT = ("failure", ["started", "gate"])
UNTOLD = ("failure", [])
STAGES = [
    (assigned, FINE), (offered, FINE), (made, FINE), (registering, FINE), (registered_unheard, FINE),
    (handed_out, FINE), (idle, FINE), (given_to_the_dead, UNTOLD), (unnamed, UNTOLD), (running, CUT), (completed, FINE),
    (reporting, ("failure", ["started", "gate", "done"])), (teardown, CUT),
]  # fmt: skip
SPOKEN = (unnamed, running, completed, reporting, teardown)
"""GitHub says how it ended, however long a slow machine takes to hear of it."""
QUICK = (running,)


@pytest.mark.parametrize(
    ("stage", "conclusion", "words"),
    [
        pytest.param(stage, *end, id=stage.__name__, marks=() if stage in QUICK else pytest.mark.slow)
        for stage, end in STAGES
    ],
)
async def test_at_a_stage(stage: Stage, conclusion: str, words: list[str], site: GitHubSite) -> None:
    if stage in SPOKEN:
        site.configure(deadlines={"completion_seconds": 60})
    await site.here.start()
    await site.listening()
    run = await stage(site)
    await site.kill()
    site.github.faults.clear()
    site.witness.open_gate()

    await site.here.start()
    await site.listening()
    (job,) = run.jobs
    if job.starts and not job.done:  # on the runner that died with the daemon
        await site.lose()
    await site.done(run)
    await site.at_rest()
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    assert job.conclusion == conclusion, site.tail()
    named = [record for record in await site.records() if record.named_at_ns]
    assert [site.witness.words(record.id) for record in named] == [words] * (
        stage is not given_to_the_dead or len(named)
    )
    results = [record.outcome.result for record in named if record.outcome]
    assert results.count(Result.SUCCESS) == (conclusion == "success"), results


@pytest.mark.slow
async def test_what_a_job_said_it_deploys_stays_said(site: GitHubSite) -> None:
    """Killed when the job has its answer and has not asked for a token yet."""
    digest = "sha256:" + "a" * 64
    await site.here.start()
    await site.listening()
    run = site.dispatch(f"orchestrator-token artifact {digest} && visit gate")
    await site.gated()
    await site.kill()
    site.witness.open_gate()

    await site.here.start()
    await site.listening()
    await site.lose()
    await site.done(run)
    await site.at_rest()
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    ((_, facts),) = (await site.facts()).items()
    assert [fact.event.digest for fact in facts if isinstance(fact.event, ArtifactNamed)] == [digest]
    assert fold(facts).offer.spec.artifact_digest == digest
