"""The REST client against the stateful server."""

from __future__ import annotations

import dataclasses

import pytest
from aiohttp import web
from opened import app_credential, opened, serving

from orchestrator.intake.github import errors
from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.connection import AppCredential, GitHubConnection
from orchestrator.intake.github.urls import parse_github_url
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import JobPlan
from orchestrator.testing.github.tokens import Kind

RUNNERS = "/orgs/{org}/actions/runners"
RUN = "GET /repos/{owner}/{repo}/actions/runs/{id}"


@pytest.fixture
async def one(tmp_path):
    async with opened(tmp_path) as found:
        yield found


async def test_a_run_its_jobs_and_its_branch(one):
    run = one.server.dispatch_workflow("acme/shop", [JobPlan("build"), JobPlan("test")])
    rest = one.github.rest
    found = await rest.workflow_run("acme", "shop", run.id)
    assert (found.id, found.attempt, found.event, found.head_branch) == (run.id, 1, run.event, "main")
    assert (found.repository.full_name, found.repository.id) == ("acme/shop", run.repository.id)
    jobs = await rest.run_jobs("acme", "shop", run.id, 1)
    assert [(job.name, job.check_run_id) for job in jobs] == [(job.plan.name, job.check_run_id) for job in run.jobs]
    assert await rest.run_jobs("acme", "shop", run.id) == jobs
    assert await rest.job("acme", "shop", jobs[0].id) == jobs[0]
    assert (await rest.branch("acme", "shop", "main")).protected
    assert not (await rest.branch("acme", "shop", "feature/x")).protected
    assert await rest.branch("acme", "shop", "gone") is None


async def test_all_pages_of_a_matrix(one):
    run = one.server.dispatch_workflow("acme/shop", [JobPlan(f"j{number}") for number in range(250)])
    assert len(await one.github.rest.run_jobs("acme", "shop", run.id, 1)) == 250
    assert one.github.stats().endpoints["run_jobs"].calls == 3


async def test_queued_jobs(one):
    run = one.server.dispatch_workflow("acme/shop", [JobPlan("build")])
    assert [job.id for job in await one.github.rest.queued_jobs("acme", "shop")] == [run.jobs[0].id]


async def test_what_is_not_there(one):
    with pytest.raises(errors.NotFoundError):
        await one.github.rest.workflow_run("acme", "shop", 424242)
    with pytest.raises(errors.NotFoundError):
        await one.github.rest.workflow_run("acme", "../orgs", 1)
    for owner, repository in (("acme", ".."), ("..", "shop"), ("acme", "."), ("", "shop")):
        with pytest.raises(errors.RefusedError):
            await one.github.rest.workflow_run(owner, repository, 1)
    with pytest.raises(errors.RefusedError):
        await one.github.rest.branch("acme", "shop", "..")


async def test_runners_without_a_scale_set(one):
    rest = one.github.rest
    made = await rest.generate_jitconfig("r-1", ["zt"])
    assert made.name == "r-1"
    assert [runner.id for runner in await rest.runners()] == [made.runner_id]
    with pytest.raises(errors.RunnerExistsError):
        await rest.generate_jitconfig("r-1", ["zt"])
    await rest.remove_runner(made.runner_id)
    await rest.remove_runner(made.runner_id)
    assert await rest.runner_by_name("r-1") is None


async def test_a_busy_runner_is_not_removed(one):
    made = await one.github.rest.generate_jitconfig("r-1", ["zt"])
    run = one.server.dispatch_workflow("acme/shop", [JobPlan("build")])
    one.server.state.runners[made.runner_id].job = run.jobs[0]
    with pytest.raises(errors.BusyError):
        await one.github.rest.remove_runner(made.runner_id)


@pytest.mark.parametrize("fault", [Fault.DONE_BUT_500, Fault.DONE_BUT_RESET, Fault.TRUNCATED])
async def test_a_registration_whose_answer_is_lost_is_taken_back(one, fault):
    one.server.faults.add(fault, "generate-jitconfig")
    with pytest.raises(errors.JitConfigLostError):
        await one.github.rest.generate_jitconfig("r-1", ["zt"])
    assert not one.server.state.runners
    assert one.github.stats().endpoints["rest_generate_jit"].calls == 1


async def test_rate_limits_are_shown(one):
    run = one.server.dispatch_workflow("acme/shop")
    await one.github.rest.workflow_run("acme", "shop", run.id)
    core = one.github.stats().limits["core"]
    assert (core.limit, core.remaining) == (5000, 4999)
    buckets = {bucket.resource: bucket for bucket in await one.github.rest.rate_limit()}
    assert buckets["core"].remaining == 4999


@pytest.mark.parametrize("fault", [Fault.LIMIT_USED_UP, Fault.SECONDARY_LIMIT, Fault.RATE_LIMITED])
async def test_nothing_is_sent_while_a_limit_lasts(one, fault):
    run = one.server.dispatch_workflow("acme/shop")
    one.server.faults.add(fault, RUN, seconds=300)
    for _ in range(3):
        with pytest.raises(errors.RateLimitedError) as caught:
            await one.github.rest.workflow_run("acme", "shop", run.id)
    assert caught.value.retry_after_seconds == pytest.approx(300, abs=3)
    assert one.calls(RUN) == 1
    await one.server.clock.step(303)
    assert (await one.github.rest.workflow_run("acme", "shop", run.id)).id == run.id


async def test_a_short_limit_is_waited_for(one):
    run = one.server.dispatch_workflow("acme/shop")
    one.server.faults.add(Fault.SECONDARY_LIMIT, RUN, seconds=5)
    assert (await one.github.rest.workflow_run("acme", "shop", run.id)).id == run.id
    assert one.waits == [pytest.approx(5.25)]


async def test_the_last_call_of_a_limit_is_not_followed_by_a_refused_one(tmp_path):
    async with opened(tmp_path) as one:
        one.server.options.rest_limit = 2
        run = one.server.dispatch_workflow("acme/shop")
        for _ in range(2):
            await one.github.rest.workflow_run("acme", "shop", run.id)
        with pytest.raises(errors.RateLimitedError):
            await one.github.rest.workflow_run("acme", "shop", run.id)
        assert one.calls(RUN) == 2


async def test_a_token_that_is_refused_is_fetched_anew(one):
    run = one.server.dispatch_workflow("acme/shop")
    await one.github.rest.workflow_run("acme", "shop", run.id)
    one.server.expire_tokens(Kind.INSTALLATION)
    assert (await one.github.rest.workflow_run("acme", "shop", run.id)).id == run.id


async def test_a_permission_that_is_missing(tmp_path):
    def narrow(server):
        return app_credential(server, tmp_path, permissions={"organization_self_hosted_runners": "write"})

    async with opened(tmp_path, credential=narrow) as one:
        run = one.server.dispatch_workflow("acme/shop")
        assert await one.github.rest.runners() == []
        with pytest.raises((errors.ForbiddenError, errors.NotFoundError)) as caught:
            await one.github.rest.workflow_run("acme", "shop", run.id)
        assert "permission" in caught.value.fix


async def test_a_repository_outside_the_token(tmp_path):
    def narrow(server):
        server.add_repository("acme/other")
        return dataclasses.replace(app_credential(server, tmp_path), repositories=("other",))

    async with opened(tmp_path, credential=narrow) as one:
        run = one.server.dispatch_workflow("acme/shop")
        with pytest.raises((errors.ForbiddenError, errors.NotFoundError)):
            await one.github.rest.workflow_run("acme", "shop", run.id)


@pytest.mark.parametrize("scope", ["acme/shop", "acme"])
async def test_scopes(tmp_path, scope):
    async with opened(tmp_path, scope) as one:
        made = await one.github.rest.generate_jitconfig("r-1", ["zt"])
        assert (await one.github.rest.runner_by_name("r-1")).id == made.runner_id
        assert (await one.github.actions.ensure_scale_set("zt", "", [])).id > 0


async def test_an_enterprise_with_a_personal_token(tmp_path):
    async with opened(tmp_path, "enterprises/big", personal=True) as one:
        assert (await one.github.actions.ensure_scale_set("zt", "", [])).id > 0


async def test_deliveries_page_by_page_and_once_more(tmp_path):
    """By the App itself for its own hook, with the installation's token for one of the organisation."""
    seen = []

    async def handler(request):
        path, scheme = request.path.removeprefix("/api/v3"), request.headers["Authorization"].split(".")[0][:10]
        if path.endswith("/access_tokens"):
            return web.json_response({"token": "ghs_x", "expires_at": "2126-01-01T00:00:00Z"}, status=201)
        seen.append((request.method, path, request.query.get("cursor"), scheme))
        if request.method == "POST":
            return web.json_response({}, status=202)
        delivery = {"id": 42, "guid": "5847", "event": "workflow_job", "status": "failed", "status_code": 502}
        more = {} if "cursor" in request.query else {"Link": f'<{request.url}&cursor=v1_9>; rel="next"'}
        return web.json_response([delivery], headers=more)

    async with serving(handler) as url:
        who = AppCredential("777", lambda: "eyJ.signed.jwt")
        github = GitHub(GitHubConnection(parse_github_url(f"{url}/acme"), who))
        first = await github.rest.hook_deliveries()
        last = await github.rest.hook_deliveries(3, first.cursor)
        await github.rest.redeliver(first.deliveries[0].id)
        await github.close()
    assert (first.cursor, last.cursor, first.deliveries[0].ok) == ("v1_9", "", False)
    assert seen == [
        ("GET", "/app/hook/deliveries", None, "Bearer eyJ"),
        ("GET", "/orgs/acme/hooks/3/deliveries", "v1_9", "Bearer ghs"),
        ("POST", "/app/hook/deliveries/42/attempts", None, "Bearer eyJ"),
    ]
