"""The chain of tokens: how often it is walked, what starts it anew, and that no token is ever shown."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import pytest
from opened import INSTALLATION, REGISTER, SETS, app_credential, opened

from orchestrator.errors import ConfigurationError
from orchestrator.intake.github import errors
from orchestrator.intake.github.connection import AppCredential, GitHubConnection, TokenCredential, least_permissions
from orchestrator.intake.github.tokens import UNKNOWN_LIFE, AdminAccess
from orchestrator.intake.github.urls import Scope, parse_github_url
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.tokens import Kind

REGISTRATION = "POST /orgs/{org}/actions/runners/registration-token"


@pytest.fixture
async def one(tmp_path):
    async with opened(tmp_path) as found:
        yield found


def chain(one):
    return [one.calls(name) for name in (INSTALLATION, REGISTRATION, REGISTER)]


async def test_a_burst_walks_the_chain_once(one):
    made = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    await asyncio.gather(*(one.github.actions.get_scale_set(made.id) for _ in range(30)))
    assert chain(one) == [1, 1, 1]


async def test_all_who_wait_share_one_failure(one):
    one.server.faults.add(Fault.FORBIDDEN, REGISTRATION, times=99)
    found = await asyncio.gather(*(one.github.actions.get_scale_set(1) for _ in range(30)), return_exceptions=True)
    assert all(isinstance(error, errors.ForbiddenError) for error in found)
    assert one.calls(REGISTRATION) == 1
    with pytest.raises(errors.ForbiddenError):
        await one.github.actions.get_scale_set(1)
    assert one.calls(REGISTRATION) == 2, "who comes later asks anew"


async def test_tokens_are_renewed_before_they_end(one):
    made = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    # The clock goes on while we are busy, so neither look is at the very second.
    await one.server.clock.step(3600 - 90)
    await one.github.actions.get_scale_set(made.id)
    assert chain(one) == [1, 1, 1]
    await one.server.clock.step(45)
    await one.github.actions.get_scale_set(made.id)
    assert chain(one) == [2, 2, 2]
    assert one.server.statuses["GET " + SETS + "/{id}", 401] == 0


async def test_an_early_renewal_that_fails_leaves_the_token_in_use(one):
    made = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    await one.server.clock.step(3600 - 50)
    one.server.faults.add(Fault.BAD_GATEWAY, REGISTRATION, times=99)
    one.server.faults.add(Fault.BAD_GATEWAY, REGISTER, times=99)
    assert (await one.github.actions.get_scale_set(made.id)).id == made.id
    await one.server.clock.step(120)
    with pytest.raises(errors.UnavailableError):
        await one.github.actions.get_scale_set(made.id)


async def test_a_registration_token_that_is_not_known_yet(one):
    one.server.faults.unpropagated = 3
    assert (await one.github.actions.ensure_scale_set("zt", "", ["zt"])).id > 0
    assert (one.calls(REGISTER), one.calls(REGISTRATION)) == (4, 1)


async def test_a_registration_token_that_is_never_known(one):
    one.server.faults.unpropagated = 99
    with pytest.raises(errors.RegistrationRefusedError) as caught:
        await one.github.actions.get_scale_set(1)
    assert (one.calls(REGISTER), caught.value.call.status in (401, 403)) == (5, True)


async def test_every_token_is_gone_at_once(one):
    made = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    for kind in (Kind.INSTALLATION, Kind.REGISTRATION, Kind.ADMIN):
        one.server.expire_tokens(kind)
    assert (await one.github.actions.get_scale_set(made.id)).id == made.id
    assert (chain(one), one.waits) == ([2, 3, 2], [])


async def test_the_installation_token_is_narrowed(tmp_path):
    async with opened(tmp_path) as one:
        await one.github.rest.runners()
        (grant,) = [grant for grant in one.server.tokens._grants.values() if grant.kind is Kind.INSTALLATION]
        assert dict(grant.permissions) == dict(least_permissions(Scope.ORGANIZATION))


async def test_a_permission_that_the_app_lacks(tmp_path):
    def greedy(server):
        return dataclasses.replace(app_credential(server, tmp_path), permissions={"members": "write"})

    async with opened(tmp_path, credential=greedy) as one:
        with pytest.raises(errors.RefusedError) as caught:
            await one.github.rest.runners()
        assert "installation" in caught.value.fix


async def test_another_apps_key_and_another_installation(tmp_path):
    def wrong(server):
        return dataclasses.replace(app_credential(server, tmp_path), installation_id="1")

    async with opened(tmp_path, credential=wrong) as one:
        with pytest.raises(errors.NotFoundError):
            await one.github.rest.runners()
        one.server.app.client_id, one.server.app.app_id = "other", 1
        with pytest.raises(errors.UnauthorizedError):
            await one.github.rest.runners()


async def test_a_personal_token_takes_two_calls_and_is_warned_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "orchestrator.intake.github"):
        async with opened(tmp_path, personal=True) as one:
            await one.github.actions.ensure_scale_set("zt", "", ["zt"])
            assert chain(one) == [0, 1, 1]
            assert one.server.personal_token not in caplog.text
    assert "personal token" in caplog.text


async def test_a_personal_token_that_is_refused_is_read_again(tmp_path):
    async with opened(tmp_path, personal=True) as one:
        good = one.server.personal_token
        one.server.personal_token = "ghp_refused_by_github"
        with pytest.raises(errors.UnauthorizedError) as caught:
            await one.github.rest.runners()
        assert "ghp_refused" not in caught.value.diagnostics()
        one.server.personal_token = good
        assert await one.github.rest.runners() == []


async def test_what_only_an_app_may_do(tmp_path):
    async with opened(tmp_path, personal=True) as one:
        with pytest.raises(errors.UnauthorizedError):
            await one.github.rest.hook_deliveries()


def test_no_app_manages_an_enterprise():
    with pytest.raises(ConfigurationError) as caught:
        GitHubConnection(parse_github_url("https://github.com/enterprises/big"), AppCredential("1", lambda: ""))
    assert caught.value.reason == "github_app_unfit"


def test_nothing_that_is_printed_holds_a_secret():
    url = parse_github_url("https://github.com/acme")
    connection = GitHubConnection(url, TokenCredential(lambda: "hidden"), proxy="http://kim:hidden@proxy:3128")
    assert "hidden" not in repr(connection)
    assert "hidden" not in repr(AdminAccess("https://service", "hidden"))


@pytest.mark.parametrize("token", ["", "a.b", "a.!!.c", "a.e30.c", "a.eyJleHAiOiJzb29uIn0.c", "a.W10.c"])
async def test_a_token_that_does_not_say_when_it_ends(one, token):
    assert one.github.actions._tokens.life_of(token) == UNKNOWN_LIFE


async def test_a_token_that_has_ended(one):
    assert one.github.actions._tokens.life_of("a.eyJleHAiOjF9.c") == 0
