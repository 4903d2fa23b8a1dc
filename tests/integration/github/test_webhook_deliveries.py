"""From GitHub's sender over HTTP into the inbox, and what was lost on the way asked for again."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from github_plant import soon

from orchestrator.errors import OrchestratorError
from orchestrator.identity.github_app import GitHubApp
from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.connection import AppCredential, GitHubConnection, Timing, least_permissions
from orchestrator.intake.github.urls import Scope, parse_github_url
from orchestrator.intake.github.webhooks.inbox import WebhookInbox
from orchestrator.intake.github.webhooks.poll import MAX_TRIES, MissedDeliveries
from orchestrator.intake.github.webhooks.receiver import WebhookReceiver
from orchestrator.server.deps import Limits
from orchestrator.server.entrance.edge import answer
from orchestrator.server.sources.webhooks import Webhooks
from orchestrator.testing.github.model import JobPlan
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.github.webhooks import Hook


@web.middleware
async def refusals(request: web.Request, handler: Callable[[web.Request], Awaitable[web.Response]]) -> web.Response:
    try:
        return await handler(request)
    except OrchestratorError as error:
        return answer(error, request)


@dataclass
class Post:
    """GitHub, its hook, and our side of it."""

    github: GitHubServer
    hook: Hook
    inbox: WebhookInbox
    missed: MissedDeliveries

    async def dispatch(self, jobs: int) -> None:
        self.github.dispatch_workflow("acme/shop", [JobPlan(f"job {number}") for number in range(jobs)])
        await self.github.webhooks.drained()

    async def kept(self) -> int:
        return len(await self.inbox.pending(1000))

    @property
    def statuses(self) -> list[str]:
        return [one.status for one in self.hook.deliveries if one.event == "workflow_job"]


@asynccontextmanager
async def opened(folder: Path, scope: str = "app", *, secret: str = "s3cr3t") -> AsyncIterator[Post]:
    async with GitHubServer() as github:
        github.add_repository("acme/shop", branches={"main": True})
        url = parse_github_url(github.config_url("acme"))
        inbox = WebhookInbox(folder / "inbox", time.time_ns, max_waiting=1000)
        receiver = WebhookReceiver(url, [lambda: "s3cr3t"], inbox, max_body_bytes=1 << 20)
        app = web.Application(middlewares=[refusals])
        app.router.add_post("/webhooks/github/{source}", Webhooks({"acme": receiver}, Limits()).receive)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        hook = github.webhooks.add(f"http://127.0.0.1:{port}/webhooks/github/acme", secret, scope)
        key = folder / "app.pem"
        key.write_text(github.app.private_key)
        key.chmod(0o600)
        sign = GitHubApp(github.app.client_id, key, now=github.clock.now).sign
        hooks = {"app": {}, "acme": {"organization_hooks": "write"}}[scope]
        permissions = dict(least_permissions(Scope.ORGANIZATION)) | hooks
        credential = AppCredential(str(github.app.installation_id), sign, permissions=permissions)
        client = GitHub(GitHubConnection(url, credential), Timing(github.clock.now, sleep=soon))
        hook_id = None if scope == "app" else hook.id
        missed = MissedDeliveries(client.rest, inbox, hook_id, lambda: int(github.clock.now() * 1e9))
        try:
            await github.webhooks.drained()
            yield Post(github, hook, inbox, missed)
        finally:
            await client.close()
            await runner.cleanup()
            await inbox.close()


async def test_what_github_sends_is_taken_in_once(tmp_path):
    async with opened(tmp_path) as post:
        post.github.webhooks.duplicate = 2
        await post.dispatch(3)
        assert await post.kept() == 3
        assert set(post.statuses) == {"OK"}
        await post.missed.look()
        assert post.missed.again == 0, "nothing is missing"


async def test_a_forged_delivery_is_refused_and_the_real_one_taken(tmp_path):
    async with opened(tmp_path) as post:
        post.github.webhooks.forge = 1
        await post.dispatch(2)
        assert await post.kept() == 1
        assert post.statuses == ["Invalid HTTP Response: 403", "OK"]
        await post.missed.look()
        await post.github.webhooks.drained()
        assert await post.kept() == 2


@pytest.mark.parametrize("scope", ["app", "acme"])
async def test_what_could_not_be_delivered_is_asked_for_again(tmp_path, scope):
    async with opened(tmp_path, scope) as post:
        post.github.webhooks.drop = 2
        await post.dispatch(5)
        assert await post.kept() == 3
        await post.missed.look()
        await post.github.webhooks.drained()
        assert await post.kept() == 5
        assert post.missed.again == 2
        await post.missed.look()
        assert post.missed.again == 2, "each was only asked for until it came"


async def test_what_never_arrives_is_given_up(tmp_path):
    async with opened(tmp_path, secret="another") as post:
        await post.dispatch(1)
        for _ in range(MAX_TRIES + 2):
            await post.missed.look()
            await post.github.webhooks.drained()
        assert post.missed.again == MAX_TRIES
        assert await post.kept() == 0


async def test_more_than_a_page_is_looked_through(tmp_path):
    async with opened(tmp_path) as post:
        post.github.webhooks.drop = 1
        await post.dispatch(1)
        for _ in range(3):
            await post.dispatch(50)
        await post.missed.look()
        await post.github.webhooks.drained()
        assert await post.kept() == 151
        assert post.github.counters["GET /app/hook/deliveries"] == 2


async def test_only_what_is_new_is_looked_through(tmp_path):
    async with opened(tmp_path) as post:
        await post.dispatch(150)
        pages = []
        for _ in range(3):
            before = post.github.counters["GET /app/hook/deliveries"]
            await post.missed.look()
            pages.append(post.github.counters["GET /app/hook/deliveries"] - before)
            await post.github.clock.step(7200)
        assert pages == [2, 2, 1], "what is just before the last look is looked through once more"
        await post.github.clock.step(4 * 86_400)
        await post.github.webhooks.drained()  # that the jobs waited too long
        post.github.webhooks.drop = 1
        await post.dispatch(1)
        await post.missed.look()
        await post.github.webhooks.drained()
        assert post.missed.again == 1


async def test_known_deliveries_are_not_asked_for_again(tmp_path):
    async with opened(tmp_path) as post:
        await post.dispatch(1)
        # GitHub took our answer for a failure, such as when it came late.
        for delivery in post.hook.deliveries:
            delivery.status = "timed out"
        await post.missed.look()
        assert post.missed.again == 0


async def test_numbers_of_deliveries_are_not_confused_with_events(tmp_path):
    async with opened(tmp_path) as post:
        post.github.webhooks.drop = 1
        await post.dispatch(1)
        ping = next(one for one in post.hook.deliveries if one.event == "ping")
        ping.status = "timed out"
        await post.missed.look()
        await post.github.webhooks.drained()
        assert post.missed.again == 1, "a ping is of no use"
        guids = [one.guid for one in post.hook.deliveries if one.event == "workflow_job"]
        assert len(list(itertools.groupby(guids))) == 1
