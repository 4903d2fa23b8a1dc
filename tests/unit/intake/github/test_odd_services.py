"""Answers that a faithful service does not give, from one that is told each of them."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager

import jwt
import pytest
from aiohttp import web
from opened import serving

from orchestrator.intake.github import errors
from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.connection import GitHubConnection, Timing, TokenCredential
from orchestrator.intake.github.urls import parse_github_url

SETS = "/_apis/runtime/runnerscalesets"
GROUPS = "/_apis/runtime/runnergroups/"
TOKEN = jwt.encode({"exp": int(time.time()) + 3600}, "x" * 32)
ZT = {"id": 5, "name": "zt", "runnerGroupId": 3, "labels": [{"name": "zt"}]}
SESSION = {"sessionId": "s-1", "messageQueueUrl": "http://127.0.0.1:1/q", "messageQueueAccessToken": TOKEN}


def listed(*items):
    return web.json_response({"count": len(items), "value": list(items)})


@asynccontextmanager
async def told(answers):
    """`answers` by `METHOD path`, each called for a new response; yields the actions client and what was asked."""
    asked: list[str] = []

    async def handler(request):
        if request.path.endswith("/registration-token"):
            return web.json_response({"token": "AAAA", "expires_at": "2126-01-01T00:00:00Z"}, status=201)
        if request.path.endswith("/runner-registration"):
            return web.json_response({"url": f"http://{request.host}/", "token": TOKEN})
        asked.append(f"{request.method} {request.path}")
        return answers[asked[-1]]()

    async with serving(handler) as url:
        github = GitHub(GitHubConnection(parse_github_url(f"{url}/acme"), TokenCredential(lambda: "ghp_x")))
        try:
            yield github.actions, asked
        finally:
            await github.close()


async def test_a_runner_group_by_name():
    groups = {f"GET {GROUPS}": lambda: listed({"id": 2, "name": "other"}, {"id": 3, "name": "CI"})}
    async with told({**groups, f"GET {SETS}": lambda: listed(ZT)}) as (actions, _):
        assert (await actions.ensure_scale_set("zt", "ci", ["zt"])).group_id == 3
    for answer in (listed, lambda: web.json_response({}, status=404)):
        async with told({f"GET {GROUPS}": answer}) as (actions, _):
            with pytest.raises(errors.RunnerGroupUnknownError):
                await actions.ensure_scale_set("zt", "ci", ["zt"])


async def test_labels_that_the_service_drops_or_does_not_change():
    for status in (200, 400):
        answers = {
            f"GET {SETS}": lambda: listed(ZT),
            f"PATCH {SETS}/5": lambda status=status: web.json_response(ZT, status=status),
        }
        async with told(answers) as (actions, asked):
            found = await actions.ensure_scale_set("zt", "", ["zt", "gpu"])
        assert found.lacks(["zt", "gpu"]) == ("gpu",)
        assert asked[-1] == f"PATCH {SETS}/5"


async def test_two_scale_sets_of_one_name():
    async with told({f"GET {SETS}": lambda: listed(ZT, ZT)}) as (actions, _):
        with pytest.raises(errors.RefusedError, match="2 scale sets"):
            await actions.ensure_scale_set("zt", "", ["zt"])


async def test_a_scale_set_that_cannot_be_made():
    answers = {f"GET {SETS}": listed, f"POST {SETS}": lambda: web.json_response({"message": "no"}, status=400)}
    async with told(answers) as (actions, asked):
        with pytest.raises(errors.RefusedError, match="no"):
            await actions.ensure_scale_set("zt", "", ["zt"])
    assert asked == [f"GET {SETS}", f"POST {SETS}", f"GET {SETS}"]


@pytest.mark.parametrize(
    "change",
    [
        {"messageQueueUrl": "file:///x"},
        {"messageQueueUrl": ""},
        {"messageQueueAccessToken": ""},
        {"sessionId": ""},
    ],
)
async def test_a_session_that_cannot_be_used(change):
    answers = {
        f"POST {SETS}/5/sessions": lambda: web.json_response(SESSION | change),
        f"DELETE {SETS}/5/sessions/s-1": lambda: web.Response(status=204),
    }
    async with told(answers) as (actions, asked):
        with pytest.raises(errors.SessionGoneError) as caught:
            await actions.create_session(5, "me")
    assert caught.value.reason == "github_session_unusable"
    assert (f"DELETE {SETS}/5/sessions/s-1" in asked) is ("sessionId" not in change)


async def test_a_renewal_that_brings_another_session():
    answers = {
        f"POST {SETS}/5/sessions": lambda: web.json_response(SESSION),
        f"PATCH {SETS}/5/sessions/s-1": lambda: web.json_response(SESSION | {"sessionId": "s-2"}),
    }
    async with told(answers) as (actions, _):
        session = await actions.create_session(5, "me")
        with pytest.raises(errors.SessionGoneError):
            await actions.refresh_session(session)
        assert (session.id, session.generation) == ("s-1", 0)


async def test_an_early_renewal_that_finds_the_session_gone_is_told():
    gone = {"typeName": "X.RunnerAdminException", "message": "session id s-1 is not in the store"}
    short = jwt.encode({"exp": int(time.time()) - 10}, "x" * 32)
    answers = {
        f"POST {SETS}/5/sessions": lambda: web.json_response(SESSION | {"messageQueueAccessToken": short}),
        f"PATCH {SETS}/5/sessions/s-1": lambda: web.json_response(gone, status=404),
    }
    async with told(answers) as (actions, _):
        session = await actions.create_session(5, "me")
        with pytest.raises(errors.SessionGoneError):
            await actions.poll(session, 0, 1)


async def test_a_runner_of_another_name_is_not_taken_for_ours():
    """A server that ignores the filter lists all; removing by such an answer would hit a stranger."""
    agents = "GET /_apis/distributedtask/pools/0/agents"
    async with told({agents: lambda: listed({"id": 9, "name": "other"})}) as (actions, _):
        assert await actions.runner_by_name("r-1") is None


async def test_a_registration_that_was_made_under_no_name():
    made = {"runner": {"id": 7}, "encodedJITConfig": "c2VjcmV0"}
    async with told({f"POST {SETS}/5/generatejitconfig": lambda: web.json_response(made)}) as (actions, _):
        assert (await actions.generate_jit(5, "r-1")).name == "r-1"


async def test_a_service_at_an_unprotected_address_gets_no_token():
    async def handler(request):
        if request.path.endswith("/registration-token"):
            return web.json_response({"token": "AAAA"}, status=201)
        return web.json_response({"url": "file:///etc", "token": TOKEN})

    async def no_wait(_):
        return None

    async with serving(handler) as url:
        who = TokenCredential(lambda: "ghp_x")
        github = GitHub(GitHubConnection(parse_github_url(f"{url}/acme"), who), Timing(sleep=no_wait))
        with pytest.raises(errors.UnreadableAnswerError, match="address"):
            await github.actions.get_scale_set(5)
        await github.close()
