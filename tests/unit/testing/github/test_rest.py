"""The REST API: runs, jobs, branches, runners made one by one, limits."""

from __future__ import annotations

import pytest
from platform_clients import HandRunner

from orchestrator.testing.github.model import JobPlan

RUNNERS = "/orgs/acme/actions/runners"


def wanted(name: str = "r-1", **more):
    return {"name": name, "runner_group_id": 1, "labels": ["self-hosted", "zt"]} | more


async def test_a_run_tells_its_facts(github, listener):
    fork = github.add_repository("kim/shop", fork=True)
    run = github.dispatch_workflow(
        "acme/shop", [JobPlan("test")], event="pull_request", ref="refs/pull/3/merge", fork="kim/shop", actor="kim"
    )
    told = (await listener.rest("GET", f"/repos/acme/shop/actions/runs/{run.id}")).json
    assert told["id"] == run.id
    assert (told["event"], told["run_attempt"], told["head_sha"]) == ("pull_request", 1, run.sha)
    assert told["repository"]["full_name"] == "acme/shop"
    assert (told["head_repository"]["id"], told["head_repository"]["fork"]) == (fork.id, True)
    assert told["actor"]["login"] == "kim"
    assert (told["status"], told["conclusion"]) == ("queued", None)


async def test_jobs_tell_their_runner_and_check_run(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    run = github.dispatch_workflow("acme/shop", [JobPlan("test"), JobPlan("other", labels=("none",))])
    await listener.events(session)
    await listener.generate(one["id"], "r-1")
    await HandRunner(listener, "r-1").come()
    told = (await listener.rest("GET", f"/repos/acme/shop/actions/runs/{run.id}/jobs")).json
    assert told["total_count"] == 2
    first, second = told["jobs"]
    assert (first["status"], first["runner_name"], first["run_attempt"]) == ("in_progress", "r-1", 1)
    assert first["check_run_url"].endswith(f"/check-runs/{run.jobs[0].check_run_id}")
    assert (second["status"], second["runner_name"], second["runner_id"]) == ("queued", None, None)
    single = (await listener.rest("GET", f"/repos/acme/shop/actions/jobs/{first['id']}")).json
    assert single == first


async def test_queued_runs_are_found_page_by_page(github, listener):
    runs = [github.dispatch_workflow("acme/shop") for _ in range(5)]
    github.state.cancel(runs[0])
    page = await listener.rest("GET", "/repos/acme/shop/actions/runs?status=queued&per_page=3")
    assert page.json["total_count"] == 4
    assert [one["id"] for one in page.json["workflow_runs"]] == [runs[4].id, runs[3].id, runs[2].id]
    assert 'rel="next"' in page.headers["Link"]
    rest = await listener.rest("GET", "/repos/acme/shop/actions/runs?status=queued&per_page=3&page=2")
    assert [one["id"] for one in rest.json["workflow_runs"]] == [runs[1].id]


async def test_attempts_have_jobs_of_their_own(github, listener):
    run = github.dispatch_workflow("acme/shop")
    path = f"/repos/acme/shop/actions/runs/{run.id}"
    github.app.permissions["actions"] = "write"
    assert (await listener.rest("POST", f"{path}/rerun")).status == 403
    assert (await listener.rest("POST", f"{path}/cancel")).status == 202
    assert (await listener.rest("POST", f"{path}/cancel")).status == 409
    assert (await listener.rest("POST", f"{path}/rerun")).status == 201
    old = (await listener.rest("GET", f"{path}/attempts/1/jobs")).json["jobs"]
    new = (await listener.rest("GET", f"{path}/jobs?filter=latest")).json["jobs"]
    assert (old[0]["run_attempt"], old[0]["conclusion"]) == (1, "cancelled")
    assert (new[0]["run_attempt"], new[0]["conclusion"]) == (2, None)
    assert old[0]["id"] != new[0]["id"]
    assert len((await listener.rest("GET", f"{path}/jobs?filter=all")).json["jobs"]) == 2
    assert (await listener.rest("GET", f"{path}/attempts/2")).json["run_attempt"] == 2
    assert (await listener.rest("GET", f"{path}/attempts/3")).status == 404


@pytest.mark.parametrize(("branch", "protected"), [("main", True), ("next", False)])
async def test_a_branch_is_protected_or_not(listener, branch, protected):
    told = (await listener.rest("GET", f"/repos/acme/shop/branches/{branch}")).json
    assert (told["name"], told["protected"]) == (branch, protected)


async def test_a_branch_whose_name_has_a_slash(github, listener):
    github.add_repository("acme/tool", branches={"feature/x": True})
    assert (await listener.rest("GET", "/repos/acme/tool/branches/feature%2Fx")).json["protected"] is True


@pytest.mark.parametrize("path", ["branches/none", "actions/runs/1", "actions/jobs/1", "actions/runs/none", "nothing"])
async def test_what_does_not_exist(listener, path):
    assert (await listener.rest("GET", f"/repos/acme/shop/{path}")).status == 404


async def test_a_runner_made_by_rest_gets_a_job_by_its_labels(github, listener):
    made = await listener.rest("POST", f"{RUNNERS}/generate-jitconfig", json=wanted())
    assert made.status == 201
    assert made.json["runner"]["status"] == "offline"
    assert made.json["encoded_jit_config"]
    run = github.dispatch_workflow("acme/shop", [JobPlan(labels=("self-hosted", "zt"))])
    runner = HandRunner(listener, "r-1")
    await runner.come()
    assert (await runner.job()).json["variables"]["RUNNER_NAME"] == "r-1"
    listed = (await listener.rest("GET", RUNNERS)).json
    assert [(one["name"], one["status"], one["busy"]) for one in listed["runners"]] == [("r-1", "online", True)]
    path = f"{RUNNERS}/{made.json['runner']['id']}"
    assert (await listener.rest("DELETE", path)).status == 422
    await runner.complete()
    assert run.done
    assert (await listener.rest("GET", path)).status == 404


async def test_a_runner_is_removed_once(listener):
    made = (await listener.rest("POST", f"{RUNNERS}/generate-jitconfig", json=wanted())).json["runner"]
    assert (await listener.rest("GET", f"{RUNNERS}/{made['id']}")).json["name"] == "r-1"
    assert (await listener.rest("DELETE", f"{RUNNERS}/{made['id']}")).status == 204
    assert (await listener.rest("DELETE", f"{RUNNERS}/{made['id']}")).status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (wanted(runner_group_id=99), 404),
        (wanted(labels=[]), 422),
        (wanted(labels=["x"] * 101), 422),
        (wanted(labels=[""]), 422),
        (wanted(name=""), 422),
        ({"name": "r-1", "labels": ["x"]}, 422),
        ([], 422),
    ],
)
async def test_a_runner_that_cannot_be_made(listener, body, status):
    assert (await listener.rest("POST", f"{RUNNERS}/generate-jitconfig", json=body)).status == status


async def test_a_runner_s_name_is_taken_across_both_ways(listener):
    one = await listener.make_set()
    await listener.generate(one["id"], "r-1")
    refused = await listener.rest("POST", f"{RUNNERS}/generate-jitconfig", json=wanted())
    assert refused.status == 409
    assert "Already exists" in refused.json["message"]


async def test_other_scopes_have_runners_of_their_own(github, listener):
    path = "/repos/acme/shop/actions/runners"
    assert (await listener.rest("POST", f"{path}/generate-jitconfig", json=wanted())).status == 201
    assert (await listener.rest("GET", path)).json["total_count"] == 1
    assert (await listener.rest("GET", RUNNERS)).json["total_count"] == 0
    assert (await listener.rest("GET", "/orgs/nobody/actions/runners")).status == 404


async def test_requests_are_counted_down(github, listener, options):
    options.rest_limit = 3
    answers = [await listener.rest("GET", "/repos/acme/shop") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 403]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    told = (await listener.rest("GET", "/rate_limit")).json["resources"]
    assert told["core"]["remaining"] == 0
    assert told["actions_runner_registration"]["limit"] == 10_000
    assert (await listener.rest("POST", f"{RUNNERS}/registration-token")).status == 201
    await github.clock.step(3_601)
    assert (await listener.rest("GET", "/repos/acme/shop")).status == 200


async def test_ghes_has_no_limits_unless_switched_on(ghes_options, github, listener):
    assert "x-ratelimit-limit" not in (await listener.rest("GET", "/repos/acme/shop")).headers
    assert (await listener.rest("GET", "/rate_limit")).status == 404
    github.limits.on_ghes = True
    assert (await listener.rest("GET", "/repos/acme/shop")).headers["x-ratelimit-limit"] == "5000"


async def test_meta_needs_no_token(github, listener):
    answer = await listener.call("GET", f"{github.url}/api/v3/meta")
    assert "127.0.0.0/8" in answer.json["hooks"]


async def test_endpoints_are_counted_by_their_template(github, listener):
    await listener.rest("GET", "/repos/acme/shop")
    await listener.rest("GET", "/repos/acme/none")
    assert github.counters["GET /repos/{owner}/{repo}"] == 2
    assert github.statuses[("GET /repos/{owner}/{repo}", 404)] == 1
