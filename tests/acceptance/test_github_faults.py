"""GitHub away, in trouble or forgetful, and jobs that go another way than the usual: each is done once, or told."""

from __future__ import annotations

import asyncio

import pytest
from github_site import ACKNOWLEDGE, GATED, JIT, JOBS, ONLINE, POLL, SET, GitHubSite, deafen
from witness import PREAMBLE

from orchestrator.model.events import AlarmRaised, ExchangeDecided, PlatformJobNamed, TokenIssued
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.record import fold
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import JobPlan, Step
from orchestrator.testing.github.tokens import Kind

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(240)]

DAY = 86_400.0


async def in_order(site: GitHubSite, jobs: int = 1) -> None:
    """Everything is done, at rest, and nothing is left; this many jobs ran, each to its end."""
    await site.at_rest()
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    assert site.words() == [["started", "gate", "done"]] * jobs
    ends = [end.result for _, end in await site.named() if end is not None]
    assert ends == [Result.SUCCESS] * jobs


@pytest.mark.slow
async def test_github_is_away_for_a_while(site: GitHubSite) -> None:
    """While a job runs and none can be asked for; its runner reports once GitHub is back."""
    await site.here.start()
    await site.listening()
    run = site.dispatch()
    await site.gated()
    await site.github.stop()
    queued = site.dispatch()
    site.witness.open_gate()
    await site.witness.until(lambda: site.words() == [["started", "gate", "done"]])
    await asyncio.sleep(1)  # long enough for the first tries to be in vain; not so long that the runner gives up
    await site.github.start()
    await site.done(run)
    await site.done(queued)
    assert (run.jobs[0].conclusion, queued.jobs[0].conclusion) == ("success", "success")
    await in_order(site, 2)


TROUBLE = {
    "502 everywhere": [(Fault.BAD_GATEWAY, "", 20)],
    "502 at polls": [(Fault.BAD_GATEWAY, POLL, 5)],
    "429": [(Fault.RATE_LIMITED, part, 2) for part in (POLL, ACKNOWLEDGE, JIT, JOBS)],
    "registrations unheard": [(Fault.DONE_BUT_RESET, JIT, 2)],
    "connections cut": [(Fault.RESET, "", 10)],
}


@pytest.mark.slow
@pytest.mark.parametrize("faults", TROUBLE.values(), ids=TROUBLE)
async def test_github_is_in_trouble(faults: list[tuple[Fault, str, int]], site: GitHubSite) -> None:
    site.configure(deadlines={"completion_seconds": 60})  # messages of a job's end may be late
    site.witness.open_gate()
    await site.here.start()
    await site.listening()
    for fault, part, times in faults:
        site.github.faults.add(fault, part, times=times, seconds=0.2)
    run = site.dispatch(jobs=3)
    await site.done(run, 120)
    assert [job.conclusion for job in run.jobs] == ["success"] * 3, site.tail()
    site.github.faults.clear()
    await in_order(site, 3)


@pytest.mark.slow
async def test_sessions_and_tokens_are_forgotten(site: GitHubSite) -> None:
    site.witness.open_gate()
    await site.here.start()
    await site.listening()
    site.github.lose_session(site.scale_set)
    runs = [site.dispatch()]
    await site.done(runs[0])
    for kind in (Kind.INSTALLATION, Kind.ADMIN, Kind.QUEUE):
        site.github.expire_tokens(kind)
        site.github.cut(POLL)
        runs.append(site.dispatch())
        await site.done(runs[-1])
    assert [run.jobs[0].conclusion for run in runs] == ["success"] * 4
    await in_order(site, 4)


@pytest.mark.slow
async def test_a_day_passes_and_a_week(site: GitHubSite) -> None:
    """Every token is too old, then the whole set is gone because nobody listened: it is made again."""
    site.configure(app=False)  # only GitHub's clock is stepped, and an App's would be found wrong
    site.witness.open_gate()
    await site.here.start()
    await site.listening()
    await site.github.clock.step(DAY)
    day = site.dispatch()
    await site.done(day)
    await site.at_rest()
    assert await site.here.stop() == 0
    first = site.scale_set.id
    too_late = site.dispatch()
    await site.github.clock.step(DAY)
    assert too_late.jobs[0].conclusion == "failure", "GitHub's own limit for a job that waits"
    await site.github.clock.step(8 * DAY)
    assert not site.github.state.sets
    week = site.dispatch()

    await site.here.start()
    await site.done(week)
    assert site.scale_set.id != first
    assert (day.jobs[0].conclusion, week.jobs[0].conclusion) == ("success", "success")
    await in_order(site, 2)


@pytest.mark.slow
async def test_the_set_vanishes_under_a_listener(site: GitHubSite) -> None:
    site.witness.open_gate()
    await site.here.start()
    await site.listening()
    first = site.scale_set
    site.github.state.remove_set(first)
    run = site.dispatch()
    await site.done(run)
    assert site.scale_set.id != first.id
    assert run.jobs[0].conclusion == "success"
    await in_order(site)


@pytest.mark.slow
async def test_cancelled_before_it_runs(site: GitHubSite) -> None:
    """The runner that was made for it is taken back; nobody waits for its job."""
    site.github.faults.add(Fault.DELAY, ONLINE, seconds=1)
    await site.here.start()
    await site.listening()
    run = site.dispatch()
    await site.called(ONLINE)
    site.github.state.cancel(run)
    await site.at_rest()
    assert (run.jobs[0].conclusion, run.jobs[0].starts) == ("cancelled", 0)
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    (record,) = await site.records()
    assert record.outcome is not None
    assert record.outcome.reason is EndReason.CANCELLED
    assert not record.named_at_ns


@pytest.mark.slow
async def test_cancelled_while_it_runs(site: GitHubSite) -> None:
    await site.here.start()
    await site.listening()
    run = site.dispatch()
    await site.gated()
    site.github.state.cancel(run)
    await site.done(run)
    await site.at_rest()
    assert run.jobs[0].conclusion == "cancelled"
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    ((_, end),) = await site.named()
    assert end is not None
    assert (end.result, end.reason) == (Result.CANCELLATION, EndReason.CANCELLED)
    assert site.words() == [["started", "gate"]]


@pytest.mark.slow
async def test_a_runner_that_ends_without_a_job(site: GitHubSite) -> None:
    """GitHub refuses its registration, so it exits with 0: proof of nothing. Another one does the job."""
    site.witness.open_gate()
    site.github.faults.add(Fault.UNAUTHORIZED, ONLINE)
    await site.here.start()
    await site.listening()
    run = site.dispatch()
    await site.done(run)
    await in_order(site)
    assert [record.outcome.reason for record in await site.records() if record.outcome] == [
        EndReason.NO_JOB,
        EndReason.COMPLETED,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("silence", ["that message lost", "no message at all"])
async def test_the_end_of_a_job_that_no_message_tells(silence: str, site: GitHubSite) -> None:
    """GitHub's API is asked some time after the runner has ended."""
    site.configure(deadlines={"completion_seconds": 60})
    await site.here.start()
    await site.listening()
    run = site.dispatch()
    await site.gated()
    await site.github.until(lambda: not site.scale_set.messages and not site.scale_set.events)
    if silence == "that message lost":
        deafen(site.github, "JobCompleted")
    else:
        site.github.faults.add(Fault.HANG, POLL, times=100)
        site.github.cut(POLL)
    site.witness.open_gate()
    await site.done(run)
    await site.at_rest()
    site.github.faults.clear()
    site.github.cut(POLL)
    await in_order(site)
    (record,) = await site.records()
    assert record.completed is not None
    assert record.completed.told_by == "api"


@pytest.mark.slow
async def test_a_runner_that_outlives_its_job(site: GitHubSite) -> None:
    """GitHub says that the job is over while its runner works on: an alarm, and the runner is ended."""
    await site.here.start()
    await site.listening()
    run = site.dispatch()
    await site.gated()
    site.github.state.end(run.jobs[0], "succeeded")
    await site.at_rest()
    assert site.words() == [["started", "gate"]], "it never came further"
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    assert await alarms(site) == ["runner_outlived_job"]


async def alarms(site: GitHubSite) -> list[str]:
    facts = [fact for facts in (await site.facts()).values() for fact in facts]
    return [fact.event.alarm for fact in facts if isinstance(fact.event, AlarmRaised)]


DENIAL = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "not_main", "message": "only main runs here"}]}

decision := {"allow": true} if input.caller.facts.ref == "refs/heads/main"
"""
DENIAL_TEST = """package orchestrator_test

import data.orchestrator

test_allow if orchestrator.decision.allow == true with input as {"caller": {"facts": {"ref": "refs/heads/main"}}}

test_deny if orchestrator.decision.allow == false with input as {"caller": {"facts": {}}}
"""


async def test_a_job_that_is_denied(site: GitHubSite) -> None:
    """It gets neither identity nor the pool's hosts, and its log on GitHub says why."""
    bundle = site.here.folder / "policy"
    bundle.mkdir()
    (bundle / "decision.rego").write_text(DENIAL, encoding="utf-8")
    (bundle / "decision_test.rego").write_text(DENIAL_TEST, encoding="utf-8")
    site.configure(policy={"bundle": str(bundle)}, identity={"audiences": {"https://deploy.example": {}}})
    await site.here.start()
    await site.listening()
    stubborn = (
        "orchestrator-token --audience https://deploy.example || echo no token\nvisit reached || echo no egress\n"
    )
    step = Step(PREAMBLE + stubborn, condition="always", environment=site.witness.environment | NO_JOB_ID)
    plans = [JobPlan("build", (SET,), (Step(PREAMBLE + GATED, environment=site.witness.environment), step))]
    run = site.github.dispatch_workflow("acme/shop", plans, ref="refs/heads/topic")
    await site.done(run)
    await site.at_rest()
    job = run.jobs[0]
    assert job.conclusion == "failure"
    assert "::error title=denied by policy::only main runs here [not_main]" in job.log
    assert "no token" in job.log
    assert "no egress" in job.log
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    assert site.words() == []
    ((key, end),) = await site.named()
    assert key
    assert end is not None
    assert end.reason is EndReason.POLICY_DENIED


NO_JOB_ID = {"ORCHESTRATOR_JOB_ID": "unknown"}


@pytest.mark.slow
async def test_a_runner_that_claims_anothers_job(site: GitHubSite) -> None:
    """It shows the other job's own token, which is true, and names its run: an alarm, no identity, and its end."""
    await site.here.start()
    await site.listening()
    honest = site.dispatch(id_token=True)
    await site.gated()
    job = honest.jobs[0]
    stolen = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{site.github.broker.runner_url}/_broker/idtoken/{job.key}?api-version=2.0",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": job.token,
        "GITHUB_RUN_ID": str(honest.id),
    }
    site.github.state.assignment.hold_started = 3600  # its own name would come by GitHub's message, and be first
    thief = site.dispatch("visit stolen\n", variables=stolen)
    await site.records_until(lambda lines: lines[0]["reason"] == "job_already_named")
    site.witness.open_gate()
    await site.done(honest)
    await site.lose()  # the thief's runner was ended at once, so GitHub hears no more of it
    await site.at_rest()
    assert (honest.jobs[0].conclusion, thief.jobs[0].conclusion) == ("success", "failure")
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    assert site.words() == [["started", "gate", "done"]]
    assert await alarms(site) == ["job_already_named"]
    ends = {job: fold(facts).outcome for job, facts in (await site.facts()).items()}
    (caught,) = [job for job, end in ends.items() if end and end.reason is EndReason.JOB_ALREADY_NAMED]
    theirs = (await site.facts())[caught]
    assert not any(isinstance(fact.event, PlatformJobNamed | ExchangeDecided | TokenIssued) for fact in theirs)
