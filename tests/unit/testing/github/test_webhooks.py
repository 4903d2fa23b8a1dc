"""Deliveries: signed, listed, sent again; twice, in disorder, dropped, lost, forged."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from orchestrator.testing.github.model import JobPlan
from orchestrator.testing.github.webhooks import sign

SECRET = "It's a Secret to Everybody"


class Receiver:
    """Keeps what arrives; answers `status`."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 202
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status)

    @property
    def actions(self) -> list[str]:
        return [json.loads(body).get("action", "ping") for _, body in self.got]

    @property
    def guids(self) -> list[str]:
        return [headers["X-GitHub-Delivery"] for headers, _ in self.got]


@pytest.fixture
async def receiver():
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


@pytest.fixture
async def hook(github, receiver):
    made = github.webhooks.add(receiver.url, SECRET, "acme")
    await github.webhooks.drained()
    return made


def test_the_documented_signature():
    assert sign(SECRET, b"Hello, World!").endswith("757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")


async def test_a_hook_is_pinged_and_hears_of_its_jobs(github, receiver, hook):
    github.add_repository("other/tool")
    github.dispatch_workflow("other/tool")
    run = github.dispatch_workflow("acme/shop", [JobPlan("test", environment="prod", waits=True)])
    github.state.approve(run)
    github.state.cancel(run)
    await github.webhooks.drained()
    assert receiver.actions == ["ping", "waiting", "queued", "completed"]
    headers, body = receiver.got[2]
    assert headers["X-GitHub-Event"] == "workflow_job"
    assert headers["X-Hub-Signature-256"] == sign(SECRET, body)
    assert headers["X-GitHub-Hook-ID"] == str(hook.id)
    assert headers["X-GitHub-Hook-Installation-Target-Type"] == "organization"
    told = json.loads(body)
    job = told["workflow_job"]
    assert (job["id"], job["run_id"], job["status"], job["conclusion"]) == (run.jobs[0].id, run.id, "queued", None)
    assert job["runner_name"] is None
    assert told["repository"]["full_name"] == "acme/shop"
    assert told["organization"]["login"] == "acme"
    assert told["deployment"]["environment"] == "prod"
    assert json.loads(receiver.got[3][1])["workflow_job"]["conclusion"] == "cancelled"


async def test_twice(github, receiver, hook):
    github.webhooks.duplicate = 1
    github.dispatch_workflow("acme/shop")
    await github.webhooks.drained()
    assert receiver.actions == ["ping", "queued", "queued"]
    assert receiver.guids[1] == receiver.guids[2]


async def test_the_last_one_first(github, receiver, hook):
    github.webhooks.reverse = 2
    github.state.cancel(github.dispatch_workflow("acme/shop"))
    await github.webhooks.drained()
    assert receiver.actions == ["ping", "completed", "queued"]


async def test_a_wrong_signature(github, receiver, hook):
    github.webhooks.forge = 1
    github.dispatch_workflow("acme/shop")
    await github.webhooks.drained()
    headers, body = receiver.got[1]
    assert headers["X-Hub-Signature-256"] != sign(SECRET, body)


async def test_dropped_ones_are_listed_and_come_when_asked_for(github, listener, receiver, hook):
    github.webhooks.drop = 1
    github.dispatch_workflow("acme/shop")
    await github.webhooks.drained()
    assert receiver.actions == ["ping"]
    path = f"/orgs/acme/hooks/{hook.id}/deliveries"
    listed = (await listener.rest("GET", path)).json
    assert [(one["event"], one["status"]) for one in listed] == [
        ("workflow_job", "failed to connect to host"),
        ("ping", "OK"),
    ]
    assert (await listener.rest("POST", f"{path}/{listed[0]['id']}/attempts")).status == 202
    await github.webhooks.drained()
    assert receiver.actions == ["ping", "queued"]
    assert receiver.guids[1] == listed[0]["guid"]
    again = (await listener.rest("GET", path)).json[0]
    assert (again["redelivery"], again["status"], again["guid"]) == (True, "OK", listed[0]["guid"])
    whole = (await listener.rest("GET", f"{path}/{again['id']}")).json
    assert json.loads(whole["request"]["payload"])["action"] == "queued"


async def test_lost_ones_leave_no_trace(github, listener, receiver, hook):
    github.webhooks.lose = 1
    github.dispatch_workflow("acme/shop")
    await github.webhooks.drained()
    listed = (await listener.rest("GET", f"/orgs/acme/hooks/{hook.id}/deliveries")).json
    assert [one["event"] for one in listed] == ["ping"]
    assert receiver.actions == ["ping"]


async def test_a_receiver_that_fails_is_not_asked_again(github, listener, receiver, hook):
    receiver.status = 503
    github.dispatch_workflow("acme/shop")
    await github.webhooks.drained()
    assert receiver.actions == ["ping", "queued"]
    listed = (await listener.rest("GET", f"/orgs/acme/hooks/{hook.id}/deliveries")).json
    assert (listed[0]["status"], listed[0]["status_code"]) == ("Invalid HTTP Response: 503", 503)


async def test_deliveries_are_paged_and_kept_for_three_days(github, listener, receiver, hook, options):
    options.queued_job = 30 * 86_400
    for _ in range(4):
        github.dispatch_workflow("acme/shop")
    await github.webhooks.drained()
    path = f"/orgs/acme/hooks/{hook.id}/deliveries?per_page=3"
    page = await listener.rest("GET", path)
    assert len(page.json) == 3
    assert 'rel="next"' in page.headers["Link"]
    url = page.headers["Link"].partition(">")[0].lstrip("<")
    assert len((await listener.call("GET", url, github.personal_token)).json) == 2
    await github.clock.step(3 * 86_400 + 1)
    assert (await listener.rest("GET", path)).json == []


async def test_seven_days_on_ghes(ghes_options, github, listener, receiver, hook):
    await github.clock.step(3 * 86_400 + 1)
    assert len((await listener.rest("GET", f"/orgs/acme/hooks/{hook.id}/deliveries")).json) == 1


async def test_an_app_s_deliveries_are_its_own_to_see(github, listener, receiver):
    github.webhooks.add(receiver.url, SECRET)
    await github.webhooks.drained()
    path = "/app/hook/deliveries"
    listed = await listener.rest("GET", path, listener.app_jwt())
    assert [one["event"] for one in listed.json] == ["ping"]
    assert (await listener.rest("GET", path)).status == 401


async def test_a_repository_s_hook(github, listener, receiver):
    made = github.webhooks.add(receiver.url, SECRET, "acme/shop")
    await github.webhooks.drained()
    assert (await listener.rest("GET", f"/repos/acme/shop/hooks/{made.id}/deliveries")).status == 200
    assert receiver.got[0][0]["X-GitHub-Hook-Installation-Target-Type"] == "repository"
    assert (await listener.rest("GET", "/repos/acme/shop/hooks/1/deliveries")).status == 404
