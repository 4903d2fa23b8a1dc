"""Secrets, inventory and scorecard over HTTP: for operators, by name, and never a value."""

from __future__ import annotations

import pytest

from orchestrator.server.accounts.shapes import CredentialsView, ScorecardView, SecretListView, SecretView

OPERATIONS = [
    ("GET", "/v1/secrets"),
    ("POST", "/v1/secrets/known/rotate"),
    ("POST", "/v1/secrets/known/retire"),
    ("POST", "/v1/secrets/retire?pipeline=p"),
    ("GET", "/v1/inventory"),
    ("GET", "/v1/scorecard"),
]


async def asked(api, method, path, headers):
    async with api.client.request(method, api.url + path, headers=headers) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_only_operators_may(api, method, path):
    status, problem = await asked(api, method, path, api.forge())
    assert (status, problem["reason"]) == (403, "operators_only")


async def test_answers_are_what_is_documented_and_hold_no_value(api):
    status, found = await asked(api, "GET", "/v1/secrets", api.operator)
    assert status == 200
    assert [one.name for one in SecretListView(**found).secrets] == ["known", "fixed"]
    status, found = await asked(api, "GET", "/v1/inventory", api.operator)
    assert [one.id for one in CredentialsView(**found).credentials[:2]] == ["secret known", "secret fixed"]
    status, card = await asked(api, "GET", "/v1/scorecard", api.operator)
    assert [point.number for point in ScorecardView(**card).checklist] == list(range(1, 9))
    assert "the-value-of" not in str(found) + str(card)


async def test_a_rotation_begins_and_a_secret_without_a_hook_has_none(api):
    status, view = await asked(api, "POST", "/v1/secrets/known/rotate?at_once=true", api.operator)
    assert (status, SecretView(**view).state) == (202, "rotating")
    status, problem = await asked(api, "POST", "/v1/secrets/fixed/rotate", api.operator)
    assert (status, problem["reason"]) == (409, "secret_not_rotatable")


async def test_retired_is_for_good_and_unknown_is_unknown(api):
    status, view = await asked(api, "POST", "/v1/secrets/fixed/retire", api.operator)
    assert (status, view["state"]) == (202, "retired")
    status, problem = await asked(api, "POST", "/v1/secrets/fixed/rotate", api.operator)
    assert (status, problem["reason"]) == (409, "secret_retired")
    for name in ("nobody", "..%2f..%2fetc", "UPPER"):
        status, problem = await asked(api, "POST", f"/v1/secrets/{name}/retire", api.operator)
        assert (status, problem["reason"]) == (404, "secret_unknown")


async def test_a_pipeline_takes_along_what_is_its_own(api):
    status, done = await asked(api, "POST", "/v1/secrets/retire?pipeline=nightly", api.operator)
    assert (status, done) == (202, {"pipeline": "nightly", "secrets": []})
    status, problem = await asked(api, "POST", "/v1/secrets/retire", api.operator)
    assert (status, problem["reason"]) == (400, "query_invalid")
