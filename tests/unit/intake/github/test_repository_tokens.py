"""Installation tokens for jobs: for one repository and named permissions, never made twice, ended for good."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from opened import INSTALLATION, app_credential, serving, stepping

from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.intake.github import errors
from orchestrator.intake.github.connection import GitHubConnection, TokenCredential
from orchestrator.intake.github.repository_tokens import MAKING, RepositoryTokens
from orchestrator.intake.github.urls import parse_github_url
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.github.tokens import Kind

READ = {"contents": "read"}
ENDING = "DELETE /installation/token"


class World:
    def __init__(self, server: GitHubServer, tokens: RepositoryTokens) -> None:
        self.server = server
        self.tokens = tokens
        self.shop = server.add_repository("acme/shop").id
        self.other = server.add_repository("acme/other").id

    @property
    def living(self):
        return self.server.tokens.living(Kind.INSTALLATION)

    async def get(self, path: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.get(self.server.url + path, headers=headers) as answer:
            return answer.status


@pytest.fixture
async def world(tmp_path):
    async with GitHubServer() as server:
        connection = GitHubConnection(
            parse_github_url(server.config_url("acme")), app_credential(server, tmp_path), timeout_seconds=5
        )
        tokens = RepositoryTokens(connection, stepping(server, []))
        try:
            yield World(server, tokens)
        finally:
            await tokens.close()


async def test_it_is_good_in_one_repository_for_what_was_asked(world):
    made = await world.tokens.make(world.shop, READ)
    (grant,) = world.living.values()
    assert (dict(grant.permissions), grant.repositories) == (READ, {"acme/shop"})
    assert made.expires_at == pytest.approx(world.server.clock.now() + 3600, abs=2)
    assert await world.get("/repos/acme/shop/branches/main", made.token) == 200
    assert await world.get("/repos/acme/other/branches/main", made.token) == 404
    assert await world.get("/repos/acme/shop/actions/runs", made.token) == 403
    assert made.token not in repr(made)


async def test_it_is_ended_for_good_and_again_without_complaint(world):
    made = await world.tokens.make(world.shop, READ)
    await world.tokens.end(made.token)
    assert world.living == {}
    assert await world.get("/repos/acme/shop/branches/main", made.token) == 401
    await world.tokens.end(made.token)
    await world.server.clock.step(3601)
    other = await world.tokens.make(world.shop, READ)
    await world.server.clock.step(3601)
    await world.tokens.end(other.token)


@pytest.mark.parametrize(
    ("fault", "there"), [(Fault.DONE_BUT_500, 1), (Fault.DONE_BUT_RESET, 1), (Fault.TRUNCATED, 1), (Fault.GARBAGE, 1)]
)
async def test_one_that_may_have_been_made_is_not_made_again(world, fault, there):
    world.server.faults.add(fault, INSTALLATION)
    with pytest.raises(errors.UnavailableError) as caught:
        await world.tokens.make(world.shop, READ)
    assert caught.value.may_have_done(MAKING)
    assert world.server.counters[INSTALLATION] == 1
    assert len(world.living) == there


async def test_what_github_refuses_was_certainly_not_made(world):
    for repository, permissions in (
        (999_999, READ),
        (world.shop, {"contents": "write"}),
        (world.shop, {"pages": "read"}),
    ):
        with pytest.raises(GiveUpError):
            await world.tokens.make(repository, permissions)
    assert world.living == {}


async def test_an_end_that_fails_says_so(world):
    made = await world.tokens.make(world.shop, READ)
    world.server.faults.add(Fault.UNAVAILABLE, ENDING, times=99)
    with pytest.raises(TryAgainError):
        await world.tokens.end(made.token)
    assert len(world.living) == 1
    world.server.faults.clear()
    await world.tokens.end(made.token)
    assert world.living == {}


GOOD = {
    "token": "ghs_x",
    "expires_at": "2099-01-01T00:00:00Z",
    "permissions": {"contents": "read", "metadata": "read"},
    "repository_selection": "selected",
    "repositories": [{"id": 7}],
}


@asynccontextmanager
async def answering(tmp_path, document):
    """A platform that answers as it likes; yields what was asked of it, too."""
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append((request.method, request.headers["Authorization"]))
        return web.Response(status=204) if request.method == "DELETE" else web.json_response(document, status=201)

    async with serving(handle) as url, GitHubServer() as server:
        connection = GitHubConnection(
            parse_github_url(f"{url}/acme", force_server=True), app_credential(server, tmp_path), timeout_seconds=5
        )
        tokens = RepositoryTokens(connection, stepping(server, []))
        try:
            yield tokens, asked
        finally:
            await tokens.close()


async def test_githubs_own_addition_is_no_more_than_was_asked(tmp_path):
    async with answering(tmp_path, GOOD) as (tokens, asked):
        made = await tokens.make(7, READ)
        assert (made.token, made.narrow) == ("ghs_x", True)
        assert len(asked) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"repository_selection": "all"},
        {"repositories": [{"id": 7}, {"id": 8}]},
        {"repositories": [{"id": 8}]},
        {"repositories": []},
        {"permissions": {"contents": "write"}},
        {"permissions": {"contents": "read", "secrets": "read"}},
        {"permissions": {"contents": "read", "metadata": "write"}},
    ],
)
async def test_a_token_that_is_good_for_more_says_so(tmp_path, change):
    async with answering(tmp_path, GOOD | change) as (tokens, _asked):
        assert not (await tokens.make(7, READ)).narrow


@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"token": "two words"},
        {"expires_at": None},
        {"expires_at": "soon"},
        {"permissions": ["contents"]},
        {"permissions": {"contents": 1}},
        {"repositories": {"id": 7}},
    ],
)
async def test_an_answer_that_cannot_be_read_is_no_token(tmp_path, change):
    async with answering(tmp_path, GOOD | change) as (tokens, _asked):
        with pytest.raises(errors.UnreadableAnswerError) as caught:
            await tokens.make(7, READ)
        assert json.dumps(GOOD["token"]) not in str(caught.value)


def test_a_personal_token_makes_none():
    connection = GitHubConnection(parse_github_url("https://github.com/acme"), TokenCredential(lambda: "t"))
    with pytest.raises(ConfigurationError):
        RepositoryTokens(connection)
