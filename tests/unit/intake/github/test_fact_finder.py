"""Asking GitHub for facts: once for many, never a stale no, and of a run that was started again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from github_examples import CI, CLAIMS, FORK, ISSUER, JOB, MAIN_REF, PROTECTED, RUN, URL

from orchestrator.intake.github.errors import FailedCall, NotFoundError
from orchestrator.intake.github.fact_finder import BRANCH_SECONDS, JOBS_SECONDS, JobFacts
from orchestrator.intake.github.facts import FactsDisagreeError
from orchestrator.intake.github.rest.objects import Branch, RunJob, WorkflowRun

OURS = "runner-0123-abcd"


@dataclass
class Api:
    """GitHub's answers as they stand now; `asked` lists the calls."""

    run: WorkflowRun = RUN
    jobs: dict[int | None, list[RunJob]] = field(default_factory=dict)
    branches: dict[str, Branch] = field(default_factory=lambda: {"main": PROTECTED})
    tags: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.gate is not None:
            await self.gate.wait()

    async def workflow_run(self, owner: str, repository: str, run_id: int) -> WorkflowRun:
        await self._ask("run")
        if run_id != self.run.id:
            error = NotFoundError("no such run")
            error.call = FailedCall("GET", "run", 404)
            raise error
        return self.run

    async def run_jobs(self, owner: str, repository: str, run_id: int, attempt: int | None = None) -> list[RunJob]:
        await self._ask(f"jobs {attempt}" if attempt else "jobs")
        return self.jobs.get(attempt, [])

    async def branch(self, owner: str, repository: str, name: str) -> Branch | None:
        await self._ask(f"branch {name}")
        return self.branches.get(name)

    async def tag_exists(self, owner: str, repository: str, name: str) -> bool:
        await self._ask(f"tag {name}")
        return name in self.tags


@pytest.fixture
def api():
    return Api(jobs={None: [replace(JOB, runner_name=OURS)]})


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def finder(api, now):
    return JobFacts(api, URL, ISSUER, lambda: now[0])


async def test_a_job_by_its_runner(finder, api):
    job = await finder.by_runner("acme", "shop", 9001, OURS, workflow_ref=MAIN_REF)
    assert job is not None
    assert job.caller.facts["ref"] == "refs/heads/main"
    assert job.caller.facts["ref_protected"] == "true"
    assert sorted(api.asked) == ["branch main", "jobs", "run"]


async def test_many_jobs_of_one_run_ask_once(finder, api):
    api.jobs[None] = [replace(JOB, id=n, check_run_id=n, runner_name=f"runner-{n}") for n in range(1, 101)]
    api.gate = asyncio.Event()
    tasks = [
        asyncio.create_task(finder.by_runner("acme", "shop", 9001, f"runner-{n}", workflow_ref=MAIN_REF))
        for n in range(1, 101)
    ]
    await asyncio.sleep(0)
    api.gate.set()
    found = await asyncio.gather(*tasks)
    assert len({job.key for job in found if job}) == 100
    assert sorted(api.asked) == ["branch main", "jobs", "run"]


async def test_a_runner_that_is_not_seen_yet_is_looked_for_again(finder, api, now):
    api.jobs[None] = [replace(JOB, status="queued")]
    assert await finder.by_runner("acme", "shop", 9001, OURS) is None
    api.jobs[None] = [replace(JOB, runner_name=OURS)]
    assert await finder.by_runner("acme", "shop", 9001, OURS) is None, "not asked again at once"
    assert api.asked.count("jobs") == 1
    now[0] += JOBS_SECONDS
    assert await finder.by_runner("acme", "shop", 9001, OURS) is not None
    now[0] += 1000
    assert await finder.by_runner("acme", "shop", 9001, OURS) is not None
    assert api.asked.count("jobs") == 2, "who was seen to have a job has it for ever"


async def test_a_job_that_was_shown_is_not_asked_for(finder, api):
    finder.saw(replace(JOB, runner_name=OURS))
    finder.saw(replace(JOB, id=1, runner_name=""))
    assert await finder.by_runner("acme", "shop", 9001, OURS, workflow_ref=MAIN_REF) is not None
    assert sorted(api.asked) == ["branch main", "run"]
    api.jobs[None] = []
    assert await finder.by_runner("acme", "shop", 9002, OURS) is None, "it was shown of another run"


async def test_a_run_that_was_started_again(finder, api):
    api.jobs = {
        None: [replace(JOB, run_attempt=3, runner_name="runner-other")],
        2: [],
        1: [replace(JOB, run_attempt=1, runner_name=OURS)],
    }
    job = await finder.by_runner("acme", "shop", 9001, OURS, workflow_ref=MAIN_REF)
    assert job is not None
    assert job.caller.facts["run_attempt"] == "1"
    assert api.asked[:3] == ["jobs", "jobs 2", "jobs 1"]


async def test_without_a_message_tag_and_branch_are_told_apart(finder, api, now):
    async def ref() -> tuple[str, str]:
        job = await finder.by_runner("acme", "shop", 9001, OURS)
        assert job is not None
        now[0] += BRANCH_SECONDS
        return job.caller.facts.get("ref", ""), job.caller.facts["ref_protected"]

    assert await ref() == ("refs/heads/main", "true")
    api.tags = {"main"}
    assert await ref() == ("", "false")
    api.branches = {}
    assert await ref() == ("refs/tags/main", "false")


async def test_a_pull_request_of_a_branch_called_main(finder, api):
    api.run = replace(RUN, event="pull_request", head_repository=FORK)
    job = await finder.by_runner("acme", "shop", 9001, OURS)
    assert job is not None
    assert "ref" not in job.caller.facts
    assert job.caller.facts["fork"] == "true"
    merge = f"acme/shop/{CI}@refs/pull/12/merge"
    job = await finder.by_runner("acme", "shop", 9001, OURS, workflow_ref=merge)
    assert job is not None
    assert job.caller.facts["ref"] == "refs/pull/12/merge"
    assert job.caller.facts["ref_protected"] == "false"
    assert not [call for call in api.asked if call.startswith(("branch", "tag"))]


async def test_protection_taken_away_is_seen(finder, api, now):
    async def protected() -> str:
        job = await finder.by_runner("acme", "shop", 9001, OURS, workflow_ref=MAIN_REF)
        assert job is not None
        return job.caller.facts["ref_protected"]

    assert await protected() == "true"
    api.branches["main"] = replace(PROTECTED, protected=False)
    now[0] += BRANCH_SECONDS
    assert await protected() == "false"
    del api.branches["main"]
    now[0] += BRANCH_SECONDS
    assert await protected() == "false"


async def test_a_run_of_another_repository_is_refused(finder, api):
    api.run = replace(RUN, repository=replace(RUN.repository, full_name="acme/other"))
    with pytest.raises(FactsDisagreeError, match="repository"):
        await finder.by_runner("acme", "shop", 9001, OURS)


async def test_claims_alone_need_no_call(finder, api):
    job = await finder.by_claims(CLAIMS, name="test")
    assert job is not None
    assert job.name == "test"
    assert api.asked == []


async def test_what_an_older_servers_token_does_not_tell_of_its_branch_is_asked_for(finder, api):
    claims = {name: value for name, value in CLAIMS.items() if name != "ref_protected"}
    job = await finder.by_claims(claims)
    assert job is not None
    assert job.caller.facts["ref_protected"] == "true"
    assert api.asked == ["branch main"]
    del api.branches["main"]
    job = await finder.by_claims(claims | {"ref": "refs/heads/gone"})
    assert job is not None
    assert job.caller.facts["ref_protected"] == "false"


async def test_claims_of_a_pull_request_need_one(finder, api):
    api.run = replace(RUN, event="pull_request", head_repository=FORK)
    claims = CLAIMS | {"event_name": "pull_request"}
    for _ in range(3):
        job = await finder.by_claims(claims)
        assert job is not None
        assert job.caller.facts["fork"] == "true"
    assert api.asked == ["run"]
    with pytest.raises(FactsDisagreeError):
        await finder.by_claims(claims | {"run_id": "77"})


async def test_a_failed_call_is_not_remembered(finder, api):
    with pytest.raises(NotFoundError):
        await finder.by_job("acme", "shop", replace(JOB, run_id=77))
    api.run = replace(RUN, id=77)
    assert (await finder.by_job("acme", "shop", replace(JOB, run_id=77))).caller.facts["run_id"] == "77"


async def test_an_earlier_attempt_is_not_asked_for_at_every_look(finder, api, now):
    """Whoever waits for a job that is not there asks every two seconds."""
    api.jobs = {None: [replace(JOB, run_attempt=3, runner_name="runner-other")], 1: [], 2: []}
    for _ in range(5):
        assert await finder.by_runner("acme", "shop", 9001, OURS) is None
        now[0] += JOBS_SECONDS
    assert sorted(api.asked) == ["jobs"] * 5 + ["jobs 1", "jobs 2"]


async def test_a_runner_of_the_same_name_that_has_another_number_is_somebody_elses(finder, api):
    api.jobs[None] = [replace(JOB, runner_name=OURS, runner_id=7)]
    assert await finder.by_runner("acme", "shop", 9001, OURS, runner_ids=(8, 9)) is None
    finder.saw(replace(JOB, runner_name=OURS, runner_id=7))
    assert await finder.by_runner("acme", "shop", 9001, OURS, runner_ids=(8, 9)) is None
    assert await finder.by_runner("acme", "shop", 9001, OURS, runner_ids=(7,)) is not None
    assert await finder.by_runner("acme", "shop", 9001, OURS) is not None


async def test_lists_of_jobs_are_kept_of_few_runs(finder, api):
    api.jobs = {None: []}
    for run_id in range(1, 500):
        assert await finder.by_runner("acme", "shop", run_id, OURS) is None
    assert len(finder._jobs._entries) == 200
